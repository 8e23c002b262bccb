// Result texts: templates from tools/data/, filled with values.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace holdfast::tools {

struct TemplateValue {
  std::string_view name;
  std::string_view value;
};

// A text with places named {like_this}: lower-case letters, digits and `_`. Any other brace is text.
// Immutable after Make; safe from any thread.
class Template {
 public:
  static constexpr size_t kBytesMax = 65'536;

  // InvalidArgument for a text longer than kBytesMax.
  static base::StatusOr<Template> Make(std::string text);

  // Every place takes its value once; what was put in is never looked at again. A place without a value, or a
  // value without a place, is a programmer's error: a CHECK (each tool's tests fill all of its templates).
  std::string Fill(std::initializer_list<TemplateValue> values) const;

  // The names of the places, in order, repeated ones repeated.
  const std::vector<std::string>& names() const { return names_; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::vector<std::string> pieces_;  // one more than names_: what stands around the places
  std::vector<std::string> names_;
};

}  // namespace holdfast::tools
