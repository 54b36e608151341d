// A whole step of a decoder: ids in, hidden states out, one call.
//
// One team of threads goes through all layers; every part below is called by the whole team, shares its work out and
// ends in a barrier. Rows are never padded: a step is a list of sequences, each with as many tokens as it reads.
#include "decoder.h"

#include <omp.h>

#include <tuple>

#include "attention.h"
#include "memory.h"
#include "rows.h"
#include "vector.h"

namespace ingot {
namespace {

constexpr int MOST_GROUP = 128;  // columns that share a scale of activations, at most

struct Quantized {  // activations of a product
  int8_t* q;
  float* scale;
  int32_t* sum;
};

struct QuantizedBuffer {
  Buffer<int8_t> q;
  Buffer<float> scale;
  Buffer<int32_t> sum;
  Quantized need(size_t rows, int columns, int groups) {
    return {q.need(rows * columns), scale.need(rows * groups), sum.need(rows * groups)};
  }
};

struct View {  // some columns of rows
  float* at;
  int stride;
  float* row(int m) const { return at + (size_t)m * stride; }
};

// Denormals are zero while this lives, whatever the thread was set to.
class FlushDenormals {
 public:
  FlushDenormals() : state_(_mm_getcsr()) { _mm_setcsr(state_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(state_); }

 private:
  unsigned state_;
};

// `rows` rows of w from a panel on, as a layer of its own.
Linear part_of(const Linear& w, int panel, int rows) {
  Linear part = w;
  const size_t block = (size_t)panel * (PANEL / BLOCK);
  part.codes += block * w.block_bytes();
  const size_t scales = w.scale == Scale::ROW ? block * BLOCK : block * BLOCK * w.groups();
  part.scales = (const char*)w.scales + scales * (w.scale == Scale::GROUP_BF16 ? 2 : 4);
  if (w.bias) part.bias += block * BLOCK;
  part.rows = rows;
  return part;
}

float of_half(uint16_t h) { return _mm512_cvtss_f32(_mm512_cvtph_ps(_mm256_set1_epi16((short)h))); }

class Decoder {
 public:
  explicit Decoder(const DecoderSpec& spec)
      : spec_(spec),
        pages_{spec.pool, spec.num_layers, spec.kv_heads, spec.head_dim, spec.kv},
        group_(spec.heads / spec.kv_heads) {
    for (int i = 0; i < spec.num_layers; i++) {
      const LayerSpec& layer = spec.layers[i];
      for (const Linear* w : {layer.qkv[0], layer.out, layer.gate_up[0], layer.down}) note(*w);
    }
    note(*spec.head);
  }

  void run(const Step& step, float* hidden) {
    step_ = &step;
    all_.arrange(step, spec_.kv_heads, group_, false);
    wanted_.arrange(step, spec_.kv_heads, group_, true);
    make_room(step.threads);
#pragma omp parallel num_threads(step.threads)
    {
      const FlushDenormals flush;
      pass(hidden);
    }
  }

  void head(const float* hidden, int M, int threads, float* logits) {
    const Linear& w = *spec_.head;
    input_ = input_room_.need(M, most_columns_, most_groups_);
    make_scratch(threads, 0);
#pragma omp parallel num_threads(threads)
    {
      const FlushDenormals flush;
#pragma omp for schedule(static)
      for (int m = 0; m < M; m++) put(w, m, hidden + (size_t)m * spec_.hidden, spec_.hidden, nullptr);
      product(&spec_.head, &logits, 1, input_, M);
      if (spec_.logit_softcap > 0) cap(logits, (long)M * w.rows);
    }
  }

  const Pages& pages() const { return pages_; }

 private:
  const DecoderSpec spec_;
  const Pages pages_;
  const int group_;
  int most_columns_ = 0, most_groups_ = 0;
  const Step* step_ = nullptr;
  Rows all_, wanted_;
  QuantizedBuffer input_room_, gated_room_;
  Quantized input_ = {}, gated_ = {};
  Buffer<float> x_, y_, q_, k_, v_, looked_, partial_, scratch_;
  size_t scratch_size_ = 0;

  void note(const Linear& w) {
    if (w.columns > most_columns_) most_columns_ = w.columns;
    if (w.groups() > most_groups_) most_groups_ = w.groups();
  }

  // What each thread works in: a row, a tile of attention, or gate and up of one group of columns.
  void make_scratch(int threads, int M) {
    size_t most = most_columns_;
    for (size_t other : {Scratch::floats(tile_rows(group_), pages_.padded()), (size_t)(2 * M + 1) * MOST_GROUP})
      if (other > most) most = other;
    scratch_size_ = (most + 1023) / 1024 * 1024;
    scratch_.need(scratch_size_ * threads);
  }

