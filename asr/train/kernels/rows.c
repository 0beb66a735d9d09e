/* Packing, norms, masks and transposing: what is done to rows around the products. */

#include "vectors.h"

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

/* Pack rows as weights are packed, pairs of rows side by side, 16 columns after another; zeros behind the last row. */
void pack_rows(const bf16 *x, long rows, int width, bf16 *packed, long panel)
{
    for (int n = 0; n < width; n += 32) { /* 32 columns: whole lines of the cache */
        bf16 *first = packed + n / 16 * panel, *second = first + panel;
        for (long r = 0; r < rows; r += 2) {
            const bf16 *p = x + r * width + n;
            __m512i a = _mm512_loadu_si512(p), b = r + 1 < rows ? _mm512_loadu_si512(p + width) : _mm512_setzero_si512();
            __m512i a0 = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(a));
            __m512i a1 = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(a, 1));
            __m512i b0 = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(b));
            __m512i b1 = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(b, 1));
            _mm512_storeu_si512(first + 16 * r, _mm512_or_si512(a0, _mm512_slli_epi32(b0, 16)));
            _mm512_storeu_si512(second + 16 * r, _mm512_or_si512(a1, _mm512_slli_epi32(b1, 16)));
        }
    }
}
