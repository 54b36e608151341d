// A whole step of a decoder: ids in, hidden states out, one call.
//
// One team of threads goes through all layers; every part is called by the whole team, shares its work out and ends when
// all of it is done. Rows are never padded: a step is a list of sequences, each with as many tokens as it reads.
#include "decoder.h"

#include <omp.h>

#include <algorithm>

#include "activations.h"
#include "attention.h"
#include "memory.h"
#include "rows.h"
#include "team.h"
#include "vector.h"

namespace ingot {
namespace {

constexpr int ROWS_AT_ONCE = 256;  // of gate and up: what they give for one group of columns stays in the cache

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

float of_half(uint16_t h) { return _mm512_cvtss_f32(_mm512_cvtph_ps(_mm256_set1_epi16((short)h))); }

class Decoder {
 public:
  explicit Decoder(const DecoderSpec& spec)
      : spec_(spec),
        pages_{spec.pool, spec.num_layers, spec.kv_heads, spec.head_dim, spec.kv},
        group_(spec.heads / spec.kv_heads),
        input_(spec.tiles),
        gated_(spec.tiles) {
    for (int i = 0; i < spec.num_layers; i++) {
      const LayerSpec& layer = spec.layers[i];
      for (const Linear* w : {layer.qkv[0], layer.out, layer.gate_up[0]}) note(*w, most_columns_, most_groups_);
      note(*layer.down, gated_columns_, gated_groups_);
      const size_t many = (size_t)3 * ROWS_AT_ONCE * layer.down->group;
      const size_t few = (size_t)2 * PANEL * spec.inner;
      gate_room_ = std::max({gate_room_, many, few});
    }
    note(*spec.head, most_columns_, most_groups_);
  }

  // Room for a step and those before it; bytes.
  size_t prepare(const Step& step) {
    step_ = &step;
    all_.arrange(step, spec_.kv_heads, group_, false);
    wanted_.arrange(step, spec_.kv_heads, group_, true);
    make_room(step.threads);
    size_t bytes = input_.bytes() + gated_.bytes();
    for (const auto* buffer : {&x_, &y_, &q_, &k_, &v_, &looked_, &inner_, &partial_, &scratch_}) bytes += buffer->bytes();
    return bytes;
  }

  void run(const Step& step, float* hidden) {
    prepare(step);
#pragma omp parallel num_threads(step.threads)
    {
      const FlushDenormals flush;
      pass(hidden);
    }
  }

  void head(const float* hidden, int M, int threads, float* logits) {
    const Linear& w = *spec_.head;
    input_.need(M, most_columns_, most_groups_);
    make_scratch(threads);
#pragma omp parallel num_threads(threads)
    {
      const FlushDenormals flush;
      team_.share(M, [&](long m) { put(w, M, m, hidden + m * spec_.hidden, nullptr); });
      input_.product(team_, &spec_.head, &logits, 1, M);
      if (spec_.logit_softcap > 0) cap(logits, (long)M * w.rows);
    }
  }

 private:
  const DecoderSpec spec_;
  const Pages pages_;
  const int group_;
  int most_columns_ = 0, most_groups_ = 0, gated_columns_ = 0, gated_groups_ = 0;
  size_t gate_room_ = 0;
  const Step* step_ = nullptr;
  Team team_;
  Rows all_, wanted_;
  Activations input_, gated_;
  Buffer<float> x_, y_, q_, k_, v_, looked_, inner_, partial_, scratch_;
  size_t scratch_size_ = 0;

  static void note(const Linear& w, int& columns, int& groups) {
    columns = std::max(columns, w.columns), groups = std::max(groups, w.groups());
  }

  // What each thread works in: a row, a tile of attention, or gate and up of one group of columns.
  void make_scratch(int threads) {
    const size_t most = std::max({(size_t)most_columns_, gate_room_, Scratch::floats(tile_rows(group_), pages_.padded())});
    scratch_size_ = (most + 1023) / 1024 * 1024;
    scratch_.need(scratch_size_ * threads);
  }

