/* The costly parts of a training step for CPUs with AMX: products of bfloat16 in tiles, sums in float32.

   Called from amx.py, which says what goes in and comes out. Everywhere:
     - rows are (step, line), time first: row t * lines + b; a row has `width` values, a multiple of 32;
     - bf16 buffers that are read in tiles need 31 rows of room behind them: what is there is read and thrown away;
     - "packed" weights are laid out as tiles of 32 inputs x 16 outputs, one 1 kB tile after another, outputs outermost.
 */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t bf16;
typedef __m512 vec; /* 16 float32 */

#define ALL(x) _mm512_set1_ps(x)
enum { TILE = 512 }; /* bf16 values in a tile */

/* Ask the kernel to let this process use tiles. */
int amx_permitted(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0; }

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

static inline vec load(const bf16 *p)
{ return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16)); }

static inline void store(bf16 *p, vec v) { _mm256_storeu_si256((void *)p, (__m256i)_mm512_cvtneps_pbh(v)); }

/* 1 + exp(-x), to four digits: the results are rounded to three */
static inline vec one_plus_exp(vec x)
{
    vec y = _mm512_mul_ps(x, ALL(-1.44269504f)), whole = _mm512_roundscale_ps(y, 0), f = _mm512_sub_ps(y, whole);
    vec p = _mm512_fmadd_ps(ALL(0.0096181f), f, ALL(0.0555041f));
    p = _mm512_fmadd_ps(p, f, ALL(0.2402265f));
    p = _mm512_fmadd_ps(p, f, ALL(0.6931472f));
    p = _mm512_fmadd_ps(p, f, ALL(1.f));
    return _mm512_add_ps(ALL(1.f), _mm512_scalef_ps(p, whole));
}

static inline vec sigmoid(vec x) { return _mm512_rcp14_ps(one_plus_exp(x)); }

static inline vec hyperbolic_tangent(vec x)
{
    vec d = one_plus_exp(_mm512_add_ps(x, x)), r = _mm512_rcp14_ps(d);
    d = _mm512_min_ps(d, ALL(1e30f)); /* infinity times zero below would be no number */
    r = _mm512_mul_ps(r, _mm512_fnmadd_ps(d, r, ALL(2.f)));
    return _mm512_fmsub_ps(ALL(2.f), r, ALL(1.f));
}

/* Pack weights (outputs, inputs), as torch.nn.Linear has them. */
void pack_forward(const bf16 *w, bf16 *packed, int outputs, int inputs)
{
    for (int n = 0; n < outputs; n += 16)
        for (int k = 0; k < inputs; k += 32, packed += TILE)
            for (int j = 0; j < 16; j++)
                for (int r = 0; r < 16; r++) memcpy(packed + 32 * r + 2 * j, w + (long)(n + j) * inputs + k + 2 * r, 4);
}

