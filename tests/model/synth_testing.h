// Small synthetic checkpoints that the bitwise tests share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/sequence.h"
#include "model/weights.h"

namespace holdfast::model {

struct Shape {
  std::string name;
  ModelConfig config;
  int64_t tokens;  // of the longest sequence
};

// Networks that differ in what the layout can differ in: widths, heads, first layers, windows, top-k, hash
// layers.
std::vector<Shape> Shapes();

// The checkpoint of a shape, written once in a process.
const Checkpoint& SynthWeights(const Shape& shape);

// Random tokens of the shape's vocabulary, the same for equal arguments.
std::vector<int32_t> SynthTokens(const Shape& shape, uint32_t stream, int64_t count);

// XXH3 of all memory of a sequence (Sequence::VisitMemory).
uint64_t StateHash(const Sequence& sequence);

}  // namespace holdfast::model