  void make_room(int threads) {
    const size_t M = all_.count, some = std::min<size_t>(M, PANEL);
    const int depth = spec_.head_dim, kv = spec_.kv_heads * depth, heads = spec_.heads * depth;
    x_.need(M * spec_.hidden), y_.need(M * spec_.hidden), looked_.need(M * spec_.layers->out->columns);
    q_.need(M * (heads + 2 * kv)), k_.need(M * kv), v_.need(M * kv), inner_.need(some * gated_columns_);
    input_.need(M, most_columns_, most_groups_), gated_.need(M, gated_columns_, gated_groups_);
    make_scratch(threads);
    size_t spans = 0;
    for (const Rows* rows : {&all_, &wanted_})
      if (rows->is_split(threads)) spans = std::max<size_t>(spans, rows->spans.back());
    partial_.need(spans * tile_rows(group_) * (pages_.padded() + 2));
  }

  float* scratch() const { return scratch_.get() + scratch_size_ * omp_get_thread_num(); }

  // ---- Everything below is called by the whole team.

  void pass(float* hidden) {
    float *x = x_.get(), *y = y_.get();
    const Rows* rows = &all_;
    embed(x);
    for (int number = 0; number < step_->layers; number++) {
      const LayerSpec &layer = spec_.layers[number], *next = &layer + 1;
      const bool is_last = number == step_->layers - 1;
      if (number == 0) normalise(x, layer.before_attention, *layer.qkv[0], all_.count);
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
      input_.product(team_, &layer.out, &y, 1, M);
      add(x, y, layer.after_attention, layer.gate_up[0], layer.before_mlp, M);
      gate(layer, M);
      gated_.product(team_, &layer.down, &y, 1, M);
      add(x, y, layer.after_mlp, is_last ? nullptr : next->qkv[0], is_last ? nullptr : next->before_attention, M);
    }
    team_.share(wanted_.count, [&](long m) {
      rms_norm(x + m * spec_.hidden, spec_.final_norm, spec_.eps, spec_.hidden, hidden + m * spec_.hidden);
    });
  }

  void embed(float* x) {
    const int width = spec_.hidden;
    team_.share(all_.count, [&](long m) {
      const size_t from = (size_t)step_->ids[m] * width;
      const float* whole = (const float*)spec_.embedding + from;
      const uint16_t* half = (const uint16_t*)spec_.embedding + from;
      float* to = x + m * width;
      for (int i = 0; i < width; i++) {
        if (spec_.stored == STORED_FLOAT32) to[i] = whole[i];
        else to[i] = spec_.stored == STORED_BFLOAT16 ? of_bfloat16(half[i]) : of_half(half[i]);
        to[i] *= spec_.embedding_scale;
      }
    });
  }

  // One row, normalised where `norm` is given, to the activations of w.
  void put(const Linear& w, int M, int m, const float* x, const float* norm) {
    const int width = spec_.hidden;
    float* row = scratch();
    if (norm) rms_norm(x, norm, spec_.eps, width, row);
    else memcpy(row, x, width * sizeof(float));
    memset(row + width, 0, (w.columns - width) * sizeof(float));
    input_.put(w, M, m, 0, w.groups(), row);
  }

  void normalise(const float* x, const float* norm, const Linear& next, int M) {
    team_.share(M, [&](long m) { put(next, M, m, x + m * spec_.hidden, norm); });
  }

  // x += y, normalised by `after`; then x, normalised by `before`, to the activations of `next`.
  void add(float* x, float* y, const float* after, const Linear* next, const float* before, int M) {
    const int width = spec_.hidden;
    team_.share(M, [&](long m) {
      float *to = x + m * width, *from = y + m * width;
      if (after) rms_norm(from, after, spec_.eps, width, from);
      for (int i = 0; i < width; i++) to[i] += from[i];
      if (next) put(*next, M, m, to, before);
    });
  }

