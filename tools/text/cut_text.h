// Texts that are too long for the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace holdfast::tools {

struct TextCut {
  std::string_view head, tail;
  uint64_t omitted_bytes = 0;  // between them, exactly
  uint64_t omitted_lines = 0;  // newlines among them
};

// The first three and the last five eighths of `bytes_max` bytes of a well-formed text, each of whole
// characters; nothing is left out of a text that fits.
TextCut CutText(std::string_view text, size_t bytes_max);

}  // namespace holdfast::tools
