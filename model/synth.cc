#include "model/synth.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/coding.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "base/random.h"
#include "model/number_formats.h"
#include "model/safetensors.h"
#include "model/weights.h"
#include "nlohmann/json.hpp"

namespace holdfast::model {
namespace {

using base::Status;
using base::StatusOr;

// ---- Shapes ----

// `first`, then 4 and 128 in turn, then 0 for the MTP stage.
std::vector<int32_t> OfficialRatios(std::vector<int32_t> first, int32_t layers) {
  const auto count = static_cast<size_t>(layers);
  for (int32_t next = kOverlapRatio; first.size() < count; next = next == kOverlapRatio ? 128 : kOverlapRatio)
    first.push_back(next);
  first.resize(count);
  first.push_back(0);
  return first;
}

ModelConfig FlashConfig() {
  return {.vocab_size = 129280,
          .max_positions = 1 << 20,
          .hidden_size = 4096,
          .num_layers = 43,
          .num_heads = 64,
          .head_dim = 512,
          .rope_dim = 64,
          .q_lora_rank = 1024,
          .o_lora_rank = 1024,
          .o_groups = 8,
          .sliding_window = 128,
          .index_heads = 64,
          .index_head_dim = 128,
          .index_topk = 512,
          .window_rope = {.theta = 10000.0f},
          .compress_rope = {.theta = 160000.0f, .factor = 16.0f, .original_max_positions = 65536},
          .num_experts = 256,
          .experts_per_token = 6,
          .num_hash_layers = 3,
          .moe_inter_size = 2048,
          .routed_scale = 1.5f,
          .swiglu_limit = 10.0f,
          .hc_mult = 4,
          .hc_sinkhorn_iters = 20,
          .draft = DraftKind::kMtp,
          .num_draft_stages = 1};
}

ModelConfig ProConfig() {
  ModelConfig c = FlashConfig();
  c.hidden_size = 7168;
  c.num_layers = 61;
  c.num_heads = 128;
  c.q_lora_rank = 1536;
  c.o_groups = 16;
  c.index_topk = 1024;
  c.num_experts = 384;
  c.moe_inter_size = 3072;
  c.routed_scale = 2.5f;
  return c;
}

ModelConfig TinyConfig() {
  ModelConfig c = FlashConfig();
  c.vocab_size = 512;
  c.hidden_size = 256;
  c.num_layers = 5;
  c.num_heads = 4;
  c.head_dim = 128;
  c.q_lora_rank = 128;
  c.o_lora_rank = 128;
  c.o_groups = 2;
  c.sliding_window = 32;
  c.index_heads = 16;
  c.index_topk = 16;
  c.num_experts = 8;
  c.experts_per_token = 2;
  c.num_hash_layers = 1;
  c.moe_inter_size = 128;
  return c;
}

ModelConfig NanoConfig() {
  ModelConfig c = TinyConfig();
  c.vocab_size = 4096;
  c.num_layers = 4;
  c.hidden_size = 128;
  c.o_lora_rank = 64;
  c.sliding_window = 64;
  c.index_heads = 2;
  c.index_head_dim = 64;
  c.index_topk = 32;
  c.num_experts = 4;
  c.hc_mult = 2;
  c.hc_sinkhorn_iters = 4;
  return c;
}

// ---- Values ----

// The random bytes of one tensor, by place: block `index` is the same whoever asks, in whatever order.
class TensorRandom {
 public:
  TensorRandom(uint64_t seed, const std::string& name)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        id_(base::Xxh3(base::AsBytes(name))) {}

  base::PhiloxCounter Block(uint64_t index) const {
    return base::Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                             static_cast<uint32_t>(id_), static_cast<uint32_t>(id_ >> 32)},
                            key_);
  }

 private:
  base::PhiloxKey key_;
  uint64_t id_;
};

// Near-normal integers: sums of four uniform ones, centred.
constexpr float kSumOf16BitsRms = 37837.2f;  // sqrt(4 * (2^32 - 1) / 12)
int32_t SumOf16Bits(uint32_t a, uint32_t b) {
  return static_cast<int32_t>((a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16)) - 131070;
}
constexpr int32_t kMaxSumOf8Bits = 4 * 255;
uint32_t SumOf8Bits(uint32_t a) {
  const uint32_t pairs = (a & 0x00ff00ffu) + ((a >> 8) & 0x00ff00ffu);
  return (pairs + (pairs >> 16)) & 0x3ffu;
}