/* Pack weights (inputs, outputs): the same matrix for the way back. */
void pack_backward(const bf16 *w, bf16 *packed, int outputs, int inputs)
{
    for (int n = 0; n < outputs; n += 16)
        for (int k = 0; k < inputs; k += 32, packed += TILE)
            for (int r = 0; r < 16; r++)
                for (int j = 0; j < 16; j++) {
                    packed[32 * r + 2 * j] = w[(long)(k + 2 * r) * outputs + n + j];
                    packed[32 * r + 2 * j + 1] = w[(long)(k + 2 * r + 1) * outputs + n + j];
                }
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
                    vec i = sigmoid(_mm512_add_ps(_mm512_load_ps(sums), load(in + at4)));
                    vec f = sigmoid(_mm512_add_ps(_mm512_load_ps(sums + 256), load(in + at4 + width)));
                    vec g = hyperbolic_tangent(_mm512_add_ps(_mm512_load_ps(sums + 1024), load(in + at4 + 2 * width)));
                    vec o = sigmoid(_mm512_add_ps(_mm512_load_ps(sums + 1280), load(in + at4 + 3 * width)));
                    vec cell = _mm512_fmadd_ps(f, _mm512_loadu_ps(c_before + at), _mm512_mul_ps(i, g));
                    _mm512_storeu_ps(c_after + at, cell);
                    store(h_after + at, _mm512_mul_ps(o, hyperbolic_tangent(cell)));
                    store(kept + at4, i);
                    store(kept + at4 + width, f);
                    store(kept + at4 + 2 * width, g);
                    store(kept + at4 + 3 * width, o);
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
    vec one = ALL(1.f);
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
                    vec i = load(kept + at4), f = load(kept + at4 + width), g = load(kept + at4 + 2 * width);
                    vec o = load(kept + at4 + 3 * width), squashed = hyperbolic_tangent(_mm512_loadu_ps(c_after + at));
                    vec d_out = load(from_above + at);
                    if (!last) d_out = _mm512_add_ps(d_out, _mm512_load_ps(now + BLOCK_ROW(row) + 256 * half));
                    vec d_cell = _mm512_fmadd_ps(_mm512_mul_ps(d_out, o), _mm512_fnmadd_ps(squashed, squashed, one),
                                                 _mm512_load_ps(d_c + at));
                    store(d + at4, _mm512_mul_ps(_mm512_mul_ps(d_cell, g), _mm512_mul_ps(i, _mm512_sub_ps(one, i))));
                    store(d + at4 + width, _mm512_mul_ps(_mm512_mul_ps(d_cell, _mm512_loadu_ps(c_before + at)),
                                                         _mm512_mul_ps(f, _mm512_sub_ps(one, f))));
                    store(d + at4 + 2 * width, _mm512_mul_ps(_mm512_mul_ps(d_cell, i), _mm512_fnmadd_ps(g, g, one)));
                    store(d + at4 + 3 * width,
                          _mm512_mul_ps(_mm512_mul_ps(d_out, squashed), _mm512_mul_ps(o, _mm512_sub_ps(one, o))));
                    _mm512_store_ps(d_c + at, _mm512_mul_ps(d_cell, f));
                }
                while (done < todo) NEXT_PRODUCT();
#undef NEXT_PRODUCT
            }
        }
    }
    free(d_c);
    _tile_release();
}

