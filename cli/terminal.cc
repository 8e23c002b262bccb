#include "cli/terminal.h"

#include <unistd.h>

#include <cstdio>

namespace holdfast::cli {
namespace {

double SecondsBetween(base::MonotonicTime from, base::MonotonicTime to) {
  return static_cast<double>(to.ns - from.ns) / base::kNsPerSecond;
}

}  // namespace

Progress::Progress(std::string_view label, std::string_view unit, int64_t total)
    : label_(label),
      unit_(unit),
      total_(total),
      shown_(isatty(STDERR_FILENO) != 0),
      start_(base::RealClock().MonotonicNow()),
      last_(start_) {}

Progress::~Progress() {
  if (width_ > 0) std::fprintf(stderr, "\r%*s\r", static_cast<int>(width_), "");
}

std::string Progress::Amount(double amount) const {
  return unit_.empty() ? HumanBytes(amount) : GroupDigits(static_cast<int64_t>(amount));
}

void Progress::Update(int64_t done) {
  if (!shown_) return;
  const base::MonotonicTime now = base::RealClock().MonotonicNow();
  const double elapsed = SecondsBetween(start_, now);
  if (elapsed < 1.0 || SecondsBetween(last_, now) < 0.2) return;
  last_ = now;
  const double rate = static_cast<double>(done) / elapsed;
  std::string line = label_ + ": " + Amount(static_cast<double>(done)) + " of " +
                     Amount(static_cast<double>(total_)) + (unit_.empty() ? "" : " " + unit_);
  char text[64];
  std::snprintf(text, sizeof(text), "%.1f", rate);
  line += ", " + (unit_.empty() ? HumanBytes(rate) : std::string(text)) + "/s";
  if (rate > 0) line += ", " + HumanSeconds(static_cast<double>(total_ - done) / rate) + " left";
  const size_t blank = width_ > line.size() ? width_ - line.size() : 0;
  width_ = line.size();
  std::fprintf(stderr, "\r%s%*s", line.c_str(), static_cast<int>(blank), "");
  std::fflush(stderr);
}

std::string GroupDigits(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out += ',';
    out += digits[i];
  }
  return out;
}

std::string HumanBytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) bytes /= 1024, ++unit;
  char text[64];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.2f %s", bytes, kUnits[unit]);
  return text;
}

std::string HumanSeconds(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  if (whole >= 3600) return std::to_string(whole / 3600) + "h" + std::to_string(whole / 60 % 60) + "m";
  if (whole >= 60) return std::to_string(whole / 60) + "m" + std::to_string(whole % 60) + "s";
  return std::to_string(whole) + "s";
}

}  // namespace holdfast::cli
