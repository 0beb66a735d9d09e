/* The products of a training step in the tiles of AMX: of bfloat16, sums in float32. */

#include "vectors.h"
#include <sys/syscall.h>
#include <unistd.h>

/* Ask the kernel to let this process use tiles. */
int unit_permitted(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0; }

static void begin_tiles(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
}

/* Tiles 0 to 3 are a 32 x 32 block of the result; 4 and 5 rows, 6 and 7 weights. */
#define CLEAR_BLOCK()                                                                                                  \
    do {                                                                                                               \
        _tile_zero(0);                                                                                                 \
        _tile_zero(1);                                                                                                 \
        _tile_zero(2);                                                                                                 \
        _tile_zero(3);                                                                                                 \
    } while (0)
#define ADD_PRODUCT(rows, stride, w0, w1)                                                                              \
    do {                                                                                                               \
        _tile_loadd(6, w0, 64);                                                                                        \
        _tile_loadd(4, rows, 2 * (stride));                                                                            \
        _tile_loadd(7, w1, 64);                                                                                        \
        _tile_dpbf16ps(0, 4, 6);                                                                                       \
        _tile_dpbf16ps(1, 4, 7);                                                                                       \
        _tile_loadd(5, (rows) + 16 * (stride), 2 * (stride));                                                          \
        _tile_dpbf16ps(2, 5, 6);                                                                                       \
        _tile_dpbf16ps(3, 5, 7);                                                                                       \
    } while (0)
#define STORE_BLOCK(s)                                                                                                 \
    do {                                                                                                               \
        _tile_stored(0, s, 64);                                                                                        \
        _tile_stored(1, (s) + 256, 64);                                                                                \
        _tile_stored(2, (s) + 512, 64);                                                                                \
        _tile_stored(3, (s) + 768, 64);                                                                                \
    } while (0)
#define BLOCK_ROW(r) (((r) >> 4) * 512 + ((r) & 15) * 16) /* where row r of the left half lies in a stored block */

/* out[row] = act(sum over taps of x[row + tap * lines] W[tap] + bias), W packed, taps * width inputs */
void convolve(const bf16 *x, long rows, int lines, int taps, int width, const bf16 *packed, int outputs,
              const float *bias, int relu, bf16 *out)
{
    begin_tiles();
    int tiles = width / 32;
    long panel = (long)taps * tiles * TILE;
    float block[1024] __attribute__((aligned(64)));
    vec zero = _mm512_setzero_ps();
    for (long m = 0; m < rows; m += 32) {
        long here = rows - m < 32 ? rows - m : 32;
        for (int n = 0; n < outputs; n += 32) {
            const bf16 *w0 = packed + n / 16 * panel, *w1 = w0 + panel;
            CLEAR_BLOCK();
            for (int tap = 0; tap < taps; tap++)
                for (int k = 0; k < tiles; k++, w0 += TILE, w1 += TILE)
                    ADD_PRODUCT(x + (m + (long)tap * lines) * width + 32 * k, width, w0, w1);
            STORE_BLOCK(block);
            vec b0 = bias ? _mm512_loadu_ps(bias + n) : zero, b1 = bias ? _mm512_loadu_ps(bias + n + 16) : zero;
            for (long r = 0; r < here; r++) {
                vec y0 = _mm512_add_ps(_mm512_load_ps(block + BLOCK_ROW(r)), b0);
                vec y1 = _mm512_add_ps(_mm512_load_ps(block + BLOCK_ROW(r) + 256), b1);
                store(out + (m + r) * outputs + n, relu ? _mm512_max_ps(y0, zero) : y0);
                store(out + (m + r) * outputs + n + 16, relu ? _mm512_max_ps(y1, zero) : y1);
            }
        }
    }
    _tile_release();
}

/* The recurrence of an LSTM. `inputs` (rows, 4 width) has W_ih x + both biases, gates in torch's order i f g o.
   h and c have one step more than the rest: the first is the state before. `gates` keeps i f g o for the way back. */
