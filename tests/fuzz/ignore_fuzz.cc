// Patterns from anywhere: nothing crashes, and the work stays within length of patterns times length of path.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "workspace/ignore.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t split = input.find('\0');
  if (split == input.npos || split > 4096) return 0;
  const std::string_view path = input.substr(0, split), text = input.substr(split + 1);
  uint64_t work = 0;
  const holdfast::workspace::IgnorePatterns patterns(text);
  patterns.Match(path, true, work);
  patterns.Match(path, false, work);
  HF_CHECK(work <= 2 * (text.size() * 2 + 2) * (path.size() + 2));
  return 0;
}
