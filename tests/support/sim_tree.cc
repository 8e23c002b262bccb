#include "tests/support/sim_tree.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/coding.h"
#include "base/errno.h"
#include "workspace/path.h"

namespace holdfast::test {

using base::ErrnoStatus;
using base::FileKind;
using base::Status;
using base::StatusOr;
using workspace::Entry;
using workspace::EntryKind;
using workspace::EntryStat;
using workspace::NamedKind;
using workspace::Replace;

namespace {

// A link, whiteout or special file: never changes.
class SimLeafNode final : public SimInode {
 public:
  SimLeafNode(uint64_t inode_id, EntryKind leaf_kind, std::string link_target)
      : SimInode(inode_id, leaf_kind == EntryKind::kSymlink ? FileKind::kSymlink : FileKind::kOther),
        entry_kind(leaf_kind),
        target(std::move(link_target)) {}
  const EntryKind entry_kind;
  const std::string target;
};

Status CrashError(std::string_view path) {
  return absl::UnavailableError(base::View(std::string(path) + ": the simulated machine has crashed"));
}

SimDirectoryPtr AsDirectory(const SimInodePtr& inode) {
  if (inode == nullptr || inode->kind != FileKind::kDirectory) return nullptr;
  return std::static_pointer_cast<SimDirectoryNode>(inode);
}

SimFilePtr AsFile(const SimInodePtr& inode) {
  if (inode == nullptr || inode->kind != FileKind::kRegular) return nullptr;
  return std::static_pointer_cast<SimFileNode>(inode);
}

}  // namespace

class SimTreeFile final : public base::File {
 public:
  SimTreeFile(SimTree& tree, SimFilePtr file, std::string path, bool writable)
      : tree_(tree), file_(std::move(file)), path_(std::move(path)), writable_(writable), boot_(tree.boot_) {}

  StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) override {
    const std::lock_guard<std::mutex> lock(tree_.mu_);
    HF_RETURN_IF_ERROR(CheckBoot());
    const auto content = file_->content();
    if (offset >= content.size()) return size_t{0};
    const size_t n = std::min<size_t>(out.size(), content.size() - offset);
    if (n > 0) std::memcpy(out.data(), content.data() + offset, n);
    return n;
  }

  Status WriteAt(uint64_t offset, std::span<const std::byte> data) override {
    return Change([&]() -> Status {
      if (offset > tree_.options_.file_bytes_max || data.size() > tree_.options_.file_bytes_max - offset) {
        return ErrnoStatus(EFBIG, "write " + path_);
      }
      file_->Write(offset, data);
      tree_.Touch(*file_, true);
      return {};
    });
  }

  Status Truncate(uint64_t size) override {
    return Change([&]() -> Status {
      if (size > tree_.options_.file_bytes_max) return ErrnoStatus(EFBIG, "truncate " + path_);
      file_->Resize(size);
      tree_.Touch(*file_, true);
      return {};
    });
  }

  Status Preallocate(uint64_t size) override { return size <= file_->size() ? Status() : Truncate(size); }

  Status Sync() override {
    const std::lock_guard<std::mutex> lock(tree_.mu_);
    HF_RETURN_IF_ERROR(CheckBoot());
    return tree_.Mutate(path_, [&]() -> Status {
      if (tree_.options_.lying_syncs) return {};
      file_->Sync();
      SimTree::Attributes& attributes = tree_.attributes_[file_->id];
      attributes.durable = attributes.now;
      return {};
    });
  }
  Status DataSync() override { return Sync(); }

  StatusOr<uint64_t> Size() override {
    const std::lock_guard<std::mutex> lock(tree_.mu_);
    HF_RETURN_IF_ERROR(CheckBoot());
    return file_->size();
  }

  const SimFileNode& node() const { return *file_; }

 private:
  Status CheckBoot() const { return boot_ == tree_.boot_ ? tree_.CheckAlive(path_) : CrashError(path_); }
  template <class F>
  Status Change(F&& change) {
    const std::lock_guard<std::mutex> lock(tree_.mu_);
    HF_RETURN_IF_ERROR(CheckBoot());
    if (!writable_) return ErrnoStatus(EBADF, "write " + path_);
    return tree_.Mutate(path_, change);
  }

