// Attention of queries over pages of keys and values: causal, grouped, with a window and capped scores where asked.
//
// A query's keys are cut at multiples of SPAN. Each span gives the largest score, the sum of the weights and the weighted
// values; spans are merged in order. Inside a span a score is a chain of products over dimensions, a value one over
// tokens, both in order, one lane each. So a row's result is the same in every bit whatever rows stand beside it,
// however its text was cut, and whichever threads worked on its spans.
#pragma once
#include "pages.h"

namespace ingot {

constexpr int SPAN = 256;        // tokens whose softmax is one piece
constexpr int TILE_ROWS = 64;    // rows (tokens x query heads of a group) that are worked on together
constexpr int MOST_DEPTH = 512;  // head_dim at most

// What all calls of a layer share. `q` is turned and scaled already.
struct Looking {
  Pages pages;
  int layer, heads, window;  // window 0: everything
  float softcap;             // 0: none
  const float* q;
  float* out;
  int q_stride, out_stride;  // from row to row
};

// Neighbouring tokens of one sequence that look through one key-value head.
struct Tile {
  const int32_t* table;  // the sequence's blocks
  int row, position;     // of the first token: its row of q, its place in the text
  int tokens, head;
};

// What a span leaves of each row of a tile: largest score, sum of weights, weighted values (rows x padded).
struct Partial {
  float *most, *sum, *values;
};

// Memory that one thread works in; floats.
struct Scratch {
  float *q, *scores, *values, *most, *sum, *total, *total_most, *total_sum;
  static size_t floats(int rows, int padded);
  void place(float* memory, int rows, int padded);
};

inline int tile_tokens(int group) { return group >= TILE_ROWS ? 1 : TILE_ROWS / group; }
inline int tile_rows(int group) { return group >= TILE_ROWS ? group : TILE_ROWS; }

// The spans a tile sees: from `first` to before `last`.
void spans_of(const Looking& look, const Tile& tile, int& first, int& last);

// One span of a tile, for whoever merges it with others later.
void attend_span(const Looking& look, const Tile& tile, int span, Scratch& scratch, Partial out);

// A whole tile, its spans one after the other, to look.out.
void attend_tile(const Looking& look, const Tile& tile, Scratch& scratch);

// One row of a tile (token, head of the group) out of its spans' partials, added in order.
class Merging {
 public:
  explicit Merging(int padded);
  void add(const Partial& part, int row);
  void finish(const Looking& look, const Tile& tile, int row) const;

 private:
  int padded_;
  float most_, sum_;
  alignas(64) float values_[MOST_DEPTH];
};

}  // namespace ingot
