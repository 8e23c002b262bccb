#include "workspace/git/repository.h"

#include <algorithm>
#include <utility>

#include "base/coding.h"
#include "workspace/path.h"
#include "workspace/protected.h"

namespace holdfast::workspace::git {
namespace {

constexpr size_t kPointerBytesMax = 8192;
constexpr size_t kPathMax = 4000;
constexpr size_t kAlternatesMax = 16;
constexpr int kSymbolicRefsMax = 5;
constexpr uint32_t kRefMode = 0644;
constexpr uint32_t kPackMode = 0444;
constexpr std::string_view kHeads = "refs/heads/";

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// An absolute path without `.` and `..`, by the letters alone.
std::string Normal(std::string_view from, std::string_view path) {
  std::vector<std::string_view> parts;
  const std::string whole =
      path.starts_with('/') ? std::string(path) : std::string(from) + "/" + std::string(path);
  const std::string_view view = whole;
  for (size_t at = 0; at < view.size();) {
    const size_t end = std::min(view.find('/', at), view.size());
    const std::string_view part = view.substr(at, end - at);
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    at = end + 1;
  }
  std::string normal;
  for (const std::string_view part : parts) normal += "/" + std::string(part);
  return normal.empty() ? "/" : normal;
}

base::StatusOr<std::optional<std::string>> ReadOptional(Tree& tree, std::string_view path, size_t bytes_max) {
  auto content = ReadWhole(tree, path, bytes_max);
  if (content.ok()) return std::optional<std::string>(std::move(content->bytes));
  if (absl::IsNotFound(content.status())) return std::optional<std::string>();
  // A directory or a link of that name is no file; so is what lies under a file.
  if (absl::IsFailedPrecondition(content.status())) return std::optional<std::string>();
  return content.status();
}

bool IsDirectory(Tree& tree, std::string_view path) {
  const auto stat = tree.Stat(path);
  return stat.ok() && stat->kind == EntryKind::kDirectory;
}

// Whether `line` of packed-refs names a ref that cannot live beside `ref`.
bool Clashes(std::string_view line, std::string_view ref) {
  if (line.empty() || line[0] == '#' || line[0] == '^') return false;
  const size_t space = line.find(' ');
  if (space == line.npos) return false;
  const std::string_view other = Trim(line.substr(space + 1));
  const auto is_under = [](std::string_view a, std::string_view b) {
    return a.size() > b.size() && a.starts_with(b) && a[b.size()] == '/';
  };
  return other == ref || is_under(other, ref) || is_under(ref, other);
}

base::Status Taken(std::string_view name, std::string_view by) {
  return absl::AlreadyExistsError(base::View("branch " + ShowPath(name) + ": there is already " +
                                             ShowPath(by) + "; choose another name"));
}

base::StatusOr<std::string> FindPackedRef(const FileReader& reader, std::string_view ref) {
  HF_ASSIGN_OR_RETURN(const std::optional<std::string> packed, reader("packed-refs", kPackedRefsBytesMax));
  if (!packed.has_value()) return std::string();
  for (const std::string_view line : Lines(*packed)) {
    const size_t space = line.find(' ');
    if (space != line.npos && Trim(line.substr(space + 1)) == ref && IsObjectId(line.substr(0, space))) {
      return std::string(line.substr(0, space));
    }
  }
  return std::string();
}

// With the rights of whom it belongs to, so that what is made belongs to him too.
base::StatusOr<std::unique_ptr<Tree>> OpenAsOwner(const std::string& path) {
  HF_ASSIGN_OR_RETURN(const auto tree, OpenTree(path));
  HF_ASSIGN_OR_RETURN(const EntryStat stat, tree->Stat(""));
  return OpenTree(path, {.identity = TreeIdentity{stat.uid, stat.gid}});
}

base::Status CheckOwner(Tree& tree, Tree& of, std::string_view what) {
  HF_ASSIGN_OR_RETURN(const EntryStat ours, tree.Stat(""));
  HF_ASSIGN_OR_RETURN(const EntryStat theirs, of.Stat(""));
  if (ours.uid == theirs.uid) return {};
  return base::FailedPrecondition(std::string(what) + ": belongs to user " + std::to_string(theirs.uid) +
                                  ", the tree to user " + std::to_string(ours.uid));
}

// Where the `.git` of a tree leads.
base::StatusOr<std::string> GitDirectory(Tree& tree, const std::string& tree_path, bool* inside) {
  const auto stat = tree.Stat(".git");
  if (absl::IsNotFound(stat.status())) return base::NotFound(tree_path + ": not a git repository");
  HF_RETURN_IF_ERROR(stat.status());
  *inside = stat->kind == EntryKind::kDirectory;
  if (*inside) return tree_path + "/.git";
  HF_ASSIGN_OR_RETURN(const FileContent pointer, ReadWhole(tree, ".git", kPointerBytesMax));
  constexpr std::string_view kPrefix = "gitdir:";
  const std::string_view text = Trim(pointer.bytes);
  if (!text.starts_with(kPrefix)) return base::FailedPrecondition(tree_path + "/.git: no `gitdir:` in it");
  return Normal(tree_path, Trim(text.substr(kPrefix.size())));
}

}  // namespace

base::StatusOr<Repository> OpenRepository(const std::string& tree_path) {
  HF_ASSIGN_OR_RETURN(const auto tree, OpenTree(tree_path));
  Repository repository;
  HF_ASSIGN_OR_RETURN(repository.directory, GitDirectory(*tree, tree_path, &repository.inside_tree));
  HF_ASSIGN_OR_RETURN(repository.head_tree, OpenAsOwner(repository.directory));
  HF_ASSIGN_OR_RETURN(const auto common, ReadOptional(*repository.head_tree, "commondir", kPointerBytesMax));
  repository.common_directory =
      common.has_value() ? Normal(repository.directory, Trim(*common)) : repository.directory;
  HF_ASSIGN_OR_RETURN(repository.common_tree, OpenAsOwner(repository.common_directory));
  HF_RETURN_IF_ERROR(CheckOwner(*tree, *repository.head_tree, repository.directory));
  HF_RETURN_IF_ERROR(CheckOwner(*tree, *repository.common_tree, repository.common_directory));
  if (IsDirectory(*repository.common_tree, "reftable")) {
    return base::FailedPrecondition(repository.common_directory +
                                    ": keeps its refs in a reftable, which is not supported");
  }
  if (!IsDirectory(*repository.common_tree, "objects") || !IsDirectory(*repository.common_tree, "refs")) {
    return base::FailedPrecondition(repository.common_directory + ": no objects and refs in it");
  }
  return repository;
}

FileReader ReaderOf(Repository& repository) {
  return [&repository](std::string_view path, size_t bytes_max) {
    Tree& tree = path == "HEAD" ? *repository.head_tree : *repository.common_tree;
    return ReadOptional(tree, path, bytes_max);
  };
}

bool IsObjectId(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

base::StatusOr<std::string> ResolveHead(const FileReader& reader) {
  std::string ref = "HEAD";
  for (int i = 0; i < kSymbolicRefsMax; ++i) {
    HF_ASSIGN_OR_RETURN(const std::optional<std::string> content, reader(ref, kRefFileBytesMax));
    if (!content.has_value()) {
      if (ref == "HEAD") return base::DataLoss("git: there is no HEAD");
      return FindPackedRef(reader, ref);
    }
    const std::string_view text = Trim(*content);
    if (IsObjectId(text)) return std::string(text);
    constexpr std::string_view kPrefix = "ref:";
    const std::string target(Trim(text.substr(std::min(text.size(), kPrefix.size()))));
    if (!text.starts_with(kPrefix) || !target.starts_with("refs/") || !ValidatePath(target).ok()) {
      return base::DataLoss("git: " + ShowPath(ref) + " holds neither a commit nor a ref");
    }
    ref = target;
  }
  return base::DataLoss("git: HEAD leads through too many refs");
}

base::Status ValidateBranchName(std::string_view name) {
  const auto refuse = [&](std::string_view why) {
    return base::InvalidArgument("branch `" + ShowPath(name) + "`: " + std::string(why));
  };
  if (name.empty()) return refuse("is empty");
  if (name.size() > 200) return refuse("is longer than 200 bytes");
  if (name == "HEAD" || name == "@") return refuse("means something else");
  if (name.front() == '-') return refuse("starts with `-`");
  if (name.back() == '.') return refuse("ends with `.`");
  if (name.find("..") != name.npos) return refuse("holds `..`");
  if (name.find("@{") != name.npos) return refuse("holds `@{`");
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7F) return refuse("holds a space or control character");
    if (std::string_view("~^:?*[\\").find(c) != std::string_view::npos) {
      return refuse("holds one of ~ ^ : ? * [ \\");
    }
  }
  HF_RETURN_IF_ERROR(base::Annotate(ValidatePath(name), "branch `" + ShowPath(name) + "`"));
  for (size_t at = 0; at < name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (part.front() == '.') return refuse("has a part that starts with `.`");
    if (part.ends_with(".lock")) return refuse("has a part that ends with `.lock`");
    at = end + 1;
  }
  return {};
}

