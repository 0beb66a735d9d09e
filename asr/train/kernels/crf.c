/* Sums over paths for CTC and CTC-CRF: called from crf.py, which says what goes in and comes out.

   Everywhere: probabilities are (steps, tokens), token 0 is the blank. `share` is the chance, given that a path is one of
   those summed, that a step has this token: the sum's derivative by the logarithm of that probability. It is added to
   `out` times `weight`.

   SYMBOLS, a number known when compiling, is the denominator's number of tokens.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define IMPOSSIBLE (-INFINITY)

/* ---- the numerator: a graph's paths (phone_graph.py) ---- */

typedef struct {
    int states;
    const int32_t *label, *start, *before;
} graph;

/* The states that a path can be in at each step, as ranges [low[t], high[t]]: those reached by then from which the end
   can be reached in time. Sums outside would be thrown away in the end, but could be so much larger than those that count
   that scaling makes these zero. `bounds` has room for 2 * (steps + states). Gives 0 if no path fits. */
static int find_ranges(const graph *g, int steps, int32_t *bounds, int32_t **low, int32_t **high)
{
    int32_t *lo = bounds, *hi = lo + steps, *reached = hi + steps, *left = reached + g->states;
    int states = g->states, far = steps + states;
    reached[0] = 0;
    for (int s = 1; s < states; s++) { /* the first step at which a path can be in s */
        reached[s] = far;
        for (int e = g->start[s]; e < g->start[s + 1]; e++) {
            int from = g->before[e] ? reached[g->before[e]] + 1 : 0;
            if (from < reached[s]) reached[s] = from;
        }
    }
    for (int s = 0; s < states; s++) left[s] = far; /* steps that a path still needs behind s */
    left[states - 1] = 0;
    for (int e = g->start[states - 1]; e < g->start[states]; e++) left[g->before[e]] = 0;
    for (int s = states - 2; s > 0; s--)
        for (int e = g->start[s]; e < g->start[s + 1]; e++)
            if (left[s] + 1 < left[g->before[e]]) left[g->before[e]] = left[s] + 1;
    for (int t = 0; t < steps; t++) lo[t] = states, hi[t] = -1;
    for (int s = 0; s < states; s++) {
        if (reached[s] < steps && s > hi[reached[s]]) hi[reached[s]] = s;
        if (left[s] < steps && s < lo[steps - 1 - left[s]]) lo[steps - 1 - left[s]] = s;
    }
    for (int t = 1; t < steps; t++)
        if (hi[t - 1] > hi[t]) hi[t] = hi[t - 1];
    for (int t = steps - 2; t >= 0; t--)
        if (lo[t + 1] < lo[t]) lo[t] = lo[t + 1];
    *low = lo;
    *high = hi;
    for (int t = 0; t < steps; t++)
        if (lo[t] > hi[t]) return 0;
    return 1;
}

/* A double is too small for path sums: to a network that hears only blanks, as all do at first, having read a hundred
   phonemes is 1e-400 times as likely as having read none. (Where a long double is no wider than a double, such lines count
   wrongly or not at all.) */
typedef long double wide;
enum { SCALED = 8 }; /* every so many steps the sums are scaled to one */

/* The logarithm of the probability of a graph's paths, or IMPOSSIBLE. `room` holds (steps + 2) * states + steps numbers of
   16 bytes, `bounds` 2 * (steps + states). */
double numerator(const float *p, int steps, int tokens, int states, const int32_t *label, const int32_t *start,
                 const int32_t *before, double weight, float *out, wide *room, int32_t *bounds)
{
    graph g = {states, label, start, before};
    int32_t *low, *high;
    if (steps < 1 || !find_ranges(&g, steps, bounds, &low, &high)) return IMPOSSIBLE;
    wide *behind = room + (size_t)steps * states, *next = behind + states, *scales = next + states;
    double total = 0;
    memset(behind, 0, states * sizeof(wide)); /* the step before the first: in state 0 */
    behind[0] = 1;
    for (int t = 0; t < steps; t++) {
        wide *a = room + (size_t)t * states;
        const wide *old = t ? a - states : behind;
        const float *here = p + (size_t)t * tokens;
        memset(a, 0, states * sizeof(wide));
        for (int s = low[t]; s <= high[t]; s++) {
            wide from = old[s];
            for (int e = start[s]; e < start[s + 1]; e++) from += old[before[e]];
            a[s] = from * here[label[s]];
        }
        scales[t] = 1;
        if (t % SCALED) continue;
        wide sum = 0;
        for (int s = low[t]; s <= high[t]; s++) sum += a[s];
        if (!(sum > 0)) return IMPOSSIBLE;
        wide scale = scales[t] = 1 / sum;
        for (int s = low[t]; s <= high[t]; s++) a[s] *= scale;
        total += (double)logl(sum);
    }
    const wide *a = room + (size_t)(steps - 1) * states;
    memset(behind, 0, states * sizeof(wide));
    wide end = a[states - 1];
    behind[states - 1] = 1;
    for (int e = start[states - 1]; e < start[states]; e++) {
        end += a[before[e]];
        behind[before[e]] = 1;
    }
    if (!(end > 0)) return IMPOSSIBLE;
    total += (double)logl(end);
    if (weight == 0) return total;
    /* On the way back the same factors are used, so that a step's products of both ways always add up to `end`. */
    wide part = weight / end;
    for (int t = steps - 1; t >= 0; t--) {
        const float *here = p + (size_t)t * tokens;
        float *share = out + (size_t)t * tokens;
        a = room + (size_t)t * states;
        memset(next, 0, states * sizeof(wide));
        for (int s = low[t]; s <= high[t]; s++) {
            wide back = behind[s] * part;
            share[label[s]] += (float)(a[s] * back);
            wide onward = behind[s] * (here[label[s]] * scales[t]);
            next[s] += onward;
            for (int e = start[s]; e < start[s + 1]; e++) next[before[e]] += onward;
        }
        wide *swap = behind;
        behind = next;
        next = swap;
    }
    return total;
}

