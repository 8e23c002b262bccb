#include "workspace/ignore.h"

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "workspace/path.h"
#include "workspace/tree.h"

namespace holdfast::workspace {
namespace {

bool IsSpecial(char c) { return c == '*' || c == '?' || c == '[' || c == '\\'; }

// A set of small numbers.
class BitSet {
 public:
  explicit BitSet(size_t size) : words_(size / 64 + 1) {}
  void Set(size_t n) { words_[n / 64] |= uint64_t{1} << n % 64; }
  bool Has(size_t n) const { return (words_[n / 64] >> n % 64 & 1) != 0; }
  void Clear() { std::fill(words_.begin(), words_.end(), 0); }

  // In ascending order; larger ones that `each` sets are visited too.
  template <class Each>
  void ForEach(const Each& each) {
    for (size_t word = 0; word < words_.size(); ++word) {
      uint64_t done = 0;
      while (const uint64_t left = words_[word] & ~done) {
        const int bit = std::countr_zero(left);
        done |= uint64_t{1} << bit;
        each(word * 64 + static_cast<size_t>(bit));
      }
    }
  }

 private:
  std::vector<uint64_t> words_;
};

// Up to the first character that means something.
std::string_view PlainPart(std::string_view pattern) {
  size_t n = 0;
  while (n < pattern.size() && !IsSpecial(pattern[n])) ++n;
  return pattern.substr(0, n);
}

// Blanks at the end do not count, unless a backslash stands before them.
std::string_view WithoutTrailingBlanks(std::string_view line) {
  size_t end = 0;  // after the last byte that counts
  for (size_t at = 0; at < line.size(); ++at) {
    if (line[at] == ' ') continue;
    if (line[at] == '\\') {
      if (at + 1 == line.size()) return line;
      ++at;
    }
    end = at + 1;
  }
  return line.substr(0, end);
}

// The classes of POSIX in the C locale. False for a name that is none.
bool IsInClass(std::string_view name, uint8_t c, bool& in) {
  const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
  const bool alnum = upper || lower || digit, graph = c > 32 && c < 127;
  if (name == "alnum") {
    in = alnum;
  } else if (name == "alpha") {
    in = upper || lower;
  } else if (name == "blank") {
    in = c == ' ' || c == '\t';
  } else if (name == "cntrl") {
    in = c < 32 || c == 127;
  } else if (name == "digit") {
    in = digit;
  } else if (name == "graph") {
    in = graph;
  } else if (name == "lower") {
    in = lower;
  } else if (name == "print") {
    in = graph || c == ' ';
  } else if (name == "punct") {
    in = graph && !alnum;
  } else if (name == "space") {
    in = c == ' ' || (c >= 9 && c <= 13);
  } else if (name == "upper") {
    in = upper;
  } else if (name == "xdigit") {
    in = digit || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
  } else {
    return false;
  }
  return true;
}

}  // namespace

// Turns the part of a pattern after its plain beginning into steps. A pattern that can match nothing (an
// unfinished set or escape) is refused.
class IgnorePatterns::Compiler {
 public:
  Compiler(std::string_view pattern, bool name_only, IgnorePatterns& out)
      : pattern_(pattern), name_only_(name_only), out_(out) {}

