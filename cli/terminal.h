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

// A line on standard error that is written over again. Silent when standard error is no terminal.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine() { Clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void Show(const std::string& line);  // cut to the width of the screen
  void Clear();

 private:
  const bool shown_;
  bool visible_ = false;
};

// What came from a model, a tool or a file, harmless to a terminal: control characters but newline and tab
// are left out.
std::string ForTerminal(std::string_view text);

// One line of at most about `bytes_max`; " ..." stands for what was cut.
std::string OneLine(std::string_view text, size_t bytes_max = 100);

std::string GroupDigits(int64_t value);    // 1234567 -> "1,234,567"
std::string HumanBytes(double bytes);      // "3.43 GiB"
std::string HumanSeconds(double seconds);  // "1m55s"

}  // namespace holdfast::cli
