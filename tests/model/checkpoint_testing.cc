#include "tests/model/checkpoint_testing.h"

#include "base/check.h"
#include "base/coding.h"

namespace holdfast::model {

using Json = nlohmann::json;

namespace {

constexpr const char* kIndex = "ckpt/model.safetensors.index.json";

}  // namespace

DamagedCheckpoint::DamagedCheckpoint(const SynthSize& size) {
  const auto config = SynthConfig(SynthShape::kTiny, size);
  HF_CHECK(config.ok());
  HF_CHECK(WriteSynthCheckpoint(fs, *config, "ckpt", {.seed = 1}).ok());
  const std::string bytes = ReadFile(std::string(kShard));
  const auto length = base::LoadLittle<uint64_t>(base::AsBytes(bytes).data());
  header = Json::parse(bytes.substr(8, length));
  data = bytes.substr(8 + length);
}

std::string DamagedCheckpoint::OpenError() {
  const auto checkpoint = Open();
  return checkpoint.ok() ? "no error" : base::Message(checkpoint.status());
}

std::span<std::byte> DamagedCheckpoint::Data(const std::string& tensor) {
  const auto& offsets = header.at(tensor).at("data_offsets");
  const auto begin = offsets[0].get<size_t>();
  return std::as_writable_bytes(std::span(data)).subspan(begin, offsets[1].get<size_t>() - begin);
}

void DamagedCheckpoint::Rename(const std::string& tensor, const std::string& name) {
  header[name] = header.at(tensor);
  header.erase(tensor);
  Json index = Json::parse(ReadFile(kIndex));
  index["weight_map"][name] = index["weight_map"].at(tensor);
  index["weight_map"].erase(tensor);
  WriteFile(kIndex, index.dump());
  Save();
}

void DamagedCheckpoint::Save() {
  const std::string text = header.dump();
  std::string bytes;
  base::PutFixed64(bytes, text.size());
  WriteFile(std::string(kShard), bytes + text + data);
}

void DamagedCheckpoint::WriteFile(const std::string& path, std::string_view text) {
  auto file = fs.Open(path, base::OpenMode::kTruncate);
  HF_CHECK(file.ok());
  HF_CHECK((*file)->WriteAt(0, base::AsBytes(text)).ok());
}

std::string DamagedCheckpoint::ReadFile(const std::string& path) {
  const auto text = fs.ReadFile(path, 1 << 30);
  HF_CHECK(text.ok());
  return *text;
}

void DamagedCheckpoint::EditConfig(const std::string& field, const Json& value) {
  Json config = Json::parse(ReadFile("ckpt/config.json"));
  config[field] = value;
  WriteFile("ckpt/config.json", config.dump());
}

}  // namespace holdfast::model
