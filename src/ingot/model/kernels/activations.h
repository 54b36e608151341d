// The int8 activations of a product, and the product, shared out in a team.
#pragma once
#include <string.h>

#include <algorithm>

#include "linear.h"
#include "memory.h"
#include "team.h"

namespace ingot {

// `rows` rows of w from a panel on, as a layer of its own.
inline Linear part_of(const Linear& w, int panel, int rows) {
  Linear part = w;
  const size_t block = (size_t)panel * (PANEL / BLOCK);
  part.codes += block * w.block_bytes();
  const size_t scales = w.scale == Scale::ROW ? block * BLOCK : block * BLOCK * w.groups();
  part.scales = (const char*)w.scales + scales * (w.scale == Scale::GROUP_BF16 ? 2 : 4);
  if (w.bias) part.bias += block * BLOCK;
  part.rows = rows;
  return part;
}

// Activations of M rows for layers like w. Where tiles will read them, each 64 columns of 16 rows stand together.
class Activations {
 public:
  explicit Activations(bool tiles) : tiles_(tiles) {}

  void need(size_t rows, int columns, int groups) {
    const size_t whole = (rows + BLOCK - 1) / BLOCK * BLOCK;
    q_.need(whole * columns), scale_.need(rows * groups), sum_.need(rows * groups);
  }

  size_t bytes() const { return q_.bytes() + scale_.bytes() + sum_.bytes(); }

  // `count` groups of row m of M, from group g on.
  void put(const Linear& w, int M, int m, int g, int count, const float* x) {
    float* scale = scale_.get() + (size_t)m * w.groups();
    int32_t* sum = sum_.get() + (size_t)m * w.groups();
    int8_t* row = q_.get() + (size_t)m * w.columns;
    if (!is_ordered(M)) {
      for (int i = g; i < g + count; i++, x += w.group)
        scale[i] = quantize_group(x, w.group, row + (size_t)i * w.group, sum + i);
      return;
    }
    alignas(64) int8_t codes[MOST_GROUP];
    const int wide = std::min(w.group, 64);
    row = q_.get() + (size_t)(m / BLOCK * BLOCK) * w.columns + m % BLOCK * 64;
    for (int i = g; i < g + count; i++, x += w.group) {
      scale[i] = quantize_group(x, w.group, codes, sum + i);
      for (int c = 0, k = i * w.group; c < w.group; c += wide, k += wide)
        memcpy(row + (size_t)(k / 64) * BLOCK * 64 + k % 64, codes + c, wide);
    }
  }

  // y[rows from `first` on][w.rows] of panels of w, by the calling thread; `first` is a multiple of BLOCK.
  void multiply(const Linear& w, int M, int first, int rows, float* y, int panel, int last) const {
    const size_t q = (size_t)first * w.columns, at = (size_t)first * w.groups();
    if (is_ordered(M)) multiply_on_tiles(w, q_.get() + q, true, scale_.get() + at, rows, y, panel, last);
    else multiply_panels(w, q_.get() + q, scale_.get() + at, sum_.get() + at, rows, y, tiles_, panel, last);
  }

  // y[p][M][parts[p]->rows], by the whole team.
  void product(Team& team, const Linear* const* parts, float* const* y, int count, int M) const {
    long panels = 0;
    for (int p = 0; p < count; p++) panels += parts[p]->panels();
    const long pieces = pieces_of(panels, parts[0]->block_bytes() * (PANEL / BLOCK), M);
    team.deal(pieces, [&](long piece) {
      long first = panels * piece / pieces, last = panels * (piece + 1) / pieces;
      for (int p = 0; p < count; p++) {
        const long own = parts[p]->panels(), from = std::max(first, 0l), to = std::min(last, own);
        if (from < to) multiply(*parts[p], M, 0, M, y[p], from, to);
        first -= own, last -= own;
      }
    });
  }

  // In how many pieces to deal panels of so many bytes out. Of few rows, where memory sets the pace, it reads fastest in
  // long runs, but a thread that is held up must not keep the others waiting. Of many, activations are to stay in each
  // thread's cache.
  static long pieces_of(long panels, size_t bytes, int M) {
    const long threads = omp_get_num_threads();
    const long each = M > PANEL ? 1 : std::max<long>(2, panels * bytes / threads / RUN);
    return std::min(panels, threads * each);
  }

 private:
  static constexpr int MOST_GROUP = 512;
  static constexpr size_t RUN = 1 << 20;

  bool is_ordered(int M) const { return tiles_ && M > PANEL; }

  const bool tiles_;
  Buffer<int8_t> q_;
  Buffer<float> scale_;
  Buffer<int32_t> sum_;
};

}  // namespace ingot
