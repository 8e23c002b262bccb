#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "nlohmann/json.hpp"

namespace holdfast::model {
namespace {

using base::DataLoss;
using base::InvalidArgument;
using base::Status;
using base::StatusOr;
using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxRank = 8;

struct DTypeRow {
  DType dtype;
  std::string_view name;
  int64_t bytes;
};
constexpr DTypeRow kDTypes[] = {
    {DType::kF32, "F32", 4}, {DType::kF16, "F16", 2},        {DType::kBf16, "BF16", 2},
    {DType::kI8, "I8", 1},   {DType::kF8E4m3, "F8_E4M3", 1}, {DType::kF8E8m0, "F8_E8M0", 1},
    {DType::kU8, "U8", 1},   {DType::kI32, "I32", 4},        {DType::kI64, "I64", 8},
};

const DTypeRow& Row(DType dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == dtype) return row;
  }
  return kDTypes[0];
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view origin) : bytes_(bytes), origin_(origin) {}

  Status Run(std::map<std::string, TensorView, std::less<>>& tensors,
             std::map<std::string, std::string, std::less<>>& metadata) {
    HF_RETURN_IF_ERROR(ReadHeader());
    for (const auto& [name, value] : header_.items()) {
      if (name == "__metadata__") {
        HF_RETURN_IF_ERROR(ReadMetadata(value, metadata));
        continue;
      }
      HF_ASSIGN_OR_RETURN(TensorView view, ReadTensor(name, value));
      tensors.emplace(name, std::move(view));
    }
    return CheckCoverage();
  }

 private:
  struct Extent {
    uint64_t begin;
    uint64_t end;
    std::string name;
  };

  Status Bad(const std::string& why) const { return InvalidArgument(std::string(origin_) + ": " + why); }

  Status ReadHeader() {
    if (bytes_.size() < 8) return DataLoss(std::string(origin_) + ": shorter than the 8-byte header length");
    uint64_t length = 0;
    std::memcpy(&length, bytes_.data(), 8);
    if (length > kMaxHeaderBytes) {
      return Bad("header length " + std::to_string(length) + " is above the limit of " +
                 std::to_string(kMaxHeaderBytes));
    }
    if (length > bytes_.size() - 8) {
      return DataLoss(std::string(origin_) + ": truncated: header length " + std::to_string(length) +
                      ", but only " + std::to_string(bytes_.size() - 8) + " bytes follow");
    }
    const char* text = reinterpret_cast<const char*>(bytes_.data()) + 8;
    // The parser keeps the last of two members with one name, and says nothing. Deep nests are dropped.
    std::set<std::string> names;
    bool repeated = false;
    std::string twice;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
      if (depth == 1 && event == Json::parse_event_t::key &&
          !names.insert(parsed.get<std::string>()).second) {
        repeated = true;
        twice = parsed.get<std::string>();
      }
      return depth < 8;
    };
    header_ = Json::parse(text, text + length, watch, /*allow_exceptions=*/false);
    if (!header_.is_object()) return Bad("header is not a JSON object");
    if (repeated) return Bad("tensor \"" + PrintableName(twice) + "\" stands twice");
    payload_ = bytes_.subspan(8 + static_cast<size_t>(length));
    return {};
  }

  Status ReadMetadata(const Json& value, std::map<std::string, std::string, std::less<>>& metadata) const {
    if (!value.is_object()) return Bad("__metadata__ is not an object");
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) return Bad("__metadata__ \"" + PrintableName(key) + "\" is not a string");
      metadata[key] = item.get<std::string>();
    }
    return {};
  }

  StatusOr<TensorView> ReadTensor(const std::string& name, const Json& value) {
    const std::string where = "tensor \"" + PrintableName(name) + "\": ";
    if (!value.is_object()) return Bad(where + "is not an object");
    const auto dtype = value.find("dtype");
    const auto shape = value.find("shape");
    const auto offsets = value.find("data_offsets");
    if (dtype == value.end() || !dtype->is_string()) return Bad(where + "has no dtype");
    if (shape == value.end() || !shape->is_array() || shape->size() > kMaxRank) {
      return Bad(where + "has no shape of at most 8 dimensions");
    }
    if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 ||
        !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
      return Bad(where + "has no data_offsets [begin, end]");
    }
    TensorView view;
    const std::string dtype_name = dtype->get<std::string>();
    const auto* row = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                   [&](const DTypeRow& r) { return r.name == dtype_name; });
    if (row == std::end(kDTypes)) return Bad(where + "unknown dtype \"" + PrintableName(dtype_name) + "\"");
    view.dtype = row->dtype;
    uint64_t want = static_cast<uint64_t>(row->bytes);
    for (const Json& dim : *shape) {
      if (!dim.is_number_unsigned()) return Bad(where + "shape holds something other than a size");
      const uint64_t d = dim.get<uint64_t>();
      if (d > (uint64_t{1} << 48) || (d != 0 && want > (uint64_t{1} << 60) / d)) {
        return Bad(where + "shape overflows");
      }
      want *= d;
      view.shape.push_back(static_cast<int64_t>(d));
    }
    const uint64_t begin = (*offsets)[0].get<uint64_t>();
    const uint64_t end = (*offsets)[1].get<uint64_t>();
    if (begin > end) return Bad(where + "data_offsets end before they begin");
    if (end > payload_.size()) {
      return DataLoss(std::string(origin_) + ": " + where + "ends at byte " + std::to_string(end) +
                      " of the data, but the file holds only " + std::to_string(payload_.size()) +
                      " (truncated?)");
    }
    if (end - begin != want) {
      return Bad(where + dtype_name + " " + ShapeText(view.shape) + " takes " + std::to_string(want) +
                 " bytes, but data_offsets span " + std::to_string(end - begin));
    }
    view.data = payload_.subspan(begin, end - begin);
    extents_.push_back({begin, end, name});
    return view;
  }

  // Every byte of the data belongs to exactly one tensor.
  Status CheckCoverage() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) {
      return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    });
    uint64_t at = 0;
    for (const Extent& extent : extents_) {
      if (extent.begin < at) return Bad("tensor \"" + PrintableName(extent.name) + "\" overlaps another");
      if (extent.begin > at) {
        return Bad("hole of " + std::to_string(extent.begin - at) + " bytes before tensor \"" +
                   PrintableName(extent.name) + "\"");
      }
      at = extent.end;
    }
    if (at != payload_.size()) {
      return Bad(std::to_string(payload_.size() - at) + " bytes after the last tensor belong to none");
    }
    return {};
  }

  std::span<const std::byte> bytes_;
  std::string_view origin_;
  Json header_;
  std::span<const std::byte> payload_;
  std::vector<Extent> extents_;
};

