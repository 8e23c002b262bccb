#include "workspace/git_branch.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "base/coding.h"
#include "workspace/git/import_stream.h"
#include "workspace/git/repository.h"
#include "workspace/path.h"
#include "workspace/protected.h"
#include "workspace/tree.h"

namespace holdfast::workspace {
namespace {

constexpr char kObjectsInside[] = "/objects";
constexpr char kInputInside[] = "/input";
constexpr uint32_t kOpenDirectory = 0755;  // for the sandbox's user, who may be another
constexpr uint32_t kOpenFile = 0644;
constexpr size_t kCopyBytes = 256 << 10;
constexpr size_t kNamesBytesMax = 8 << 20;
constexpr uint64_t kObjectBytesMax = uint64_t{2} << 30;
constexpr std::string_view kGitPrefix = ".git/";

// Runs before every job: an empty repository of its own, whose objects are the user's under an overlay.
constexpr std::string_view kPrologue = R"sh(set -eu -o pipefail
mkdir -p "$GIT_DIR/refs/heads" "$GIT_DIR/objects"
printf 'ref: refs/heads/none\n' > "$GIT_DIR/HEAD"
cat /input/config > "$GIT_DIR/config"
if [ -e /input/shallow ]; then cat /input/shallow > "$GIT_DIR/shallow"; fi
)sh";

// $1: the base, or empty; $2: the commit made inside. Says how many commits there are, and what they touch.
constexpr std::string_view kInspect = R"sh(
export GIT_ALTERNATE_OBJECT_DIRECTORIES=/input/objects
git cat-file -e "$2^{commit}"
echo "count $(git rev-list --count "$2" ${1:+"^$1"})"
if [ -n "$1" ]; then from=$1; else from=$(git hash-object -w -t tree /dev/null); fi
echo paths
git -c core.quotePath=true diff-tree -r --no-renames --name-only "$from" "$2"
)sh";

// $1: the base, or empty; $2: the parent of the new commit, or empty. One pack of all that is new, checked.
constexpr std::string_view kBuild = R"sh(
if [ -d /input/objects ]; then export GIT_ALTERNATE_OBJECT_DIRECTORIES=/input/objects; fi
git fast-import --quiet --done < /input/stream
tip=$(git rev-parse --verify refs/heads/result)
if [ -n "$2" ] && [ "$(git rev-parse "$tip^{tree}")" = "$(git rev-parse "$2^{tree}")" ]; then tip=$2; fi
if [ "$tip" = "$1" ]; then echo nothing; exit 0; fi
mkdir -p /objects/holdfast-out
name=$( { echo "$tip"; if [ -n "$1" ]; then echo "^$1"; fi; } |
        git pack-objects --quiet --revs /objects/holdfast-out/pack)
unset GIT_ALTERNATE_OBJECT_DIRECTORIES
git index-pack --strict --stdin < "/objects/holdfast-out/pack-$name.pack" > /dev/null
echo "tip $tip"
echo "pack pack-$name"
)sh";

std::vector<std::string> SplitText(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// What follows `word` on the line that starts with it.
std::string WordAfter(const std::vector<std::string>& lines, std::string_view word) {
  for (const std::string& line : lines) {
    if (line.starts_with(word) && line.size() > word.size() && line[word.size()] == ' ') {
      return line.substr(word.size() + 1);
    }
  }
  return {};
}

// A path as git quotes it.
std::string Unquote(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::string(text);
  text = text.substr(1, text.size() - 2);
  constexpr std::string_view kLetters = "abtnvfr", kMeanings = "\a\b\t\n\v\f\r";
  std::string path;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      path += text[i];
    } else if (text[i + 1] >= '0' && text[i + 1] <= '3' && i + 3 < text.size()) {
      path += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      const size_t letter = kLetters.find(text[++i]);
      path += letter == kLetters.npos ? text[i] : kMeanings[letter];
    }
  }
  return path;
}

// objects/xx/..., objects/pack/pack-....pack and .idx: what git finds objects in, and nothing else of there.
bool IsObjectFile(std::string_view path) {
  const auto is_hex = [](std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    });
  };
  if (path.starts_with("pack/pack-")) {
    path.remove_prefix(10);
    const size_t dot = path.find('.');
    return dot != path.npos && is_hex(path.substr(0, dot)) &&
           (path.substr(dot) == ".pack" || path.substr(dot) == ".idx");
  }
  return (path.size() == 41 || path.size() == 65) && path[2] == '/' && is_hex(path.substr(0, 2)) &&
         is_hex(path.substr(3));
}

class BranchMaker {
 public:
  BranchMaker(const BranchRequest& request, const Manifest& manifest, const Diff& diff,
              memory::BlobStore& blobs, sandbox::Sandbox& sandbox, base::Clock& clock)
      : request_(request),
        manifest_(manifest),
        diff_(diff),
        blobs_(blobs),
        sandbox_(sandbox),
        clock_(clock) {}

