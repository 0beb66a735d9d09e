// The sums of crf.py on a GPU: a block of threads for each line, which goes through the line's steps by itself.
//
// crf_cuda.py compiles it at run time and says what the arguments are. The numerator is in logarithms, since float32
// has too small a range for its sums; the denominator is scaled to one at every step.

#define NEVER -1e30f // a logarithm of zero that can be subtracted from itself
#define ZERO __int_as_float(0xff800000) // the logarithm of zero

static __device__ float sum_of_warp(float value) {
    for (int offset = 16; offset; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
    return value;
}

// The sum over all threads, for all of them. `room` holds 33 floats.
static __device__ float sum_of_block(float value, float *room) {
    value = sum_of_warp(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0;
        for (int i = 0; i < (blockDim.x + 31) / 32; i++) all += room[i];
        room[32] = all;
    }
    __syncthreads();
    return room[32];
}

// log(exp(values[at]) + the sum of exp(values[edge]) over a state's edges).
static __device__ float along(const float *values, int at, const int *edges, int begin, int end) {
    float most = values[at];
    for (int e = begin; e < end; e++) most = fmaxf(most, values[edges[e]]);
    if (most < NEVER / 2) return NEVER;
    float sum = expf(values[at] - most);
    for (int e = begin; e < end; e++) sum += expf(values[edges[e]] - most);
    return most + logf(sum);
}

// Sums over the paths of a graph. Graphs lie end to end: line b's states are firsts[b] to firsts[b + 1], a state's
// edges those from starts[state] to starts[state + 1], and edges name states of their own line from 0.
extern "C" __global__ void __launch_bounds__(256) numerator(
    const float *p,           // (B, most, tokens)
    const int *steps,         // (B,)
    const int *firsts,        // (B + 1,)
    const int *labels,        // (states,)
    const int *before_starts, // (states + 1,)
    const int *before,
    const int *after_starts,
    const int *after,
    const unsigned char *ends, // (states,): whether a path may end there
    float *ahead,              // (B, most, widest)
    float *totals,             // (B,)
    float *out,                // (B, most, tokens): shares are added, times above
    float above, int most, int tokens, int widest) {
    extern __shared__ float shared[];
    float *now = shared, *next = now + widest, *share = next + widest, *room = share + tokens;
    const int line = blockIdx.x, me = threadIdx.x, team = blockDim.x;
    const int first = firsts[line], states = firsts[line + 1] - first, count = steps[line];
    const int *label = labels + first, *from = before_starts + first, *to = after_starts + first;
    const unsigned char *end = ends + first;
    p += (size_t)line * most * tokens;
    out += (size_t)line * most * tokens;
    ahead += (size_t)line * most * widest;

    for (int s = me; s < states; s += team) now[s] = s ? NEVER : 0;
    __syncthreads();
    for (int t = 0; t < count; t++) {
        const float *given = p + (size_t)t * tokens;
        for (int s = me; s < states; s += team) {
            float sum = along(now, s, before, from[s], from[s + 1]) + logf(given[label[s]]);
            next[s] = ahead[(size_t)t * widest + s] = fmaxf(sum, NEVER);
        }
        __syncthreads();
        float *old = now;
        now = next;
        next = old;
    }
    if (me == 0) {
        float best = NEVER, sum = 0;
        for (int s = 0; s < states; s++)
            if (end[s]) best = fmaxf(best, now[s]);
        for (int s = 0; s < states; s++)
            if (end[s]) sum += expf(now[s] - best);
        room[0] = best > NEVER / 2 && count > 0 ? best + logf(sum) : ZERO;
        totals[line] = room[0];
    }
    __syncthreads();
    const float total = room[0];
    if (total == ZERO) return;
    __syncthreads();
    for (int s = me; s < states; s += team) now[s] = end[s] ? 0 : NEVER;
    for (int t = count - 1; t >= 0; t--) {
        const float *given = p + (size_t)t * tokens;
        for (int token = me; token < tokens; token += team) share[token] = 0;
        __syncthreads();
        float blank = 0;
        for (int s = me; s < states; s += team) {
            float chance = expf(ahead[(size_t)t * widest + s] + now[s] - total);
            if (label[s])
                atomicAdd(share + label[s], chance);
            else
                blank += chance;
            next[s] = now[s] + logf(given[label[s]]);
        }
        blank = sum_of_block(blank, room);
        if (me == 0) share[0] = blank;
        __syncthreads();
        float mine = 0;
        for (int token = me; token < tokens; token += team) mine += share[token];
        mine = fmaxf(sum_of_block(mine, room), 1e-30f);
        for (int token = me; token < tokens; token += team)
            out[(size_t)t * tokens + token] += above * share[token] / mine;
        for (int s = me; s < states; s += team) now[s] = fmaxf(along(next, s, after, to[s], to[s + 1]), NEVER);
        __syncthreads();
    }
}

static __device__ float widened(unsigned short half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

// Sums over all readings, weighed by the trigram. A state is (last phoneme, the one before), and whether the step was
// that phoneme (L) or blank (K). The trigram is in half precision, times `unit`, so that shared memory holds it.
extern "C" __global__ void __launch_bounds__(800) denominator(
    const float *p,                // (B, most, symbols)
    const int *steps,              // (B,)
    const unsigned short *between, // [last][before][phoneme], without doubled phonemes, rows of `row`
    const float *twice,            // [last][before]: of the doubled ones
    float *ahead,                  // (B, most, 2, symbols * symbols)
    float *scales,                 // (B, most)
    float *totals,                 // (B,)
    float *out,                    // (B, most, symbols): shares are added, times below
    float below, float unit, int most, int symbols, int row) {
    extern __shared__ float shared[];
    const int line = blockIdx.x, me = threadIdx.x, team = blockDim.x;
    const int pairs = symbols * symbols, count = steps[line];
    float *L = shared, *K = L + pairs, *both = K + pairs, *made = both + pairs, *share = made + pairs;
    float *read = share + symbols, *room = read + symbols;
    unsigned short *table = (unsigned short *)(room + 34);
    p += (size_t)line * most * symbols;
    out += (size_t)line * most * symbols;
    ahead += (size_t)line * most * 2 * pairs;
    scales += (size_t)line * most;

    for (int i = me; i < pairs * row; i += team) table[i] = between[i];
    for (int i = me; i < pairs; i += team) {
        L[i] = 0;
        K[i] = i ? 0 : 1;
    }
    double total = 0;
    __syncthreads();
    for (int t = 0; t < count; t++) {
        const float *given = p + (size_t)t * symbols;
        for (int i = me; i < symbols; i += team) read[i] = i ? given[i] : 0;
        for (int i = me; i < pairs; i += team) both[i] = L[i] + K[i];
        __syncthreads();
        for (int i = me; i < pairs; i += team) {
            const int last = i / symbols, phone = i % symbols;
            const unsigned short *weights = table + (size_t)last * symbols * row + phone;
            const float *reached = both + last * symbols;
            float sum = 0;
            for (int h = 0; h < symbols; h++) sum += reached[h] * widened(weights[h * row]);
            sum *= 1 / unit;
            if (phone == last)
                for (int h = 0; h < symbols; h++) sum += K[last * symbols + h] * twice[last * symbols + h];
            made[i] = sum;
        }
        __syncthreads();
        const float blank = given[0];
        float mine = 0;
        for (int i = me; i < pairs; i += team) {
            const int last = i / symbols, before = i % symbols;
            L[i] = (made[before * symbols + last] + L[i]) * read[last];
            K[i] = both[i] * blank;
            mine += L[i] + K[i];
        }
        const float scale = 1 / sum_of_block(mine, room);
        total -= logf(scale);
        for (int i = me; i < pairs; i += team) {
            ahead[(size_t)t * 2 * pairs + i] = L[i] *= scale;
            ahead[(size_t)t * 2 * pairs + pairs + i] = K[i] *= scale;
        }
        if (me == 0) scales[t] = scale;
        __syncthreads();
    }
    if (me == 0) totals[line] = total;
    for (int i = me; i < pairs; i += team) L[i] = K[i] = 1;
    for (int t = count - 1; t >= 0; t--) {
        const float *given = p + (size_t)t * symbols, *then = ahead + (size_t)t * 2 * pairs;
        for (int i = me; i < symbols; i += team) read[i] = i ? given[i] : 0;
        __syncthreads();
        const float scale = scales[t], blank = given[0] * scale;
        for (int phone = me / 32; phone < symbols; phone += team / 32) {
            float sum = 0;
            for (int h = me % 32; h < symbols; h += 32) sum += then[phone * symbols + h] * L[phone * symbols + h];
            sum = sum_of_warp(sum);
            if (me % 32 == 0) share[phone] = sum;
        }
        float paused = 0;
        for (int i = me; i < pairs; i += team) {
            paused += then[pairs + i] * K[i];
            // States that no path reaches may have any number here; kept small, it is harmless.
            both[i] = fminf(L[i] * (read[i / symbols] * scale), 1e30f); // [phoneme][last]
            made[i] = fminf(K[i] * blank, 1e30f);
        }
        paused = sum_of_block(paused, room);
        if (me == 0) share[0] = paused;
        __syncthreads();
        float mine = 0;
        for (int i = me; i < symbols; i += team) mine += share[i];
        mine = fmaxf(sum_of_block(mine, room), 1e-30f);
        for (int i = me; i < symbols; i += team) out[(size_t)t * symbols + i] += below * share[i] / mine;
        for (int i = me; i < pairs; i += team) {
            const int last = i / symbols;
            const unsigned short *weights = table + (size_t)i * row;
            float sum = 0;
            for (int phone = 0; phone < symbols; phone++) sum += both[phone * symbols + last] * widened(weights[phone]);
            sum = sum * (1 / unit) + made[i];
            L[i] = sum + both[i];
            K[i] = sum + both[last * symbols + last] * twice[i];
        }
        __syncthreads();
    }
}
