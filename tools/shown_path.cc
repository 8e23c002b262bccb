#include "tools/shown_path.h"

#include <algorithm>

#include "tools/text/utf8.h"

namespace holdfast::tools {

std::string ShownPath(std::string_view path) {
  const bool plain = std::none_of(path.begin(), path.end(),
                                  [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (plain && IsUtf8(path) && !path.starts_with('"')) return std::string(path);
  std::string shown = "\"";
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      shown += '\\';
      shown += c;
    } else if (c == '\n') {
      shown += "\\n";
    } else if (c == '\t') {
      shown += "\\t";
    } else if (byte < 0x20 || byte >= 0x7f) {
      shown += '\\';
      for (int shift = 6; shift >= 0; shift -= 3) shown += static_cast<char>('0' + ((byte >> shift) & 7));
    } else {
      shown += c;
    }
  }
  return shown + "\"";
}

}  // namespace holdfast::tools
