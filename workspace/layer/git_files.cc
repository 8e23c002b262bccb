#include "workspace/layer/git_files.h"

#include <algorithm>
#include <cstdint>

#include "base/coding.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr uint64_t kHeadBytesMax = 4096;
constexpr uint64_t kPackedRefsBytesMax = 64 << 20;
constexpr size_t kEntryFixedBytes = 62;  // up to the name: ten words, SHA-1, flags
constexpr size_t kTrailerBytes = 20;
constexpr uint16_t kExtendedFlag = 0x4000;
constexpr uint32_t kEntriesMax = 10'000'000;
constexpr uint32_t kGitDirectoryMode = 0040000;

bool IsCommit(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string_view Line(std::string_view text) { return text.substr(0, text.find('\n')); }

uint32_t Big32(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}
uint16_t Big16(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[at]) << 8 | static_cast<uint8_t>(bytes[at + 1]));
}

// git's own variable-length number: 7 bits a byte, high ones first, each step adding one.
bool TakeOffset(std::string_view bytes, size_t& at, size_t end, uint64_t& value) {
  if (at >= end) return false;
  uint8_t byte = static_cast<uint8_t>(bytes[at++]);
  value = byte & 0x7f;
  while ((byte & 0x80) != 0) {
    if (at >= end || value > UINT32_MAX) return false;
    byte = static_cast<uint8_t>(bytes[at++]);
    value = (value + 1) << 7 | (byte & 0x7f);
  }
  return true;
}

// Whether every extension after the entries is one that does not change which paths there are. Those whose
// names begin with a capital may be left out of account.
bool ExtensionsAreOptional(std::string_view bytes, size_t at, size_t end) {
  while (at + 8 <= end) {
    if (bytes[at] < 'A' || bytes[at] > 'Z') return false;
    at += 8 + size_t{Big32(bytes, at + 4)};
  }
  return at == end;
}

}  // namespace

std::string ReadHead(Tree& tree, std::string_view root) {
  const std::string git = root.empty() ? ".git/" : std::string(root) + "/.git/";
  const auto head = ReadWhole(tree, git + "HEAD", kHeadBytesMax);
  if (!head.ok()) return "";
  std::string_view line = Line(head->bytes);
  if (IsCommit(line)) return std::string(line);
  constexpr std::string_view kRef = "ref: ";
  if (!line.starts_with(kRef)) return "";
  const std::string ref(line.substr(kRef.size()));
  if (!ref.starts_with("refs/") || !ValidatePath(ref).ok()) return "";
  if (const auto loose = ReadWhole(tree, git + ref, kHeadBytesMax); loose.ok()) {
    line = Line(loose->bytes);
    return IsCommit(line) ? std::string(line) : "";
  }
  const auto packed = ReadWhole(tree, git + "packed-refs", kPackedRefsBytesMax);
  if (!packed.ok()) return "";
  for (std::string_view rest = packed->bytes; !rest.empty();) {
    line = Line(rest);
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const size_t space = line.find(' ');
    if (space != line.npos && line.substr(space + 1) == ref && IsCommit(line.substr(0, space))) {
      return std::string(line.substr(0, space));
    }
  }
  return "";
}

std::optional<std::vector<std::string>> ParseIndex(std::string_view bytes) {
  if (bytes.size() < 12 + kTrailerBytes || !bytes.starts_with("DIRC")) return std::nullopt;
  const uint32_t version = Big32(bytes, 4), count = Big32(bytes, 8);
  const size_t end = bytes.size() - kTrailerBytes;
  if (version < 2 || version > 4 || count > kEntriesMax) return std::nullopt;
  std::vector<std::string> paths;
  std::string name;
  size_t at = 12;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t begin = at;
    if (end - at < kEntryFixedBytes + 2) return std::nullopt;
    if (Big32(bytes, at + 24) == kGitDirectoryMode) return std::nullopt;  // sparse
    const bool extended = (Big16(bytes, at + 60) & kExtendedFlag) != 0;
    at += kEntryFixedBytes + (extended ? 2 : 0);
    uint64_t drop = name.size();
    if (version == 4 && (!TakeOffset(bytes, at, end, drop) || drop > name.size())) return std::nullopt;
    const size_t nul = bytes.find('\0', at);
    if (nul == bytes.npos || nul >= end) return std::nullopt;
    name.resize(name.size() - drop);
    name += bytes.substr(at, nul - at);
    at = version == 4 ? nul + 1 : begin + ((nul - begin) / 8 + 1) * 8;
    if (at > end || !ValidatePath(name).ok()) return std::nullopt;
    if (paths.empty() || paths.back() != name)
      paths.push_back(name);  // a conflict has a path up to three times
  }
  if (!ExtensionsAreOptional(bytes, at, end) || !std::is_sorted(paths.begin(), paths.end()))
    return std::nullopt;
  return paths;
}

bool HoldsPath(const std::vector<std::string>& paths, std::string_view path) {
  return std::binary_search(paths.begin(), paths.end(), path);
}

bool HoldsBeneath(const std::vector<std::string>& paths, std::string_view directory) {
  const std::string prefix = std::string(directory) + "/";
  const auto it = std::lower_bound(paths.begin(), paths.end(), prefix);
  return it != paths.end() && it->starts_with(prefix);
}

}  // namespace holdfast::workspace
