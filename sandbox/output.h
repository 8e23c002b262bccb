// What a command printed: the head and the tail for the model, the whole for whoever asks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"

namespace holdfast::sandbox {

// Takes the whole of a stream, secrets replaced, escape sequences as they were. Called on the supervisor's
// thread, so an implementation must not wait for that thread.
class OutputSink {
 public:
  virtual ~OutputSink() = default;

  // An error ends the storing, not the command; it is told in CapturedOutput::spill_error.
  virtual base::Status Append(std::span<const std::byte> bytes) = 0;

  // All is there. Returns the name under which it can be found (a path, a content address): it stands in the
  // text that the model sees, so it is to depend on the content only.
  virtual base::StatusOr<std::string> Finish(const base::Sha256Digest& sha256, uint64_t bytes) = 0;
};

struct OutputOptions {
  size_t head_bytes = 12 * 1024;
  size_t tail_bytes = 20 * 1024;
  size_t ring_bytes = 64 * 1024;  // of what Job::Poll can still see
  uint64_t spill_bytes_max = uint64_t{64} << 20;
};

struct CapturedOutput {
  // Safe text: valid UTF-8 without escape sequences and control characters but tab and newline. When nothing
  // was left out all is in `head`.
  std::string head;
  std::string tail;
  uint64_t total_bytes = 0;    // secrets replaced, before the text was made safe
  uint64_t omitted_bytes = 0;  // between head and tail, exactly
  uint64_t omitted_lines = 0;  // newlines among them
  std::string spill_name;      // empty: none
  uint64_t spill_bytes = 0;    // less than total_bytes when spill_bytes_max was reached
  base::Sha256Digest spill_sha256 = {};
  std::string spill_error;
};

// Head, mark and tail as one text: "[... 123 bytes, 4 lines omitted; full: NAME]". Depends on the output
// only.
std::string Render(const CapturedOutput& output);

// Makes bytes of unknown origin safe to show: malformed UTF-8 becomes U+FFFD, escape sequences are dropped,
// other control characters but tab and newline become U+FFFD, CR before a newline is dropped and any other CR
// becomes a newline, and marks that change the direction of text become U+FFFD.
std::string MakeSafe(std::string_view bytes);

// A known secret: every occurrence is replaced by «redacted:NAME».
struct Secret {
  std::string name;
  std::string value;  // 6 bytes or more
};

}  // namespace holdfast::sandbox
