// Token ids as people and files give them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace holdfast::cli {

// A JSON list of at least one integer from 0 to 2^31 - 1; `origin` names it in errors. Whether the ids are in
// the vocabulary is for the engine to say.
base::StatusOr<std::vector<int32_t>> IdsFromJson(std::string_view json, std::string_view origin);

}  // namespace holdfast::cli
