// The kernel of AMX: two tiles of activations by two of weights at a time, 32 rows by 32.
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "linear.h"
#include "scales.h"

namespace ingot {
namespace {

constexpr int TILE = 1024;  // bytes

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0-3: sums, 4-5: activations, 6-7: weights. `depth`: columns that one product takes.
void set_tiles(int m0, int m1, int depth) {
  TileConfig c;
  const int rows[8] = {m0, m0, m1, m1, m0, m1, depth / 4, depth / 4};
  for (int t = 0; t < 8; t++) {
    c.rows[t] = rows[t] ? rows[t] : 1;
    c.bytes[t] = t == 4 || t == 5 ? depth : 64;
  }
  _tile_loadconfig(&c);
}

// A block's codes as int8 in tile order.
void unpack(const uint8_t* codes, int K, uint8_t* out, size_t stride) {
  const __m512i low = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8);
  for (int k = 0; k < K / 64; k++)
    for (int c = 0; c < 8; c++) {
      const __m512i v = _mm512_loadu_si512(codes + (size_t)k * 512 + c * 64);
      uint8_t* o = out + k * stride + c * 128;
      _mm512_store_si512(o, _mm512_sub_epi8(_mm512_and_si512(v, low), eight));
      _mm512_store_si512(o + 64, _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(v, 4), low), eight));
    }
}

template <int BITS, Scale S>
void panels(const Linear& w, const int8_t* q, const float* scale, int M, float* y, int first, int last) {
  const int K = w.columns, G = w.groups(), depth = w.group < 64 ? w.group : 64;
  uint8_t* panel = BITS == 4 ? (uint8_t*)aligned_alloc(64, (size_t)K * PANEL) : nullptr;
  alignas(64) int32_t sums[4][256];
  alignas(64) float total[32][32];
  for (int n = first; n < last; n++) {
    const uint8_t *w0 = w.codes + (size_t)(2 * n) * w.block_bytes(), *w1 = w0 + w.block_bytes();
    if (BITS == 4) {
      unpack(w0, K, panel, 1024), unpack(w1, K, panel + (size_t)K * 16, 1024);
      w0 = panel, w1 = panel + (size_t)K * 16;
    }
    for (int m = 0; m < M; m += 32) {
      const int rows = M - m < 32 ? M - m : 32, m0 = rows < 16 ? rows : 16, m1 = rows - m0;
      set_tiles(m0, m1, depth);
      memset(total, 0, sizeof(float) * 32 * rows);
      for (int g = 0; g < G; g++) {
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        for (int k = g * w.group; k < (g + 1) * w.group; k += depth) {
          const int8_t* x = q + (size_t)m * K + k;
          _tile_loadd(4, x, K);
          _tile_loadd(6, w0 + (size_t)k * 16, 64); _tile_loadd(7, w1 + (size_t)k * 16, 64);
          _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7);
          if (m1) { _tile_loadd(5, x + (size_t)16 * K, K); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7); }
        }
        _tile_stored(0, sums[0], 64); _tile_stored(1, sums[1], 64);
        if (m1) { _tile_stored(2, sums[2], 64); _tile_stored(3, sums[3], 64); }
        const __m512 s0 = group_scales<S>(w, 2 * n, g), s1 = group_scales<S>(w, 2 * n + 1, g);
        for (int r = 0; r < rows; r++) {
          const __m512 x = _mm512_set1_ps(scale[(size_t)(m + r) * G + g]);
          const int t = r < 16 ? 0 : 2, at = (r & 15) * 16;
          _mm512_store_ps(total[r], add_group<S>(_mm512_load_ps(total[r]), _mm512_load_si512(&sums[t][at]), s0, x));
          _mm512_store_ps(total[r] + 16, add_group<S>(_mm512_load_ps(total[r] + 16), _mm512_load_si512(&sums[t + 1][at]), s1, x));
        }
      }
      for (int r = 0; r < rows; r++) {
        float* out = y + (size_t)(m + r) * w.rows;
        finish<S>(w, 2 * n, _mm512_load_ps(total[r]), out);
        finish<S>(w, 2 * n + 1, _mm512_load_ps(total[r] + 16), out);
      }
    }
  }
  _tile_release();
  free(panel);
}

}  // namespace

void multiply_on_tiles(const Linear& w, const int8_t* q, const float* scale, int M, float* y, int first, int last) {
  const bool four = w.bits == 4;
  switch (w.scale) {
    case Scale::ROW: return (four ? panels<4, Scale::ROW> : panels<8, Scale::ROW>)(w, q, scale, M, y, first, last);
    case Scale::GROUP_BF16:
      return (four ? panels<4, Scale::GROUP_BF16> : panels<8, Scale::GROUP_BF16>)(w, q, scale, M, y, first, last);
    case Scale::GROUP_FLOAT32:
      return (four ? panels<4, Scale::GROUP_FLOAT32> : panels<8, Scale::GROUP_FLOAT32>)(w, q, scale, M, y, first, last);
  }
}

}  // namespace ingot