base::Status CheckBranchIsFree(Repository& repository, std::string_view name) {
  const std::string ref = std::string(kHeads) + std::string(name);
  Tree& tree = *repository.common_tree;
  if (const auto stat = tree.Stat(ref); stat.ok()) return Taken(name, ref);
  for (std::string_view above = Parent(ref); above.size() >= kHeads.size(); above = Parent(above)) {
    const auto stat = tree.Stat(above);
    if (stat.ok() && stat->kind != EntryKind::kDirectory) return Taken(name, above);
  }
  HF_ASSIGN_OR_RETURN(const auto packed, ReadOptional(tree, "packed-refs", kPackedRefsBytesMax));
  for (const std::string_view line : Lines(packed.value_or(""))) {
    if (Clashes(line, ref)) return Taken(name, Trim(line.substr(line.find(' ') + 1)));
  }
  return {};
}

base::Status CreateBranch(Repository& repository, std::string_view name, std::string_view commit) {
  HF_RETURN_IF_ERROR(ValidateBranchName(name));
  if (!IsObjectId(commit)) return base::InvalidArgument("git: not the id of a commit");
  const std::string ref = std::string(kHeads) + std::string(name);
  const std::string lock = ref + ".lock";
  Tree& tree = *repository.common_tree;
  HF_RETURN_IF_ERROR(CheckBranchIsFree(repository, name));
  HF_RETURN_IF_ERROR(MakeParents(tree, ref));
  HF_ASSIGN_OR_RETURN(const auto file, tree.CreateFile(lock, kRefMode));
  const auto write = [&]() -> base::Status {
    HF_RETURN_IF_ERROR(CheckBranchIsFree(repository, name));
    HF_RETURN_IF_ERROR(file->WriteAt(0, base::AsBytes(std::string(commit) + "\n")));
    HF_RETURN_IF_ERROR(file->Sync());
    return tree.Rename(lock, ref, Replace::kNo);
  };
  if (const base::Status written = write(); !written.ok()) {
    (void)tree.Remove(lock);
    return written;
  }
  for (std::string_view directory = Parent(ref); !directory.empty(); directory = Parent(directory)) {
    HF_RETURN_IF_ERROR(tree.SyncDirectory(directory));
  }
  return {};
}