// E4M3 codes of near-normal values that use the range up to 446.25, by SumOf8Bits.
constexpr float kFp8Step = 0.875f;
constexpr double kFp8Rms = 129.327;  // kFp8Step * sqrt(4 * (2^16 - 1) / 12)
const std::array<uint8_t, kMaxSumOf8Bits + 1>& Fp8Codes() {
  static const auto codes = [] {
    std::array<uint8_t, kMaxSumOf8Bits + 1> table{};
    for (int32_t sum = 0; sum <= kMaxSumOf8Bits; ++sum) {
      table[static_cast<size_t>(sum)] =
          F32ToE4m3(static_cast<float>(2 * sum - kMaxSumOf8Bits) * kFp8Step / 2);
    }
    return table;
  }();
  return codes;
}

// Every E2M1 code equally often: close to a normal distribution already.
constexpr double kFp4Rms = 2.92618;  // sqrt((0 + .25 + 1 + 2.25 + 4 + 9 + 16 + 36) / 8)

// Mean and standard deviation of a tensor's elements; with `by_width` the deviation is that of the product
// with a vector of unit elements.
struct Spread {
  std::string_view suffix;
  float mean;
  float deviation;
  bool by_width;
};
constexpr Spread kSpreads[] = {
    {"embed.weight", 0.0f, 0.7f, false},
    {"norm.weight", 1.0f, 0.1f, false},
    {"attn_sink", 0.0f, 0.7f, false},
    {".ape", 0.0f, 0.5f, false},
    {"_base", 0.0f, 0.7f, false},    // of hyper-connections
    {"_scale", 1.0f, 0.25f, false},  // of hyper-connections: stays above 0
    {"gate.bias", 0.0f, 0.15f, false},
    {"_fn", 0.0f, 1.5f, true},
    {"compressor.wkv.weight", 0.0f, 1.2f, true},
    {"wgate.weight", 0.0f, 1.5f, true},
    {"wo_a.weight", 0.0f, 1.5f, true},
    {"wo_b.weight", 0.0f, 1.5f, true},
    {"gate.weight", 0.0f, 1.5f, true},
    {"w1.weight", 0.0f, 1.2f, true},
    {"w2.weight", 0.0f, 1.2f, true},
    {"w3.weight", 0.0f, 1.2f, true},
    {"head.weight", 0.0f, 1.5f, true},
    {"", 0.0f, 1.0f, true},
};
struct Distribution {
  float mean = 0.0f;
  double deviation = 1.0;
};
Distribution DistributionOf(const TensorSpec& spec) {
  const auto* spread = std::find_if(std::begin(kSpreads), std::end(kSpreads),
                                    [&](const Spread& s) { return spec.name.ends_with(s.suffix); });
  const double width = spread->by_width ? std::sqrt(static_cast<double>(spec.cols)) : 1.0;
  return {.mean = spread->mean, .deviation = spread->deviation / width};
}

// UE8M0 scales that vary and give elements of rms `code_rms` before scaling the rms `deviation` after it:
// 2^low once in 8 times, else 2^(low + 1) or 2^(low + 2) in the proportion that makes the mean square right.
struct ScaleMix {
  int32_t low = 0;
  uint32_t two_above = 0;  // of 256
};
ScaleMix MixScales(double deviation, double code_rms) {
  const double ratio = deviation / code_rms;
  const double mean_square = ratio * ratio;
  constexpr double kLeast = 3.625;  // 1/8 * 1 + 7/8 * 4
  ScaleMix mix;
  double unit = 1.0;  // 4^low
  while (unit * kLeast > mean_square) unit /= 4.0, --mix.low;
  while (unit * kLeast * 4.0 <= mean_square) unit *= 4.0, ++mix.low;
  mix.two_above = static_cast<uint32_t>(std::min(256.0 * (mean_square / unit - kLeast) / 12.0, 224.0));
  return mix;
}

// ---- Tensors ----

constexpr size_t kChunkBlocks = 1 << 14;  // of work for one thread

class Synthesiser : public WeightVisitor {
 public:
  Synthesiser(const ModelConfig& config, uint64_t seed, base::ThreadPool& pool)
      : c_(config), seed_(seed), pool_(pool) {}

  Status Visit(const TensorSpec& spec, TensorSlot) override {
    const Distribution d = DistributionOf(spec);
    switch (spec.kind) {
      case TensorKind::kVector:
        AddNumbers(spec, DType::kBf16, {spec.rows}, d);
        break;
      case TensorKind::kF32Vector:
        AddNumbers(spec, DType::kF32, {spec.rows}, d);
        break;
      case TensorKind::kF32Table:
      case TensorKind::kF32Matrix:
        AddNumbers(spec, DType::kF32, {spec.rows, spec.cols}, d);
        break;
      case TensorKind::kMatrix:
        AddNumbers(spec, DType::kBf16, {spec.rows, spec.cols}, d);
        break;
      case TensorKind::kHashTable:
        AddHashTable(spec);
        break;
      case TensorKind::kQuantised:
        AddFp8(spec, d);
        break;
      case TensorKind::kExpertMatrix:
        AddFp4(spec, d);
        break;
    }
    return {};
  }

