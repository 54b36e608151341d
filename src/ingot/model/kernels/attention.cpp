// Attention: scores of a span in registers of 6 rows by 4 pages, the softmax row by row, values 6 rows by 4 vectors.
#include "attention.h"

#include <math.h>

#include "vector.h"

namespace ingot {
namespace {

constexpr int ROWS = 6;    // rows of queries in registers
constexpr int WIDE = 4;    // pages of keys, or vectors of values, beside them
constexpr int PAGES = SPAN / PAGE;

int whole(int depth) { return (depth + 15) / 16 * 16; }

int group_of(const Looking& look) { return look.heads / look.pages.kv_heads; }

// scores[R][SPAN] at `pages` page after page.
template <class Kind, int R, int P>
void score(const float* q, int rows, int depth, const uint8_t* const* pages, size_t half, float* scores) {
  __m512 sum[R][P];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) sum[r][p] = _mm512_setzero_ps();
  for (int d = 0; d < depth; d += 2) {
    __m512 a[P], b[P];
    for (int p = 0; p < P; p++) Kind::keys(pages[p], d, a[p], b[p]);
    for (int r = 0; r < R; r++) {
      const __m512 x = _mm512_set1_ps(q[d * rows + r]);
      for (int p = 0; p < P; p++) sum[r][p] = _mm512_fmadd_ps(x, a[p], sum[r][p]);
    }
    for (int r = 0; r < R; r++) {
      const __m512 x = _mm512_set1_ps(q[(d + 1) * rows + r]);
      for (int p = 0; p < P; p++) sum[r][p] = _mm512_fmadd_ps(x, b[p], sum[r][p]);
    }
  }
  for (int p = 0; p < P; p++) {
    const __m512 scale = Kind::KIND == INT8 ? _mm512_loadu_ps((const float*)(pages[p] + 2 * half)) : _mm512_setzero_ps();
    for (int r = 0; r < R; r++) {
      const __m512 s = Kind::KIND == INT8 ? _mm512_mul_ps(sum[r][p], scale) : sum[r][p];
      _mm512_storeu_ps(scores + r * SPAN + p * PAGE, s);
    }
  }
}

template <class Kind, int R>
void score_rows(const float* q, int rows, int depth, const uint8_t* const* pages, int count, size_t half, float* scores) {
  int p = 0;
  for (; p + WIDE <= count; p += WIDE) score<Kind, R, WIDE>(q, rows, depth, pages + p, half, scores + p * PAGE);
  if (count - p == 3) score<Kind, R, 3>(q, rows, depth, pages + p, half, scores + p * PAGE);
  if (count - p == 2) score<Kind, R, 2>(q, rows, depth, pages + p, half, scores + p * PAGE);
  if (count - p == 1) score<Kind, R, 1>(q, rows, depth, pages + p, half, scores + p * PAGE);
}

// values[R][C vectors from c] += weights[R][SPAN] times the tokens from `begin` to before `end` of a page, in order.
template <class Kind, int R, int C>
void weigh(const float* weights, const uint8_t* const* pages, int begin, int end, int depth, int c, size_t half,
           float* values) {
  __m512 sum[R][C];
  for (int r = 0; r < R; r++)
    for (int i = 0; i < C; i++) sum[r][i] = _mm512_setzero_ps();
  for (int t = begin & ~1; t < end; t += 2) {
    const uint8_t* v = pages[t / PAGE] + half;
    const bool both = t + 1 < end;  // the token behind the last was never written
    __m512 a[C], b[C];
    for (int i = 0; i < C; i++) Kind::values(v, t % PAGE, c + i * 16, depth, a[i], b[i]);
    for (int r = 0; r < R; r++) {
      const __m512 x = _mm512_set1_ps(weights[r * SPAN + t]);
      for (int i = 0; i < C; i++) sum[r][i] = _mm512_fmadd_ps(x, a[i], sum[r][i]);
    }
    if (both)
      for (int r = 0; r < R; r++) {
        const __m512 x = _mm512_set1_ps(weights[r * SPAN + t + 1]);
        for (int i = 0; i < C; i++) sum[r][i] = _mm512_fmadd_ps(x, b[i], sum[r][i]);
      }
  }
  for (int r = 0; r < R; r++)
    for (int i = 0; i < C; i++) _mm512_storeu_ps(values + r * whole(depth) + c + i * 16, sum[r][i]);
}

template <class Kind, int R>
void weigh_rows(const float* weights, const uint8_t* const* pages, int begin, int end, int depth, size_t half,
                float* values) {
  int c = 0;
  for (; c + (WIDE - 1) * 16 < depth; c += WIDE * 16)
    weigh<Kind, R, WIDE>(weights, pages, begin, end, depth, c, half, values);
  if (depth - c > 32) weigh<Kind, R, 3>(weights, pages, begin, end, depth, c, half, values);
  else if (depth - c > 16) weigh<Kind, R, 2>(weights, pages, begin, end, depth, c, half, values);
  else if (depth - c > 0) weigh<Kind, R, 1>(weights, pages, begin, end, depth, c, half, values);
}

// Lanes of the 16 tokens from `at` that a row sees, which are those from `low` to `high`.
inline __mmask16 seen(int at, int low, int high) {
  const int from = low - at, to = high - at + 1;
  if (from >= 16 || to <= 0) return 0;
  const uint32_t above = from <= 0 ? 0xffff : 0xffffu << from, below = to >= 16 ? 0xffff : (1u << to) - 1;
  return (__mmask16)(above & below);
}

// Scores to weights, exp(score - largest); both bounds of what is seen count from the span's first token.
void softmax(float* scores, int first, int last, int low, int high, float softcap, float& most, float& sum) {
  const __m512 lowest = _mm512_set1_ps(-INFINITY), cap = _mm512_set1_ps(softcap);
  __m512 top = lowest;
  for (int i = first; i < last; i += 16) {
    __m512 s = _mm512_loadu_ps(scores + i);
    if (softcap > 0) s = _mm512_mul_ps(cap, tanh16(_mm512_div_ps(s, cap)));
    s = _mm512_mask_blend_ps(seen(i, low, high), lowest, s);
    top = _mm512_max_ps(top, s);
    _mm512_storeu_ps(scores + i, s);
  }
  most = _mm512_reduce_max_ps(top);
  const __m512 shift = _mm512_set1_ps(most);
  __m512 total = _mm512_setzero_ps();
  for (int i = first; i < last; i += 16) {
    const __mmask16 mask = seen(i, low, high);
    __m512 w = _mm512_setzero_ps();
    if (mask) w = _mm512_maskz_mov_ps(mask, exp16(_mm512_sub_ps(_mm512_loadu_ps(scores + i), shift)));
    total = _mm512_add_ps(total, w);
    _mm512_storeu_ps(scores + i, w);
  }
  sum = _mm512_reduce_add_ps(total);
}

// The tile's queries, [head_dim][rows]: those that are worked on together stand together.
void gather(const Looking& look, const Tile& tile, float* q) {
  const int group = group_of(look), depth = look.pages.head_dim, rows = tile.tokens * group;
  for (int r = 0; r < rows; r++) {
    const size_t row = tile.row + r / group, head = tile.head * group + r % group;
    const float* from = look.q + row * look.q_stride + head * depth;
    for (int d = 0; d < depth; d++) q[d * rows + r] = from[d];
  }
}

template <class Kind>
void span_of(const Looking& look, const Tile& tile, int span, Scratch& scratch, Partial out) {
  const Pages& pages = look.pages;
  const int group = group_of(look), rows = tile.tokens * group, base = span * SPAN;
  const int depth = pages.head_dim, padded = pages.padded();
  const int final = tile.position + tile.tokens - 1, low = look.window ? tile.position - look.window + 1 : 0;
  const int begin = low > base ? low - base : 0, end = final + 1 - base < SPAN ? final + 1 - base : SPAN;
  const int from = begin / PAGE, to = (end + PAGE - 1) / PAGE;
  const uint8_t* at[PAGES];
  for (int p = from; p < to; p++) at[p] = pages.at(tile.table[span * PAGES + p], look.layer, tile.head);
  const size_t half = pages.half_bytes();
  const int pieces = (rows + ROWS - 1) / ROWS;
  for (int piece = 0; piece < pieces; piece++) {
    const int r = rows * piece / pieces, count = rows * (piece + 1) / pieces - r;
    float* scores = scratch.scores + r * SPAN + from * PAGE;
    const float* q = scratch.q + r;
    switch (count) {
      case 1: score_rows<Kind, 1>(q, rows, depth, at + from, to - from, half, scores); break;
      case 2: score_rows<Kind, 2>(q, rows, depth, at + from, to - from, half, scores); break;
      case 3: score_rows<Kind, 3>(q, rows, depth, at + from, to - from, half, scores); break;
      case 4: score_rows<Kind, 4>(q, rows, depth, at + from, to - from, half, scores); break;
      case 5: score_rows<Kind, 5>(q, rows, depth, at + from, to - from, half, scores); break;
      default: score_rows<Kind, ROWS>(q, rows, depth, at + from, to - from, half, scores);
    }
    for (int i = r; i < r + count; i++) {
      const int high = tile.position + i / group - base;
      const int lowest = look.window ? high - look.window + 1 : -base;
      softmax(scratch.scores + i * SPAN, from * PAGE, to * PAGE, lowest, high, look.softcap, out.most[i], out.sum[i]);
      if (Kind::KIND != INT8) continue;
      for (int p = from; p < to; p++) {  // the values' scales go to the weights
        float* w = scratch.scores + i * SPAN + p * PAGE;
        const __m512 scale = _mm512_loadu_ps((const float*)(at[p] + 2 * half) + PAGE);
        const __mmask16 mask = seen(p * PAGE, lowest, high);
        _mm512_storeu_ps(w, _mm512_maskz_mul_ps(mask, _mm512_loadu_ps(w), scale));
      }
    }
    const float* weights = scratch.scores + r * SPAN;
    float* values = out.values + r * padded;
    switch (count) {
      case 1: weigh_rows<Kind, 1>(weights, at, begin, end, depth, half, values); break;
      case 2: weigh_rows<Kind, 2>(weights, at, begin, end, depth, half, values); break;
      case 3: weigh_rows<Kind, 3>(weights, at, begin, end, depth, half, values); break;
      case 4: weigh_rows<Kind, 4>(weights, at, begin, end, depth, half, values); break;
      case 5: weigh_rows<Kind, 5>(weights, at, begin, end, depth, half, values); break;
      default: weigh_rows<Kind, ROWS>(weights, at, begin, end, depth, half, values);
    }
  }
}

void one_span(const Looking& look, const Tile& tile, int span, Scratch& scratch, Partial out) {
  if (look.pages.kind == FLOAT32) span_of<Float32Pages>(look, tile, span, scratch, out);
  else if (look.pages.kind == BFLOAT16) span_of<Bfloat16Pages>(look, tile, span, scratch, out);
  else span_of<Int8Pages>(look, tile, span, scratch, out);
}

float exponential(float x) { return _mm512_cvtss_f32(exp16(_mm512_set1_ps(x))); }

// What was merged so far, of one row, and the next span.
inline void merge(float& most, float& sum, float* values, float part_most, float part_sum, const float* part, int padded) {
  if (part_most == -INFINITY) return;  // the row sees nothing of this span
  const float higher = part_most > most ? part_most : most;
  const float old = exponential(most - higher), fresh = exponential(part_most - higher);
  const __m512 a = _mm512_set1_ps(old), b = _mm512_set1_ps(fresh);
  sum = __builtin_fmaf(part_sum, fresh, sum * old);
  for (int i = 0; i < padded; i += 16) {
    const __m512 held = _mm512_mul_ps(_mm512_loadu_ps(values + i), a);
    _mm512_storeu_ps(values + i, _mm512_fmadd_ps(_mm512_loadu_ps(part + i), b, held));
  }
  most = higher;
}

inline void begin_row(float& most, float& sum, float* values, int padded) {
  most = -INFINITY, sum = 0.f;
  memset(values, 0, padded * sizeof(float));
}

void finish_row(const Looking& look, const Tile& tile, int row, float sum, const float* values) {
  const int group = group_of(look), depth = look.pages.head_dim;
  float* out = look.out + (size_t)(tile.row + row / group) * look.out_stride + (tile.head * group + row % group) * depth;
  const __m512 factor = _mm512_set1_ps(1.f / sum);
  for (int i = 0; i < depth; i += 16)
    _mm512_mask_storeu_ps(out + i, lanes(i, depth), _mm512_mul_ps(_mm512_loadu_ps(values + i), factor));
}

}  // namespace

