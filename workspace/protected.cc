#include "workspace/protected.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <iterator>

#include "sandbox/policy.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr std::string_view kGit = ".git";

// Obeyed by agents or run by a service, but part of what people ask agents to write.
constexpr std::string_view kFlaggedNames[] = {"agents.md",
                                              "agents.override.md",
                                              "claude.md",
                                              "gemini.md",
                                              ".github",
                                              ".gitlab-ci.yml",
                                              ".circleci",
                                              ".pre-commit-config.yaml",
                                              ".husky",
                                              ".gitlab",
                                              "copilot-instructions.md",
                                              ".buildkite",
                                              "jenkinsfile",
                                              "azure-pipelines.yml",
                                              ".travis.yml",
                                              "appveyor.yml",
                                              ".drone.yml",
                                              ".woodpecker.yml"};

// Settings of editors whose name is the project's.
constexpr std::string_view kProtectedSuffixes[] = {".code-workspace", ".sublime-project",
                                                   ".sublime-workspace"};

struct CodePoint {
  uint32_t value = 0;
  size_t bytes = 1;
  bool valid = false;
};

// The code point at the start of `text`; a byte that begins none is invalid and one byte long.
CodePoint Decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < bytes) return {lead, 1, false};
  uint32_t value = lead & (0x7Fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {lead, 1, false};
    value = value << 6 | (byte(i) & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[bytes] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return {lead, 1, false};
  }
  return {value, bytes, true};
}

struct Range {
  uint32_t first, last;
};

// Default-ignorable code points: those that HFS+ leaves out of a comparison, and their kin.
constexpr Range kIgnorable[] = {{0x00AD, 0x00AD}, {0x034F, 0x034F}, {0x061C, 0x061C},  {0x115F, 0x1160},
                                {0x17B4, 0x17B5}, {0x180B, 0x180F}, {0x200B, 0x200F},  {0x202A, 0x202E},
                                {0x2060, 0x206F}, {0x3164, 0x3164}, {0xFE00, 0xFE0F},  {0xFEFF, 0xFEFF},
                                {0xFFA0, 0xFFA0}, {0xFFF0, 0xFFF8}, {0xE0000, 0xE0FFF}};

bool IsIgnorable(uint32_t c) {
  return std::any_of(std::begin(kIgnorable), std::end(kIgnorable),
                     [c](const Range& range) { return c >= range.first && c <= range.last; });
}

struct Pair {
  uint32_t from;
  char to;
};

// What case folding makes ASCII of.
constexpr Pair kCaseFolds[] = {{0x0130, 'i'}, {0x0131, 'i'}, {0x017F, 's'}, {0x212A, 'k'}};