  std::vector<TensorToWrite> Take() { return std::move(tensors_); }

 private:
  // Adds a tensor whose bytes come from Philox blocks: make(block i) gives N of them, at i * N.
  template <size_t N, class Make>
  void Add(std::string name, DType dtype, std::vector<int64_t> shape, Make make) {
    const TensorRandom random(seed_, name);
    auto fill = [this, random, make](std::span<std::byte> out) {
      const size_t blocks = out.size() / N;
      pool_.ParallelFor((blocks + kChunkBlocks - 1) / kChunkBlocks, [&](size_t chunk, int) {
        const size_t end = std::min(blocks, (chunk + 1) * kChunkBlocks);
        for (size_t i = chunk * kChunkBlocks; i < end; ++i) {
          const std::array<uint8_t, N> bytes = make(random.Block(i));
          std::memcpy(&out[i * N], bytes.data(), N);
        }
      });
      const std::array<uint8_t, N> last = make(random.Block(blocks));
      std::memcpy(out.data() + blocks * N, last.data(), out.size() % N);
    };
    tensors_.push_back({std::move(name), dtype, std::move(shape), std::move(fill)});
  }

  void AddNumbers(const TensorSpec& spec, DType dtype, std::vector<int64_t> shape, const Distribution& d) {
    const float mean = d.mean;
    const float step = static_cast<float>(d.deviation) / kSumOf16BitsRms;
    const auto value = [mean, step](uint32_t a, uint32_t b) {
      return static_cast<float>(SumOf16Bits(a, b)) * step + mean;
    };
    if (dtype == DType::kF32) {
      Add<8>(spec.name, dtype, std::move(shape), [value](const base::PhiloxCounter& r) {
        return std::bit_cast<std::array<uint8_t, 8>>(std::array{value(r[0], r[1]), value(r[2], r[3])});
      });
      return;
    }
    Add<4>(spec.name, dtype, std::move(shape), [value](const base::PhiloxCounter& r) {
      return std::bit_cast<std::array<uint8_t, 4>>(
          std::array{F32ToBf16(value(r[0], r[1])), F32ToBf16(value(r[2], r[3]))});
    });
  }

  // Distinct experts in each row: drawn again when they stand already.
  void AddHashTable(const TensorSpec& spec) {
    const auto experts = static_cast<uint32_t>(c_.num_experts);
    const auto width = static_cast<size_t>(spec.cols);
    const TensorRandom random(seed_, spec.name);
    auto fill = [random, experts, width](std::span<std::byte> out) {
      std::vector<int64_t> row(width);
      for (size_t r = 0; r * width * 8 < out.size(); ++r) {
        uint64_t draw = static_cast<uint64_t>(r) << 20;
        for (size_t i = 0; i < width;) {
          row[i] = random.Block(draw++)[0] % experts;
          if (std::find(row.begin(), row.begin() + static_cast<int64_t>(i), row[i]) ==
              row.begin() + static_cast<int64_t>(i)) {
            ++i;
          }
        }
        std::memcpy(&out[r * width * 8], row.data(), width * 8);
      }
    };
    tensors_.push_back({spec.name, DType::kI64, {spec.rows, spec.cols}, std::move(fill)});
  }

  void AddFp8(const TensorSpec& spec, const Distribution& d) {
    Add<4>(spec.name, DType::kF8E4m3, {spec.rows, spec.cols},
           [&codes = Fp8Codes()](const base::PhiloxCounter& r) {
             return std::array{codes[SumOf8Bits(r[0])], codes[SumOf8Bits(r[1])], codes[SumOf8Bits(r[2])],
                               codes[SumOf8Bits(r[3])]};
           });
    AddScales(spec, (spec.rows + c_.fp8_block_rows - 1) / c_.fp8_block_rows,
              (spec.cols + c_.fp8_block_cols - 1) / c_.fp8_block_cols, MixScales(d.deviation, kFp8Rms));
  }

  void AddFp4(const TensorSpec& spec, const Distribution& d) {
    Add<16>(spec.name, DType::kI8, {spec.rows, spec.cols / 2},
            [](const base::PhiloxCounter& r) { return std::bit_cast<std::array<uint8_t, 16>>(r); });
    AddScales(spec, spec.rows, spec.cols / 32, MixScales(d.deviation, kFp4Rms));
  }

  void AddScales(const TensorSpec& spec, int64_t rows, int64_t cols, ScaleMix mix) {
    const std::string name = spec.name.substr(0, spec.name.size() - std::strlen("weight")) + "scale";
    Add<16>(name, DType::kF8E8m0, {rows, cols}, [mix](const base::PhiloxCounter& r) {
      auto bytes = std::bit_cast<std::array<uint8_t, 16>>(r);
      for (uint8_t& byte : bytes) {
        const int32_t step = byte < mix.two_above ? 2 : (byte < 224 ? 1 : 0);
        byte = static_cast<uint8_t>(127 + mix.low + step);
      }
      return bytes;
    });
  }

