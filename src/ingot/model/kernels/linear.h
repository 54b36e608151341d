// Products of int8 and int4 weights with activations that are brought to int8 on the way.
//
// Weights lie in blocks of 16 rows. In a block, every 4 columns are one vector: 16 rows x 4 bytes, row after row; 16
// such vectors, 64 columns, are also one AMX tile. Four-bit codes are stored plus 8, two vectors in one: columns 0-3 of
// each row in the low halves of its bytes, columns 4-7 in the high halves. Blocks come in pairs (a panel), so `rows` is
// padded to 32 and `columns` to 64 with codes of zero.
//
// Activations are int8 by groups of columns, each group with a scale of its own and the sum of its codes. A product is
// an exact integer inside a group; groups are added in float32 in order, by the same instructions for one row as for
// many, on vectors as on tiles: a row's result does not depend on its company, the number of threads, or the kernel.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace ingot {

constexpr int BLOCK = 16;  // rows of weights in a block
constexpr int PANEL = 32;  // rows of weights that are worked on together
constexpr int FEW = 4;     // rows of activations up to which vectors beat tiles

enum class Scale : int32_t {
  ROW,            // float32, one a row: [padded rows]
  GROUP_BF16,     // bfloat16, one a group: [blocks][groups][16]
  GROUP_FLOAT32,  // float32, likewise
};

// Field for field what `ingot.model.kernels.library.Linear` hands over.
struct Linear {
  const uint8_t* codes;  // aligned to 64 bytes
  const void* scales;
  const float* bias;     // [padded rows], or null
  int32_t rows;          // as the model has them: what a product writes
  int32_t columns;       // padded
  int32_t bits;          // 4 or 8
  int32_t group;         // columns with one scale of activations, of weights too unless ROW: 32, or a multiple of 64
  Scale scale;

  int panels() const { return (rows + PANEL - 1) / PANEL; }
  int groups() const { return columns / group; }
  size_t block_bytes() const { return (size_t)columns * BLOCK * bits / 8; }
};

// Activations x[M][K] to q[M][K], scale[M][K / group], sum[M][K / group]. A group that holds infinity or NaN gets NaN.
void quantize(const float* x, int M, int K, int group, int8_t* q, float* scale, int32_t* sum);

// One group of one row, by the calling thread alone; returns its scale.
float quantize_group(const float* x, int group, int8_t* q, int32_t* sum);

// y[M][w.rows] = the product (+ bias), by all threads of OpenMP. `tiles`: whether AMX may be used.
void multiply(const Linear& w, const int8_t* q, const float* scale, const int32_t* sum, int M, float* y, bool tiles);

// The same for the panels from `first` to before `last`, by the calling thread alone.
void multiply_panels(const Linear& w, const int8_t* q, const float* scale, const int32_t* sum, int M, float* y,
                     bool tiles, int first, int last);

// The two kernels behind it. `ordered`: q is as `order_for_tiles` gives it.
void multiply_on_vectors(const Linear& w, const int8_t* q, const float* scale, const int32_t* sum, int M, float* y,
                         int first, int last);
void multiply_on_tiles(const Linear& w, const int8_t* q, bool ordered, const float* scale, int M, float* y, int first,
                       int last);

// The first 16 rows (or M, if less) of q[M][K] to [K / 64][16][64]: what a tile takes then lies together.
void order_for_tiles(const int8_t* q, int M, int K, int8_t* out);

}  // namespace ingot
