// How scales enter a sum: the few lines that vectors and tiles must share to agree in every bit.
#pragma once
#include <immintrin.h>

#include "linear.h"

namespace ingot {

// Scales of the 16 rows of a block in one group; ones where scales go by row and wait for the end.
template <Scale S>
inline __m512 group_scales(const Linear& w, int block, int group) {
  const size_t at = ((size_t)block * w.groups() + group) * BLOCK;
  if constexpr (S == Scale::GROUP_FLOAT32) return _mm512_loadu_ps((const float*)w.scales + at);
  if constexpr (S == Scale::GROUP_BF16) {
    const __m256i half = _mm256_loadu_si256((const __m256i*)((const uint16_t*)w.scales + at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  return _mm512_set1_ps(1.f);
}

// total + sum * scales, where `sum` is of integers and `x` the activations' scale.
template <Scale S>
inline __m512 add_group(__m512 total, __m512i sum, __m512 scales, __m512 x) {
  if constexpr (S == Scale::ROW) return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), x, total);
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scales, x), total);
}

// What is left to do to the totals of a block, and their way out; rows that are padding are not written.
template <Scale S>
struct Finish {
  __m512 scale, bias;
  __mmask16 kept;
  int row;
  bool has_bias;

  Finish(const Linear& w, int block) : row(block * BLOCK), has_bias(w.bias != nullptr) {
    const int left = w.rows - row;
    kept = left >= BLOCK ? 0xffff : left > 0 ? (1u << left) - 1 : 0;
    scale = S == Scale::ROW ? _mm512_loadu_ps((const float*)w.scales + row) : _mm512_setzero_ps();
    bias = has_bias ? _mm512_loadu_ps(w.bias + row) : _mm512_setzero_ps();
  }

  void operator()(__m512 total, float* y) const {
    if constexpr (S == Scale::ROW) total = _mm512_mul_ps(total, scale);
    if (has_bias) total = _mm512_add_ps(total, bias);
    _mm512_mask_storeu_ps(y + row, kept, total);
  }
};

}  // namespace ingot