  const ModelConfig& c_;
  const uint64_t seed_;
  base::ThreadPool& pool_;
  std::vector<TensorToWrite> tensors_;
};

// ---- Files ----

// Consecutive tensors, each shard within the bound.
std::vector<std::span<TensorToWrite>> SplitShards(std::span<TensorToWrite> tensors, int64_t max_bytes) {
  std::vector<std::span<TensorToWrite>> shards;
  size_t begin = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > begin && bytes + tensors[i].bytes() > max_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += tensors[i].bytes();
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

std::string ShardName(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

std::string IndexText(std::span<const std::span<TensorToWrite>> shards) {
  nlohmann::json index;
  nlohmann::json& map = index["weight_map"] = nlohmann::json::object();
  int64_t total = 0;
  for (size_t s = 0; s < shards.size(); ++s) {
    for (const TensorToWrite& tensor : shards[s]) {
      map[tensor.name] = ShardName(s, shards.size());
      total += tensor.bytes();
    }
  }
  index["metadata"]["total_size"] = total;
  return index.dump(2) + "\n";
}

Status RefuseUsedDirectory(base::FileSystem& fs, const std::string& directory) {
  for (const char* name : {"config.json", "model.safetensors.index.json", "model.safetensors"}) {
    if (fs.Stat(directory + "/" + name).ok()) {
      return base::FailedPrecondition(directory + ": holds a checkpoint already (" + name +
                                      "); it is not overwritten, choose an empty directory");
    }
  }
  return {};
}

// After each tensor, adds its bytes and reports.
void ReportProgress(std::span<TensorToWrite> tensors, const std::function<void(int64_t)>& progress,
                    int64_t& done) {
  for (TensorToWrite& tensor : tensors) {
    tensor.fill = [fill = std::move(tensor.fill), &progress, &done](std::span<std::byte> out) {
      fill(out);
      done += static_cast<int64_t>(out.size());
      progress(done);
    };
  }
}

}  // namespace

StatusOr<ModelConfig> SynthConfig(SynthShape shape, const SynthSize& size) {
  ModelConfig c;
  std::vector<int32_t> first = {0};
  switch (shape) {
    case SynthShape::kFlash:
      c = FlashConfig();
      first = {0, 0};
      break;
    case SynthShape::kPro:
      c = ProConfig();
      first = {128, 128};
      break;
    case SynthShape::kNano:
      c = NanoConfig();
      break;
    case SynthShape::kTiny:
      c = TinyConfig();
      break;
  }
  if (size.layers != 0) c.num_layers = size.layers;
  if (size.experts != 0) c.num_experts = size.experts;
  if (size.vocab != 0) c.vocab_size = size.vocab;
  c.num_hash_layers = std::min(c.num_hash_layers, c.num_layers);
  if (c.num_layers > 0) c.compress_ratios = OfficialRatios(std::move(first), c.num_layers);
  return ParseConfig(FormatConfig(c), "config of the shape asked for");
}

Status WriteSynthCheckpoint(base::FileSystem& fs, const ModelConfig& config, const std::string& directory,
                            const SynthOptions& options) {
  HF_RETURN_IF_ERROR(RefuseUsedDirectory(fs, directory));
  HF_RETURN_IF_ERROR(fs.CreateDirectories(directory));
  base::ThreadPool pool(options.threads);
  Synthesiser synthesiser(config, options.seed, pool);
  ModelWeights weights;
  HF_RETURN_IF_ERROR(WalkWeights(config, weights, synthesiser));
  std::vector<TensorToWrite> tensors = synthesiser.Take();
  int64_t done = 0;
  if (options.progress) ReportProgress(tensors, options.progress, done);
  const auto shards = SplitShards(tensors, options.max_shard_bytes);
  for (size_t s = 0; s < shards.size(); ++s) {
    HF_RETURN_IF_ERROR(
        WriteSafetensors(fs, directory + "/" + ShardName(s, shards.size()), shards[s], {{"format", "pt"}}));
  }
  HF_RETURN_IF_ERROR(base::WriteFileAtomically(fs, directory + "/model.safetensors.index.json",
                                               base::AsBytes(IndexText(shards))));
  return base::WriteFileAtomically(fs, directory + "/config.json", base::AsBytes(FormatConfig(config)));
}

int64_t SynthBytes(const ModelConfig& config) {
  int64_t total = 0;
  for (const PartCount& part : CountWeights(config)) total += part.bytes;
  return total;
}

}  // namespace holdfast::model
