// Opening a checkpoint directory: shards are mapped, every tensor is checked and bound.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "model/number_formats.h"
#include "model/weights.h"
#include "nlohmann/json.hpp"

namespace holdfast::model {
namespace {

using base::InvalidArgument;
using base::NotFound;
using base::Status;
using base::StatusOr;

constexpr uint64_t kMaxIndexBytes = 64 << 20;
// Scales of experts are read at load only while they are this few; of larger models they stay untouched on
// disk, and a NaN among them is caught when the logits are (docs/loading.md).
constexpr int64_t kEagerExpertScaleBytes = int64_t{256} << 20;

struct Located {
  const TensorView* view = nullptr;
  const std::string* file = nullptr;
};

class Binder : public WeightVisitor {
 public:
  Binder(const ModelConfig& config, std::map<std::string, Located, std::less<>>& tensors, std::string where,
         bool check_expert_scales)
      : c_(config), tensors_(tensors), where_(std::move(where)), check_expert_scales_(check_expert_scales) {}

  Status Visit(const TensorSpec& spec, TensorSlot slot) override {
    HF_ASSIGN_OR_RETURN(Located t, Take(spec.name));
    switch (spec.kind) {
      case TensorKind::kVector:
        HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kBf16, DType::kF32}, {spec.rows}));
        return BindVector(spec.name, t, slot);
      case TensorKind::kF32Vector:
        HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kF32}, {spec.rows}));
        return BindVector(spec.name, t, slot);
      case TensorKind::kF32Table:
        HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kF32}, {spec.rows, spec.cols}));
        return BindVector(spec.name, t, slot);
      case TensorKind::kHashTable:
        HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kI64}, {spec.rows, spec.cols}));
        return BindTable(spec.name, t, slot);
      case TensorKind::kF32Matrix:
        HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kF32}, {spec.rows, spec.cols}));
        return BindPlain(spec, t, slot);
      case TensorKind::kMatrix:
        HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kBf16, DType::kF32}, {spec.rows, spec.cols}));
        return BindPlain(spec, t, slot);
      case TensorKind::kQuantised:
      case TensorKind::kExpertMatrix:
        return BindQuantised(spec, t, slot);
    }
    return {};
  }

 private:
  StatusOr<Located> Take(const std::string& name) {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) {
      return NotFound(where_ + ": tensor \"" + name + "\" is missing; config.json asks for it");
    }
    const Located located = it->second;
    tensors_.erase(it);
    return located;
  }

  static Status Expect(const std::string& name, const Located& t, std::initializer_list<DType> dtypes,
                       std::vector<int64_t> shape) {
    std::string wanted;
    for (DType d : dtypes) wanted += (wanted.empty() ? "" : " or ") + std::string(DTypeName(d));
    const bool ok =
        std::find(dtypes.begin(), dtypes.end(), t.view->dtype) != dtypes.end() && t.view->shape == shape;
    if (ok) return {};
    return InvalidArgument(*t.file + ": tensor \"" + name + "\": found " +
                           std::string(DTypeName(t.view->dtype)) + " " + ShapeText(t.view->shape) +
                           ", expected " + wanted + " " + ShapeText(shape) + " (from config.json)");
  }

  static Status BindVector(const std::string& name, const Located& t, TensorSlot slot) {
    const size_t count = t.view->data.size() / static_cast<size_t>(DTypeBytes(t.view->dtype));
    Vector values(count);
    if (t.view->dtype == DType::kF32) {
      std::memcpy(values.data(), t.view->data.data(), count * 4);
    } else {
      for (size_t i = 0; i < count; ++i) {
        uint16_t bits = 0;
        std::memcpy(&bits, t.view->data.data() + 2 * i, 2);
        values[i] = Bf16ToF32(bits);
      }
    }
    for (size_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[i])) {
        return InvalidArgument(*t.file + ": tensor \"" + name + "\": element " + std::to_string(i) +
                               " is not finite");
      }
    }
    if (slot.vector != nullptr) *slot.vector = std::move(values);
    return {};
  }

  Status BindTable(const std::string& name, const Located& t, TensorSlot slot) const {
    const size_t count = t.view->data.size() / 8;
    std::vector<int32_t> table(count);
    for (size_t i = 0; i < count; ++i) {
      int64_t expert = 0;
      std::memcpy(&expert, t.view->data.data() + 8 * i, 8);
      if (expert < 0 || expert >= c_.num_experts) {
        return InvalidArgument(*t.file + ": tensor \"" + name + "\": element " + std::to_string(i) + " is " +
                               std::to_string(expert) + ", but there are " + std::to_string(c_.num_experts) +
                               " experts");
      }
      table[i] = static_cast<int32_t>(expert);
    }
    if (slot.table != nullptr) *slot.table = std::move(table);
    return {};
  }

  static Status BindPlain(const TensorSpec& spec, const Located& t, TensorSlot slot) {
    if (slot.matrix == nullptr) return {};
    *slot.matrix = Matrix{.format = t.view->dtype == DType::kF32 ? MatrixFormat::kF32 : MatrixFormat::kBf16,
                          .rows = spec.rows,
                          .cols = spec.cols,
                          .data = t.view->data.data()};
    return {};
  }

  // FP4 or FP8 by dtype, not by name: Base checkpoints keep the names and store FP8 experts.
  Status BindQuantised(const TensorSpec& spec, const Located& t, TensorSlot slot) {
    const bool expert = spec.kind == TensorKind::kExpertMatrix;
    Matrix m{.rows = spec.rows, .cols = spec.cols, .data = t.view->data.data()};
    if (expert && t.view->dtype == DType::kI8) {
      m.format = MatrixFormat::kFp4;
      m.block_cols = 32;
      HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kI8}, {spec.rows, spec.cols / 2}));
    } else if (t.view->dtype == DType::kBf16 || t.view->dtype == DType::kF32) {
      HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kBf16, DType::kF32}, {spec.rows, spec.cols}));
      return BindPlain(spec, t, slot);
    } else {
      m.format = MatrixFormat::kFp8;
      m.block_rows = c_.fp8_block_rows;
      m.block_cols = c_.fp8_block_cols;
      HF_RETURN_IF_ERROR(Expect(spec.name, t, {DType::kF8E4m3}, {spec.rows, spec.cols}));
    }
    const std::string scale_name = spec.name.substr(0, spec.name.size() - std::strlen("weight")) + "scale";
    HF_ASSIGN_OR_RETURN(Located s, Take(scale_name));
    const int64_t scale_rows = (m.rows + m.block_rows - 1) / m.block_rows;
    HF_RETURN_IF_ERROR(
        m.format == MatrixFormat::kFp4
            ? Expect(scale_name, s, {DType::kF8E8m0}, {scale_rows, m.scale_cols()})
            : Expect(scale_name, s, {DType::kF8E8m0, DType::kF32}, {scale_rows, m.scale_cols()}));
    m.scale_format = s.view->dtype == DType::kF32 ? ScaleFormat::kF32 : ScaleFormat::kE8m0;
    m.scales = s.view->data.data();
    if (!expert || check_expert_scales_) HF_RETURN_IF_ERROR(CheckScales(scale_name, s));
    if (slot.matrix != nullptr) *slot.matrix = m;
    return {};
  }

  static Status CheckScales(const std::string& name, const Located& t) {
    const size_t width = static_cast<size_t>(DTypeBytes(t.view->dtype));
    for (size_t i = 0; i * width < t.view->data.size(); ++i) {
      const std::byte* p = t.view->data.data() + i * width;
      float value = 0;
      if (width == 4) {
        std::memcpy(&value, p, 4);
      } else {
        value = E8m0ToF32(static_cast<uint8_t>(*p));
      }
      if (!std::isfinite(value)) {
        return InvalidArgument(*t.file + ": tensor \"" + name + "\": element " + std::to_string(i) +
                               " is not a finite scale");
      }
    }
    return {};
  }

  const ModelConfig& c_;
  std::map<std::string, Located, std::less<>>& tensors_;
  const std::string where_;
  const bool check_expert_scales_;
};