  SimTree& tree_;
  const SimFilePtr file_;
  const std::string path_;
  const bool writable_;
  const uint64_t boot_;
};

SimTree::SimTree(base::Clock& clock, SimTreeOptions options)
    : clock_(clock), options_(options), random_(options.seed, 7) {
  root_ = SimDirectoryNode::New(next_inode_++);
  attributes_[root_->id] = {.now = {.mode = 0755}, .durable = {.mode = 0755}};
  Touch(*root_, true);
}

SimTree::~SimTree() = default;

// --- The checks of every operation ---

Status SimTree::CheckAlive(std::string_view path) const {
  const bool dead = crashed_ || (joined_ != nullptr && joined_->crashed());
  return dead ? CrashError(path) : Status();
}

template <class F>
Status SimTree::Mutate(std::string_view path, F&& change) {
  HF_RETURN_IF_ERROR(CheckAlive(path));
  for (auto it = planned_faults_.begin(); it != planned_faults_.end(); ++it) {
    if (path.find(it->path_part) == path.npos || it->skip-- > 0) continue;
    const int error = it->error;
    planned_faults_.erase(it);
    return ErrnoStatus(error, path);
  }
  if (++mutations_ != crash_at_) return change();
  if (random_.Percent(50)) change().IgnoreError();
  crashed_ = true;
  if (joined_ != nullptr) joined_->Crash();
  return CrashError(path);
}

void SimTree::Touch(const SimInode& inode, bool content) {
  Attributes& attributes = attributes_[inode.id];
  attributes.ctime_ns = clock_.UtcNow().ns;
  if (content) attributes.mtime_ns = attributes.ctime_ns;
}

EntryKind SimTree::KindOf(const SimInode& inode) const {
  if (inode.kind == FileKind::kRegular) return EntryKind::kFile;
  if (inode.kind == FileKind::kDirectory) return EntryKind::kDirectory;
  return static_cast<const SimLeafNode&>(inode).entry_kind;
}

EntryStat SimTree::StatOf(const SimInode& inode) const {
  const Attributes& attributes = attributes_.at(inode.id);
  EntryStat stat{.kind = KindOf(inode),
                 .mode = attributes.now.mode,
                 .mtime_ns = attributes.mtime_ns,
                 .ctime_ns = attributes.ctime_ns,
                 .inode = inode.id,
                 .device = 1,
                 .links = 1};
  if (stat.kind == EntryKind::kFile) stat.size_bytes = static_cast<const SimFileNode&>(inode).size();
  if (stat.kind == EntryKind::kSymlink)
    stat.size_bytes = static_cast<const SimLeafNode&>(inode).target.size();
  return stat;
}

// --- Paths ---

StatusOr<SimTree::Place> SimTree::Find(std::string_view path) const {
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_RETURN_IF_ERROR(workspace::ValidatePath(path));
  Place place{.directory = root_, .name = "", .inode = root_};
  for (size_t at = 0; at < path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    if (place.inode == nullptr) return ErrnoStatus(ENOENT, path);
    if (place.inode->kind == FileKind::kSymlink) {
      return base::FailedPrecondition(std::string(path) + ": a symbolic link is in the way");
    }
    place.directory = AsDirectory(place.inode);
    if (place.directory == nullptr) return ErrnoStatus(ENOTDIR, path);
    place.name = path.substr(at, slash - at);
    place.inode = place.directory->Find(place.name);
    at = slash + 1;
  }
  return place;
}

StatusOr<SimTree::Place> SimTree::FindExisting(std::string_view path) const {
  HF_ASSIGN_OR_RETURN(Place place, Find(path));
  if (place.inode == nullptr) return ErrnoStatus(ENOENT, path);
  return place;
}

