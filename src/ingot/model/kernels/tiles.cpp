// The kernel of AMX: two tiles of activations by two of weights at a time, 32 rows by 32.
//
// A tile's sums must pass through memory to meet their scales. That work, for two groups at a time, is strewn between
// the products of the next two: out-of-order execution does not reach that far by itself (it took a quarter off the
// time of 512 rows). More rows than 32 find the codes of a panel in the cache, 4-bit ones unpacked.
#include <immintrin.h>

#include <algorithm>
#include <vector>

#include "linear.h"
#include "scales.h"

namespace ingot {
namespace {

constexpr int SIDE = 32;                 // rows of activations at a time
constexpr int PAIR = 2048;               // bytes of 64 columns of a panel in int8: one tile of each block
constexpr int LEAST = 8;                // rows that are worth interrupting products for
constexpr int AHEAD = 1024;              // columns to fetch ahead
constexpr int RING = 256;              // columns of unpacked codes that are kept where none is read twice
constexpr size_t ACTIVATIONS = 1 << 20;  // bytes of activations that stay in the cache from panel to panel

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// The intrinsics do not tell the compiler which memory they read.
inline void finish_writes() { asm volatile("" ::: "memory"); }

// Tiles 0-3: sums, 4-5: activations, 6-7: weights. `depth`: columns that one product takes.
void set_tiles(int rows, int depth) {
  const int m0 = std::min(rows, BLOCK), m1 = std::max(rows - BLOCK, 1);
  const int tile_rows[8] = {m0, m0, m1, m1, m0, m1, depth / 4, depth / 4};
  TileConfig config;
  for (int t = 0; t < 8; t++) {
    config.rows[t] = tile_rows[t];
    config.bytes[t] = t == 4 || t == 5 ? depth : 64;
  }
  asm volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
}

// Activations as tiles load them: row-major, or in the order of tiles.
struct Activations {
  const int8_t* q;
  size_t block, step, stride;  // bytes from 16 rows to the next, from 64 columns to the next, from row to row
  const float* scale;

  Activations(const int8_t* q, bool ordered, const float* scale, int K)
      : q(q), block((size_t)BLOCK * K), step(ordered ? BLOCK * 64 : 64), stride(ordered ? 64 : K), scale(scale) {}
  const int8_t* at(int k) const { return q + k / 64 * step + k % 64; }
};

// The sums of one or two groups, on their way to the totals.
struct Pending {
  alignas(64) int32_t sums[2][4][256];
  const float* scale;  // activations' of the first row and group
  int group, groups;
  unsigned row;        // the next to add up
};

using Totals = float[SIDE][2 * BLOCK];

template <Scale S, int C>
void add_rows(const Linear& w, int block, Pending& p, unsigned last, Totals& total) {
  const int G = w.groups();
  const __m512 zero = _mm512_setzero_ps();
  __m512 scales[C][2];
  for (int c = 0; c < C; c++)
    for (int b = 0; b < 2; b++) scales[c][b] = group_scales<S>(w, block + b, p.group + c);
  for (unsigned r = p.row; r < last; r++) {
    const unsigned tile = r / BLOCK * 2, at = r % BLOCK * BLOCK;
    __m512 t0 = zero, t1 = zero;
    if (p.group) t0 = _mm512_load_ps(total[r]), t1 = _mm512_load_ps(total[r] + BLOCK);
    for (int c = 0; c < C; c++) {
      const __m512 x = _mm512_set1_ps(p.scale[(size_t)r * G + c]);
      t0 = add_group<S>(t0, _mm512_load_si512(&p.sums[c][tile][at]), scales[c][0], x);
      t1 = add_group<S>(t1, _mm512_load_si512(&p.sums[c][tile + 1][at]), scales[c][1], x);
    }
    _mm512_store_ps(total[r], t0);
    _mm512_store_ps(total[r] + BLOCK, t1);
  }
  p.row = std::max(p.row, last);
}

// The codes of a panel, as int8 tiles; its 4-bit codes are unpacked as they are first read.
template <int BITS>
class Panel {
 public:
  // `room`: for the codes of a whole panel. `once`: none is read twice.
  Panel(const Linear& w, int panel, uint8_t* room, bool once)
      : K(w.columns), room(room), mask(once ? RING - 1 : ~0) {
    codes[0] = w.codes + 2 * panel * w.block_bytes();
    codes[1] = codes[0] + w.block_bytes();
  }