// The shard names of model.safetensors.index.json, or model.safetensors alone. A name with a slash is
// refused: an index must not reach outside its directory.
StatusOr<std::vector<std::string>> ShardNames(base::FileSystem& fs, const std::string& directory,
                                              std::map<std::string, std::string>& shard_of) {
  const std::string path = directory + "/model.safetensors.index.json";
  auto text = fs.ReadFile(path, kMaxIndexBytes);
  if (absl::IsNotFound(text.status())) return std::vector<std::string>{"model.safetensors"};
  HF_RETURN_IF_ERROR(text.status());
  const auto index = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return InvalidArgument(path + ": no \"weight_map\" object");
  }
  std::set<std::string> names;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string())
      return InvalidArgument(path + ": weight_map of \"" + PrintableName(tensor) + "\" is not a string");
    const auto name = shard.get<std::string>();
    if (name.empty() || name == ".." || name.find_first_of(std::string_view("/\0", 2)) != std::string::npos) {
      return InvalidArgument(path + ": weight_map of \"" + PrintableName(tensor) +
                             "\" is not a file name of this directory");
    }
    names.insert(name);
    shard_of[tensor] = name;
  }
  if (names.empty()) return InvalidArgument(path + ": \"weight_map\" is empty");
  return std::vector<std::string>(names.begin(), names.end());
}