  base::StatusOr<BranchResult> Make(base::FileSystem& fs) {
    HF_RETURN_IF_ERROR(git::ValidateBranchName(request_.name));
    HF_ASSIGN_OR_RETURN(repository_, git::OpenRepository(request_.tree));
    HF_RETURN_IF_ERROR(git::CheckBranchIsFree(repository_, request_.name));
    HF_RETURN_IF_ERROR(FindHeads());
    HF_RETURN_IF_ERROR(PrepareScratch(fs));
    Choose();
    auto made = Build();
    session_.reset();
    const base::Status emptied = Empty();
    HF_RETURN_IF_ERROR(made);
    HF_RETURN_IF_ERROR(emptied);
    return std::move(result_);
  }

 private:
  // The base, and what HEAD is inside the session.
  base::Status FindHeads() {
    const git::FileReader reader = git::ReaderOf(repository_);
    result_.base = request_.base;
    if (result_.base.empty()) {
      HF_ASSIGN_OR_RETURN(result_.base, git::ResolveHead(reader));
    } else if (!git::IsObjectId(result_.base)) {
      return base::InvalidArgument("git: the base is not the id of a commit");
    }
    if (!repository_.inside_tree) return {};  // commits go to a directory that no session sees
    const auto inside = [&](std::string_view path,
                            size_t bytes_max) -> base::StatusOr<std::optional<std::string>> {
      const ManifestEntry* entry = manifest_.Find(std::string(kGitPrefix) + std::string(path));
      if (entry == nullptr) return reader(path, bytes_max);
      if (entry->now.kind != VersionKind::kFile || !entry->now.content.has_value()) {
        return std::optional<std::string>();
      }
      HF_ASSIGN_OR_RETURN(std::string bytes, blobs_.Read(*entry->now.content, bytes_max));
      return std::optional<std::string>(std::move(bytes));
    };
    auto head = git::ResolveHead(inside);
    if (head.ok() && !head->empty() && *head != result_.base) {
      inside_head_ = *std::move(head);
    } else if (!head.ok()) {
      result_.note = "commits made inside were not taken: " + base::Message(head.status());
    }
    return {};
  }

  base::Status Empty() {
    HF_ASSIGN_OR_RETURN(const auto names, scratch_->Names("", 1000));
    for (const NamedKind& entry : names) HF_RETURN_IF_ERROR(RemoveAll(*scratch_, entry.name));
    return {};
  }

  base::Status WriteInput(const std::string& name, std::string_view text) {
    HF_ASSIGN_OR_RETURN(const auto file, scratch_->CreateFile("input/" + name, kOpenFile));
    return file->WriteAt(0, base::AsBytes(text));
  }

  base::Status PrepareScratch(base::FileSystem& fs) {
    HF_RETURN_IF_ERROR(fs.CreateDirectories(request_.scratch));
    HF_ASSIGN_OR_RETURN(scratch_, OpenTree(request_.scratch, {.owner_access = OwnerAccess::kForced}));
    HF_RETURN_IF_ERROR(Empty());
    HF_RETURN_IF_ERROR(scratch_->MakeDirectory("input", kOpenDirectory));
    HF_RETURN_IF_ERROR(scratch_->MakeDirectory("layer", 0700));
    const bool sha256 = std::max(result_.base.size(), inside_head_.size()) == 64;
    HF_RETURN_IF_ERROR(WriteInput("config", std::string("[core]\n\trepositoryformatversion = ") +
                                                (sha256 ? "1" : "0") + "\n\tbare = true\n" +
                                                (sha256 ? "[extensions]\n\tobjectFormat = sha256\n" : "") +
                                                "[gc]\n\tauto = 0\n[fastimport]\n\tunpackLimit = 1\n"));
    HF_ASSIGN_OR_RETURN(const auto shallow, git::ReaderOf(repository_)("shallow", git::kPackedRefsBytesMax));
    if (shallow.has_value()) HF_RETURN_IF_ERROR(WriteInput("shallow", *shallow));
    return inside_head_.empty() ? base::Status() : CopyInsideObjects();
  }

  base::Status ReadContent(const Version& version,
                           const std::function<base::Status(std::span<const std::byte>)>& take) {
    if (!version.content.has_value()) return base::DataLoss("a content that was not kept");
    HF_ASSIGN_OR_RETURN(memory::BlobReader blob, blobs_.OpenBlob(*version.content));
    std::vector<std::byte> buffer(kCopyBytes);
    for (uint64_t at = 0; at < blob.size();) {
      HF_ASSIGN_OR_RETURN(const size_t n, blob.ReadAt(at, buffer));
      if (n == 0) return base::DataLoss("a content ends early");
      HF_RETURN_IF_ERROR(take(std::span(buffer).first(n)));
      at += n;
    }
    return {};
  }

