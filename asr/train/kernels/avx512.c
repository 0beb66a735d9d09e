/* The products of a training step with AVX-512's instruction for pairs of bfloat16, sums in float32. The same functions
   as in amx.c.

   A block of the result, some rows x 32 columns, stays in registers while the sum runs: each pair of a row's values is
   spread over a register and multiplied with the pairs of 2 x 16 columns. Blocks are ordered so that weights are read
   from the caches nearest. */

#include "vectors.h"

#define INLINE static inline __attribute__((always_inline))
enum { ROWS = 8, GATE_ROWS = 8, SLAB = 192 /* rows that stay in the second cache */ };

int unit_permitted(void) { return 1; }

/* sums[row][column] += rows times the packed weights of two times 16 columns */
INLINE void add_products(vec (*sums)[2], int count, const bf16 *rows, long stride, const bf16 *w0, const bf16 *w1,
                         int pairs)
{
    for (int k = 0; k < pairs; k++) {
        __m512bh a = (__m512bh)_mm512_loadu_si512(w0 + 32 * k), b = (__m512bh)_mm512_loadu_si512(w1 + 32 * k);
#pragma GCC unroll 16
        for (int r = 0; r < count; r++) {
            int pair;
            memcpy(&pair, rows + r * stride + 2 * k, 4);
            __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, a);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, b);
        }
    }
}

/* out[row] = act(sum over taps of x[row + tap * lines] W[tap] + bias), W packed, taps * width inputs */
void convolve(const bf16 *x, long rows, int lines, int taps, int width, const bf16 *packed, int outputs,
              const float *bias, int relu, bf16 *out)
{
    int tiles = width / 32;
    long panel = (long)taps * tiles * TILE;
    vec zero = _mm512_setzero_ps();
    for (long slab = 0; slab < rows; slab += SLAB) {
        long end = slab + SLAB < rows ? slab + SLAB : rows;
        for (int n = 0; n < outputs; n += 32) {
            vec b0 = bias ? _mm512_loadu_ps(bias + n) : zero, b1 = bias ? _mm512_loadu_ps(bias + n + 16) : zero;
            for (long m = slab; m < end; m += ROWS) {
                const bf16 *w0 = packed + n / 16 * panel, *w1 = w0 + panel;
                vec sums[ROWS][2];
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; r++) {
                    sums[r][0] = b0;
                    sums[r][1] = b1;
                }
                for (int tap = 0; tap < taps; tap++, w0 += tiles * TILE, w1 += tiles * TILE)
                    add_products(sums, ROWS, x + (m + (long)tap * lines) * width, width, w0, w1, 16 * tiles);
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; r++)
                    if (m + r < end) {
                        store(out + (m + r) * outputs + n, relu ? _mm512_max_ps(sums[r][0], zero) : sums[r][0]);
                        store(out + (m + r) * outputs + n + 16, relu ? _mm512_max_ps(sums[r][1], zero) : sums[r][1]);
                    }
            }
        }
    }
}

/* out (outputs, width), its rows `to_next` apart, = turned (outputs, 2 pairs) times the rows that pack_rows packed: the
   gradient of weights. `turned` comes from transpose. */
void weight_gradient(const bf16 *turned, long stride, int outputs, const bf16 *packed, long panel, int pairs, int width,
                     float *out, long to_next)
{
    const int most = 384; /* pairs at once: these columns' weights then stay near */
    for (int k = 0; k < pairs; k += most) {
        int here = pairs - k < most ? pairs - k : most;
        for (int slab = 0; slab < outputs; slab += SLAB)
            for (int n = 0; n < width; n += 32) {
                const bf16 *w0 = packed + n / 16 * panel + 32L * k, *w1 = w0 + panel;
                for (int m = slab; m < outputs && m < slab + SLAB; m += ROWS) {
                    float *to = out + m * to_next + n;
                    vec sums[ROWS][2];
#pragma GCC unroll 16
                    for (int r = 0; r < ROWS; r++) {
                        sums[r][0] = k ? _mm512_loadu_ps(to + r * to_next) : _mm512_setzero_ps();
                        sums[r][1] = k ? _mm512_loadu_ps(to + r * to_next + 16) : _mm512_setzero_ps();
                    }
                    add_products(sums, ROWS, turned + m * stride + 2 * k, stride, w0, w1, here);
#pragma GCC unroll 16
                    for (int r = 0; r < ROWS; r++) {
                        _mm512_storeu_ps(to + r * to_next, sums[r][0]);
                        _mm512_storeu_ps(to + r * to_next + 16, sums[r][1]);
                    }
                }
            }
    }
}