  bool Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '*') {
        Star();
      } else if (c == '?') {
        ++at_;
        Emit({Step::Kind::kAny});
      } else if (c == '[') {
        if (!Set()) return false;
      } else {
        if (c == '\\' && ++at_ == pattern_.size()) return false;
        Emit({Step::Kind::kByte, static_cast<uint8_t>(pattern_[at_++])});
      }
    }
    return true;
  }

 private:
  void Emit(Step step) { out_.steps_.push_back(step); }

  // `**` means more than `*` only where it is a whole part of a path: at the beginning or after a slash, and
  // before a slash or at the end.
  void Star() {
    const size_t begin = at_;
    while (at_ < pattern_.size() && pattern_[at_] == '*') ++at_;
    const std::string_view rest = pattern_.substr(at_);
    const bool whole_part = (begin == 0 || pattern_[begin - 1] == '/') &&
                            (rest.empty() || rest.starts_with('/') || rest.starts_with("\\/"));
    if (at_ - begin < 2 || name_only_ || !whole_part) return Emit({Step::Kind::kStar});
    if (rest.starts_with('/')) Emit({Step::Kind::kMaybeDirs});
    Emit({Step::Kind::kStarStar});
  }

  bool Take(uint8_t& c) {
    if (at_ == pattern_.size()) return false;
    c = static_cast<uint8_t>(pattern_[at_++]);
    return true;
  }

  bool Set() {
    ++at_;  // the bracket
    const bool negated = at_ < pattern_.size() && (pattern_[at_] == '!' || pattern_[at_] == '^');
    if (negated) ++at_;
    ByteSet set;
    uint8_t previous = 0;  // what a range may begin with; 0: nothing
    for (bool first = true;; first = false) {
      uint8_t c = 0;
      if (!Take(c)) return false;
      if (c == ']' && !first) break;
      if (!Member(c, set, previous)) return false;
    }
    if (negated) {
      for (uint64_t& bits : set.bits) bits = ~bits;
    }
    set.bits['/' >> 6] &= ~(uint64_t{1} << ('/' & 63));
    out_.sets_.push_back(set);
    Emit({Step::Kind::kSet, 0, static_cast<uint16_t>(out_.sets_.size() - 1)});
    return out_.sets_.size() <= UINT16_MAX;
  }

  bool Member(uint8_t c, ByteSet& set, uint8_t& previous) {
    if (c == '-' && previous != 0 && at_ < pattern_.size() && pattern_[at_] != ']') {
      uint8_t last = 0;
      if (!Take(last) || (last == '\\' && !Take(last))) return false;
      for (unsigned byte = previous; byte <= last; ++byte) set.add(static_cast<uint8_t>(byte));
      previous = 0;
      return true;
    }
    if (c == '[' && at_ < pattern_.size() && pattern_[at_] == ':') {
      const size_t end = pattern_.find(']', at_ + 1);
      if (end == pattern_.npos) return false;
      if (end > at_ + 1 && pattern_[end - 1] == ':') {
        const std::string_view name = pattern_.substr(at_ + 1, end - at_ - 2);
        at_ = end + 1;
        previous = 0;
        return Class(name, set);
      }
    }
    if (c == '\\' && !Take(c)) return false;
    set.add(c);
    previous = c;
    return true;
  }

  static bool Class(std::string_view name, ByteSet& set) {
    for (unsigned byte = 1; byte < 256; ++byte) {
      bool in = false;
      if (!IsInClass(name, static_cast<uint8_t>(byte), in)) return false;
      if (in) set.add(static_cast<uint8_t>(byte));
    }
    return true;
  }

  const std::string_view pattern_;
  const bool name_only_;
  IgnorePatterns& out_;
  size_t at_ = 0;
};

IgnorePatterns::IgnorePatterns(std::string_view text, const IgnoreLimits& limits) {
  if (text.size() > limits.file_bytes_max) return;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  while (!text.empty() && patterns_.size() < limits.patterns_max) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with('#')) continue;
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = WithoutTrailingBlanks(line.substr(0, line.find('\0')));
    if (!line.empty() && line.size() <= limits.pattern_bytes_max) Add(line);
  }
}

void IgnorePatterns::Add(std::string_view line) {
  Pattern pattern;
  if (line.starts_with('!')) {
    pattern.negative = true;
    line.remove_prefix(1);
  }
  if (line.ends_with('/')) {
    pattern.directory_only = true;
    line.remove_suffix(1);
  }
  pattern.name_only = line.find('/') == line.npos;
  if (line.starts_with('/')) line.remove_prefix(1);
  if (line.empty()) return;
  const std::string_view plain = PlainPart(line);
  const std::string_view rest = line.substr(plain.size());
  if (rest.empty()) {
    pattern.prefix = plain;
  } else if (pattern.name_only && rest[0] == '*' && plain.empty() &&
             PlainPart(rest.substr(1)).size() + 1 == rest.size()) {
    pattern.kind = Pattern::Kind::kSuffix;
    pattern.suffix = rest.substr(1);
  } else {
    // git takes the plain beginning off first, so that `**` right after it counts as a whole part: `a**/b`
    // matches "a/x/b". So do we.
    pattern.kind = Pattern::Kind::kSteps;
    pattern.prefix = plain;
    pattern.first_step = static_cast<uint32_t>(steps_.size());
    const size_t sets = sets_.size();
    if (!Compiler(rest, pattern.name_only, *this).Run()) {
      steps_.resize(pattern.first_step);
      sets_.resize(std::min(sets, sets_.size()));
      return;
    }
    pattern.step_count = static_cast<uint32_t>(steps_.size()) - pattern.first_step;
  }
  patterns_.push_back(std::move(pattern));
}

IgnorePatterns::Verdict IgnorePatterns::Match(std::string_view path, bool directory, uint64_t& work) const {
  const std::string_view name = BaseName(path);
  for (auto it = patterns_.rbegin(); it != patterns_.rend(); ++it) {
    ++work;
    if (it->directory_only && !directory) continue;
    if (!Matches(*it, it->name_only ? name : path, work)) continue;
    return it->negative ? Verdict::kIncluded : Verdict::kIgnored;
  }
  return Verdict::kNone;
}

bool IgnorePatterns::Matches(const Pattern& pattern, std::string_view path, uint64_t& work) const {
  switch (pattern.kind) {
    case Pattern::Kind::kExact:
      return path == pattern.prefix;
    case Pattern::Kind::kSuffix:
      return path.ends_with(pattern.suffix);
    case Pattern::Kind::kSteps:
      return path.starts_with(pattern.prefix) && RunSteps(pattern, path.substr(pattern.prefix.size()), work);
  }
  return false;
}