  void make_room(int threads) {
    const size_t M = all_.count;
    const int depth = spec_.head_dim, kv = spec_.kv_heads * depth, heads = spec_.heads * depth;
    x_.need(M * spec_.hidden * 2), y_.need(M * spec_.hidden), looked_.need(M * spec_.layers->out->columns);
    q_.need(M * (heads + 2 * kv)), k_.need(M * kv), v_.need(M * kv);
    input_ = input_room_.need(M, most_columns_, most_groups_);
    gated_ = gated_room_.need(M, most_columns_, most_groups_);
    make_scratch(threads, M);
    size_t spans = 0;
    for (const Rows* rows : {&all_, &wanted_})
      if (rows->is_split(threads) && (size_t)rows->spans.back() > spans) spans = rows->spans.back();
    partial_.need(spans * tile_rows(group_) * (pages_.padded() + 2));
  }

  float* scratch() const { return scratch_.get() + scratch_size_ * omp_get_thread_num(); }

  // ---- Everything below is called by the whole team.

  void pass(float* hidden) {
    float *x = x_.get(), *y = y_.get();
    const Rows* rows = &all_;
    embed(x);
    for (int number = 0; number < spec_.num_layers; number++) {
      const LayerSpec &layer = spec_.layers[number], *next = &layer + 1;
      const bool is_last = number == spec_.num_layers - 1;
      if (number == 0) normalise(layer, x);
      const View q = project(layer, number);
      if (is_last) {
        keep_wanted(x, q);
        rows = &wanted_;
        if (!rows->count) return;
      }
      const int M = rows->count;
      look({pages_, number, spec_.heads, layer.window, spec_.softcap, q.at, looked_.get(), q.stride, layer.out->columns},
           *rows);
      quantize_looked(*layer.out, M);
      product(&layer.out, &y, 1, input_, M);
      add(x, y, layer.after_attention, layer.gate_up[0], layer.before_mlp, M);
      gate(layer, M);
      product(&layer.down, &y, 1, gated_, M);
      add(x, y, layer.after_mlp, is_last ? nullptr : next->qkv[0], is_last ? nullptr : next->before_attention, M);
    }
#pragma omp for schedule(static)
    for (int m = 0; m < wanted_.count; m++) {
      const size_t at = (size_t)m * spec_.hidden;
      rms_norm(x + at, spec_.final_norm, spec_.eps, spec_.hidden, hidden + at);
    }
  }

  void embed(float* x) {
    const int width = spec_.hidden;
#pragma omp for schedule(static)
    for (int m = 0; m < all_.count; m++) {
      const size_t from = (size_t)step_->ids[m] * width;
      const float* whole = (const float*)spec_.embedding + from;
      const uint16_t* half = (const uint16_t*)spec_.embedding + from;
      float* to = x + (size_t)m * width;
      for (int i = 0; i < width; i++) {
        if (spec_.stored == STORED_FLOAT32) to[i] = whole[i];
        else to[i] = spec_.stored == STORED_BFLOAT16 ? of_bfloat16(half[i]) : of_half(half[i]);
        to[i] *= spec_.embedding_scale;
      }
    }
  }

  // One row, normalised where `norm` is given, to the activations of w.
  void put(const Linear& w, int m, const float* x, int width, const float* norm) {
    float* row = scratch();
    if (norm) rms_norm(x, norm, spec_.eps, width, row);
    else memcpy(row, x, width * sizeof(float));
    memset(row + width, 0, (w.columns - width) * sizeof(float));
    put_groups(w, input_, m, 0, w.groups(), row);
  }

  static void put_groups(const Linear& w, const Quantized& to, int m, int first, int count, const float* x) {
    const size_t at = (size_t)m * w.groups() + first;
    quantize(x, 1, count * w.group, w.group, to.q + at * w.group, to.scale + at, to.sum + at);
  }

  void normalise(const LayerSpec& layer, const float* x) {
#pragma omp for schedule(static)
    for (int m = 0; m < all_.count; m++)
      put(*layer.qkv[0], m, x + (size_t)m * spec_.hidden, spec_.hidden, layer.before_attention);
  }

