#include "tools/text/json_text.h"

#include <algorithm>

#include "nlohmann/json.hpp"

namespace holdfast::tools {
namespace {

// Brackets open at once, those in strings left out. Known before anything recursive sees the value.
size_t DepthOf(std::string_view text) {
  size_t depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

base::StatusOr<nlohmann::json> ParseJson(std::string_view text, size_t bytes_max, size_t depth_max) {
  if (text.size() > bytes_max) {
    return base::InvalidArgument(std::to_string(text.size()) + " bytes of JSON, at most " +
                                 std::to_string(bytes_max));
  }
  if (DepthOf(text) > depth_max) {
    return base::InvalidArgument("JSON nested more than " + std::to_string(depth_max) + " deep");
  }
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return base::InvalidArgument("not JSON: unexpected at byte " + std::to_string(error.byte));
  } catch (const nlohmann::json::exception&) {
    return base::InvalidArgument("not JSON: a number out of range");
  }
}

std::string CanonicalJson(const nlohmann::json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace holdfast::tools
