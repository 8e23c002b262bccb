#include "tools/text/glob_pattern.h"

#include <optional>

namespace holdfast::tools {
namespace {

base::Status Bad(std::string_view pattern, std::string_view why) {
  return base::InvalidArgument("pattern `" + std::string(pattern) + "`: " + std::string(why));
}

// The end of the class that begins at `begin` ('['), past its ']'. A ']' that comes first belongs to it.
std::optional<size_t> ClassEnd(std::string_view s, size_t begin) {
  size_t i = begin + 1;
  if (i < s.size() && (s[i] == '!' || s[i] == '^')) ++i;
  if (i < s.size() && s[i] == ']') ++i;
  for (; i < s.size(); ++i) {
    if (s[i] == '\\') {
      ++i;
    } else if (s[i] == ']') {
      return i + 1;
    }
  }
  return std::nullopt;
}

bool ClassHolds(std::string_view inside, char c) {
  bool negated = false;
  if (!inside.empty() && (inside[0] == '!' || inside[0] == '^')) {
    negated = true;
    inside.remove_prefix(1);
  }
  bool found = false;
  const auto take = [&inside] {
    if (inside.size() > 1 && inside[0] == '\\') inside.remove_prefix(1);
    const auto byte = static_cast<unsigned char>(inside[0]);
    inside.remove_prefix(1);
    return byte;
  };
  const auto byte = static_cast<unsigned char>(c);
  while (!inside.empty()) {
    const unsigned char low = take();
    unsigned char high = low;
    if (inside.size() > 1 && inside[0] == '-') {
      inside.remove_prefix(1);
      high = take();
    }
    found = found || (low <= byte && byte <= high);
  }
  return found != negated;
}

size_t CharacterBytes(std::string_view s) {
  size_t n = 1;
  while (n < s.size() && n < 4 && (static_cast<unsigned char>(s[n]) & 0xc0) == 0x80) ++n;
  return n;
}

// Whether the first element of `pattern` (no `*`) matches the beginning of `name`; then both move on.
bool TakeOne(std::string_view& pattern, std::string_view& name) {
  if (name.empty()) return false;
  if (pattern[0] == '?') {
    pattern.remove_prefix(1);
    name.remove_prefix(CharacterBytes(name));
    return true;
  }
  if (pattern[0] == '[') {
    const size_t end = *ClassEnd(pattern, 0);  // Make has checked it
    if (!ClassHolds(pattern.substr(1, end - 2), name[0])) return false;
    pattern.remove_prefix(end);
    name.remove_prefix(1);
    return true;
  }
  const size_t skip = pattern[0] == '\\' && pattern.size() > 1 ? 1 : 0;
  if (pattern[skip] != name[0]) return false;
  pattern.remove_prefix(skip + 1);
  name.remove_prefix(1);
  return true;
}

// One part: going back to the last `*` only is enough, so this is |pattern| x |name| at most.
bool PartMatches(std::string_view pattern, std::string_view name) {
  std::optional<std::string_view> after_star, retry;
  while (true) {
    if (!pattern.empty() && pattern[0] == '*') {
      while (!pattern.empty() && pattern[0] == '*') pattern.remove_prefix(1);
      after_star = pattern;
      retry = name;
      continue;
    }
    if (pattern.empty() && name.empty()) return true;
    if (!pattern.empty() && TakeOne(pattern, name)) continue;
    if (!retry.has_value() || retry->empty()) return false;
    retry->remove_prefix(1);
    pattern = *after_star;
    name = *retry;
  }
}

std::vector<std::string_view> Split(std::string_view path) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t slash = path.find('/');
    parts.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    path.remove_prefix(slash + 1);
  }
}

// The first top-level {...} of `s`: where it begins and ends, and its choices.
struct Braces {
  size_t begin = 0;
  size_t end = 0;
  std::vector<std::string_view> choices;
};