  // x += y, normalised by `after`; then x, normalised by `before`, to the activations of `next`.
  void add(float* x, float* y, const float* after, const Linear* next, const float* before, int M) {
    const int width = spec_.hidden;
#pragma omp for schedule(static)
    for (int m = 0; m < M; m++) {
      float *to = x + (size_t)m * width, *from = y + (size_t)m * width;
      if (after) rms_norm(from, after, spec_.eps, width, from);
      for (int i = 0; i < width; i++) to[i] += from[i];
      if (next) put(*next, m, to, width, before);
    }
  }

  // y[p] = the activations times parts[p], side by side for threads to share.
  static void product(const Linear* const* parts, float* const* y, int count, const Quantized& x, int M) {
    long panels = 0;
    for (int p = 0; p < count; p++) panels += parts[p]->panels();
    const long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    int first = panels * thread / threads, last = panels * (thread + 1) / threads;
    for (int p = 0; p < count; p++) {
      const int own = parts[p]->panels(), from = first > 0 ? first : 0, to = last < own ? last : own;
      if (from < to) multiply_panels(*parts[p], x.q, x.scale, x.sum, M, y[p], true, from, to);
      first -= own, last -= own;
    }
#pragma omp barrier
  }

  // Queries, turned and scaled; keys and values go to their pages.
  View project(const LayerSpec& layer, int number) {
    const int depth = spec_.head_dim, heads = spec_.heads * depth, kv = spec_.kv_heads * depth;
    const bool fused = !layer.qkv[1];
    float* y[] = {q_.get(), k_.get(), v_.get()};
    product(layer.qkv, y, fused ? 1 : 3, input_, all_.count);
    const int width = heads + 2 * kv;
    const View q = {y[0], fused ? width : heads};
    if (fused) place(layer, number, q, {y[0] + heads, width}, {y[0] + heads + kv, width});
    else place(layer, number, q, {y[1], kv}, {y[2], kv});
    return q;
  }

  void place(const LayerSpec& layer, int number, View q, View k, View v) {
    const int depth = spec_.head_dim, kv_heads = spec_.kv_heads;
    if (spec_.query_norm == NORM_WIDTH) {
#pragma omp for schedule(static)
      for (int m = 0; m < all_.count; m++) {
        rms_norm(q.row(m), layer.q_norm, spec_.eps, spec_.heads * depth, q.row(m));
        rms_norm(k.row(m), layer.k_norm, spec_.eps, kv_heads * depth, k.row(m));
      }
    }
    const bool by_head = spec_.query_norm == NORM_HEAD;
#pragma omp for schedule(static) collapse(2)
    for (int m = 0; m < all_.count; m++)
      for (int g = 0; g < kv_heads; g++) {
        for (int h = g * group_; h < (g + 1) * group_; h++) {
          float* head = q.row(m) + h * depth;
          turn(head, layer, m, by_head ? layer.q_norm : nullptr);
          for (int d = 0; d < depth; d++) head[d] *= spec_.scale;
        }
        float* head = k.row(m) + g * depth;
        turn(head, layer, m, by_head ? layer.k_norm : nullptr);
        const int at = all_.position[m], block = step_->tables[step_->offsets[all_.sequence[m]] + at / PAGE];
        write(pages_, pages_.at(block, number, g), at % PAGE, head, v.row(m) + g * depth);
      }
  }

  // One head of a row, normalised where `norm` is given and turned by the angles of its position.
  void turn(float* head, const LayerSpec& layer, int m, const float* norm) const {
    if (norm) rms_norm(head, norm, spec_.eps, spec_.head_dim, head);
    if (layer.rope < 0) return;
    const Angles& angles = step_->angles[layer.rope];
    const int half = angles.half;
    const size_t at = (size_t)(angles.by_row ? m : all_.position[m]) * half;
    const float *cos = angles.cos + at, *sin = angles.sin + at;
    for (int i = 0; i < half; i++) {
      const float a = head[i], b = head[i + half];
      head[i] = a * cos[i] - b * sin[i];
      head[i + half] = b * cos[i] + a * sin[i];
    }
  }

  // Of the stream and the queries, only the rows that are wanted from here on; they move to the front.
  void keep_wanted(float* x, View q) {
    if (wanted_.count == all_.count) return;
#pragma omp single
    for (int s = 0, row = 0, from = 0; s < step_->sequences; from += step_->counts[s], s++)
      for (int i = step_->counts[s] - step_->wanted[s]; i < step_->counts[s]; i++, row++) {
        memmove(x + (size_t)row * spec_.hidden, x + (size_t)(from + i) * spec_.hidden, spec_.hidden * sizeof(float));
        memmove(q.row(row), q.row(from + i), spec_.heads * spec_.head_dim * sizeof(float));
      }
  }

