// JSON from outside: parsed within bounds, written in one canonical way.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/status.h"
#include "nlohmann/json_fwd.hpp"

namespace holdfast::tools {

// InvalidArgument, saying where, for what is no JSON, not UTF-8, longer than `bytes_max`, nested deeper than
// `depth_max`, or holds a number beyond a double. A repeated key keeps its last value.
base::StatusOr<nlohmann::json> ParseJson(std::string_view text, size_t bytes_max, size_t depth_max);

// Sorted keys, no blanks, the shortest digits that read back the same.
std::string CanonicalJson(const nlohmann::json& value);

}  // namespace holdfast::tools