  // Queries, turned and scaled; keys and values go to their pages.
  View project(const LayerSpec& layer, int number) {
    const int depth = spec_.head_dim, heads = spec_.heads * depth, kv = spec_.kv_heads * depth;
    const bool fused = !layer.qkv[1];
    float* y[] = {q_.get(), k_.get(), v_.get()};
    input_.product(team_, layer.qkv, y, fused ? 1 : 3, all_.count);
    const int width = heads + 2 * kv;
    const View q = {y[0], fused ? width : heads};
    if (fused) place(layer, number, q, {y[0] + heads, width}, {y[0] + heads + kv, width});
    else place(layer, number, q, {y[1], kv}, {y[2], kv});
    return q;
  }

  void place(const LayerSpec& layer, int number, View q, View k, View v) {
    const int depth = spec_.head_dim, kv_heads = spec_.kv_heads;
    if (spec_.query_norm == NORM_WIDTH) {
      team_.share(all_.count, [&](long m) {
        rms_norm(q.row(m), layer.q_norm, spec_.eps, spec_.heads * depth, q.row(m));
        rms_norm(k.row(m), layer.k_norm, spec_.eps, kv_heads * depth, k.row(m));
      });
    }
    const bool by_head = spec_.query_norm == NORM_HEAD;
    team_.share((long)all_.count * kv_heads, [&](long i) {
      const int m = i / kv_heads, g = i % kv_heads;
      for (int h = g * group_; h < (g + 1) * group_; h++) {
        float* head = q.row(m) + h * depth;
        turn(head, layer, m, by_head ? layer.q_norm : nullptr);
        for (int d = 0; d < depth; d++) head[d] *= spec_.scale;
      }
      float* head = k.row(m) + g * depth;
      turn(head, layer, m, by_head ? layer.k_norm : nullptr);
      const int at = all_.position[m], block = step_->tables[step_->offsets[all_.sequence[m]] + at / PAGE];
      write(pages_, pages_.at(block, number, g), at % PAGE, head, v.row(m) + g * depth);
    });
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
    if (omp_get_thread_num() == 0)
      for (int s = 0, row = 0, from = 0; s < step_->sequences; from += step_->counts[s], s++)
        for (int i = step_->counts[s] - step_->wanted[s]; i < step_->counts[s]; i++, row++) {
          memmove(x + (size_t)row * spec_.hidden, x + (size_t)(from + i) * spec_.hidden, spec_.hidden * sizeof(float));
          memmove(q.row(row), q.row(from + i), spec_.heads * spec_.head_dim * sizeof(float));
        }
    team_.wait();
  }

  Partial partial(int span) const {
    const size_t rows = tile_rows(group_), padded = pages_.padded();
    float* at = partial_.get() + span * rows * (padded + 2);
    return {at, at + rows, at + 2 * rows};
  }

  void look(const Looking& looking, const Rows& rows) {
    Scratch own;
    own.place(scratch(), tile_rows(group_), pages_.padded());
    const int tiles = rows.tiles.size();
    if (!rows.is_split(omp_get_num_threads()))
      return team_.deal(tiles, [&](long i) { attend_tile(looking, rows.tiles[tiles - 1 - i], own); });
    int first, last;
    team_.deal(rows.spans.back(), [&](long i) {
      const int tile = rows.tile_of(i), span = i - rows.spans[tile];
      spans_of(looking, rows.tiles[tile], first, last);
      if (span >= first && span < last) attend_span(looking, rows.tiles[tile], span, own, partial(i));
    });
    team_.share(tiles, [&](long i) {
      spans_of(looking, rows.tiles[i], first, last);
      for (int r = 0; r < rows.tiles[i].tokens * group_; r++) {
        Merging merging(pages_.padded());
        for (int span = first; span < last; span++) merging.add(partial(rows.spans[i] + span), r);
        merging.finish(looking, rows.tiles[i], r);
      }
    });
  }