  Partial partial(int span) const {
    const size_t rows = tile_rows(group_), padded = pages_.padded();
    float* at = partial_.get() + span * rows * (padded + 2);
    return {at, at + rows, at + 2 * rows};
  }

  void look(const Looking& looking, const Rows& rows) {
    Scratch own;
    own.place(scratch(), tile_rows(group_), pages_.padded());
    const int tiles = rows.tiles.size(), spans = rows.spans.back();
    if (!rows.is_split(omp_get_num_threads())) {
#pragma omp for schedule(dynamic, 1)
      for (int i = tiles - 1; i >= 0; i--) attend_tile(looking, rows.tiles[i], own);
      return;
    }
    int first, last;
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < spans; i++) {
      const int tile = rows.tile_of(i), span = i - rows.spans[tile];
      spans_of(looking, rows.tiles[tile], first, last);
      if (span >= first && span < last) attend_span(looking, rows.tiles[tile], span, own, partial(i));
    }
#pragma omp for schedule(static)
    for (int i = 0; i < tiles; i++) {
      spans_of(looking, rows.tiles[i], first, last);
      for (int r = 0; r < rows.tiles[i].tokens * group_; r++) {
        Merging merging(pages_.padded());
        for (int span = first; span < last; span++) merging.add(partial(rows.spans[i] + span), r);
        merging.finish(looking, rows.tiles[i], r);
      }
    }
  }

  void quantize_looked(const Linear& out, int M) {
#pragma omp for schedule(static)
    for (int m = 0; m < M; m++) put_groups(out, input_, m, 0, out.groups(), looked_.get() + (size_t)m * out.columns);
  }

  // act(gate) * up, one group of the activations of `down` at a time, straight to int8.
  void gate(const LayerSpec& layer, int M) {
    const Linear &down = *layer.down, &gate = *layer.gate_up[0], &up = *layer.gate_up[layer.gate_up[1] ? 1 : 0];
    const int wide = down.group, behind = layer.gate_up[1] ? 0 : spec_.inner / PANEL;
    float *gates = scratch(), *ups = gates + (size_t)M * wide, *row = ups + (size_t)M * wide;
#pragma omp for schedule(static)
    for (int g = 0; g < down.groups(); g++) {
      const int from = g * wide, count = spec_.inner - from < wide ? spec_.inner - from : wide;
      if (count > 0) {
        for (const auto& [w, panel, y] : {std::tuple(&gate, from / PANEL, gates), {&up, from / PANEL + behind, ups}}) {
          const Linear part = part_of(*w, panel, count);
          multiply_panels(part, input_.q, input_.scale, input_.sum, M, y, true, 0, part.panels());
        }
      }
      for (int m = 0; m < M; m++) {
        for (int i = 0; i < wide; i += 16) {
          const __mmask16 mask = i < count ? lanes(i, count) : 0;
          const __m512 a = _mm512_maskz_loadu_ps(mask, gates + (size_t)m * count + i);
          const __m512 b = _mm512_maskz_loadu_ps(mask, ups + (size_t)m * count + i);
          _mm512_storeu_ps(row + i, _mm512_mul_ps(activate16(a, spec_.activation), b));
        }
        put_groups(down, gated_, m, g, 1, row);
      }
    }
  }

  void cap(float* logits, long count) const {
    const __m512 most = _mm512_set1_ps(spec_.logit_softcap);
#pragma omp for schedule(static)
    for (long i = 0; i < count; i += 16) {
      const __mmask16 mask = count - i >= 16 ? 0xffff : (1u << (count - i)) - 1;
      const __m512 x = _mm512_maskz_loadu_ps(mask, logits + i);
      _mm512_mask_storeu_ps(logits + i, mask, _mm512_mul_ps(most, tanh16(_mm512_div_ps(x, most))));
    }
  }
};

}  // namespace
}  // namespace ingot

extern "C" {

// Null where memory is short.
void* ingot_decoder(const ingot::DecoderSpec* spec) { return new (std::nothrow) ingot::Decoder(*spec); }

void ingot_forget(void* decoder) { delete (ingot::Decoder*)decoder; }

// hidden[wanted rows][hidden]. Whether there was memory enough.
int ingot_step(void* decoder, const ingot::Step* step, float* hidden) {
  try {
    ((ingot::Decoder*)decoder)->run(*step, hidden);
    return 1;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

// logits[M][vocabulary] of hidden[M][hidden].
int ingot_head(void* decoder, const float* hidden, int M, int threads, float* logits) {
  try {
    ((ingot::Decoder*)decoder)->head(hidden, M, threads, logits);
    return 1;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

}