// Some DSpark configurations give no ratio for their stages: the tensors say how many there are.
void SetDsparkStages(const std::map<std::string, Located, std::less<>>& tensors, ModelConfig& c) {
  int32_t stages = 0;
  while (stages < 16) {
    const std::string prefix = "mtp." + std::to_string(stages) + ".";
    const auto it = tensors.lower_bound(prefix);
    if (it == tensors.end() || !it->first.starts_with(prefix)) break;
    ++stages;
  }
  c.num_draft_stages = stages;
  c.compress_ratios.resize(static_cast<size_t>(c.num_layers + stages), 0);
}

// So that what was mapped is what `before` describes.
Status CheckUnchanged(base::FileSystem& fs, const std::string& path, const base::FileStat& before) {
  HF_ASSIGN_OR_RETURN(const base::FileStat now, fs.Stat(path));
  const bool same = now.inode == before.inode && now.device == before.device &&
                    now.size_bytes == before.size_bytes && now.mtime_ns == before.mtime_ns &&
                    now.ctime_ns == before.ctime_ns;
  return same ? Status() : absl::UnavailableError(base::View(path + ": changed while it was opened"));
}

int64_t ExpertScaleBytes(const ModelConfig& c) {
  return int64_t{3} * c.num_experts * c.num_layers * c.moe_inter_size * (c.hidden_size / 32);
}

}  // namespace

StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(base::FileSystem& fs, const std::string& directory) {
  std::unique_ptr<Checkpoint> self(new Checkpoint());
  self->directory_ = directory;
  const std::string config_path = directory + "/config.json";
  HF_ASSIGN_OR_RETURN(const std::string config_text, fs.ReadFile(config_path, 1 << 20));
  HF_ASSIGN_OR_RETURN(self->config_, ParseConfig(config_text, config_path));

  std::map<std::string, std::string> shard_of;
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> names, ShardNames(fs, directory, shard_of));
  std::vector<std::string> paths;
  paths.reserve(names.size());
  std::vector<Safetensors> files;
  files.reserve(names.size());
  std::map<std::string, Located, std::less<>> tensors;
  for (const std::string& name : names) {
    paths.push_back(directory + "/" + name);
    if (PrintableName(name) != name) {
      return InvalidArgument(directory + ": shard name \"" + PrintableName(name) + "\" is not printable");
    }
    HF_ASSIGN_OR_RETURN(const base::FileStat stat, fs.Stat(paths.back()));
    HF_ASSIGN_OR_RETURN(auto mapping, fs.Map(paths.back()));
    HF_RETURN_IF_ERROR(CheckUnchanged(fs, paths.back(), stat));
    HF_ASSIGN_OR_RETURN(Safetensors file, Safetensors::Parse(mapping->bytes(), paths.back()));
    self->weights_.shards.push_back({paths.back(), mapping.get(), stat});
    self->shards_.push_back(std::move(mapping));
    files.push_back(std::move(file));
    for (const auto& [tensor, view] : files.back().tensors()) {
      const auto wanted = shard_of.find(tensor);
      if (!shard_of.empty() && (wanted == shard_of.end() || wanted->second != name)) {
        return InvalidArgument(paths.back() + ": holds tensor \"" + PrintableName(tensor) +
                               "\", which the index places elsewhere");
      }
      if (!tensors.emplace(tensor, Located{&view, &paths.back()}).second) {
        return InvalidArgument(paths.back() + ": tensor \"" + PrintableName(tensor) +
                               "\" stands in another shard too");
      }
    }
  }
  if (self->config_.draft == DraftKind::kDspark) SetDsparkStages(tensors, self->config_);
  Binder binder(self->config_, tensors, directory, ExpertScaleBytes(self->config_) <= kEagerExpertScaleBytes);
  const Status bound = WalkWeights(self->config_, self->weights_, binder);
  HF_RETURN_IF_ERROR(CheckShards(self->weights_));  // the cause of what the walk may have met
  HF_RETURN_IF_ERROR(bound);
  for (const auto& [name, located] : tensors) self->unused_.push_back(name);
  return self;
}

}  // namespace holdfast::model