// The header, padded with spaces so that the data begins at a multiple of 64 bytes in the file.
std::string HeaderText(std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const int64_t end = offset + tensor.bytes();
    header[tensor.name] = {
        {"dtype", DTypeName(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((64 - (text.size() + 8) % 64) % 64, ' ');
  return text;
}

Status WriteTensors(base::FileSystem& fs, const std::string& path, std::span<const TensorToWrite> tensors,
                    const std::map<std::string, std::string>& metadata) {
  HF_ASSIGN_OR_RETURN(auto file, fs.Open(path, base::OpenMode::kTruncate));
  const std::string header = HeaderText(tensors, metadata);
  const uint64_t length = header.size();
  HF_RETURN_IF_ERROR(file->WriteAt(0, std::as_bytes(std::span(&length, 1))));
  HF_RETURN_IF_ERROR(file->WriteAt(8, std::as_bytes(std::span(header))));
  uint64_t offset = 8 + length;
  for (const TensorToWrite& tensor : tensors) {
    std::vector<std::byte> buffer(static_cast<size_t>(tensor.bytes()));
    tensor.fill(buffer);
    HF_RETURN_IF_ERROR(file->WriteAt(offset, buffer));
    offset += buffer.size();
  }
  return file->Sync();
}

}  // namespace

std::string_view DTypeName(DType dtype) { return Row(dtype).name; }
int64_t DTypeBytes(DType dtype) { return Row(dtype).bytes; }

std::string PrintableName(std::string_view name) {
  std::string out;
  for (char ch : name.substr(0, 120)) out += (ch >= 0x20 && ch < 0x7f) ? ch : '?';
  return out;
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

StatusOr<Safetensors> Safetensors::Parse(std::span<const std::byte> bytes, std::string_view origin) {
  Safetensors file;
  HF_RETURN_IF_ERROR(Parser(bytes, origin).Run(file.tensors_, file.metadata_));
  return file;
}

const TensorView* Safetensors::Find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

int64_t TensorToWrite::bytes() const {
  int64_t total = DTypeBytes(dtype);
  for (int64_t d : shape) total *= d;
  return total;
}

Status WriteSafetensors(base::FileSystem& fs, const std::string& path, std::span<const TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata) {
  const std::string temporary = path + ".tmp";
  Status status = WriteTensors(fs, temporary, tensors, metadata);
  if (status.ok()) status = fs.Rename(temporary, path);
  if (!status.ok()) {
    (void)fs.Remove(temporary);
    return status;
  }
  return fs.SyncDirectory(base::ParentDirectory(path));
}

}  // namespace holdfast::model