  // A block's codes from column k.
  const uint8_t* tile(int b, int k) const {
    if (BITS == 8) return codes[b] + (size_t)k * BLOCK;
    return room + (size_t)((k & mask) / 64) * PAIR + b * (PAIR / 2) + k % 64 * BLOCK;
  }

  // Before the columns from k are first read: asks memory for later ones, behind the end the next panel's, and unpacks.
  void prepare(int k) {
    const size_t at = (size_t)k + AHEAD, there = at < (size_t)K ? at : at + K;
    for (int b = 0; b < 2; b++)
      for (int line = 0; line < BITS * 2; line++)
        _mm_prefetch((const char*)codes[b] + there * BLOCK * BITS / 8 + line * 64, _MM_HINT_T0);
    if (BITS == 8) return;
    if (k == 0) unpack(0);
    if (k + 64 < K) unpack(k + 64);
    finish_writes();
  }

 private:
  // One instruction brings 64 codes from their halves of bytes to signed bytes: as code + 8 is stored, its lowest three
  // bits stay, and the inverse of the fourth fills the rest. Every CPU with AMX has it (GFNI).
  void unpack(int k) const {
    const __m512i low = _mm512_set1_epi64(LOW), high = _mm512_set1_epi64(HIGH);
    for (int b = 0; b < 2; b++) {
      const uint8_t* from = codes[b] + (size_t)k * BLOCK / 2;
      uint8_t* to = (uint8_t*)tile(b, k);
      for (int i = 0; i < PAIR / 4; i += 64) {
        const __m512i v = _mm512_loadu_si512(from + i);
        _mm512_store_si512(to + 2 * i, _mm512_gf2p8affine_epi64_epi8(v, low, 0xf8));
        _mm512_store_si512(to + 2 * i + 64, _mm512_gf2p8affine_epi64_epi8(v, high, 0xf8));
      }
    }
  }

  // Rows of a matrix of bits, the one that makes the lowest bit last in a word's highest byte.
  static constexpr uint64_t LOW = 0x0102040808080808, HIGH = 0x1020408080808080;

  const int K;
  uint8_t* const room;
  const int mask;
  const uint8_t* codes[2];
};

// One panel by up to 32 rows of activations.
template <int BITS, Scale S>
struct Square {
  const Linear& w;
  const int block, rows, depth;
  Panel<BITS>& panel;
  const Activations& x;
  const bool fresh;  // whether the panel is read for the first time
  alignas(64) Totals total;
  Pending pending[2];

  Square(const Linear& w, int number, int rows, Panel<BITS>& panel, const Activations& x, bool fresh)
      : w(w), block(2 * number), rows(rows), depth(std::min(w.group, 64)), panel(panel), x(x), fresh(fresh) {
    pending[0].groups = pending[1].groups = 0;
  }

  void multiply(float* y) {
    const int G = w.groups();
    int slot = 0;
    ask_for(y);
    for (int g = 0; g < G; g += 2, slot ^= 1) {
      Pending &now = pending[slot], &before = pending[slot ^ 1];
      now.group = g, now.groups = std::min(2, G - g), now.scale = x.scale + g, now.row = 0;
      const int places = now.groups * (w.group / depth) * 2, share = std::max(LEAST, (rows + places - 1) / places);
      for (int c = 0; c < now.groups; c++) sum_group(g + c, now.sums[c], before, share);
      add_up(before, rows);
    }
    add_up(pending[slot ^ 1], rows);
    const Finish<S> first(w, block), second(w, block + 1);
    for (int r = 0; r < rows; r++, y += w.rows)
      first(_mm512_load_ps(total[r]), y), second(_mm512_load_ps(total[r] + BLOCK), y);
  }

