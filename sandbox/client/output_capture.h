// Keeps of a stream what will be shown, in bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "sandbox/client/redactor.h"
#include "sandbox/output.h"

namespace holdfast::sandbox {

// One thread at a time. Memory: head_bytes + max(tail_bytes, ring_bytes).
class OutputCapture {
 public:
  // `sink` may be null.
  OutputCapture(const OutputOptions& options, const SecretSet& secrets, OutputSink* sink);

  void Append(std::string_view bytes);
  CapturedOutput Finish();

  // The sink is about to go: nothing more is told to it, and no name is given.
  void ForgetSink() { sink_ = nullptr; }

  // New text from byte `from` of the redacted stream.
  struct Part {
    std::string text;
    uint64_t next = 0;
    uint64_t skipped_bytes = 0;
  };
  Part Read(uint64_t from, size_t bytes_max) const;

  uint64_t raw_bytes() const { return raw_bytes_; }

 private:
  void Accept(std::string_view bytes);
  void Spill(std::string_view bytes);
  // Bytes [from, total) of what the ring still holds.
  std::string Recent(uint64_t from) const;

  const OutputOptions options_;
  OutputSink* sink_;
  Redactor redactor_;
  std::string certain_;  // scratch
  base::Sha256 sha256_;
  bool finished_ = false;

  std::string head_;
  std::string ring_;  // byte i of the stream lies at i % ring_size_
  const size_t ring_size_;
  uint64_t raw_bytes_ = 0;
  uint64_t total_bytes_ = 0;
  uint64_t total_lines_ = 0;
  uint64_t spill_bytes_ = 0;
  std::string spill_error_;
};

}  // namespace holdfast::sandbox
