// The rows of a step, and how attention shares them out: tiles, and spans of tiles.
#pragma once
#include <vector>

#include "attention.h"
#include "decoder.h"

namespace ingot {

struct Rows {
  std::vector<Tile> tiles;
  std::vector<int> spans;     // how many spans the tiles before each one have; at the end, all of them
  std::vector<int> position;  // of each row
  std::vector<int> sequence;
  int count = 0, longest = 0; // rows; spans of the tile that has most

  // All rows of a step, or those whose hidden states are wanted.
  void arrange(const Step& step, int kv_heads, int group, bool only_wanted) {
    tiles.clear(), spans.clear(), position.clear(), sequence.clear();
    count = longest = 0;
    int before = 0;
    for (int s = 0; s < step.sequences; s++) {
      const int own = only_wanted ? step.wanted[s] : step.counts[s];
      const int first = step.positions[s] + step.counts[s] - own, most = tile_tokens(group);
      for (int t = 0; t < own; t++) position.push_back(first + t), sequence.push_back(s);
      for (int t = 0; t < own; t += most) {
        const int tokens = own - t < most ? own - t : most, seen = (first + t + tokens - 1) / SPAN + 1;
        for (int head = 0; head < kv_heads; head++) {
          tiles.push_back({step.tables + step.offsets[s], count + t, first + t, tokens, head});
          spans.push_back(before);
          before += seen;
        }
        if (seen > longest) longest = seen;
      }
      count += own;
    }
    spans.push_back(before);
  }

  // Whether a few long tiles would keep threads waiting, so that their spans are to be shared out instead.
  bool is_split(int threads) const { return longest > 1 && longest * threads * 2 > spans.back(); }

  // The tile of a span.
  int tile_of(int span) const {
    int tile = 0;
    while (spans[tile + 1] <= span) tile++;
    return tile;
  }
};

}  // namespace ingot