StatusOr<SimDirectoryPtr> SimTree::FindDirectory(std::string_view path) const {
  HF_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (place.inode->kind == FileKind::kSymlink) {
    return base::FailedPrecondition(std::string(path) + ": a symbolic link is in the way");
  }
  SimDirectoryPtr directory = AsDirectory(place.inode);
  if (directory == nullptr) return ErrnoStatus(ENOTDIR, path);
  return directory;
}

StatusOr<EntryStat> SimTree::Stat(std::string_view path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  return StatOf(*place.inode);
}

StatusOr<std::vector<Entry>> SimTree::List(std::string_view path, size_t entries_max) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const SimDirectoryPtr directory, FindDirectory(path));
  if (directory->entries().size() > entries_max)
    return base::ResourceExhausted(std::string(path) + ": too many");
  std::vector<Entry> entries;
  for (const auto& [name, inode] : directory->entries()) entries.push_back({name, StatOf(*inode)});
  return entries;
}

StatusOr<std::vector<NamedKind>> SimTree::Names(std::string_view path, size_t entries_max) {
  HF_ASSIGN_OR_RETURN(const std::vector<Entry> entries, List(path, entries_max));
  std::vector<NamedKind> names;
  for (const Entry& entry : entries) names.push_back({entry.name, entry.stat.kind});
  return names;
}

// --- Files ---

StatusOr<std::unique_ptr<base::File>> SimTree::Open(std::string_view path, bool writable) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  SimFilePtr file = AsFile(place.inode);
  if (file == nullptr) return base::FailedPrecondition(std::string(path) + ": not a regular file");
  return std::make_unique<SimTreeFile>(*this, std::move(file), std::string(path), writable);
}

StatusOr<std::unique_ptr<base::File>> SimTree::OpenFile(std::string_view path) { return Open(path, false); }

StatusOr<std::unique_ptr<base::File>> SimTree::OpenFileForWriting(std::string_view path) {
  return Open(path, true);
}

StatusOr<EntryStat> SimTree::StatOpen(base::File& file) {
  const std::lock_guard<std::mutex> lock(mu_);
  auto* const ours = dynamic_cast<SimTreeFile*>(&file);
  if (ours == nullptr) return base::InvalidArgument("a file of another kind of tree");
  HF_RETURN_IF_ERROR(CheckAlive("stat"));
  return StatOf(ours->node());
}

Status SimTree::Create(std::string_view path, SimInodePtr inode, uint32_t mode) {
  HF_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.inode != nullptr) return ErrnoStatus(EEXIST, path);
  return Mutate(path, [&]() -> Status {
    attributes_[inode->id] = {.now = {.mode = mode}, .durable = {.mode = mode}};
    Touch(*inode, true);
    Touch(*place.directory, true);
    place.directory->Make({.entries = {{place.name, std::move(inode)}}, .id = next_change_++});
    return {};
  });
}

StatusOr<std::unique_ptr<base::File>> SimTree::CreateFile(std::string_view path, uint32_t mode) {
  const std::lock_guard<std::mutex> lock(mu_);
  const SimFilePtr file = SimFileNode::New(next_inode_++, options_.file_bytes_max);
  HF_RETURN_IF_ERROR(Create(path, file, mode & 07777u));
  return std::make_unique<SimTreeFile>(*this, file, std::string(path), true);
}

Status SimTree::MakeLink(std::string_view path, std::string_view target) {
  if (target.empty() || target.size() >= 4096 || target.find('\0') != target.npos) {
    return base::InvalidArgument(std::string(path) + ": the target of a link");
  }
  const std::lock_guard<std::mutex> lock(mu_);
  // shared: see SimInodePtr
  return Create(path, std::make_shared<SimLeafNode>(next_inode_++, EntryKind::kSymlink, std::string(target)),
                0777);
}

Status SimTree::MakeDirectory(std::string_view path, uint32_t mode) {
  const std::lock_guard<std::mutex> lock(mu_);
  return Create(path, SimDirectoryNode::New(next_inode_++), mode & 07777u);
}

Status SimTree::MakeWhiteout(std::string_view path) {
  const std::lock_guard<std::mutex> lock(mu_);
  // shared: see SimInodePtr
  return Create(path, std::make_shared<SimLeafNode>(next_inode_++, EntryKind::kWhiteout, ""), 0);
}

