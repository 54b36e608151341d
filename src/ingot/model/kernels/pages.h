// Where keys and values lie: blocks of 16 tokens, in a block layer after layer, in a layer head after head.
//
// Keys of a head stand transposed (head_dim x 16 tokens), so that one vector holds the scores of 16 tokens and nothing is
// ever summed across a vector; values as they are (16 tokens x head_dim). Bfloat16 holds two rows in one: pairs of
// dimensions of keys, pairs of tokens of values. Int8 has one scale a token and head, keys and values of their own.
// Where head_dim is no multiple of 16 the last vector of a row reaches into what follows; those lanes are not used.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace ingot {

constexpr int PAGE = 16;  // tokens in a block
enum KV { FLOAT32, BFLOAT16, INT8 };

struct Pages {
  uint8_t* pool;
  int layers, kv_heads, head_dim, kind;

  int padded() const { return (head_dim + 15) / 16 * 16; }  // of rows that are worked on
  size_t element() const { return kind == FLOAT32 ? 4 : kind == BFLOAT16 ? 2 : 1; }
  size_t half_bytes() const { return (size_t)PAGE * head_dim * element(); }
  size_t head_bytes() const { return 2 * half_bytes() + (kind == INT8 ? 2 * PAGE * sizeof(float) : 0); }
  size_t layer_bytes() const { return kv_heads * head_bytes(); }
  size_t block_bytes() const { return layers * layer_bytes(); }
  uint8_t* at(int block, int layer, int head) const {
    return pool + block * block_bytes() + layer * layer_bytes() + head * head_bytes();
  }
};

inline uint16_t to_bfloat16(float x) {  // to nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float of_bfloat16(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

inline __m512 low_halves(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
inline __m512 high_halves(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}
inline __m512 of_int8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}

// Each kind of storage reads two rows at a time: dimensions d, d+1 of 16 tokens' keys; tokens t, t+1 of 16 dimensions.
struct Float32Pages {
  static constexpr int KIND = FLOAT32;
  static void keys(const uint8_t* k, int d, __m512& a, __m512& b) {
    a = _mm512_loadu_ps((const float*)k + d * PAGE);
    b = _mm512_loadu_ps((const float*)k + d * PAGE + PAGE);
  }
  static void values(const uint8_t* v, int t, int c, int depth, __m512& a, __m512& b) {
    a = _mm512_loadu_ps((const float*)v + t * depth + c);
    b = _mm512_loadu_ps((const float*)v + (t + 1) * depth + c);
  }
};

struct Bfloat16Pages {
  static constexpr int KIND = BFLOAT16;
  static void keys(const uint8_t* k, int d, __m512& a, __m512& b) {
    const __m512i pairs = _mm512_loadu_si512(k + d * PAGE * 2);
    a = low_halves(pairs);
    b = high_halves(pairs);
  }
  static void values(const uint8_t* v, int t, int c, int depth, __m512& a, __m512& b) {
    const __m512i pairs = _mm512_loadu_si512(v + (t * depth + c * 2) * 2);
    a = low_halves(pairs);
    b = high_halves(pairs);
  }
};

struct Int8Pages {
  static constexpr int KIND = INT8;
  static void keys(const uint8_t* k, int d, __m512& a, __m512& b) {
    a = of_int8(k + d * PAGE);
    b = of_int8(k + d * PAGE + PAGE);
  }
  static void values(const uint8_t* v, int t, int c, int depth, __m512& a, __m512& b) {
    a = of_int8(v + t * depth + c);
    b = of_int8(v + (t + 1) * depth + c);
  }
};

// The scale that brings `count` numbers to int8; NaN where one of them is NaN.
inline float int8_scale(const float* x, int count) {
  float most = 0.f;
  for (int i = 0; i < count; i++) {
    const float size = __builtin_fabsf(x[i]);
    if (size > most || size != size) most = size;
  }
  return most / 127.f;
}

// Put one token's key and value of one head to slot `t` of a page.
inline void write(const Pages& pages, uint8_t* page, int t, const float* k, const float* v) {
  const int depth = pages.head_dim;
  uint8_t* vs = page + pages.half_bytes();
  if (pages.kind == FLOAT32) {
    for (int d = 0; d < depth; d++) ((float*)page)[d * PAGE + t] = k[d];
    memcpy((float*)vs + t * depth, v, depth * sizeof(float));
  } else if (pages.kind == BFLOAT16) {
    for (int d = 0; d < depth; d++) {
      ((uint16_t*)page)[(d / 2 * PAGE + t) * 2 + d % 2] = to_bfloat16(k[d]);
      ((uint16_t*)vs)[(t / 2 * depth + d) * 2 + t % 2] = to_bfloat16(v[d]);
    }
  } else {
    float* scales = (float*)(vs + pages.half_bytes());
    const float ks = int8_scale(k, depth), vsc = int8_scale(v, depth);
    scales[t] = ks;
    scales[PAGE + t] = vsc;
    const float ki = ks > 0 ? 1.f / ks : 0.f, vi = vsc > 0 ? 1.f / vsc : 0.f;
    for (int d = 0; d < depth; d++) {
      ((int8_t*)page)[d * PAGE + t] = (int8_t)__builtin_rintf(k[d] * ki);
      ((int8_t*)vs)[t * depth + d] = (int8_t)__builtin_rintf(v[d] * vi);
    }
  }
}

}  // namespace ingot