/* Layer normalisation of each row. */
void norm_forward(const bf16 *x, long rows, int width, const float *weight, const float *bias, bf16 *y, float *mean,
                  float *scale)
{
    for (long r = 0; r < rows; r++, x += width, y += width) {
        vec sum = _mm512_setzero_ps(), squares = sum;
        for (int j = 0; j < width; j += 16) {
            vec v = load(x + j);
            sum = _mm512_add_ps(sum, v);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        mean[r] = _mm512_reduce_add_ps(sum) / width;
        float variance = _mm512_reduce_add_ps(squares) / width - mean[r] * mean[r];
        scale[r] = 1.f / sqrtf((variance > 0 ? variance : 0) + 1e-5f);
        vec m = ALL(mean[r]), k = ALL(scale[r]);
        for (int j = 0; j < width; j += 16) {
            vec normal = _mm512_mul_ps(_mm512_sub_ps(load(x + j), m), k);
            store(y + j, _mm512_fmadd_ps(normal, _mm512_loadu_ps(weight + j), _mm512_loadu_ps(bias + j)));
        }
    }
}

/* Its gradients; `also` (or null) is a gradient that reaches x on another way and is added. */
void norm_backward(const bf16 *d_y, const bf16 *x, long rows, int width, const float *weight, const float *mean,
                   const float *scale, const bf16 *also, bf16 *d_x, float *d_weight, float *d_bias)
{
    memset(d_weight, 0, width * sizeof(float));
    memset(d_bias, 0, width * sizeof(float));
    for (long r = 0; r < rows; r++, d_y += width, x += width, d_x += width) {
        vec m = ALL(mean[r]), k = ALL(scale[r]), sum = _mm512_setzero_ps(), along = sum;
        for (int j = 0; j < width; j += 16) {
            vec d = load(d_y + j), normal = _mm512_mul_ps(_mm512_sub_ps(load(x + j), m), k);
            _mm512_storeu_ps(d_bias + j, _mm512_add_ps(_mm512_loadu_ps(d_bias + j), d));
            _mm512_storeu_ps(d_weight + j, _mm512_fmadd_ps(d, normal, _mm512_loadu_ps(d_weight + j)));
            d = _mm512_mul_ps(d, _mm512_loadu_ps(weight + j));
            sum = _mm512_add_ps(sum, d);
            along = _mm512_fmadd_ps(d, normal, along);
        }
        vec a = ALL(_mm512_reduce_add_ps(sum) / width), b = ALL(_mm512_reduce_add_ps(along) / width);
        for (int j = 0; j < width; j += 16) {
            vec d = _mm512_mul_ps(load(d_y + j), _mm512_loadu_ps(weight + j));
            vec normal = _mm512_mul_ps(_mm512_sub_ps(load(x + j), m), k);
            d = _mm512_mul_ps(k, _mm512_sub_ps(_mm512_sub_ps(d, a), _mm512_mul_ps(normal, b)));
            store(d_x + j, also ? _mm512_add_ps(d, load(also + r * width + j)) : d);
        }
    }
}

/* out = x + mask * y, the mask (lines, width) the same at every step */
void add_masked(const bf16 *x, const bf16 *y, const float *mask, long rows, int lines, int width, bf16 *out)
{
    for (long r = 0; r < rows; r++)
        for (int j = 0; j < width; j += 16)
            store(out + r * width + j, _mm512_fmadd_ps(_mm512_loadu_ps(mask + r % lines * width + j),
                                                       load(y + r * width + j), load(x + r * width + j)));
}

/* out = mask * d, and zero where y is not positive if y is given: the way back through a ReLU */
void mask_gradient(const bf16 *d, const bf16 *y, const float *mask, long rows, int lines, int width, bf16 *out)
{
    for (long r = 0; r < rows; r++)
        for (int j = 0; j < width; j += 16) {
            vec v = _mm512_mul_ps(load(d + r * width + j), _mm512_loadu_ps(mask + r % lines * width + j));
            if (y)
                v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(load(y + r * width + j), _mm512_setzero_ps(), _CMP_GT_OQ),
                                        v);
            store(out + r * width + j, v);
        }
}

static inline void transpose_16x16(__m512i *r)
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* (rows, width) to (width, rows), its rows `stride` apart, a multiple of 32, zeros behind
   them up to the next one; and the sum of each column. */
void transpose(const bf16 *x, long rows, int width, bf16 *out, long stride, float *sums)
{
    memset(sums, 0, width * sizeof(float));
    for (int first = 0; first < width; first += 64) /* 64 columns of 32 rows: whole lines of the cache both ways */
        for (long r = 0; r < rows; r += 32)
            for (int n = first; n < width && n < first + 64; n += 16) {
                __m512i pairs[16], nothing = _mm512_setzero_si512(); /* pairs: two rows' values side by side */
                vec sum = _mm512_loadu_ps(sums + n);
                long left = rows - r;
                for (int i = 0; i < 16; i++) {
                    const bf16 *p = x + (r + 2 * i) * width + n;
                    __m512i low = nothing, high = nothing;
                    if (2 * i < left) low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
                    if (2 * i + 1 < left) high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p + width)));
                    high = _mm512_slli_epi32(high, 16);
                    pairs[i] = _mm512_or_si512(low, high);
                    sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(low, 16)));
                    sum = _mm512_add_ps(sum, _mm512_castsi512_ps(high));
                }
                _mm512_storeu_ps(sums + n, sum);
                transpose_16x16(pairs);
                bf16 *to = out + n * stride + r;
                for (int i = 0; i < 16; i++, to += stride) /* past the caches: it is more than they hold */
                    _mm512_stream_si512((void *)to, pairs[i]);
            }
}

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