  // The objects that the session made, as files beside the input.
  base::Status CopyInsideObjects() {
    constexpr std::string_view kObjects = ".git/objects/";
    HF_RETURN_IF_ERROR(scratch_->MakeDirectory("input/objects", kOpenDirectory));
    for (const ManifestEntry& entry : manifest_.entries) {
      if (!entry.path.starts_with(kObjects) || entry.now.kind != VersionKind::kFile || !entry.Changed())
        continue;
      const std::string name = entry.path.substr(kObjects.size());
      if (!IsObjectFile(name) || entry.now.size_bytes > kObjectBytesMax) continue;
      HF_RETURN_IF_ERROR(MakeParents(*scratch_, "input/objects/" + name));
      HF_ASSIGN_OR_RETURN(const auto file, scratch_->CreateFile("input/objects/" + name, kOpenFile));
      uint64_t at = 0;
      HF_RETURN_IF_ERROR(ReadContent(entry.now, [&](std::span<const std::byte> part) {
        at += part.size();
        return file->WriteAt(at - part.size(), part);
      }));
    }
    return {};
  }

  bool IsAllowed(const PathChange& change) const {
    if (change.guard == Guard::kRefusedAlways) return false;
    return change.guard != Guard::kRefused ||
           std::find(request_.allow_protected.begin(), request_.allow_protected.end(), change.path) !=
               request_.allow_protected.end();
  }

  // Directories that are repositories of their own: what is in them is not this one's.
  bool IsNested(std::string_view path) {
    for (std::string_view above = Parent(path); !above.empty(); above = Parent(above)) {
      auto [known, fresh] = nested_.try_emplace(std::string(above), false);
      if (fresh) {
        const std::string git = known->first + "/.git";
        const ManifestEntry* entry = manifest_.Find(git);
        known->second = entry != nullptr ? entry->now.kind != VersionKind::kAbsent
                                         : user_ != nullptr && user_->Stat(git).ok();
      }
      if (known->second) return true;
    }
    return false;
  }

  void Choose() {
    if (auto user = OpenTree(request_.tree); user.ok()) user_ = *std::move(user);
    for (const PathChange& change : diff_.changes) {
      const bool git_file = change.path == ".git" || change.path.starts_with(kGitPrefix);
      if (git_file) continue;  // that is what this is about
      if (!IsAllowed(change)) {
        result_.left_out.push_back(ShowPath(change.path) + ": " + change.note);
      } else if (IsNested(change.path)) {
        result_.left_out.push_back(ShowPath(change.path) + ": in a repository of its own");
      } else {
        chosen_.push_back(&change);
      }
    }
  }

  base::Status OpenSession() {
    sandbox::Policy policy;
    policy.workspace = {.host = repository_.common_directory + "/objects",
                        .inside = kObjectsInside,
                        .mode = sandbox::WorkspaceMode::kOverlay,
                        .layer = request_.scratch + "/layer"};
    policy.protected_paths.clear();
    policy.limits.wall_ms = request_.job_ms_max;
    policy.limits.cpu_ms = 0;
    policy.mounts.push_back({.host = request_.scratch + "/input", .inside = kInputInside});
    HF_ASSIGN_OR_RETURN(const auto alternates, git::Alternates(repository_, kObjectsInside));
    for (const git::Alternate& alternate : alternates) {
      policy.mounts.push_back({.host = alternate.host, .inside = alternate.inside, .required = false});
    }
    HF_ASSIGN_OR_RETURN(session_, sandbox_.Open(std::move(policy)));
    return {};
  }

  base::StatusOr<std::vector<std::string>> RunGit(std::string_view script, const std::string& first,
                                                  const std::string& second) {
    sandbox::Command command;
    command.argv = {"bash", "-c",  std::string(kPrologue) + std::string(script), "holdfast-branch",
                    first,  second};
    command.directory = "/tmp";
    command.error_stream = sandbox::ErrorStream::kSeparate;
    command.environment = {{"GIT_DIR", "/tmp/repo"},
                           {"GIT_OBJECT_DIRECTORY", kObjectsInside},
                           {"GIT_CONFIG_NOSYSTEM", "1"},
                           {"GIT_CONFIG_GLOBAL", "/dev/null"},
                           {"GIT_ATTR_NOSYSTEM", "1"},
                           {"GIT_TERMINAL_PROMPT", "0"},
                           {"GIT_NO_REPLACE_OBJECTS", "1"},
                           {"GIT_OPTIONAL_LOCKS", "0"},
                           {"GIT_ADVICE", "0"}};
    sandbox::RunOptions options;
    options.output.head_bytes = kNamesBytesMax;
    HF_ASSIGN_OR_RETURN(const sandbox::Outcome outcome, session_->Run(command, std::move(options)));
    if (!outcome.ok()) {
      return base::FailedPrecondition("git in the sandbox: " + Describe(outcome) + ": " +
                                      sandbox::Render(outcome.error_output));
    }
    if (outcome.output.omitted_bytes > 0) return base::ResourceExhausted("git in the sandbox: says too much");
    return SplitText(outcome.output.head);
  }

