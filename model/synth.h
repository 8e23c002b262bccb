// Random checkpoints in the official layout, of any V4 shape: for tests, benchmarks and demonstrations that
// have no real weights at hand. Magnitudes are those of a network at the start of training: norms near 1,
// every other matrix scaled to its width, so that activations stay finite at any depth, tokens spread over
// the experts, index scores differ and logits have a standard deviation near 1.5.
//
// The bytes follow from the configuration and the seed alone: integer randomness (base/random.h) and exactly
// rounded arithmetic, hence the same on every machine and with any number of threads. Layout: spec "Tensors
// and quantisation".
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "model/config.h"

namespace holdfast::model {

enum class SynthShape : uint8_t {
  kFlash,  // the dimensions of DeepSeek-V4-Flash (160 GB; cut it down with SynthSize)
  kPro,    // those of DeepSeek-V4-Pro (865 GB)
  kNano,   // a laptop model: some 3 MB
  kTiny,   // for tests: some 8 MB, wider heads and more experts than kNano has
};

// Replaces what decides a checkpoint's size; 0 keeps the shape's own.
struct SynthSize {
  int32_t layers = 0;
  int32_t experts = 0;
  int32_t vocab = 0;
};

// The configuration of a shape: layer roles follow the official pattern, one MTP stage included.
// InvalidArgument (from ParseConfig) when the sizes do not fit together.
base::StatusOr<ModelConfig> SynthConfig(SynthShape shape, const SynthSize& size = {});

struct SynthOptions {
  uint64_t seed = 0;
  // A shard is closed before it would grow beyond this; a larger tensor gets one of its own.
  int64_t max_shard_bytes = int64_t{3} << 30;
  int threads = 1;
  // Called after each tensor with the bytes of all tensors so far.
  std::function<void(int64_t)> progress;
};

// Writes config.json, model-0000X-of-0000Y.safetensors and model.safetensors.index.json to `directory`, which
// is created; FailedPrecondition when it holds a checkpoint already (nothing is touched then), else the
// errors of `fs`. FP4 experts, FP8 dense matrices, UE8M0 scales. Memory: one tensor. Cost: some 1 GB/s a
// thread for experts, 0.2 GB/s for the rest, when the disk keeps up.
base::Status WriteSynthCheckpoint(base::FileSystem& fs, const ModelConfig& config,
                                  const std::string& directory, const SynthOptions& options = {});

// The bytes of all tensors that WriteSynthCheckpoint writes.
int64_t SynthBytes(const ModelConfig& config);

}  // namespace holdfast::model
