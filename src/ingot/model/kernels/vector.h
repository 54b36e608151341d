// Functions of sixteen floats at once: exp, tanh, erf, the activations of feed-forwards, and the root-mean-square norm.
//
// Each is a fixed sequence of operations on its own lane, so a number does not depend on where in a vector it stands.
#pragma once
#include <immintrin.h>

namespace ingot {

// e^x, within 2 units in the last place; 0 below -104, infinite above 88.8, NaN stays.
inline __m512 exp16(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-110.f), _mm512_min_ps(_mm512_set1_ps(89.f), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, _mm512_add_ps(r, _mm512_set1_ps(1.f)));
  return _mm512_scalef_ps(p, n);
}

// tanh(x), within 1e-7.
inline __m512 tanh16(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.f), two = _mm512_set1_ps(2.f);
  const __m512 e = exp16(_mm512_mul_ps(two, _mm512_abs_ps(x)));
  const __m512 t = _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(e, one)));
  const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0x80000000));
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(t), sign));
}

// erf(x), within 2e-7 (Abramowitz and Stegun 1964, 7.1.26).
inline __m512 erf16(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.f), a = _mm512_abs_ps(x);
  const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(_mm512_set1_ps(0.3275911f), a, one));
  __m512 p = _mm512_set1_ps(1.061405429f);
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
  const __m512 e = exp16(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(a, a)));
  const __m512 y = _mm512_fnmadd_ps(_mm512_mul_ps(p, t), e, one);
  const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0x80000000));
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(y), sign));
}

enum Activation { SILU, RELU, GELU, GELU_TANH };

inline __m512 activate16(__m512 x, int kind) {
  const __m512 one = _mm512_set1_ps(1.f), half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
  if (kind == SILU) return _mm512_div_ps(x, _mm512_add_ps(one, exp16(_mm512_sub_ps(_mm512_setzero_ps(), x))));
  if (kind == RELU) return _mm512_max_ps(_mm512_setzero_ps(), x);
  if (kind == GELU)
    return _mm512_mul_ps(half, _mm512_add_ps(one, erf16(_mm512_mul_ps(x, _mm512_set1_ps(0.70710678f)))));
  const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
  const __m512 inner = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
  return _mm512_mul_ps(half, _mm512_add_ps(one, tanh16(_mm512_mul_ps(inner, _mm512_set1_ps(0.79788456f)))));
}

// The lanes that are left of `count` numbers from `at` on.
inline __mmask16 lanes(int at, int count) { return count - at >= 16 ? 0xffff : (__mmask16)((1u << (count - at)) - 1); }

// y = x / rms(x) * weight, for `count` numbers; y may be x.
inline void rms_norm(const float* x, const float* weight, float eps, int count, float* y) {
  __m512 squares = _mm512_setzero_ps();
  for (int i = 0; i < count; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(lanes(i, count), x + i);
    squares = _mm512_fmadd_ps(v, v, squares);
  }
  const float mean = _mm512_reduce_add_ps(squares) / (float)count;
  const __m512 factor = _mm512_set1_ps(1.f / __builtin_sqrtf(mean + eps));
  for (int i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(i, count);
    const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
    _mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, weight + i)));
  }
}

}  // namespace ingot
