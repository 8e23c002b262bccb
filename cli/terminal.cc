#include "cli/terminal.h"

#include <sys/ioctl.h>
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

StatusLine::StatusLine() : shown_(isatty(STDERR_FILENO) != 0) {}

void StatusLine::Show(const std::string& line) {
  if (!shown_) return;
  winsize size = {};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  const std::string cut = OneLine(line, known ? size.ws_col - 5 : 75);
  std::fprintf(stderr, "\r\033[K%s", cut.c_str());
  std::fflush(stderr);
  visible_ = true;
}

void StatusLine::Clear() {
  if (visible_) std::fputs("\r\033[K", stderr);
  visible_ = false;
}

std::string ForTerminal(std::string_view text) {
  std::string harmless;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
      ++i;  // U+0080 to U+009F: control characters in UTF-8
    } else if ((byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\t') {
      harmless.push_back(text[i]);
    }
  }
  return harmless;
}

std::string OneLine(std::string_view text, size_t bytes_max) {
  const bool cut = text.size() > bytes_max;
  if (cut) {
    text = text.substr(0, bytes_max);
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) text.remove_suffix(1);
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xc0) text.remove_suffix(1);
  }
  std::string line = ForTerminal(text);
  for (char& c : line) c = c == '\n' || c == '\t' ? ' ' : c;
  while (line.ends_with(' ')) line.pop_back();
  return cut ? line + " ..." : line;
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
