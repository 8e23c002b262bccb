#include "tools/text/pattern.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace holdfast::tools {
namespace {

enum class Part : uint8_t {
  kByte,
  kOne,           // `?`
  kMany,          // `*` of a path
  kAll,           // `*` of a text, `**` of a path
  kFolderStart,   // `**/`, where a name begins; the step after it is kFolderInside
  kFolderInside,  // within a name
};

struct Step {
  Part part;
  char16_t byte = 0;
};

std::vector<Step> StepsOf(bool paths, std::string_view pattern) {
  std::vector<Step> steps;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '?') {
      steps.push_back({Part::kOne});
    } else if (pattern[i] != '*') {
      steps.push_back({Part::kByte, static_cast<unsigned char>(pattern[i])});
    } else if (!paths) {
      steps.push_back({Part::kAll});
    } else if (pattern.substr(i, 2) != "**") {
      steps.push_back({Part::kMany});
    } else if ((i == 0 || pattern[i - 1] == '/') && pattern.substr(i + 2, 1) == "/") {
      steps.push_back({Part::kFolderStart});
      steps.push_back({Part::kFolderInside});
      i += 2;
    } else {
      steps.push_back({Part::kAll});
      i += 1;
    }
  }
  return steps;
}

// Goes along the text and keeps which beginnings of the pattern match what was read.
class Matcher {
 public:
  Matcher(bool paths, std::string_view pattern) : steps_(StepsOf(paths, pattern)), paths_(paths) {}

  bool Match(const OpenText& text, bool must) {
    std::vector<bool> row(steps_.size() + 1);
    row[0] = true;
    Skip(row);
    for (const char16_t unit : text) {
      row = unit == kHole && !must ? PastHole(row) : Past(row, unit);
      Skip(row);
      if (std::find(row.begin(), row.end(), true) == row.end()) return false;
    }
    return row.back();
  }

 private:
  // What may stand for nothing.
  void Skip(std::vector<bool>& row) const {
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (!row[i]) continue;
      if (steps_[i].part == Part::kMany || steps_[i].part == Part::kAll) row[i + 1] = true;
      if (steps_[i].part == Part::kFolderStart) row[i + 2] = true;
    }
  }

  // A hole may be whatever the rest of the pattern wants.
  std::vector<bool> PastHole(std::vector<bool> row) const {
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (!row[i]) continue;
      row[i + 1] = true;
      if (steps_[i].part == Part::kFolderInside) row[i - 1] = true;
    }
    return row;
  }

  std::vector<bool> Past(const std::vector<bool>& row, char16_t unit) const {
    std::vector<bool> next(row.size());
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (!row[i]) continue;
      switch (steps_[i].part) {
        case Part::kByte:
          if (unit == steps_[i].byte) next[i + 1] = true;
          break;
        case Part::kOne:
          if (unit != kHole && !(paths_ && unit == u'/')) next[i + 1] = true;
          break;
        case Part::kMany:
          if (unit != kHole && unit != u'/') next[i] = true;
          break;
        case Part::kAll:
          next[i] = true;
          break;
        case Part::kFolderStart:
          if (unit != u'/') next[i + 1] = true;
          break;
        case Part::kFolderInside:
          next[unit == u'/' ? i - 1 : i] = true;
          break;
      }
    }
    return next;
  }

  const std::vector<Step> steps_;
  const bool paths_;
};

bool Match(PatternKind kind, std::string_view pattern, const OpenText& text, bool must) {
  const bool paths = kind == PatternKind::kPath;
  if (Matcher(paths, pattern).Match(text, must)) return true;
  if (kind != PatternKind::kCommand || !pattern.ends_with(" *")) return false;
  return Matcher(paths, pattern.substr(0, pattern.size() - 2)).Match(text, must);
}

}  // namespace

OpenText ToOpenText(std::string_view bytes) {
  OpenText text;
  text.reserve(bytes.size());
  for (const char c : bytes) text += static_cast<char16_t>(static_cast<unsigned char>(c));
  return text;
}

bool MustMatch(PatternKind kind, std::string_view pattern, const OpenText& text) {
  return Match(kind, pattern, text, /*must=*/true);
}

bool MayMatch(PatternKind kind, std::string_view pattern, const OpenText& text) {
  return Match(kind, pattern, text, /*must=*/false);
}

}  // namespace holdfast::tools
