#include "tools/text/cut_text.h"

#include <algorithm>

#include "tools/text/utf8.h"

namespace holdfast::tools {

TextCut CutText(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return {.head = text};
  const size_t head_bytes = bytes_max / 8 * 3;
  TextCut cut{.head = FirstCharacters(text, head_bytes),
              .tail = LastCharacters(text, bytes_max - head_bytes)};
  const std::string_view omitted =
      text.substr(cut.head.size(), text.size() - cut.head.size() - cut.tail.size());
  cut.omitted_bytes = omitted.size();
  cut.omitted_lines = static_cast<uint64_t>(std::count(omitted.begin(), omitted.end(), '\n'));
  return cut;
}

}  // namespace holdfast::tools
