#include "tools/text/file_text.h"

#include <algorithm>
#include <array>

#include "tools/text/utf8.h"

namespace holdfast::tools {
namespace {

constexpr size_t kComparedBytesMax = 400;  // of a line

// A file's bytes with every CR LF as LF, and the way back.
class Folded {
 public:
  explicit Folded(std::string_view bytes) {
    text_.reserve(bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] == '\r' && i + 1 < bytes.size() && bytes[i + 1] == '\n') {
        dropped_.push_back(text_.size());
      } else {
        text_ += bytes[i];
      }
    }
  }

  const std::string& text() const { return text_; }

  // A place between two bytes here -> there; before a line end is before its CR.
  size_t Back(size_t at) const {
    return at +
           static_cast<size_t>(std::lower_bound(dropped_.begin(), dropped_.end(), at) - dropped_.begin());
  }
  // Whether the line feed at `at` was a CR LF.
  bool WasCrLf(size_t at) const { return std::binary_search(dropped_.begin(), dropped_.end(), at); }

  // The line end to use for text put in [begin, end): the first one in there, else that of the line, else
  // that of the line before.
  bool CrLfAt(size_t begin, size_t end) const {
    size_t feed = text_.find('\n', begin);
    if (feed == std::string::npos || feed >= std::max(end, begin + 1)) {
      feed = text_.find('\n', end);
      if (feed == std::string::npos) feed = begin == 0 ? std::string::npos : text_.rfind('\n', begin - 1);
    }
    return feed != std::string::npos && WasCrLf(feed);
  }

 private:
  std::string text_;
  std::vector<size_t> dropped_;  // where in text_ the line feeds of a CR LF stand, ascending
};

std::string WithoutCr(std::string_view text) { return Folded(text).text(); }

std::string WithLineEnds(std::string_view text, bool crlf) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' && crlf) out += '\r';
    out += c;
  }
  return out;
}

// Counts lines while places ascend.
class LineCounter {
 public:
  explicit LineCounter(std::string_view text) : text_(text) {}
  uint64_t LineOf(size_t at) {
    line_ += static_cast<uint64_t>(std::count(text_.begin() + static_cast<ptrdiff_t>(at_),
                                              text_.begin() + static_cast<ptrdiff_t>(at), '\n'));
    at_ = at;
    return line_;
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
  uint64_t line_ = 1;
};

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

using Pairs = std::array<uint16_t, 1024>;  // how often each pair of neighbours occurs, by hash

Pairs PairsOf(std::string_view line) {
  Pairs pairs = {};
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    ++pairs[(static_cast<unsigned char>(line[i]) * 31u + static_cast<unsigned char>(line[i + 1])) %
            pairs.size()];
  }
  return pairs;
}

// 0 to 100: how much two lines have in common.
size_t Likeness(const Pairs& wanted, size_t wanted_size, std::string_view line) {
  line = line.substr(0, kComparedBytesMax);
  if (wanted_size < 3 || line.size() < 3) return 0;
  Pairs left = wanted;
  size_t common = 0;
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    uint16_t& count =
        left[(static_cast<unsigned char>(line[i]) * 31u + static_cast<unsigned char>(line[i + 1])) %
             left.size()];
    if (count == 0) continue;
    --count;
    ++common;
  }
  return 200 * common / (wanted_size + line.size() - 2);
}

// Of the lines of `wanted`, how many stand at `at` in order.
size_t Agreement(const std::vector<Line>& lines, size_t at, const std::vector<Line>& wanted, size_t from) {
  size_t count = 0;
  while (from + count < wanted.size() && at + count < lines.size() &&
         Trimmed(lines[at + count].text) == Trimmed(wanted[from + count].text)) {
    ++count;
  }
  return count;
}

}  // namespace

std::string WhyNotText(std::string_view bytes) {
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) return "it is UTF-16";
  if (const size_t nul = bytes.find('\0'); nul != std::string_view::npos) {
    return "a NUL byte at byte " + std::to_string(nul);
  }
  if (IsUtf8(bytes)) return {};
  // The line with the first malformed byte.
  uint64_t number = 0;
  for (const Line& line : SplitLines(bytes)) {
    ++number;
    if (!IsUtf8(line.text)) break;
  }
  return "malformed in line " + std::to_string(number);
}

std::string_view LineEndText(LineEnd end) {
  switch (end) {
    case LineEnd::kNone:
      return "";
    case LineEnd::kLf:
      return "\n";
    case LineEnd::kCrLf:
      return "\r\n";
  }
  return "";
}

std::vector<Line> SplitLines(std::string_view text) {
  std::vector<Line> lines;
  while (!text.empty()) {
    const size_t feed = text.find('\n');
    if (feed == std::string_view::npos) {
      lines.push_back({.text = text});
      break;
    }
    const bool crlf = feed > 0 && text[feed - 1] == '\r';
    lines.push_back(
        {.text = text.substr(0, feed - (crlf ? 1 : 0)), .end = crlf ? LineEnd::kCrLf : LineEnd::kLf});
    text.remove_prefix(feed + 1);
  }
  return lines;
}

Replacement ReplaceText(std::string_view bytes, std::string_view old_text, std::string_view new_text,
                        Occurrence occurrence, size_t places_max) {
  const std::string_view mark = bytes.starts_with(kByteOrderMark) ? kByteOrderMark : std::string_view();
  const std::string_view body = bytes.substr(mark.size());
  const Folded file(body);
  const bool folds = file.text().size() != body.size();
  const std::string wanted = folds ? WithoutCr(old_text) : std::string(old_text);
  const std::string made = folds ? WithoutCr(new_text) : std::string(new_text);

  Replacement out;
  LineCounter counter(file.text());
  std::string text(mark);
  size_t copied = 0;  // of file.text()
  const size_t step = occurrence == Occurrence::kOne ? 1 : wanted.size();
  for (size_t at = file.text().find(wanted); at != std::string::npos;
       at = file.text().find(wanted, at + step)) {
    if (out.lines.size() < places_max) out.lines.push_back(counter.LineOf(at));
    if (++out.count > 1 && occurrence == Occurrence::kOne) continue;
    const size_t from = file.Back(copied), to = file.Back(at);
    text.append(body.substr(from, to - from));
    text += folds ? WithLineEnds(made, file.CrLfAt(at, at + wanted.size())) : made;
    copied = at + wanted.size();
  }
  text.append(body.substr(file.Back(copied)));
  if (out.count == 1 || (out.count > 1 && occurrence == Occurrence::kAll)) out.text = std::move(text);
  return out;
}

uint64_t NearestLine(const std::vector<Line>& lines, std::string_view wanted_text) {
  const std::vector<Line> wanted = SplitLines(wanted_text);
  size_t first = 0;
  while (first < wanted.size() && Trimmed(wanted[first].text).empty()) ++first;
  if (first == wanted.size()) return 0;
  const std::string_view line = Trimmed(wanted[first].text).substr(0, kComparedBytesMax);
  const Pairs pairs = PairsOf(line);
  size_t best = 0, best_score = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t agreement = std::min<size_t>(Agreement(lines, i, wanted, first), 1000);
    const std::string_view other = Trimmed(lines[i].text);
    const size_t likeness = agreement > 0 ? 0 : Likeness(pairs, line.size(), other);
    const size_t score = agreement > 0 ? 100 * (agreement + 1) : likeness >= 60 ? likeness : 0;
    if (score > best_score) {
      best = i + 1;
      best_score = score;
    }
  }
  return best;
}

}  // namespace holdfast::tools