size_t Scratch::floats(int rows, int padded) { return (size_t)rows * (SPAN + 3 * padded + 4); }

void Scratch::place(float* memory, int rows, int padded) {
  q = memory, scores = q + rows * padded, values = scores + rows * SPAN, total = values + rows * padded;
  most = total + rows * padded, sum = most + rows, total_most = sum + rows, total_sum = total_most + rows;
}

void spans_of(const Looking& look, const Tile& tile, int& first, int& last) {
  const int low = look.window ? tile.position - look.window + 1 : 0;
  first = low > 0 ? low / SPAN : 0;
  last = (tile.position + tile.tokens - 1) / SPAN + 1;
}

void attend_span(const Looking& look, const Tile& tile, int span, Scratch& scratch, Partial out) {
  gather(look, tile, scratch.q);
  one_span(look, tile, span, scratch, out);
}

void attend_tile(const Looking& look, const Tile& tile, Scratch& scratch) {
  const int rows = tile.tokens * group_of(look), padded = look.pages.padded();
  int first, last;
  spans_of(look, tile, first, last);
  gather(look, tile, scratch.q);
  for (int r = 0; r < rows; r++)
    begin_row(scratch.total_most[r], scratch.total_sum[r], scratch.total + r * padded, padded);
  for (int span = first; span < last; span++) {
    one_span(look, tile, span, scratch, {scratch.most, scratch.sum, scratch.values});
    for (int r = 0; r < rows; r++)
      merge(scratch.total_most[r], scratch.total_sum[r], scratch.total + r * padded, scratch.most[r], scratch.sum[r],
            scratch.values + r * padded, padded);
  }
  for (int r = 0; r < rows; r++) finish_row(look, tile, r, scratch.total_sum[r], scratch.total + r * padded);
}

Merging::Merging(int padded) : padded_(padded) { begin_row(most_, sum_, values_, padded); }

void Merging::add(const Partial& part, int row) {
  merge(most_, sum_, values_, part.most[row], part.sum[row], part.values + row * padded_, padded_);
}

void Merging::finish(const Looking& look, const Tile& tile, int row) const { finish_row(look, tile, row, sum_, values_); }

}  // namespace ingot
