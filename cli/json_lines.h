// Filters from lines of JSON to lines of JSON, standard input to standard output.
#pragma once

#include <functional>
#include <string_view>

#include "base/status.h"
#include "model/chat.h"
#include "model/json.h"

namespace holdfast::cli {

// Prints `convert` of each line that is not empty. Stops at the first line that is not an object or that
// `convert` refuses; the error names its number.
base::Status ConvertLines(const std::function<base::StatusOr<model::Json>(const model::Json&)>& convert);

// An object of one member.
model::Json OneMember(std::string_view key, model::Json value);

// The field `thinking_mode`, "chat" or "thinking"; "chat" when absent.
base::StatusOr<model::ThinkingMode> ThinkingModeOf(const model::Json& line);

// Text that must be there.
base::StatusOr<std::string_view> TextField(const model::Json& line, std::string_view key);

}  // namespace holdfast::cli
