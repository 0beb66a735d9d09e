/* CTC's loss and gradient, of probabilities. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* CTC of one line: token 0 is the blank. Probabilities (steps, tokens) in; the gradient of the loss with regard to the
   logits out. Path sums are doubles scaled to one at every step. Gives the loss, or -1 if the text does not fit. */
static double ctc_line(const float *p, int steps, int tokens, const long *text, int length, float *gradient)
{
    int states = 2 * length + 1, room = states + 4, fits = 1;
    double *ahead = calloc((size_t)steps * room, sizeof(double)), *scratch = calloc(4 * room + tokens, sizeof(double));
    double *skip = scratch, *behind = skip + room, *next = behind + room, *share = next + room,
           *of_token = share + room;
    int *label = calloc(room, sizeof(int));
    double loss = 0;
    for (int s = 1; s < states; s += 2) {
        label[s] = (int)text[s / 2];
        skip[s] = s > 1 && text[s / 2] != text[s / 2 - 1]; /* two different letters need no blank between them */
    }
    for (int t = 0; t < steps && fits; t++) { /* state s lies at s + 2, behind two that are never reached */
        double *a = ahead + (size_t)t * room + 2, *before = a - room, sum = 0;
        const float *here = p + (size_t)t * tokens;
        for (int s = 0; s < states; s++) {
            double from = t ? before[s] + before[s - 1] + skip[s] * before[s - 2] : s < 2;
            sum += a[s] = from * here[label[s]];
        }
        fits = sum > 0;
        for (int s = 0; s < states && fits; s++) a[s] /= sum;
        loss -= log(sum);
    }
    if (fits && steps) {
        const double *a = ahead + (size_t)(steps - 1) * room + 2;
        double end = a[states - 1] + (states > 1 ? a[states - 2] : 0);
        fits = end > 0;
        loss -= log(end);
        behind[states - 1] = 1;
        if (states > 1) behind[states - 2] = 1;
    }
    for (int t = steps - 1; t >= 0 && fits; t--) {
        const double *a = ahead + (size_t)t * room + 2;
        const float *here = p + (size_t)t * tokens;
        double sum = 0, largest = 0;
        memset(of_token, 0, tokens * sizeof(double));
        for (int s = 0; s < states; s++) {
            sum += share[s] = a[s] * behind[s];
            of_token[label[s]] += share[s];
        }
        fits = sum > 0;
        for (int v = 0; v < tokens && fits; v++)
            gradient[(size_t)t * tokens + v] = here[v] - (float)(of_token[v] / sum);
        for (int s = 0; s < states; s++) next[s] = behind[s] * here[label[s]];
        for (int s = 0; s < states; s++) {
            behind[s] = next[s] + next[s + 1] + skip[s + 2] * next[s + 2];
            largest = behind[s] > largest ? behind[s] : largest;
        }
        for (int s = 0; s < states && largest > 0; s++) behind[s] /= largest;
    }
    free(ahead);
    free(scratch);
    free(label);
    return fits && steps ? loss : -1;
}

/* CTC of a batch: probabilities (lines, most, tokens), a line's own number of steps and letters, the letters end to
   end. A line that does not fit counts nothing. Gives the sum of the losses. */
double ctc(const float *p, int lines, int most, int tokens, const long *steps, const long *text, const long *lengths,
           float *gradient)
{
    double total = 0;
    size_t line = (size_t)most * tokens;
    memset(gradient, 0, lines * line * sizeof(float));
    for (int b = 0; b < lines; text += lengths[b++]) {
        double loss = ctc_line(p + b * line, (int)steps[b], tokens, text, (int)lengths[b], gradient + b * line);
        if (loss == -1) memset(gradient + b * line, 0, line * sizeof(float));
        else total += loss;
    }
    return total;
}
