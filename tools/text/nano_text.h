// Pieces of the results of nano's tools, as tools/data/README.md has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "sandbox/output.h"
#include "tools/text/utf8.h"

namespace holdfast::tools {

enum class Indent { kTrimmed, kKept };

// A line without its line break: made valid UTF-8, tabs as blanks, blanks trimmed at its end (and start), cut
// to `bytes_max` at a whole character.
std::string NanoLine(std::string_view line, size_t bytes_max, Indent indent);

// Whether a file's bytes are not for nano's tools: a NUL in the first 8,192.
bool IsBinary(std::string_view bytes);

struct Replaced {
  uint64_t count = 0;
  std::string text;
};

// Every whole-word occurrence of `old`, from left to right. None when the result would be larger than
// `bytes_max`.
std::optional<Replaced> ReplaceWholeWords(std::string_view text, std::string_view old,
                                          std::string_view replacement, size_t bytes_max);

// Output of a command: made valid UTF-8 as it comes; of what is longer than `bytes_max` the first and the
// last half are kept.
class NanoOutput final : public sandbox::OutputSink {
 public:
  explicit NanoOutput(size_t bytes_max) : bytes_max_(bytes_max) {}
  base::Status Append(std::span<const std::byte> bytes) override;
  base::StatusOr<std::string> Finish(const base::Sha256Digest&, uint64_t) override;

  // Bytes between the halves; 0: all is in head().
  uint64_t cut_bytes() const { return total_bytes_ <= bytes_max_ ? 0 : total_bytes_ - bytes_max_; }
  std::string_view head() const;  // whole characters
  std::string_view tail() const;

 private:
  void Keep(std::string_view text);

  const size_t bytes_max_;
  Utf8Repairer repairer_;
  std::string head_;  // the first bytes_max
  std::string tail_;  // the last, more than half of bytes_max of them
  uint64_t total_bytes_ = 0;
};

}  // namespace holdfast::tools
