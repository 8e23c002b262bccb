// What commands say to people: progress on standard error, and numbers with units.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace holdfast::cli {

// A line on standard error that is written over again: "prefill: 512 of 4096 tokens, 31.2/s, 1m55s left".
// Silent when standard error is no terminal, in the first second, and more than five times a second. One
// thread at a time.
class Progress {
 public:
  // `unit` is what is counted ("tokens"), or empty for bytes.
  Progress(std::string_view label, std::string_view unit, int64_t total);
  ~Progress();  // clears the line

  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(int64_t done);

 private:
  std::string Amount(double amount) const;

  const std::string label_;
  const std::string unit_;
  const int64_t total_;
  const bool shown_;
  const base::MonotonicTime start_;
  base::MonotonicTime last_;
  size_t width_ = 0;  // of the line on the screen
};

std::string GroupDigits(int64_t value);    // 1234567 -> "1,234,567"
std::string HumanBytes(double bytes);      // "3.43 GiB"
std::string HumanSeconds(double seconds);  // "1m55s"

}  // namespace holdfast::cli