/* block (lines, 32) = rows times the packed weights of two times 16 columns, lines rounded up to GATE_ROWS */
INLINE void fill_block(float *block, const bf16 *rows, int lines, int width, const bf16 *w0, const bf16 *w1)
{
    const int most = 12; /* tiles of two columns that the nearest cache holds beside the rest */
    int tiles = width / 32;
    for (int k = 0; k < tiles; k += most) {
        int here = tiles - k < most ? tiles - k : most;
        for (int m = 0; m < lines; m += GATE_ROWS) {
            vec sums[GATE_ROWS][2];
            float *to = block + 32 * m;
#pragma GCC unroll 16
            for (int r = 0; r < GATE_ROWS; r++) {
                sums[r][0] = k ? _mm512_load_ps(to + 32 * r) : _mm512_setzero_ps();
                sums[r][1] = k ? _mm512_load_ps(to + 32 * r + 16) : _mm512_setzero_ps();
            }
            add_products(sums, GATE_ROWS, rows + (long)m * width + 32 * k, width, w0 + (long)k * TILE,
                         w1 + (long)k * TILE, 16 * here);
#pragma GCC unroll 16
            for (int r = 0; r < GATE_ROWS; r++) {
                _mm512_store_ps(to + 32 * r, sums[r][0]);
                _mm512_store_ps(to + 32 * r + 16, sums[r][1]);
            }
        }
    }
}

static float *new_block(int lines) { return aligned_alloc(64, (size_t)(lines + GATE_ROWS) * 32 * sizeof(float)); }

/* The recurrence of an LSTM. `inputs` (rows, 4 width) has W_ih x + both biases, gates in torch's order i f g o.
   h and c have one step more than the rest: the first is the state before. `gates` keeps i f g o for the way back. */
void lstm_forward(int steps, int lines, int width, const bf16 *inputs, const bf16 *packed, bf16 *h, float *c,
                  bf16 *gates)
{
    int columns = width / 16;
    long panel = (long)(width / 32) * TILE, state = (long)lines * width;
    float *first = new_block(lines), *second = new_block(lines); /* of i f, and of g o */
    for (int t = 0; t < steps; t++) {
        const bf16 *h_before = h + t * state, *in = inputs + 4 * t * state;
        const float *c_before = c + t * state;
        bf16 *h_after = h + (t + 1) * state, *kept = gates + 4 * t * state;
        float *c_after = c + (t + 1) * state;
        for (int j = 0; j < columns; j++) {
            const bf16 *w = packed + j * panel;
            fill_block(first, h_before, lines, width, w, w + columns * panel);
            fill_block(second, h_before, lines, width, w + 2 * columns * panel, w + 3 * columns * panel);
            for (int r = 0; r < lines; r++) {
                long at = (long)r * width + 16 * j, at4 = (long)r * 4 * width + 16 * j;
                const float *i_f = first + 32 * r, *g_o = second + 32 * r;
                lstm_cell(_mm512_load_ps(i_f), _mm512_load_ps(i_f + 16), _mm512_load_ps(g_o), _mm512_load_ps(g_o + 16),
                          in + at4, width, c_before + at, c_after + at, h_after + at, kept + at4);
            }
        }
    }
    free(first);
    free(second);
}

/* From the gradient of h to that of `inputs`: d_h (rows, width) to d_inputs (rows, 4 width). Weights packed for the way
 * back. */
void lstm_backward(int steps, int lines, int width, const bf16 *d_h, const bf16 *packed, const float *c,
                   const bf16 *gates, bf16 *d_inputs)
{
    long panel = (long)(4 * width / 32) * TILE, state = (long)lines * width;
    float *d_c = aligned_alloc(64, state * sizeof(float)), *block = new_block(lines);
    memset(d_c, 0, state * sizeof(float));
    memset(block, 0, (size_t)lines * 32 * sizeof(float));
    for (int t = steps - 1; t >= 0; t--) {
        const float *c_before = c + t * state, *c_after = c_before + state;
        const bf16 *kept = gates + 4 * t * state, *from_above = d_h + t * state;
        bf16 *d = d_inputs + 4 * t * state;
        for (int p = 0; p < width / 32; p++) {
            const bf16 *w = packed + 2 * p * panel;
            if (t < steps - 1) fill_block(block, d + 4 * state, lines, 4 * width, w, w + panel);
            for (int r = 0; r < 2 * lines; r++) {
                int row = r / 2, half = r % 2;
                long at = (long)row * width + 32 * p + 16 * half, at4 = at + (long)row * 3 * width;
                vec d_out = _mm512_add_ps(load(from_above + at), _mm512_load_ps(block + 16 * r));
                lstm_cell_backward(d_out, kept + at4, width, c_before + at, c_after + at, d_c + at, d + at4);
            }
        }
    }
    free(d_c);
    free(block);
}