void lstm_forward(int steps, int lines, int width, const bf16 *inputs, const bf16 *packed, bf16 *h, float *c,
                  bf16 *gates)
{
    begin_tiles();
    int tiles = width / 32, columns = width / 16;
    long panel = (long)tiles * TILE;
    float block[2][2048]
        __attribute__((aligned(64))); /* of two neighbouring columns: i f in the first half, g o in the second */
    for (int t = 0; t < steps; t++) {
        const bf16 *h_before = h + (long)t * lines * width, *in = inputs + (long)t * lines * 4 * width;
        const float *c_before = c + (long)t * lines * width;
        bf16 *h_after = h + (long)(t + 1) * lines * width, *kept = gates + (long)t * lines * 4 * width;
        float *c_after = c + (long)(t + 1) * lines * width;
        for (int m = 0; m < lines; m += 32) {
            int here = lines - m < 32 ? lines - m : 32;
            const bf16 *rows = h_before + (long)m * width;
            /* The products of the next 16 units run in the tiles while the vector units do these 16's gates. */
            for (int j = -1; j < columns; j++) {
                float *now = block[j & 1], *next = block[(j + 1) & 1];
                const bf16 *w0 = packed + (j + 1) * panel, *w1 = w0 + columns * panel;
                int done = 0, todo = j + 1 < columns ? 2 * tiles : 0;
#define NEXT_PRODUCT()                                                                                                 \
    do {                                                                                                               \
        if (done == 0) CLEAR_BLOCK();                                                                                  \
        if (done == tiles) {                                                                                           \
            STORE_BLOCK(next);                                                                                         \
            CLEAR_BLOCK();                                                                                             \
            w0 += 2 * columns * panel - panel;                                                                         \
            w1 += 2 * columns * panel - panel;                                                                         \
        }                                                                                                              \
        ADD_PRODUCT(rows + 32 * (done % tiles), width, w0 + (long)done * TILE, w1 + (long)done * TILE);                \
        if (++done == todo) STORE_BLOCK(next + 1024);                                                                  \
    } while (0)
                for (int r = 0; j >= 0 && r < here; r++) {
                    if (done < todo) NEXT_PRODUCT();
                    const float *sums = now + BLOCK_ROW(r);
                    long at = (long)(m + r) * width + 16 * j, at4 = (long)(m + r) * 4 * width + 16 * j;
                    lstm_cell(_mm512_load_ps(sums), _mm512_load_ps(sums + 256), _mm512_load_ps(sums + 1024),
                              _mm512_load_ps(sums + 1280), in + at4, width, c_before + at, c_after + at, h_after + at,
                              kept + at4);
                }
                while (done < todo) NEXT_PRODUCT();
#undef NEXT_PRODUCT
            }
        }
    }
    _tile_release();
}

/* From the gradient of h to that of `inputs`: d_h (rows, width) to d_inputs (rows, 4 width). Weights packed for the way
 * back. */
void lstm_backward(int steps, int lines, int width, const bf16 *d_h, const bf16 *packed, const float *c,
                   const bf16 *gates, bf16 *d_inputs)
{
    begin_tiles();
    int tiles = 4 * width / 32, pairs = width / 32;
    long panel = (long)tiles * TILE, state = (long)lines * width;
    float *d_c = aligned_alloc(64, state * sizeof(float)), block[2][1024] __attribute__((aligned(64)));
    memset(d_c, 0, state * sizeof(float));
    for (int t = steps - 1; t >= 0; t--) {
        const float *c_before = c + t * state, *c_after = c_before + state;
        const bf16 *kept = gates + 4 * t * state, *from_above = d_h + t * state;
        bf16 *d = d_inputs + 4 * t * state, *d_next = d + 4 * state; /* of the step after, done before */
        int last = t == steps - 1;
        for (int m = 0; m < lines; m += 32) {
            int here = lines - m < 32 ? lines - m : 32;
            for (int p = -1; p < pairs; p++) {
                float *now = block[p & 1], *next = block[(p + 1) & 1];
                const bf16 *w0 = packed + 2 * (p + 1) * panel, *w1 = w0 + panel;
                int done = 0, todo = p + 1 < pairs && !last ? tiles : 0;
#define NEXT_PRODUCT()                                                                                                 \
    do {                                                                                                               \
        if (done == 0) CLEAR_BLOCK();                                                                                  \
        ADD_PRODUCT(d_next + (long)m * 4 * width + 32 * done, 4 * width, w0 + (long)done * TILE,                       \
                    w1 + (long)done * TILE);                                                                           \
        if (++done == todo) STORE_BLOCK(next);                                                                         \
    } while (0)
                for (int r = 0; p >= 0 && r < 2 * here; r++) {
                    if (done < todo) NEXT_PRODUCT();
                    int row = r / 2, half = r % 2;
                    long at = (long)(m + row) * width + 32 * p + 16 * half, at4 = at + (long)(m + row) * 3 * width;
                    vec d_out = load(from_above + at);
                    if (!last) d_out = _mm512_add_ps(d_out, _mm512_load_ps(now + BLOCK_ROW(row) + 256 * half));
                    lstm_cell_backward(d_out, kept + at4, width, c_before + at, c_after + at, d_c + at, d + at4);
                }
                while (done < todo) NEXT_PRODUCT();
#undef NEXT_PRODUCT
            }
        }
    }
    free(d_c);
    _tile_release();
}
