// What Python tells of a decoder and of one step. Field for field what `ingot.model.kernels.decoder` hands over.
#pragma once
#include "linear.h"

namespace ingot {

enum QueryNorm { NO_NORM, NORM_HEAD, NORM_WIDTH };
enum Stored { STORED_FLOAT32, STORED_BFLOAT16, STORED_FLOAT16 };

// One block. A norm that is null is not there; weights of norms are float32, what a family adds to them included.
struct LayerSpec {
  const Linear* qkv[3];      // one for all of them (the others null), or three
  const Linear* out;
  const Linear* gate_up[2];  // likewise
  const Linear* down;
  const float *before_attention, *after_attention, *before_mlp, *after_mlp, *q_norm, *k_norm;
  int32_t rope;              // its number among the step's tables, -1: none
  int32_t window;            // tokens, 0: everything
};

struct DecoderSpec {
  const LayerSpec* layers;
  const void* embedding;     // [vocabulary][hidden]
  const float* final_norm;
  const Linear* head;
  uint8_t* pool;             // the cache's blocks
  int32_t num_layers, hidden, inner, heads, kv_heads, head_dim;
  int32_t activation, query_norm, kv, stored;
  int32_t tiles;             // whether AMX may be used
  float eps, scale, softcap, logit_softcap, embedding_scale;
};

// cos and sin, [rows][half]: by position, or by the step's own row.
struct Angles {
  const float *cos, *sin;
  int32_t half, by_row;
};

// Sequences one after the other: how many tokens, the place of the first, where its blocks begin in `tables`, and how
// many of its last hidden states are wanted.
struct Step {
  const int64_t* ids;
  const int32_t *counts, *positions, *offsets, *wanted, *tables;
  const Angles* angles;
  int32_t sequences, threads;
  int32_t layers;            // so many of the first are gone through
};

}  // namespace ingot
