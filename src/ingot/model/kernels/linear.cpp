// A linear layer: activations to int8, the product shared out among threads, and the layer of C that Python calls.
#include "linear.h"

#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

namespace ingot {
namespace {

constexpr float SMALLEST = 1e-30f;  // a group below is zero: 127 over it must stay finite
constexpr int ALONE = 8;            // rows up to which quantising is not worth waking other threads

}  // namespace

float quantize_group(const float* x, int group, int8_t* q, int32_t* sum) {
  __m512 top = _mm512_setzero_ps();
  __mmask16 unordered = 0;
  for (int k = 0; k < group; k += 16) {
    const __m512 v = _mm512_loadu_ps(x + k);
    top = _mm512_max_ps(_mm512_abs_ps(v), top);
    unordered |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  }
  const float most = _mm512_reduce_max_ps(top);
  const bool finite = !unordered && most <= __FLT_MAX__, large = finite && most >= SMALLEST;
  const __m512 inverse = _mm512_set1_ps(large ? 127.f / most : 0.f);
  __m512i total = _mm512_setzero_si512();
  for (int k = 0; k < group; k += 16) {
    const __m512i codes = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + k), inverse));
    total = _mm512_add_epi32(total, codes);
    _mm_storeu_si128((__m128i*)(q + k), _mm512_cvtsepi32_epi8(codes));
  }
  *sum = _mm512_reduce_add_epi32(total);
  return finite ? (large ? most / 127.f : 0.f) : NAN;
}

void quantize(const float* x, int M, int K, int group, int8_t* q, float* scale, int32_t* sum) {
  const int G = K / group;
#pragma omp parallel for schedule(static) if (M > ALONE)
  for (int m = 0; m < M; m++)
    for (int g = 0; g < G; g++) {
      const size_t at = (size_t)m * G + g, from = at * group;
      scale[at] = quantize_group(x + from, group, q + from, sum + at);
    }
}

void multiply_panels(const Linear& w, const int8_t* q, const float* scale, const int32_t* sum, int M, float* y,
                     bool tiles, int first, int last) {
  if (tiles && M > FEW) multiply_on_tiles(w, q, false, scale, M, y, first, last);
  else multiply_on_vectors(w, q, scale, sum, M, y, first, last);
}

void multiply(const Linear& w, const int8_t* q, const float* scale, const int32_t* sum, int M, float* y, bool tiles) {
  static thread_local std::vector<int8_t> scratch;
  const int panels = w.panels();
  const bool order = tiles && M > PANEL;
  if (order) scratch.resize((size_t)(M + BLOCK - 1) / BLOCK * BLOCK * w.columns);
  int8_t* ordered = scratch.data();
#pragma omp parallel
  {
    if (order) {
#pragma omp for schedule(static)
      for (int m = 0; m < M; m += BLOCK)
        order_for_tiles(q + (size_t)m * w.columns, M - m, w.columns, ordered + (size_t)m * w.columns);
    }
    const long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const int first = panels * thread / threads, last = panels * (thread + 1) / threads;
    if (first < last) {
      if (order) multiply_on_tiles(w, ordered, true, scale, M, y, first, last);
      else multiply_panels(w, q, scale, sum, M, y, tiles, first, last);
    }
  }
}

}  // namespace ingot

extern "C" {

// Whether this process may use AMX: Linux keeps it locked until asked (Documentation/arch/x86/xstate.rst).
int ingot_allow_tiles() {
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

void ingot_quantize(const float* x, int M, int K, int group, int8_t* q, float* scale, int32_t* sum) {
  ingot::quantize(x, M, K, group, q, scale, sum);
}

// y[M][rows] of x[M][columns].
void ingot_linear(const ingot::Linear* w, const float* x, int M, float* y, int tiles) {
  static thread_local std::vector<int8_t> q;
  static thread_local std::vector<float> scale;
  static thread_local std::vector<int32_t> sum;
  const size_t groups = (size_t)M * w->groups();
  q.resize((size_t)M * w->columns), scale.resize(groups), sum.resize(groups);
  ingot::quantize(x, M, w->columns, w->group, q.data(), scale.data(), sum.data());
  ingot::multiply(*w, q.data(), scale.data(), sum.data(), M, y, tiles);
}

}