// Letters and marks that read as ASCII in common fonts.
constexpr Pair kLookalikes[] = {
    // Cyrillic
    {0x0430, 'a'},
    {0x0435, 'e'},
    {0x043E, 'o'},
    {0x0440, 'p'},
    {0x0441, 'c'},
    {0x0443, 'y'},
    {0x0445, 'x'},
    {0x0456, 'i'},
    {0x0458, 'j'},
    {0x0455, 's'},
    {0x0501, 'd'},
    {0x051B, 'q'},
    {0x051D, 'w'},
    {0x04BB, 'h'},
    {0x04CF, 'l'},
    {0x0442, 't'},
    {0x043A, 'k'},
    {0x043C, 'm'},
    {0x0475, 'v'},
    {0x0433, 'r'},
    {0x043F, 'n'},
    {0x0410, 'a'},
    {0x0412, 'b'},
    {0x0415, 'e'},
    {0x041A, 'k'},
    {0x041C, 'm'},
    {0x041D, 'h'},
    {0x041E, 'o'},
    {0x0420, 'p'},
    {0x0421, 'c'},
    {0x0422, 't'},
    {0x0423, 'y'},
    {0x0425, 'x'},
    {0x0406, 'i'},
    {0x0408, 'j'},
    {0x0405, 's'},
    {0x0432, 'b'},
    {0x043D, 'h'},
    // Greek
    {0x03B1, 'a'},
    {0x03BF, 'o'},
    {0x03BD, 'v'},
    {0x03B9, 'i'},
    {0x03BA, 'k'},
    {0x03C4, 't'},
    {0x03C1, 'p'},
    {0x03C5, 'u'},
    {0x03C7, 'x'},
    {0x0391, 'a'},
    {0x0392, 'b'},
    {0x0395, 'e'},
    {0x0399, 'i'},
    {0x039A, 'k'},
    {0x039C, 'm'},
    {0x039D, 'n'},
    {0x039F, 'o'},
    {0x03A1, 'p'},
    {0x03A4, 't'},
    {0x03A5, 'y'},
    {0x03A7, 'x'},
    // Latin beyond ASCII, small capitals, roman numerals
    {0x0251, 'a'},
    {0x0261, 'g'},
    {0x0262, 'g'},
    {0x026A, 'i'},
    {0x0269, 'i'},
    {0x1D1B, 't'},
    {0x0299, 'b'},
    {0x029F, 'l'},
    {0x0280, 'r'},
    {0x1D00, 'a'},
    {0x1D04, 'c'},
    {0x1D05, 'd'},
    {0x1D07, 'e'},
    {0x1D0A, 'j'},
    {0x1D0B, 'k'},
    {0x1D0D, 'm'},
    {0x1D0F, 'o'},
    {0x1D18, 'p'},
    {0x1D1C, 'u'},
    {0x1D20, 'v'},
    {0x1D83, 'g'},
    {0x01E5, 'g'},
    {0x0268, 'i'},
    {0x0167, 't'},
    {0x2170, 'i'},
    {0x2160, 'i'},
    {0x2139, 'i'},
    {0x210A, 'g'},
    // Marks
    {0x2024, '.'},
    {0x3002, '.'},
    {0xFE52, '.'},
    {0xFF61, '.'},
    {0x0701, '.'},
    {0x0702, '.'},
    {0xA4F8, '.'},
    {0xA78F, '.'},
    {0x00B7, '.'},
    {0x2010, '-'},
    {0x2011, '-'},
    {0x2012, '-'},
    {0x2013, '-'},
    {0x2014, '-'},
    {0x2015, '-'},
    {0x2212, '-'},
    {0xFE63, '-'}};

char Find(const Pair* begin, const Pair* end, uint32_t c) {
  const Pair* found = std::find_if(begin, end, [c](const Pair& pair) { return pair.from == c; });
  return found == end ? '\0' : found->to;
}

char Lower(uint32_t c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c); }

// 0 when `c` looks like nothing in ASCII.
char LooksLike(uint32_t c) {
  if (c >= 0xFF01 && c <= 0xFF5E) return Lower(c - 0xFF01 + 0x21);
  if (c >= 0x24B6 && c <= 0x24E9) return static_cast<char>('a' + (c - 0x24B6) % 26);
  if (c >= 0x1D400 && c <= 0x1D6A3) return static_cast<char>('a' + (c - 0x1D400) % 26);
  return Find(std::begin(kLookalikes), std::end(kLookalikes), c);
}

bool IsCombiningMark(uint32_t c) { return c >= 0x0300 && c <= 0x036F; }

enum class Fold { kSame, kLookalike };

std::string FoldCodePoints(std::string_view name, Fold fold) {
  std::string folded;
  for (size_t at = 0; at < name.size();) {
    const CodePoint c = Decode(name.substr(at));
    const std::string_view bytes = name.substr(at, c.bytes);
    at += c.bytes;
    if (c.valid && c.value < 0x80) {
      folded += Lower(c.value);
      continue;
    }
    if (c.valid && IsIgnorable(c.value)) continue;
    if (c.valid && fold == Fold::kLookalike && IsCombiningMark(c.value)) continue;
    char ascii = c.valid ? Find(std::begin(kCaseFolds), std::end(kCaseFolds), c.value) : '\0';
    if (ascii == '\0' && c.valid && fold == Fold::kLookalike) ascii = LooksLike(c.value);
    if (ascii != '\0') {
      folded += ascii;
    } else {
      folded += bytes;
    }
  }
  return folded;
}

// NTFS: a stream behind a colon, and dots and spaces at the end, are not part of the name.
void CutAsWindows(std::string& name) {
  if (const size_t colon = name.find(':'); colon != std::string::npos && colon > 0) name.resize(colon);
  while (!name.empty() && (name.back() == '.' || name.back() == ' ')) name.pop_back();
}

