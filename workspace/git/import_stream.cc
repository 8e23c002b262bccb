#include "workspace/git/import_stream.h"

#include <algorithm>

#include "base/coding.h"
#include "workspace/unified_diff.h"

namespace holdfast::workspace::git {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

class Stream {
 public:
  explicit Stream(base::File& file) : file_(file) {}

  base::Status Add(std::string_view text) {
    buffer_ += text;
    return buffer_.size() < kBufferBytes ? base::Status() : Flush();
  }
  base::Status Flush() {
    HF_RETURN_IF_ERROR(file_.WriteAt(at_, base::AsBytes(buffer_)));
    at_ += buffer_.size();
    buffer_.clear();
    return {};
  }

 private:
  base::File& file_;
  uint64_t at_ = 0;
  std::string buffer_;
};

// A path that starts with a quote would be read as quoted; one with a newline must be. Always quoting is
// always right.
std::string Quote(std::string_view path) {
  const std::string quoted = QuoteForDiff(path);
  return quoted.starts_with('"') ? quoted : "\"" + quoted + "\"";
}

std::string Data(std::string_view bytes) {
  return "data " + std::to_string(bytes.size()) + "\n" + std::string(bytes) + "\n";
}

}  // namespace

std::string CleanIdentity(std::string_view text) {
  std::string clean;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != '<' && c != '>' && c != 0x7F) clean += c;
  }
  return clean;
}

base::Status WriteImportStream(base::File& file, const CommitText& commit,
                               const std::vector<const PathChange*>& changes, const ContentReader& content) {
  Stream out(file);
  const std::string who = CleanIdentity(commit.name) + " <" + CleanIdentity(commit.email) + "> " +
                          std::to_string(commit.seconds) + " +0000\n";
  HF_RETURN_IF_ERROR(
      out.Add("commit refs/heads/result\nauthor " + who + "committer " + who + Data(commit.message)));
  if (!commit.parent.empty()) HF_RETURN_IF_ERROR(out.Add("from " + commit.parent + "\n"));
  for (const PathChange* change : changes) {
    const bool goes = change->ours.kind == VersionKind::kAbsent || change->kind == ChangeKind::kTypeChanged;
    if (goes) HF_RETURN_IF_ERROR(out.Add("D " + Quote(change->path) + "\n"));
  }
  for (const PathChange* change : changes) {
    const Version& ours = change->ours;
    if (ours.kind == VersionKind::kSymlink) {
      HF_RETURN_IF_ERROR(out.Add("M 120000 inline " + Quote(change->path) + "\n" + Data(ours.target)));
    } else if (ours.kind == VersionKind::kFile) {
      HF_RETURN_IF_ERROR(out.Add(std::string("M ") + ((ours.mode & 0100) != 0 ? "100755" : "100644") +
                                 " inline " + Quote(change->path) + "\ndata " +
                                 std::to_string(ours.size_bytes) + "\n"));
      HF_RETURN_IF_ERROR(
          content(ours, [&](std::span<const std::byte> part) { return out.Add(base::AsText(part)); }));
      HF_RETURN_IF_ERROR(out.Add("\n"));
    }
  }
  HF_RETURN_IF_ERROR(out.Add("done\n"));
  return out.Flush();
}

}  // namespace holdfast::workspace::git