  void quantize_looked(const Linear& out, int M) {
    team_.share(M, [&](long m) { input_.put(out, M, m, 0, out.groups(), looked_.get() + m * out.columns); });
  }

  // act(gate) * up, of many rows one group of columns straight to int8; of few, which memory keeps waiting, in small
  // pieces first.
  void gate(const LayerSpec& layer, int M) {
    const Linear& down = *layer.down;
    const int group = down.group, stride = down.columns;
    if (M > PANEL) {
      const int blocks = (M + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
      return team_.deal((long)down.groups() * blocks, [&](long i) {
        const int g = i / blocks, first = i % blocks * ROWS_AT_ONCE, rows = std::min(ROWS_AT_ONCE, M - first);
        float* out = scratch() + (size_t)2 * rows * group;
        gate_columns(layer, M, first, rows, g * group, group, out, group);
        for (int m = 0; m < rows; m++) gated_.put(down, M, first + m, g, 1, out + (size_t)m * group);
      });
    }
    float* inner = inner_.get();
    const long panels = spec_.inner / PANEL;
    const long pieces = Activations::pieces_of(panels, layer.gate_up[0]->block_bytes() * (PANEL / BLOCK) * 2, M);
    team_.deal(pieces, [&](long i) {
      const int from = panels * i / pieces * PANEL, to = panels * (i + 1) / pieces * PANEL;
      gate_columns(layer, M, 0, M, from, to - from, inner + from, stride);
    });
    team_.share((long)M * down.groups(), [&](long i) {
      const int m = i / down.groups(), g = i % down.groups();
      gated_.put(down, M, m, g, 1, inner + (size_t)m * stride + g * group);
    });
  }

  // `count` columns of act(gate) * up from one on, zeros behind the last there is, to out[rows][stride].
  void gate_columns(const LayerSpec& layer, int M, int first, int rows, int from, int count, float* out, int stride) {
    const int there = std::max(0, std::min(count, spec_.inner - from));
    float *gates = scratch(), *ups = gates + (size_t)rows * there;
    if (there) {
      const bool fused = !layer.gate_up[1];
      const Linear gate = part_of(*layer.gate_up[0], from / PANEL, there);
      const Linear up = part_of(*layer.gate_up[!fused], (from + fused * spec_.inner) / PANEL, there);
      input_.multiply(gate, M, first, rows, gates, 0, gate.panels());
      input_.multiply(up, M, first, rows, ups, 0, up.panels());
    }
    for (int m = 0; m < rows; m++, gates += there, ups += there, out += stride)
      for (int i = 0; i < count; i += 16) {
        const __mmask16 mask = i < there ? 0xffff : 0;
        const __m512 a = _mm512_maskz_loadu_ps(mask, gates + i), b = _mm512_maskz_loadu_ps(mask, ups + i);
        _mm512_storeu_ps(out + i, _mm512_mul_ps(activate16(a, spec_.activation), b));
      }
  }

  void cap(float* logits, long count) {
    const __m512 most = _mm512_set1_ps(spec_.logit_softcap);
    team_.share((count + 15) / 16, [&](long i) {
      float* at = logits + i * 16;
      const __mmask16 mask = count - i * 16 >= 16 ? 0xffff : (1u << (count - i * 16)) - 1;
      const __m512 x = _mm512_maskz_loadu_ps(mask, at);
      _mm512_mask_storeu_ps(at, mask, _mm512_mul_ps(most, tanh16(_mm512_div_ps(x, most))));
    });
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

// Bytes that the decoder works in once a step like this one was run; of the step's arrays only the numbers of tokens,
// places and wanted rows are read. 0 where memory is short.
size_t ingot_room(void* decoder, const ingot::Step* step) {
  try {
    return ((ingot::Decoder*)decoder)->prepare(*step);
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
