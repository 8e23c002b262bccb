#include "tools/template.h"

#include <algorithm>
#include <optional>

#include "base/check.h"

namespace holdfast::tools {
namespace {

bool IsNameByte(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

// The name of the place that begins at `at`, where a `{` stands; empty when it is only a brace.
std::string_view NameAt(std::string_view text, size_t at) {
  size_t end = at + 1;
  while (end < text.size() && IsNameByte(text[end])) ++end;
  return end < text.size() && text[end] == '}' ? text.substr(at + 1, end - at - 1) : std::string_view();
}

}  // namespace

base::StatusOr<Template> Template::Make(std::string text) {
  if (text.size() > kBytesMax) {
    return base::InvalidArgument("template: " + std::to_string(text.size()) + " bytes, at most " +
                                 std::to_string(kBytesMax));
  }
  Template made;
  std::string piece;
  for (size_t at = 0; at < text.size();) {
    const std::string_view name = text[at] == '{' ? NameAt(text, at) : std::string_view();
    if (name.empty()) {
      piece += text[at++];
      continue;
    }
    made.pieces_.push_back(std::exchange(piece, {}));
    made.names_.emplace_back(name);
    at += name.size() + 2;
  }
  made.pieces_.push_back(std::move(piece));
  made.text_ = std::move(text);
  return made;
}

std::string Template::Fill(std::initializer_list<TemplateValue> values) const {
  for (const TemplateValue& value : values) {
    HF_CHECK(std::find(names_.begin(), names_.end(), value.name) != names_.end());
  }
  std::string out = pieces_[0];
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto value = std::find_if(values.begin(), values.end(),
                                    [&](const TemplateValue& v) { return v.name == names_[i]; });
    HF_CHECK(value != values.end());
    out.append(value->value).append(pieces_[i + 1]);
  }
  return out;
}

}  // namespace holdfast::tools
