#include "model/chat/prompt.h"

#include <algorithm>
#include <array>

namespace holdfast::model {

void Prompt::Theirs(std::string_view text) {
  if (text.empty()) return;
  if (parts_.empty() || parts_.back().is_control) parts_.emplace_back();
  parts_.back().text.append(text);
}

void Prompt::Ours(std::string_view text) {
  const std::array<std::string_view, 3> controls = {format_.dsml, format_.think, format_.end_think};
  while (!text.empty()) {
    size_t at = text.size();
    std::string_view first;
    for (const std::string_view control : controls) {
      if (const size_t found = text.find(control); found < at) {
        at = found;
        first = control;
      }
    }
    Theirs(text.substr(0, at));
    if (!first.empty()) Control(first);
    text.remove_prefix(at + first.size());
  }
}

std::string Prompt::ToText() const {
  std::string text;
  for (const Part& part : parts_) text += part.text;
  return text;
}

base::StatusOr<std::vector<int32_t>> Prompt::ToIds(const Tokenizer& tokenizer) const {
  std::vector<int32_t> ids;
  for (const Part& part : parts_) {
    if (!part.is_control) {
      HF_ASSIGN_OR_RETURN(const std::vector<int32_t> run, tokenizer.Encode(part.text, AddedTokens::kPlain));
      ids.insert(ids.end(), run.begin(), run.end());
      continue;
    }
    const std::optional<int32_t> id = tokenizer.FindAdded(part.text);
    if (!id) return base::FailedPrecondition("the tokenizer has no control token '" + part.text + "'");
    ids.push_back(*id);
  }
  return ids;
}

}  // namespace holdfast::model
