// Cuts a stream of bytes into lines, in bounded memory.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace holdfast::tools::mcp {

// One thread at a time.
class LineSplitter {
 public:
  explicit LineSplitter(size_t line_bytes_max) : line_bytes_max_(line_bytes_max) {}

  // Calls `take(std::string line)` for each whole line, without its newline. False once a line is longer than
  // the bound, whole or not: what follows belongs to nothing, so nothing is taken from then on.
  template <typename Take>
  bool Feed(std::string_view bytes, Take take) {
    while (!broken_ && !bytes.empty()) {
      const size_t end = bytes.find('\n');
      const std::string_view part = bytes.substr(0, end);
      if (line_.size() + part.size() > line_bytes_max_) {
        broken_ = true;
        line_ = std::string();
        break;
      }
      line_.append(part);
      if (end == std::string_view::npos) break;
      take(std::exchange(line_, {}));
      bytes.remove_prefix(end + 1);
    }
    return !broken_;
  }

  // What stands after the last newline, when the stream has ended.
  std::string Rest() { return std::exchange(line_, {}); }

 private:
  const size_t line_bytes_max_;
  std::string line_;
  bool broken_ = false;
};

}  // namespace holdfast::tools::mcp