  // Asks memory for the lines of the output, which is seldom in the cache, while there is work to do.
  void ask_for(const float* y) const {
    y += (size_t)block * BLOCK;
    for (int r = 0; r < rows; r++, y += w.rows) __builtin_prefetch(y, 1), __builtin_prefetch(y + BLOCK, 1);
  }

  // The products of one group; between them, `share` rows at a time, what is pending of those before.
  void sum_group(int g, int32_t (*sums)[256], Pending& before, int share) {
    const bool both = rows > BLOCK;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = g * w.group; k < (g + 1) * w.group; k += depth) {
      if (fresh && k % 64 == 0) panel.prepare(k);
      const int8_t* q = x.at(k);
      _tile_loadd(4, q, x.stride);
      _tile_loadd(6, panel.tile(0, k), 64);
      _tile_dpbssd(0, 4, 6);
      _tile_loadd(7, panel.tile(1, k), 64);
      _tile_dpbssd(1, 4, 7);
      add_up(before, before.row + share);
      if (both) {
        _tile_loadd(5, q + x.block, x.stride);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
      add_up(before, before.row + share);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    if (both) {
      _tile_stored(2, sums[2], 64);
      _tile_stored(3, sums[3], 64);
    }
    finish_writes();
  }

  // Rows up to before `last` of what is pending.
  void add_up(Pending& p, unsigned last) {
    last = std::min(last, (unsigned)rows);
    if (p.groups == 2) add_rows<S, 2>(w, block, p, last, total);
    else if (p.groups == 1) add_rows<S, 1>(w, block, p, last, total);
  }
};

template <int BITS, Scale S>
void panels(const Linear& w, const int8_t* q, bool ordered, const float* scale, int M, float* y, int first, int last) {
  static thread_local std::vector<uint8_t> unpacked;
  if (BITS == 4) unpacked.resize((size_t)w.columns * PANEL + 64);
  uint8_t* room = (uint8_t*)(((uintptr_t)unpacked.data() + 63) & ~(uintptr_t)63);
  const int some = std::max<int>(SIDE, ACTIVATIONS / w.columns / SIDE * SIDE);
  int set = 0;
  for (int from = 0; from < M; from += some)
    for (int n = first; n < last; n++) {
      const int until = std::min(M, from + some);
      Panel<BITS> panel(w, n, room, until - from <= SIDE);
      for (int m = from; m < until; m += SIDE) {
        const int rows = std::min(SIDE, until - m);
        if (rows != set) set_tiles(set = rows, std::min(w.group, 64));
        const Activations x(q + (size_t)m * w.columns, ordered, scale + (size_t)m * w.groups(), w.columns);
        Square<BITS, S>(w, n, rows, panel, x, m == from).multiply(y + (size_t)m * w.rows);
      }
    }
  _tile_release();
}

template <int BITS>
void by_scale(const Linear& w, const int8_t* q, bool ordered, const float* scale, int M, float* y, int first, int last) {
  switch (w.scale) {
    case Scale::ROW: return panels<BITS, Scale::ROW>(w, q, ordered, scale, M, y, first, last);
    case Scale::GROUP_BF16: return panels<BITS, Scale::GROUP_BF16>(w, q, ordered, scale, M, y, first, last);
    case Scale::GROUP_FLOAT32: return panels<BITS, Scale::GROUP_FLOAT32>(w, q, ordered, scale, M, y, first, last);
  }
}

}  // namespace

void multiply_on_tiles(const Linear& w, const int8_t* q, bool ordered, const float* scale, int M, float* y, int first,
                       int last) {
  (w.bits == 4 ? by_scale<4> : by_scale<8>)(w, q, ordered, scale, M, y, first, last);
}

void order_for_tiles(const int8_t* q, int M, int K, int8_t* out) {
  for (int k = 0; k < K; k += 64)
    for (int m = 0; m < std::min(M, BLOCK); m++)
      _mm512_storeu_si512(out + (size_t)k * BLOCK + m * 64, _mm512_loadu_si512(q + (size_t)m * K + k));
}

}  // namespace ingot