/* The likeliest path: its state at each step into `path`, its log-probability, or IMPOSSIBLE. `logs` (steps, tokens) are
   logarithms, `room` has 2 * states doubles, `choices` steps * states numbers: which predecessor, 0 for the state itself. */
double best_path(const float *logs, int steps, int tokens, int states, const int32_t *label, const int32_t *start,
                 const int32_t *before, int32_t *path, double *room, uint16_t *choices)
{
    double *old = room, *now = room + states;
    if (steps < 1) return IMPOSSIBLE;
    for (int s = 0; s < states; s++) old[s] = IMPOSSIBLE;
    old[0] = 0;
    for (int t = 0; t < steps; t++) {
        const float *here = logs + (size_t)t * tokens;
        uint16_t *chosen = choices + (size_t)t * states;
        for (int s = 0; s < states; s++) {
            double best = old[s];
            chosen[s] = 0;
            for (int e = start[s]; e < start[s + 1]; e++)
                if (old[before[e]] > best) {
                    best = old[before[e]];
                    chosen[s] = (uint16_t)(e - start[s] + 1);
                }
            now[s] = best + here[label[s]];
        }
        double *swap = old;
        old = now;
        now = swap;
    }
    int s = states - 1;
    for (int e = start[states - 1]; e < start[states]; e++)
        if (old[before[e]] > old[s]) s = before[e];
    double score = old[s];
    if (!(score > IMPOSSIBLE)) return IMPOSSIBLE;
    for (int t = steps - 1; t >= 0; t--) {
        path[t] = s;
        int choice = choices[(size_t)t * states + s];
        if (choice) s = before[start[s] + choice - 1];
    }
    return score;
}

/* ---- the denominator: all paths, weighted by a trigram of what they read ---- */

/* A state is the last two phonemes (h1, h2) and whether the step was the last of them (L) or blank (K). Both are tables
   [h1][h2] of SYMBOLS rows of WIDE values. Products with the trigram run over whole rows of it, so it comes in two orders;
   in both, a phoneme after itself is left out and stands in `twice`: that needs a blank between. */
enum { LANES = 8, WIDE = (SYMBOLS + LANES - 1) / LANES * LANES, VECTORS = WIDE / LANES, TABLE = SYMBOLS * VECTORS };
typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

#define WHERE(condition, v) ((vec)((mask)(v) & (condition)))

static inline double total_of(const vec *v, int vectors)
{
    double sum = 0;
    for (int i = 0; i < vectors; i++)
        for (int j = 0; j < LANES; j++) sum += v[i][j];
    return sum;
}

/* A step's probabilities times a factor, without the blank, as whole vectors. */
static inline void load_step(const float *here, float factor, vec *y)
{
    float row[WIDE] = {0};
    for (int k = 1; k < SYMBOLS; k++) row[k] = here[k] * factor;
    memcpy(y, row, sizeof row);
}

/* The logarithm of the weighted sum over all paths, or IMPOSSIBLE.
     forward [h2][h1][p], backward [h2][p][h1], twice [h1][h2]: P(p | h1, h2), rows of WIDE, aligned to vectors;
     least: states (h1, h2) below this part of a step's sum are left out;
     room: (2 * steps + 4) tables, aligned. */