base::StatusOr<std::optional<Braces>> FindBraces(std::string_view whole, std::string_view s) {
  Braces braces;
  size_t depth = 0, choice = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\\') {
      ++i;
    } else if (s[i] == '[') {
      const auto end = ClassEnd(s, i);
      if (!end.has_value()) return Bad(whole, "[ without ]");
      i = *end - 1;
    } else if (s[i] == '{') {
      if (depth++ == 0) braces.begin = i, choice = i + 1;
    } else if (s[i] == ',' && depth == 1) {
      braces.choices.push_back(s.substr(choice, i - choice));
      choice = i + 1;
    } else if (s[i] == '}' && depth > 0 && --depth == 0) {
      braces.choices.push_back(s.substr(choice, i - choice));
      braces.end = i + 1;
      return braces;
    }
  }
  if (depth > 0) return Bad(whole, "{ without }");
  return std::nullopt;
}

// All texts that the braces of `pattern` stand for, in order.
base::StatusOr<std::vector<std::string>> Expand(std::string_view pattern) {
  std::vector<std::string> done, open = {std::string(pattern)};
  size_t bytes = 0;
  while (!open.empty()) {
    const std::string text = std::move(open.back());
    open.pop_back();
    HF_ASSIGN_OR_RETURN(const std::optional<Braces> braces, FindBraces(pattern, text));
    if (!braces.has_value()) {
      bytes += text.size();
      done.push_back(text);
    } else {
      for (auto it = braces->choices.rbegin(); it != braces->choices.rend(); ++it) {
        open.push_back(text.substr(0, braces->begin) + std::string(*it) + text.substr(braces->end));
      }
    }
    if (done.size() + open.size() > GlobPattern::kAlternativesMax || bytes > GlobPattern::kBytesMax) {
      return Bad(pattern, "too many alternatives");
    }
  }
  return done;
}

}  // namespace

base::StatusOr<GlobPattern> GlobPattern::Make(std::string_view pattern) {
  const std::string_view whole = pattern;
  if (pattern.size() > kBytesMax) return base::InvalidArgument("pattern: longer than 64 KiB");
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> texts, Expand(pattern));
  GlobPattern glob;
  for (std::string_view text : texts) {
    const bool rooted = text.starts_with('/') || text.starts_with("./");
    while (text.starts_with("./")) text.remove_prefix(2);
    while (text.starts_with('/')) text.remove_prefix(1);
    if (text.empty()) return Bad(whole, "it names nothing");
    std::string complete(text);
    if (complete.back() == '/') complete += "**";
    Alternative alternative;
    if (complete.find('/') == std::string::npos && !rooted) alternative.parts.push_back("**");
    for (const std::string_view part : Split(complete)) {
      if (part.empty() || (part == "**" && !alternative.parts.empty() && alternative.parts.back() == "**")) {
        continue;
      }
      alternative.parts.emplace_back(part);
    }
    glob.alternatives_.push_back(std::move(alternative));
  }
  return glob;
}

bool GlobPattern::Matches(std::string_view path) const {
  const std::vector<std::string_view> names = Split(path);
  for (const Alternative& alternative : alternatives_) {
    // reached[n]: the parts so far match the first n names.
    std::vector<bool> reached(names.size() + 1);
    reached[0] = true;
    for (size_t p = 0; p < alternative.parts.size(); ++p) {
      const std::string& part = alternative.parts[p];
      std::vector<bool> next(names.size() + 1);
      // `**` at the end wants something beneath.
      const bool any = part == "**";
      const bool last = p + 1 == alternative.parts.size();
      for (size_t n = 0; n <= names.size(); ++n) {
        if (any) {
          next[n] = (n > 0 && next[n - 1]) || (reached[n] && !last) || (last && n > 0 && reached[n - 1]);
        } else {
          next[n] = n > 0 && reached[n - 1] && PartMatches(part, names[n - 1]);
        }
      }
      reached = std::move(next);
    }
    if (reached[names.size()]) return true;
  }
  return false;
}

}  // namespace holdfast::tools