// All ways at once: bit i of `now` is set when the text so far can have led to before step i. Steps that may
// match nothing lead forward only, so one pass from the left closes the set.
bool IgnorePatterns::RunSteps(const Pattern& pattern, std::string_view text, uint64_t& work) const {
  const std::span<const Step> steps(steps_.data() + pattern.first_step, pattern.step_count);
  BitSet now(steps.size() + 1), next(steps.size() + 1);
  now.Set(0);
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    next.Clear();
    bool alive = false;
    now.ForEach([&](size_t at) {
      ++work;
      if (at == steps.size()) return;
      const Step& step = steps[at];
      if (step.kind == Step::Kind::kMaybeDirs) now.Set(at + 3);
      if (step.kind >= Step::Kind::kStar) now.Set(at + 1);
      if (!Takes(step, byte)) return;
      next.Set(step.kind >= Step::Kind::kStar ? at : at + 1);
      alive = true;
    });
    if (!alive) return false;
    std::swap(now, next);
  }
  now.ForEach([&](size_t at) {
    if (at == steps.size()) return;
    if (steps[at].kind == Step::Kind::kMaybeDirs) now.Set(at + 3);
    if (steps[at].kind >= Step::Kind::kStar) now.Set(at + 1);
  });
  return now.Has(steps.size());
}

bool IgnorePatterns::Takes(const Step& step, uint8_t byte) const {
  switch (step.kind) {
    case Step::Kind::kByte:
      return byte == step.byte;
    case Step::Kind::kAny:
    case Step::Kind::kStar:
      return byte != '/';
    case Step::Kind::kSet:
      return sets_[step.index].has(byte);
    case Step::Kind::kStarStar:
      return true;
    case Step::Kind::kMaybeDirs:
      return false;
  }
  return false;
}

// --- The files of a tree ---

std::optional<std::string> TreeIgnoreSource::Read(const std::string& path, size_t bytes_max) {
  auto content = ReadWhole(tree_, path, bytes_max);
  if (!content.ok()) return std::nullopt;
  return std::move(content->bytes);
}

bool TreeIgnoreSource::IsRepository(const std::string& directory) {
  return tree_.Stat(directory.empty() ? ".git" : directory + "/.git").ok();
}

IgnoreMatcher::IgnoreMatcher(IgnoreSource& source, IgnoreLimits limits) : source_(source), limits_(limits) {
  levels_.push_back(Load("", false));
}

IgnoreMatcher::Level IgnoreMatcher::Load(std::string directory, bool ignored) {
  Level level{.directory = std::move(directory), .repository = levels_.size(), .ignored = ignored};
  if (ignored) return level;  // nothing in it can be taken back
  const std::string prefix = level.directory.empty() ? "" : level.directory + "/";
  const auto read = [&](const std::string& path) -> std::optional<IgnorePatterns> {
    const auto text = source_.Read(path, limits_.file_bytes_max);
    if (!text.has_value()) return std::nullopt;
    return IgnorePatterns(*text, limits_);
  };
  level.file = read(prefix + ".gitignore");
  if (levels_.empty() || source_.IsRepository(level.directory)) {
    level.exclude = read(prefix + ".git/info/exclude");
  } else {
    level.repository = levels_.back().repository;
  }
  return level;
}

void IgnoreMatcher::EnterParentOf(std::string_view path) {
  const std::string_view parent = Parent(path);
  const auto holds = [&](const std::string& directory) {
    return directory.empty() || parent == directory ||
           (parent.starts_with(directory) && parent[directory.size()] == '/');
  };
  while (!holds(levels_.back().directory)) levels_.pop_back();
  while (levels_.back().directory.size() != parent.size()) {
    const std::string& here = levels_.back().directory;
    std::string child(parent.substr(0, parent.find('/', here.empty() ? 0 : here.size() + 1)));
    const bool ignored = levels_.back().ignored || IgnoredBy(child, true);
    levels_.push_back(Load(std::move(child), ignored));
  }
}

// By the files from the last level up to its repository's root. Asked for what lies right in the last level.
bool IgnoreMatcher::IgnoredBy(std::string_view path, bool directory) {
  if (exhausted()) return false;
  using Verdict = IgnorePatterns::Verdict;
  const size_t top = levels_.back().repository;
  const auto relative = [&](const Level& level) {
    return level.directory.empty() ? path : path.substr(level.directory.size() + 1);
  };
  for (size_t i = levels_.size(); i-- > top;) {
    const Level& level = levels_[i];
    if (!level.file.has_value()) continue;
    const Verdict verdict = level.file->Match(relative(level), directory, work_);
    if (verdict != Verdict::kNone) return verdict == Verdict::kIgnored;
  }
  const Level& root = levels_[top];
  return root.exclude.has_value() &&
         root.exclude->Match(relative(root), directory, work_) == Verdict::kIgnored;
}

bool IgnoreMatcher::Ignored(std::string_view path, bool directory) {
  if (path.empty()) return false;
  EnterParentOf(path);
  return levels_.back().ignored || IgnoredBy(path, directory);
}

}  // namespace holdfast::workspace