Status SimTree::MakeOther(std::string_view path) {
  const std::lock_guard<std::mutex> lock(mu_);
  // shared: see SimInodePtr
  return Create(path, std::make_shared<SimLeafNode>(next_inode_++, EntryKind::kOther, ""), 0644);
}

StatusOr<std::string> SimTree::ReadLink(std::string_view path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (place.inode->kind != FileKind::kSymlink)
    return base::FailedPrecondition(std::string(path) + ": not a link");
  return static_cast<const SimLeafNode&>(*place.inode).target;
}

Status SimTree::SetMode(std::string_view path, uint32_t mode) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (place.inode->kind == FileKind::kSymlink) {
    return base::FailedPrecondition(std::string(path) + ": a symbolic link is in the way");
  }
  return Mutate(path, [&]() -> Status {
    attributes_[place.inode->id].now.mode = mode & 07777u;
    Touch(*place.inode, false);
    return {};
  });
}

StatusOr<bool> SimTree::IsOpaque(std::string_view path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const SimDirectoryPtr directory, FindDirectory(path));
  return attributes_.at(directory->id).now.opaque;
}

Status SimTree::SetOpaque(std::string_view path, bool opaque) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const SimDirectoryPtr directory, FindDirectory(path));
  return Mutate(path, [&]() -> Status {
    attributes_[directory->id].now.opaque = opaque;
    Touch(*directory, false);
    return {};
  });
}

// --- Names ---

Status SimTree::Rename(std::string_view from, std::string_view to, Replace replace) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const Place source, FindExisting(from));
  HF_ASSIGN_OR_RETURN(const Place target, Find(to));
  const std::string what = std::string(from) + " to " + std::string(to);
  if (source.name.empty() || target.name.empty()) return ErrnoStatus(EBUSY, what);
  if (target.inode != nullptr && replace == Replace::kNo) return ErrnoStatus(EEXIST, what);
  if (source.inode == target.inode) return {};
  if (workspace::ComparePaths(from, to) < 0 && to.starts_with(from) && to[from.size()] == '/') {
    return ErrnoStatus(EINVAL, what);
  }
  const SimDirectoryPtr moved = AsDirectory(source.inode);
  const SimDirectoryPtr replaced = AsDirectory(target.inode);
  if (moved != nullptr && target.inode != nullptr && replaced == nullptr) return ErrnoStatus(ENOTDIR, what);
  if (replaced != nullptr && moved == nullptr) return ErrnoStatus(EISDIR, what);
  if (replaced != nullptr && !replaced->entries().empty()) return ErrnoStatus(ENOTEMPTY, what);
  return Mutate(what, [&]() -> Status {
    const uint64_t id = next_change_++;
    Touch(*source.directory, true);
    Touch(*target.directory, true);
    Touch(*source.inode, false);
    if (source.directory == target.directory) {
      target.directory->Make({.entries = {{source.name, nullptr}, {target.name, source.inode}}, .id = id});
    } else {
      target.directory->Make({.entries = {{target.name, source.inode}}, .id = id});
      source.directory->Make({.entries = {{source.name, nullptr}}, .id = id, .arrival_in = target.directory});
    }
    return {};
  });
}

Status SimTree::Remove(std::string_view path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (place.name.empty()) return base::InvalidArgument("remove: the root of the tree");
  const SimDirectoryPtr directory = AsDirectory(place.inode);
  if (directory != nullptr && !directory->entries().empty()) return ErrnoStatus(ENOTEMPTY, path);
  return Mutate(path, [&]() -> Status {
    Touch(*place.directory, true);
    place.directory->Make({.entries = {{place.name, nullptr}}, .id = next_change_++});
    return {};
  });
}

Status SimTree::SyncDirectory(std::string_view path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const SimDirectoryPtr directory, FindDirectory(path));
  return Mutate(path, [&]() -> Status {
    if (options_.lying_directory_syncs) return {};
    directory->Sync();
    Attributes& attributes = attributes_[directory->id];
    attributes.durable = attributes.now;
    return {};
  });
}