double denominator(const float *p, int steps, const vec *forward, const vec *backward, const vec *twice, float least,
                   double weight, float *out, vec *room)
{
    if (steps < 1) return IMPOSSIBLE;
    vec *scratch = room + 2 * (size_t)steps * TABLE;
    vec *both = scratch, *made = scratch + TABLE; /* forward: L + K */
    float scales[steps];
    double total = 0;
    memset(both, 0, TABLE * sizeof(vec));
    for (int t = 0; t < steps; t++) {
        const float *here = p + (size_t)t * SYMBOLS;
        vec *now_l = room + 2 * (size_t)t * TABLE, *now_k = now_l + TABLE;
        const vec *old_l = now_l - 2 * TABLE, *old_k = now_k - 2 * TABLE;
        if (!t) { /* the step before the first is a blank, and nothing has been read */
            memset(made, 0, TABLE * sizeof(vec));
            old_l = made;
            ((float *)both)[0] = 1;
            old_k = both;
        }
        vec y[VECTORS], again[VECTORS] = {0};
        load_step(here, 1, y);
        for (int h1 = 0; h1 < SYMBOLS; h1++)
            for (int i = 0; i < VECTORS; i++) again[i] += old_k[h1 * VECTORS + i] * twice[h1 * VECTORS + i];
        vec sums[VECTORS] = {0};
        for (int h2 = 0; h2 < SYMBOLS; h2++) {
            vec m[VECTORS];
            for (int i = 0; i < VECTORS; i++) m[i] = old_l[h2 * VECTORS + i];
            ((float *)m)[h2] += ((float *)again)[h2];
            const vec *row = forward + (size_t)h2 * TABLE;
            const float *a = (const float *)both + h2;
            vec acc[VECTORS];
            for (int i = 0; i < VECTORS; i++) acc[i] = m[i];
            for (int h1 = 0; h1 < SYMBOLS; h1++) {
                float from = a[h1 * WIDE];
                if (from == 0) continue;
                for (int i = 0; i < VECTORS; i++) acc[i] += from * row[h1 * VECTORS + i];
            }
            for (int i = 0; i < VECTORS; i++) {
                vec l = y[i] * acc[i], k = here[0] * both[h2 * VECTORS + i];
                now_l[h2 * VECTORS + i] = l;
                now_k[h2 * VECTORS + i] = k;
                sums[i] += l + k;
            }
        }
        double sum = total_of(sums, VECTORS);
        if (!(sum > 0)) return IMPOSSIBLE;
        total += log(sum);
        float scale = scales[t] = (float)(1 / sum);
        for (int i = 0; i < TABLE; i++) {
            vec l = now_l[i] * scale, k = now_k[i] * scale, a = l + k;
            mask kept = a >= least;
            now_l[i] = WHERE(kept, l);
            now_k[i] = WHERE(kept, k);
            both[i] = WHERE(kept, a);
        }
    }
    double end = total_of(both, TABLE);
    total += log(end);
    if (weight == 0) return total;

    /* On the way back the same factors are used, so that a step's products of both ways always add up to `end`. */
    vec *after_l = scratch, *after_k = after_l + TABLE, *onward = after_k + TABLE, *turned = onward + TABLE;
    float part = (float)(weight / end);
    for (int i = 0; i < TABLE; i++) after_l[i] = after_k[i] = (vec){0} + 1.f;
    for (int t = steps - 1; t >= 0; t--) {
        const float *here = p + (size_t)t * SYMBOLS;
        float *share = out + (size_t)t * SYMBOLS, blank = here[0] * scales[t];
        const vec *now_l = room + 2 * (size_t)t * TABLE, *now_k = now_l + TABLE;
        vec y[VECTORS], heard[VECTORS] = {0}, blanks = {0}, alive[VECTORS] = {0};
        load_step(here, scales[t], y);
        for (int h = 0; h < SYMBOLS; h++)
            for (int i = 0; i < VECTORS; i++) {
                int at = h * VECTORS + i;
                /* what was left out on the way here may be any number on the way back */
                vec l = WHERE(now_l[at] > 0.f, after_l[at]), k = WHERE(now_k[at] > 0.f, after_k[at]);
                heard[i] += now_l[at] * l;
                blanks += now_k[at] * k;
                onward[at] = l * y[i];
                after_k[at] = k * blank;
                if (t) alive[i] += now_l[at - 2 * TABLE] + now_k[at - 2 * TABLE];
            }
        for (int k = 1; k < SYMBOLS; k++) share[k] += part * ((float *)heard)[k];
        share[0] += (float)(part * total_of(&blanks, 1));
        if (!t) break;
        float diagonal[WIDE] = {0};
        for (int h2 = 0; h2 < SYMBOLS; h2++) {
            const float *n = (const float *)(onward + h2 * VECTORS);
            diagonal[h2] = n[h2];
            if (((float *)alive)[h2] == 0) continue;
            const vec *row = backward + (size_t)h2 * TABLE;
            vec acc[VECTORS] = {0};
            for (int next = 1; next < SYMBOLS; next++) {
                float by = n[next];
                if (by == 0) continue;
                for (int i = 0; i < VECTORS; i++) acc[i] += by * row[next * VECTORS + i];
            }
            float *column = (float *)turned + h2;
            for (int h1 = 0; h1 < SYMBOLS; h1++) column[h1 * WIDE] = ((float *)acc)[h1];
        }
        vec repeated[VECTORS];
        memcpy(repeated, diagonal, sizeof repeated);
        for (int h = 0; h < SYMBOLS; h++)
            for (int i = 0; i < VECTORS; i++) {
                int at = h * VECTORS + i;
                vec any = after_k[at] + turned[at];
                after_k[at] = any + twice[at] * repeated[i];
                after_l[at] = any + onward[at];
            }
    }
    return total;
}
