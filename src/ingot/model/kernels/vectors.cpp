// The kernel of AVX512-VNNI: up to 8 rows of activations at a time pass over a block of weights, which more rows then
// find in the cache. Its instruction multiplies unsigned by signed bytes, so weights are shifted to be unsigned and the
// shift is taken off again with the sums of the activations' codes: exact, as all of it is integers.
#include <immintrin.h>

#include "linear.h"
#include "scales.h"

namespace ingot {
namespace {

constexpr int ROWS = 8;          // of activations at a time: their sums fill the registers
constexpr int AHEAD = 4096;      // bytes to fetch ahead: memory's latency at full speed

inline __m512i four_bytes(const int8_t* x) {
  int32_t word;
  __builtin_memcpy(&word, x, 4);
  return _mm512_set1_epi32(word);
}

// Sums of one group into d, in unsigned weights: `shift` too large a code.
template <int M>
inline void sum_group_4(const uint8_t* w, const int8_t* q, int K, int group, __m512i* d) {
  const __m512i low = _mm512_set1_epi8(15);
  __m512i e[M];
  for (int m = 0; m < M; m++) d[m] = e[m] = _mm512_setzero_si512();
  for (int k = 0; k < group; k += 8) {
    const uint8_t* at = w + (size_t)k * 8;
    _mm_prefetch((const char*)(at + AHEAD), _MM_HINT_T0);
    const __m512i v = _mm512_loadu_si512(at);
    const __m512i a = _mm512_and_si512(v, low), b = _mm512_andnot_si512(low, v);  // b: 16 times as large
    for (int m = 0; m < M; m++) {
      d[m] = _mm512_dpbusd_epi32(d[m], a, four_bytes(q + (size_t)m * K + k));
      e[m] = _mm512_dpbusd_epi32(e[m], b, four_bytes(q + (size_t)m * K + k + 4));
    }
  }
  for (int m = 0; m < M; m++) d[m] = _mm512_add_epi32(d[m], _mm512_srai_epi32(e[m], 4));
}

template <int M>
inline void sum_group_8(const uint8_t* w, const int8_t* q, int K, int group, __m512i* d) {
  const __m512i flip = _mm512_set1_epi8((char)128);
  __m512i e[M];
  for (int m = 0; m < M; m++) d[m] = e[m] = _mm512_setzero_si512();
  for (int k = 0; k < group; k += 8) {
    const uint8_t* at = w + (size_t)k * 16;
    _mm_prefetch((const char*)(at + AHEAD), _MM_HINT_T0);
    _mm_prefetch((const char*)(at + AHEAD + 64), _MM_HINT_T0);
    const __m512i a = _mm512_xor_si512(_mm512_loadu_si512(at), flip);
    const __m512i b = _mm512_xor_si512(_mm512_loadu_si512(at + 64), flip);
    for (int m = 0; m < M; m++) {
      d[m] = _mm512_dpbusd_epi32(d[m], a, four_bytes(q + (size_t)m * K + k));
      e[m] = _mm512_dpbusd_epi32(e[m], b, four_bytes(q + (size_t)m * K + k + 4));
    }
  }
  for (int m = 0; m < M; m++) d[m] = _mm512_add_epi32(d[m], e[m]);
}

template <int M, int BITS, Scale S>
void block_rows(const Linear& w, int block, const int8_t* q, const float* scale, const int32_t* sum, float* y) {
  const int K = w.columns, G = w.groups();
  const uint8_t* codes = w.codes + block * w.block_bytes();
  __m512 total[M];
  for (int m = 0; m < M; m++) total[m] = _mm512_setzero_ps();
  for (int g = 0; g < G; g++) {
    __m512i d[M];
    const uint8_t* at = codes + (size_t)g * w.group * BLOCK * BITS / 8;
    if constexpr (BITS == 4) sum_group_4<M>(at, q + g * w.group, K, w.group, d);
    else sum_group_8<M>(at, q + g * w.group, K, w.group, d);
    const __m512 scales = group_scales<S>(w, block, g);
    for (int m = 0; m < M; m++) {
      const __m512i shift = _mm512_set1_epi32((1 << (BITS - 1)) * sum[(size_t)m * G + g]);
      total[m] = add_group<S>(total[m], _mm512_sub_epi32(d[m], shift), scales, _mm512_set1_ps(scale[(size_t)m * G + g]));
    }
  }
  const Finish<S> finish(w, block);
  for (int m = 0; m < M; m++) finish(total[m], y + (size_t)m * w.rows);
}

template <int BITS, Scale S>
void blocks(const Linear& w, const int8_t* q, const float* scale, const int32_t* sum, int M, float* y, int first,
            int last) {
  const int K = w.columns, G = w.groups();
  for (int n = first; n < last; n++)
    for (int m = 0; m < M; m += ROWS) {
      const int8_t* qm = q + (size_t)m * K;
      const float* sm = scale + (size_t)m * G;
      const int32_t* um = sum + (size_t)m * G;
      float* ym = y + (size_t)m * w.rows;
      switch (M - m) {
        case 1: block_rows<1, BITS, S>(w, n, qm, sm, um, ym); break;
        case 2: block_rows<2, BITS, S>(w, n, qm, sm, um, ym); break;
        case 3: block_rows<3, BITS, S>(w, n, qm, sm, um, ym); break;
        case 4: block_rows<4, BITS, S>(w, n, qm, sm, um, ym); break;
        case 5: block_rows<5, BITS, S>(w, n, qm, sm, um, ym); break;
        case 6: block_rows<6, BITS, S>(w, n, qm, sm, um, ym); break;
        case 7: block_rows<7, BITS, S>(w, n, qm, sm, um, ym); break;
        default: block_rows<ROWS, BITS, S>(w, n, qm, sm, um, ym);
      }
    }
}

}  // namespace

void multiply_on_vectors(const Linear& w, const int8_t* q, const float* scale, const int32_t* sum, int M, float* y,
                         int first, int last) {
  const bool four = w.bits == 4;
  first *= PANEL / BLOCK, last *= PANEL / BLOCK;
  switch (w.scale) {
    case Scale::ROW: return (four ? blocks<4, Scale::ROW> : blocks<8, Scale::ROW>)(w, q, scale, sum, M, y, first, last);
    case Scale::GROUP_BF16:
      return (four ? blocks<4, Scale::GROUP_BF16> : blocks<8, Scale::GROUP_BF16>)(w, q, scale, sum, M, y, first, last);
    case Scale::GROUP_FLOAT32:
      return (four ? blocks<4, Scale::GROUP_FLOAT32>
                   : blocks<8, Scale::GROUP_FLOAT32>)(w, q, scale, sum, M, y, first, last);
  }
}

}  // namespace ingot