// --- Faults ---

void SimTree::JoinPower(SimFileSystem& fs) {
  const std::lock_guard<std::mutex> lock(mu_);
  joined_ = &fs;
}

void SimTree::CrashAtMutation(uint64_t n) {
  const std::lock_guard<std::mutex> lock(mu_);
  crash_at_ = n == 0 ? 0 : mutations_ + n;
}

void SimTree::Crash() {
  const std::lock_guard<std::mutex> lock(mu_);
  crashed_ = true;
  if (joined_ != nullptr) joined_->Crash();
}

bool SimTree::crashed() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return !CheckAlive("").ok();
}

uint64_t SimTree::mutations() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return mutations_;
}

void SimTree::FailNext(std::string path_part, int error, uint64_t skip) {
  const std::lock_guard<std::mutex> lock(mu_);
  planned_faults_.push_back({std::move(path_part), error, skip});
}

void SimTree::Restart() {
  const std::lock_guard<std::mutex> lock(mu_);
  std::vector<SimDirectoryNode*> directories;
  root_->Collect(directories);
  for (SimDirectoryNode* directory : directories) directory->PickCut(random_);
  for (bool lowered = true; lowered;) {
    lowered = false;
    for (SimDirectoryNode* directory : directories) lowered |= directory->LowerCut();
  }
  root_ = RestoreDirectory(*root_);
  restored_.clear();
  planned_faults_.clear();
  for (auto& [inode, attributes] : attributes_) {
    if (attributes.now != attributes.durable && random_.Percent(50)) attributes.now = attributes.durable;
    attributes.durable = attributes.now;
  }
  crash_at_ = 0;
  crashed_ = false;
  ++boot_;
}

SimDirectoryPtr SimTree::RestoreDirectory(const SimDirectoryNode& old) {
  auto directory = SimDirectoryNode::New(old.id);
  restored_[old.id] = directory;
  SimDirectoryNode::Entries entries = old.AfterCrash();
  for (auto& [name, inode] : entries) inode = RestoreInode(inode);
  directory->Restore(std::move(entries));
  return directory;
}

SimInodePtr SimTree::RestoreInode(const SimInodePtr& old) {
  const auto known = restored_.find(old->id);
  if (known != restored_.end()) return known->second;
  SimInodePtr inode = old;
  if (const SimDirectoryPtr directory = AsDirectory(old)) {
    inode = RestoreDirectory(*directory);
  } else if (const SimFilePtr old_file = AsFile(old)) {
    auto file = SimFileNode::New(old->id, options_.file_bytes_max);
    file->Restore(old_file->AfterCrash(random_));
    inode = std::move(file);
  }
  restored_[old->id] = inode;
  return inode;
}

std::string SimTree::Dump() const {
  const std::lock_guard<std::mutex> lock(mu_);
  std::string out;
  DumpDirectory(*root_, "", out);
  return out;
}

void SimTree::DumpDirectory(const SimDirectoryNode& directory, const std::string& prefix,
                            std::string& out) const {
  for (const auto& [name, inode] : directory.entries()) {
    const std::string path = prefix + name;
    const Meta& meta = attributes_.at(inode->id).now;
    char mode[8];
    std::snprintf(mode, sizeof(mode), "%o ", meta.mode);
    if (const SimFilePtr file = AsFile(inode)) {
      out += "f " + std::string(mode) + path + ": " + std::string(base::AsText(file->content())) + "\n";
    } else if (const SimDirectoryPtr child = AsDirectory(inode)) {
      out += "d " + std::string(mode) + path + (meta.opaque ? " opaque\n" : "\n");
      DumpDirectory(*child, path + "/", out);
    } else {
      const auto& leaf = static_cast<const SimLeafNode&>(*inode);
      const bool link = leaf.entry_kind == EntryKind::kSymlink;
      out += link                                      ? "l " + path + " -> " + leaf.target + "\n"
             : leaf.entry_kind == EntryKind::kWhiteout ? "w " + path + "\n"
                                                       : "o " + path + "\n";
    }
  }
}

}  // namespace holdfast::test
