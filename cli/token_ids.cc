#include "cli/token_ids.h"

#include <climits>
#include <string>

#include "model/json.h"

namespace holdfast::cli {

base::StatusOr<std::vector<int32_t>> IdsFromJson(std::string_view json, std::string_view origin) {
  const std::string where(origin);
  auto list = model::Json::Parse(json);
  if (!list.ok()) return base::Annotate(list.status(), where);
  if (!list->is_array() || list->items().empty()) {
    return base::InvalidArgument(where + ": must be a JSON list of token ids, such as [0, 17, 42]");
  }
  std::vector<int32_t> ids;
  ids.reserve(list->items().size());
  for (const model::Json& item : list->items()) {
    const double value = item.kind() == model::Json::Kind::kInt ? item.number() : -1;
    if (value < 0 || value > INT_MAX) {
      return base::InvalidArgument(where + ": element " + std::to_string(ids.size()) + " is " +
                                   item.Dump().substr(0, 60) + "; a token id is an integer from 0 on");
    }
    ids.push_back(static_cast<int32_t>(value));
  }
  return ids;
}

}  // namespace holdfast::cli
