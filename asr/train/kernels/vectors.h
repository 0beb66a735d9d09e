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