base::Status InstallPack(Repository& repository, Tree& from, const std::string& from_directory,
                         const std::string& name) {
  Tree& tree = *repository.common_tree;
  const std::string directory = "objects/pack";
  if (!IsDirectory(tree, directory)) HF_RETURN_IF_ERROR(tree.MakeDirectory(directory, 0755));
  // git looks for the index, so the pack is there first.
  for (const std::string_view suffix : {".pack", ".idx"}) {
    const std::string target = directory + "/" + name + std::string(suffix);
    if (tree.Stat(target).ok()) continue;
    const std::string temporary = directory + "/tmp_holdfast_" + name + std::string(suffix);
    HF_RETURN_IF_ERROR(RemoveAll(tree, temporary));
    HF_RETURN_IF_ERROR(
        tree.CopyFile(from, from_directory + "/" + name + std::string(suffix), temporary, kPackMode));
    HF_ASSIGN_OR_RETURN(const auto file, tree.OpenFile(temporary));
    HF_RETURN_IF_ERROR(file->Sync());
    HF_RETURN_IF_ERROR(tree.Rename(temporary, target, Replace::kNo));
    HF_RETURN_IF_ERROR(tree.SyncDirectory(directory));
  }
  return {};
}

base::StatusOr<std::vector<Alternate>> Alternates(Repository& repository, std::string_view inside) {
  std::vector<Alternate> found = {{repository.common_directory + "/objects", std::string(inside)}};
  for (size_t i = 0; i < found.size() && found.size() <= kAlternatesMax; ++i) {
    HF_ASSIGN_OR_RETURN(const auto objects, OpenTree(found[i].host));
    HF_ASSIGN_OR_RETURN(const auto text, ReadOptional(*objects, "info/alternates", kPackedRefsBytesMax));
    for (const std::string_view line : Lines(text.value_or(""))) {
      if (line.empty() || line[0] == '#' || line.size() > kPathMax) continue;
      Alternate next = {Normal(found[i].host, line), Normal(found[i].inside, line)};
      const bool known =
          std::any_of(found.begin(), found.end(), [&](const Alternate& a) { return a.host == next.host; });
      if (!known && found.size() <= kAlternatesMax) found.push_back(std::move(next));
    }
  }
  found.erase(found.begin());
  return found;
}

}  // namespace holdfast::workspace::git