std::string FoldWith(std::string_view name, Fold fold) {
  std::string folded = FoldCodePoints(name, fold);
  CutAsWindows(folded);
  // The short names that Windows gives .git and .gitmodules.
  if (folded == "git~1") return std::string(kGit);
  if (folded.starts_with("gitmod~") || folded.starts_with("gi7eba~")) return ".gitmodules";
  return folded;
}

std::vector<std::string_view> Split(std::string_view path) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at) parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::vector<std::string> FoldAll(std::string_view path, Fold fold) {
  std::vector<std::string> folded;
  for (const std::string_view part : Split(path)) folded.push_back(FoldWith(part, fold));
  return folded;
}

bool Contains(const std::vector<std::string>& parts, const std::vector<std::string>& run) {
  return !run.empty() && std::search(parts.begin(), parts.end(), run.begin(), run.end()) != parts.end();
}

bool HasProtectedSuffix(const std::vector<std::string>& parts) {
  return std::any_of(parts.begin(), parts.end(), [](const std::string& part) {
    return std::any_of(std::begin(kProtectedSuffixes), std::end(kProtectedSuffixes),
                       [&](std::string_view suffix) { return part.ends_with(suffix); });
  });
}

bool IsFlagged(const std::vector<std::string>& parts) {
  return std::any_of(parts.begin(), parts.end(), [](const std::string& part) {
    return std::find(std::begin(kFlaggedNames), std::end(kFlaggedNames), part) != std::end(kFlaggedNames);
  });
}

}  // namespace

ProtectedPaths::ProtectedPaths() : ProtectedPaths(sandbox::Policy::DefaultProtectedPaths()) {}

ProtectedPaths::ProtectedPaths(const std::vector<std::string>& names) {
  for (const std::string& name : names) entries_.push_back({name, FoldAll(name, Fold::kSame)});
}

GuardVerdict ProtectedPaths::Check(std::string_view path) const {
  const std::vector<std::string> same = FoldAll(path, Fold::kSame);
  const std::vector<std::string> look = FoldAll(path, Fold::kLookalike);
  const std::vector<std::string> git = {std::string(kGit)};
  if (Contains(same, git)) return {Guard::kRefusedAlways, "belongs to git; commits are offered as a branch"};
  if (Contains(look, git)) return {Guard::kRefusedAlways, "looks like a part of .git"};
  for (const Entry& entry : entries_) {
    if (Contains(same, entry.parts)) return {Guard::kRefused, "protected: " + entry.name};
    if (Contains(look, entry.parts)) return {Guard::kRefused, "looks like the protected " + entry.name};
  }
  if (HasProtectedSuffix(look)) return {Guard::kRefused, "protected: settings of an editor"};
  if (IsFlagged(look)) return {Guard::kFlagged, "obeyed by agents or run by build services"};
  return {};
}

std::string FoldName(std::string_view name) { return FoldWith(name, Fold::kSame); }

std::string FoldLookalike(std::string_view name) { return FoldWith(name, Fold::kLookalike); }

std::string ShowPath(std::string_view path) {
  std::string shown;
  for (size_t at = 0; at < path.size();) {
    const CodePoint c = Decode(path.substr(at));
    at += c.bytes;
    char text[16];
    if (!c.valid) {
      std::snprintf(text, sizeof(text), "\\x%02x", c.value);
    } else if (c.value == '\\') {
      std::snprintf(text, sizeof(text), "\\\\");
    } else if (c.value >= 0x20 && c.value < 0x7F) {
      std::snprintf(text, sizeof(text), "%c", static_cast<char>(c.value));
    } else {
      std::snprintf(text, sizeof(text), "\\u{%x}", c.value);
    }
    shown += text;
  }
  return shown;
}

std::string WhyLinkLeaves(std::string_view path, std::string_view target) {
  if (target.empty()) return "a link to nothing";
  if (target.front() == '/') return "a link to an absolute path";
  const std::vector<std::string_view> own = Split(path);
  size_t depth = own.empty() ? 0 : own.size() - 1;
  bool named = false;
  for (const std::string_view part : Split(target)) {
    if (part == ".") continue;
    if (part != "..") {
      named = true;
      continue;
    }
    if (named) return "a link with `..` behind a name, which may lead out of the tree";
    if (depth == 0) return "a link that leads out of the tree";
    --depth;
  }
  return {};
}

}  // namespace holdfast::workspace
