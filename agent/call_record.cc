#include "agent/call_record.h"

#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

sessions::CallStatus StatusOf(tools::ToolStatus status) {
  switch (status) {
    case tools::ToolStatus::kOk:
      return sessions::CallStatus::kOk;
    case tools::ToolStatus::kFailed:
    case tools::ToolStatus::kUnavailable:
      return sessions::CallStatus::kFailed;
    case tools::ToolStatus::kInvalid:
    case tools::ToolStatus::kDenied:
      return sessions::CallStatus::kRefused;
    case tools::ToolStatus::kTimeout:
      return sessions::CallStatus::kTimedOut;
    case tools::ToolStatus::kCancelled:
      return sessions::CallStatus::kCancelled;
    case tools::ToolStatus::kUnknown:
      return sessions::CallStatus::kUnknown;
  }
  return sessions::CallStatus::kUnknown;
}

// {"observed": [[path, hash or null], ...]}; paths are bytes, which JSON cannot hold, so they are hexadecimal
// too.
std::string RecordOf(const tools::ToolResult& result) {
  if (result.observed.empty()) return {};
  nlohmann::json list = nlohmann::json::array();
  for (const tools::FileVersion& version : result.observed) {
    nlohmann::json hash;
    if (version.hash.has_value()) hash = base::ToHex(*version.hash);
    list.push_back({base::ToHex(std::as_bytes(std::span(version.path))), hash});
  }
  return nlohmann::json{{"observed", list}}.dump();
}

base::StatusOr<std::string> FromHex(const std::string& hex) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    const int value = digit(hex[i]) * 16 + digit(hex[i + 1]);
    if (digit(hex[i]) < 0 || digit(hex[i + 1]) < 0) return base::DataLoss("a path that is not hexadecimal");
    bytes.push_back(static_cast<char>(value));
  }
  if (hex.size() % 2 != 0) return base::DataLoss("a path with half a byte");
  return bytes;
}

base::StatusOr<tools::FileVersion> VersionIn(const nlohmann::json& item) {
  if (!item.is_array() || item.size() != 2 || !item[0].is_string()) {
    return base::DataLoss("an observed file that is no pair");
  }
  tools::FileVersion version;
  HF_ASSIGN_OR_RETURN(version.path, FromHex(item[0].get<std::string>()));
  if (item[1].is_null()) return version;
  if (!item[1].is_string()) return base::DataLoss("an observed file without a hash");
  auto hash = base::Sha256FromHex(item[1].get<std::string>());
  if (!hash.ok()) return base::DataLoss(base::Message(hash.status()));
  version.hash = *hash;
  return version;
}

}  // namespace

sessions::CallOutcome OutcomeOf(const std::string& call, const tools::ToolResult& result) {
  sessions::CallOutcome outcome{
      .call = call, .status = StatusOf(result.status), .text = result.text, .record = RecordOf(result)};
  for (const tools::SpilledBlob& blob : result.blobs) outcome.blobs.push_back(blob.id);
  return outcome;
}

base::StatusOr<std::vector<tools::FileVersion>> ObservedIn(std::string_view record) {
  std::vector<tools::FileVersion> versions;
  if (record.empty()) return versions;
  const auto json = nlohmann::json::parse(record, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("observed") || !json["observed"].is_array()) {
    return base::DataLoss("a record of a call that is not one");
  }
  for (const nlohmann::json& item : json["observed"]) {
    HF_ASSIGN_OR_RETURN(versions.emplace_back(), VersionIn(item));
  }
  return versions;
}

}  // namespace holdfast::agent
