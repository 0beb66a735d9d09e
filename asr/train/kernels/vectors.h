/* What the kernels share: bfloat16 in memory, float32 in registers, and the functions of an LSTM's gates.

   Called from native.py, which says what goes in and comes out. Everywhere:
     - rows are (step, line), time first: row t * lines + b; a row has `width` values, a multiple of 32;
     - bf16 buffers that products read need 31 rows of room behind them: what is there is read and thrown away;
     - "packed" weights are laid out as tiles of 32 inputs x 16 outputs, one 1 kB tile after another, outputs outermost;
       a tile has 16 rows, each of two inputs of 16 outputs side by side.
 */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;
typedef __m512 vec; /* 16 float32 */

#define ALL(x) _mm512_set1_ps(x)
enum { TILE = 512 }; /* bf16 values in a tile */

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

/* An LSTM's step for 16 units of one line. What the products of the state before came to is in i, f, g and o; `in`, in
   torch's order i f g o, `width` apart, has the rest. All pointers are those of the units' first value; `kept` gets the
   gates for the way back. */
static inline __attribute__((always_inline)) void lstm_cell(vec i, vec f, vec g, vec o, const bf16 *in, int width,
                                                            const float *c_before, float *c_after, bf16 *h_after,
                                                            bf16 *kept)
{
    i = sigmoid(_mm512_add_ps(i, load(in)));
    f = sigmoid(_mm512_add_ps(f, load(in + width)));
    g = hyperbolic_tangent(_mm512_add_ps(g, load(in + 2 * width)));
    o = sigmoid(_mm512_add_ps(o, load(in + 3 * width)));
    vec cell = _mm512_fmadd_ps(f, _mm512_loadu_ps(c_before), _mm512_mul_ps(i, g));
    _mm512_storeu_ps(c_after, cell);
    store(h_after, _mm512_mul_ps(o, hyperbolic_tangent(cell)));
    store(kept, i);
    store(kept + width, f);
    store(kept + 2 * width, g);
    store(kept + 3 * width, o);
}

/* The same on the way back: from the gradient of h to that of `in`, `d`. `d_c`, the gradient of the cell, goes from this
   step's to that of the step before. */
static inline __attribute__((always_inline)) void lstm_cell_backward(vec d_out, const bf16 *kept, int width,
                                                                     const float *c_before, const float *c_after,
                                                                     float *d_c, bf16 *d)
{
    vec one = ALL(1.f), i = load(kept), f = load(kept + width), g = load(kept + 2 * width), o = load(kept + 3 * width);
    vec squashed = hyperbolic_tangent(_mm512_loadu_ps(c_after));
    vec d_cell = _mm512_fmadd_ps(_mm512_mul_ps(d_out, o), _mm512_fnmadd_ps(squashed, squashed, one),
                                 _mm512_load_ps(d_c));
    store(d, _mm512_mul_ps(_mm512_mul_ps(d_cell, g), _mm512_mul_ps(i, _mm512_sub_ps(one, i))));
    store(d + width, _mm512_mul_ps(_mm512_mul_ps(d_cell, _mm512_loadu_ps(c_before)),
                                   _mm512_mul_ps(f, _mm512_sub_ps(one, f))));
    store(d + 2 * width, _mm512_mul_ps(_mm512_mul_ps(d_cell, i), _mm512_fnmadd_ps(g, g, one)));
    store(d + 3 * width, _mm512_mul_ps(_mm512_mul_ps(d_out, squashed), _mm512_mul_ps(o, _mm512_sub_ps(one, o))));
    _mm512_store_ps(d_c, _mm512_mul_ps(d_cell, f));
}