  // Whether the commits made inside can be offered as they are.
  base::Status InspectInsideCommits() {
    auto said = RunGit(kInspect, result_.base, inside_head_);
    if (absl::IsFailedPrecondition(said.status())) {
      result_.note = "commits made inside were not taken: " + base::Message(said.status());
      inside_head_.clear();
      return {};
    }
    HF_RETURN_IF_ERROR(said.status());
    const auto first = std::find(said->begin(), said->end(), "paths");
    for (auto line = first; line != said->end(); ++line) {
      if (line == first) continue;
      const std::string path = Unquote(*line);
      const bool allowed = std::find(request_.allow_protected.begin(), request_.allow_protected.end(),
                                     path) != request_.allow_protected.end();
      const GuardVerdict verdict = guards_.Check(path);
      if (verdict.guard < Guard::kRefused || (allowed && verdict.guard == Guard::kRefused)) continue;
      result_.note =
          "commits made inside were not taken: they touch " + ShowPath(path) + " (" + verdict.reason + ")";
      inside_head_.clear();
      return {};
    }
    for (const char c : WordAfter(*said, "count")) {
      if (c >= '0' && c <= '9')
        result_.commits_taken = result_.commits_taken * 10 + static_cast<uint64_t>(c - '0');
    }
    return {};
  }

  base::Status Build() {
    HF_RETURN_IF_ERROR(OpenSession());
    if (!inside_head_.empty()) HF_RETURN_IF_ERROR(InspectInsideCommits());
    const std::string parent = inside_head_.empty() ? result_.base : inside_head_;
    if (chosen_.empty() && inside_head_.empty()) {
      return base::FailedPrecondition("branch " + request_.name + ": there is nothing to put on it");
    }
    HF_ASSIGN_OR_RETURN(const auto stream, scratch_->CreateFile("input/stream", kOpenFile));
    const git::CommitText commit = {parent, request_.author_name, request_.author_email,
                                    request_.message + "\n", clock_.UtcNow().ns / base::kNsPerSecond};
    HF_RETURN_IF_ERROR(git::WriteImportStream(
        *stream, commit, chosen_,
        [this](const Version& version, const auto& take) { return ReadContent(version, take); }));
    HF_ASSIGN_OR_RETURN(const auto said, RunGit(kBuild, result_.base, parent));
    return Install(said, parent);
  }

  base::Status Install(const std::vector<std::string>& said, const std::string& parent) {
    if (!said.empty() && said[0] == "nothing") {
      return base::FailedPrecondition("branch " + request_.name + ": there is nothing to put on it");
    }
    result_.commit = WordAfter(said, "tip");
    const std::string pack = WordAfter(said, "pack");
    const std::string_view id = std::string_view(pack).substr(std::min<size_t>(5, pack.size()));
    if (!git::IsObjectId(result_.commit) || !pack.starts_with("pack-") || !git::IsObjectId(id)) {
      return base::Internal("git in the sandbox: an answer that makes no sense");
    }
    session_.reset();  // what it made no longer changes
    HF_RETURN_IF_ERROR(git::InstallPack(repository_, *scratch_, "layer/upper/holdfast-out", pack));
    HF_RETURN_IF_ERROR(git::CreateBranch(repository_, request_.name, result_.commit));
    result_.ref = "refs/heads/" + request_.name;
    result_.committed_changes = result_.commit != parent;
    return {};
  }

  const BranchRequest& request_;
  const Manifest& manifest_;
  const Diff& diff_;
  memory::BlobStore& blobs_;
  sandbox::Sandbox& sandbox_;
  base::Clock& clock_;
  const ProtectedPaths guards_;
  git::Repository repository_;
  std::unique_ptr<Tree> scratch_, user_;
  std::unique_ptr<sandbox::Session> session_;
  std::string inside_head_;  // empty: no commits were made inside
  std::vector<const PathChange*> chosen_;
  std::map<std::string, bool, std::less<>> nested_;
  BranchResult result_;
};

}  // namespace

base::StatusOr<BranchResult> MakeBranch(const BranchRequest& request, const Manifest& manifest,
                                        const Diff& diff, memory::BlobStore& blobs, sandbox::Sandbox& sandbox,
                                        base::FileSystem& fs, base::Clock& clock) {
  return BranchMaker(request, manifest, diff, blobs, sandbox, clock).Make(fs);
}

}  // namespace holdfast::workspace
