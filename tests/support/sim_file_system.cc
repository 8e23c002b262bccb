#include "tests/support/sim_file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <utility>

#include "base/check.h"
#include "base/coding.h"
#include "base/errno.h"

namespace holdfast::test {

using base::DirectoryEntry;
using base::ErrnoStatus;
using base::File;
using base::FileKind;
using base::FileLock;
using base::FileStat;
using base::MappedFile;
using base::OpenMode;
using base::Status;
using base::StatusOr;

namespace {

constexpr uint64_t kDevice = 1;
constexpr const char* kOpNames[kSimOpCount] = {"open",        "read",  "create", "write",  "truncate",
                                               "preallocate", "fsync", "rename", "remove", "fsync directory"};

const char* NameOf(SimOp op) { return kOpNames[static_cast<size_t>(op)]; }

Status CrashError(const std::string& path) {
  return absl::UnavailableError(base::View(path + ": the simulated machine has crashed"));
}

StatusOr<std::vector<std::string>> SplitPath(const std::string& path) {
  if (path.empty()) return base::InvalidArgument("empty path");
  if (path.find('\0') != std::string::npos) return base::InvalidArgument("path with a NUL byte");
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    std::string name = path.substr(begin, end - begin);
    HF_CHECK(name != "..");
    if (!name.empty() && name != ".") names.push_back(std::move(name));
    begin = end + 1;
  }
  return names;
}

SimDirectoryPtr AsDirectory(const SimInodePtr& inode) {
  if (inode == nullptr || inode->kind != FileKind::kDirectory) return nullptr;
  return std::static_pointer_cast<SimDirectoryNode>(inode);
}

}  // namespace

class SimMappedFile final : public MappedFile {
 public:
  SimMappedFile(SimFileSystem& fs, SimFilePtr file)
      : fs_(fs), file_(std::move(file)), bytes_(file_->content()) {}
  std::span<const std::byte> bytes() const override { return bytes_; }
  void WillNeed(uint64_t, uint64_t) const override {}
  bool damaged() const override {
    const std::lock_guard<std::mutex> lock(fs_.mu_);
    return file_->size() < bytes_.size();
  }

 private:
  SimFileSystem& fs_;
  const SimFilePtr file_;
  const std::span<const std::byte> bytes_;
};

class SimFile final : public File {
 public:
  SimFile(SimFileSystem& fs, SimFilePtr file, std::string path, bool writable)
      : fs_(fs), file_(std::move(file)), path_(std::move(path)), writable_(writable), boot_(fs.boot_) {}

  StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) override {
    const std::lock_guard<std::mutex> lock(fs_.mu_);
    HF_RETURN_IF_ERROR(CheckBoot());
    HF_RETURN_IF_ERROR(fs_.Check(SimOp::kRead, path_));
    const auto content = file_->content();
    if (offset > INT64_MAX || out.size() > INT64_MAX - offset) return ErrnoStatus(EINVAL, "read " + path_);
    if (offset >= content.size()) return size_t{0};
    size_t n = std::min<size_t>(out.size(), content.size() - offset);
    if (n > 0 && fs_.random_.Percent(fs_.cut_reads_percent_)) n = fs_.random_.Below(n);
    if (n > 0) std::memcpy(out.data(), content.data() + offset, n);
    return n;
  }

  Status WriteAt(uint64_t offset, std::span<const std::byte> data) override {
    const auto write = [&](std::span<const std::byte> bytes) {
      return fs_.WriteSome(*file_, offset, bytes, path_);
    };
    return Change(
        SimOp::kWrite, [&] { return write(data); },
        [&] { write(data.first(fs_.random_.Below(data.size() + 1))).IgnoreError(); });
  }

  Status Truncate(uint64_t size) override {
    return Change(SimOp::kTruncate, [&] {
      HF_RETURN_IF_ERROR(fs_.Grow(*file_, size, path_));
      file_->Resize(size);
      return absl::OkStatus();
    });
  }

  Status Preallocate(uint64_t size) override {
    return Change(SimOp::kPreallocate, [&] {
      if (size <= file_->size()) return absl::OkStatus();
      HF_RETURN_IF_ERROR(fs_.Grow(*file_, size, path_));
      file_->Resize(size);
      return absl::OkStatus();
    });
  }

  Status Sync() override {
    const auto sync = [&] {
      if (!fs_.options_.lying_syncs) file_->Sync();
      return absl::OkStatus();
    };
    return Change(SimOp::kSync, sync, [&] { file_->LosePending(); });
  }
  Status DataSync() override { return Sync(); }

  StatusOr<uint64_t> Size() override {
    const std::lock_guard<std::mutex> lock(fs_.mu_);
    HF_RETURN_IF_ERROR(CheckBoot());
    HF_RETURN_IF_ERROR(fs_.CheckAlive(path_));
    return file_->size();
  }

 private:
  Status CheckBoot() const { return boot_ == fs_.boot_ ? absl::OkStatus() : CrashError(path_); }

  // `failed` is what an injected failure does instead of `change`.
  template <class F, class Failed = void (*)()>
  Status Change(
      SimOp op, F&& change, Failed&& failed = [] {}) {
    const std::lock_guard<std::mutex> lock(fs_.mu_);
    HF_RETURN_IF_ERROR(CheckBoot());
    HF_RETURN_IF_ERROR(fs_.CheckAlive(path_));
    if (!writable_ && op != SimOp::kSync) return ErrnoStatus(EBADF, std::string(NameOf(op)) + " " + path_);
    bool reached = false;
    const Status status = fs_.Mutate(op, path_, [&] {
      reached = true;
      return change();
    });
    if (!status.ok() && !reached && !fs_.crashed_) failed();
    return status;
  }

  SimFileSystem& fs_;
  const SimFilePtr file_;
  const std::string path_;
  const bool writable_;
  const uint64_t boot_;
};

class SimLock final : public FileLock {
 public:
  SimLock(SimFileSystem& fs, uint64_t inode) : fs_(fs), inode_(inode), boot_(fs.boot_) {}
  ~SimLock() override {
    const std::lock_guard<std::mutex> lock(fs_.mu_);
    if (boot_ == fs_.boot_) fs_.locked_inodes_.erase(inode_);
  }

 private:
  SimFileSystem& fs_;
  const uint64_t inode_;
  const uint64_t boot_;
};

SimFileSystem::SimFileSystem(base::Clock& clock, SimDiskOptions options)
    : clock_(clock), options_(options), random_(options.seed) {
  root_ = SimDirectoryNode::New(next_inode_++);
}

SimFileSystem::~SimFileSystem() = default;

// --- The checks of every operation ---

Status SimFileSystem::CheckAlive(const std::string& path) const {
  return crashed_ ? CrashError(path) : absl::OkStatus();
}

Status SimFileSystem::Check(SimOp op, const std::string& path) {
  HF_RETURN_IF_ERROR(CheckAlive(path));
  const std::string what = std::string(NameOf(op)) + " " + path;
  for (auto it = planned_faults_.begin(); it != planned_faults_.end(); ++it) {
    if (it->op != op || path.find(it->path_part) == std::string::npos) continue;
    if (it->skip > 0) {
      --it->skip;
      continue;
    }
    const int error = it->error;
    planned_faults_.erase(it);
    return ErrnoStatus(error, what);
  }
  const RandomFault& fault = random_faults_[static_cast<size_t>(op)];
  return fault.percent > 0 && random_.Percent(fault.percent) ? ErrnoStatus(fault.error, what)
                                                             : absl::OkStatus();
}

// Makes a change, unless it is to fail; and the crash, when this is its moment.
template <class F>
Status SimFileSystem::Mutate(SimOp op, const std::string& path, F&& change) {
  HF_RETURN_IF_ERROR(Check(op, path));
  ++mutations_;
  const bool crash = mutations_ == crash_at_;
  if (!crash) return change();
  if (random_.Percent(50)) change().IgnoreError();
  crashed_ = true;
  return CrashError(path);
}

// --- Paths ---

StatusOr<SimFileSystem::Place> SimFileSystem::Find(const std::string& path) {
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> names, SplitPath(path));
  Place place{.directory = root_, .name = "", .inode = root_};
  for (const std::string& name : names) {
    if (place.inode == nullptr) return ErrnoStatus(ENOENT, path);
    place.directory = AsDirectory(place.inode);
    if (place.directory == nullptr) return ErrnoStatus(ENOTDIR, path);
    place.name = name;
    place.inode = place.directory->Find(name);
  }
  return place;
}

StatusOr<SimInodePtr> SimFileSystem::FindExisting(const std::string& path, std::string_view operation) {
  HF_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.inode == nullptr) return ErrnoStatus(ENOENT, std::string(operation) + " " + path);
  return place.inode;
}

StatusOr<SimFilePtr> SimFileSystem::FindFile(const std::string& path) {
  HF_RETURN_IF_ERROR(Check(SimOp::kOpen, path));
  HF_ASSIGN_OR_RETURN(const SimInodePtr inode, FindExisting(path, "open"));
  if (inode->kind == FileKind::kRegular) return std::static_pointer_cast<SimFileNode>(inode);
  return base::FailedPrecondition("open " + path + ": Not a regular file");
}

// --- Files ---

StatusOr<std::unique_ptr<MappedFile>> SimFileSystem::Map(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(SimFilePtr file, FindFile(path));
  return std::make_unique<SimMappedFile>(*this, std::move(file));
}

StatusOr<std::string> SimFileSystem::ReadFile(const std::string& path, uint64_t max_bytes) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const SimFilePtr file, FindFile(path));
  HF_RETURN_IF_ERROR(Check(SimOp::kRead, path));
  if (file->size() > max_bytes) {
    return base::ResourceExhausted("read " + path + ": larger than " + std::to_string(max_bytes) + " bytes");
  }
  return std::string(base::AsText(file->content()));
}

StatusOr<std::unique_ptr<File>> SimFileSystem::Open(const std::string& path, OpenMode mode) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(SimFilePtr file, OpenFile(path, mode));
  return std::make_unique<SimFile>(*this, std::move(file), path, mode != OpenMode::kRead);
}

StatusOr<SimFilePtr> SimFileSystem::OpenFile(const std::string& path, OpenMode mode) {
  if (mode == OpenMode::kRead || mode == OpenMode::kReadWrite) return FindFile(path);
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.inode == nullptr) return CreateFile(place, path);
  if (mode == OpenMode::kCreateNew) return ErrnoStatus(EEXIST, "open " + path);
  HF_ASSIGN_OR_RETURN(SimFilePtr file, FindFile(path));
  if (mode == OpenMode::kTruncate && file->size() > 0) {
    HF_RETURN_IF_ERROR(Mutate(SimOp::kTruncate, path, [&] {
      file->Resize(0);
      return absl::OkStatus();
    }));
  }
  return file;
}

StatusOr<SimFilePtr> SimFileSystem::CreateFile(const Place& place, const std::string& path) {
  HF_RETURN_IF_ERROR(Check(SimOp::kOpen, path));
  auto file = SimFileNode::New(next_inode_++, options_.file_bytes_max);
  Touch(*file);
  HF_RETURN_IF_ERROR(Mutate(SimOp::kCreate, path, [&] {
    place.directory->Make({.entries = {{place.name, file}}, .id = next_change_++});
    return absl::OkStatus();
  }));
  return file;
}

Status SimFileSystem::Grow(const SimFileNode& file, uint64_t size, const std::string& path) const {
  if (size > options_.file_bytes_max) return ErrnoStatus(EFBIG, "write " + path);
  if (size <= file.size() || options_.disk_bytes_max == UINT64_MAX) return absl::OkStatus();
  const uint64_t used = UsedBytes();
  const uint64_t room = options_.disk_bytes_max - std::min(used, options_.disk_bytes_max);
  return size - file.size() <= room ? absl::OkStatus() : ErrnoStatus(ENOSPC, "write " + path);
}

// What fits is written before the error, as a disk does.
Status SimFileSystem::WriteSome(SimFileNode& file, uint64_t offset, std::span<const std::byte> data,
                                const std::string& path) {
  if (offset > INT64_MAX || data.size() > INT64_MAX - offset) return ErrnoStatus(EINVAL, "write " + path);
  const Status status = Grow(file, offset + data.size(), path);
  size_t n = data.size();
  if (!status.ok()) n = offset < file.size() ? std::min<uint64_t>(n, file.size() - offset) : 0;
  file.Write(offset, data.first(n),
             options_.lost_writes_percent > 0 && random_.Percent(options_.lost_writes_percent));
  Touch(file);
  return status;
}

// Of the files that have a name.
uint64_t SimFileSystem::UsedBytes() const {
  std::set<uint64_t> seen;
  uint64_t bytes = 0;
  const std::function<void(const SimDirectoryNode&)> visit = [&](const SimDirectoryNode& directory) {
    for (const auto& [name, inode] : directory.entries()) {
      if (!seen.insert(inode->id).second) continue;
      if (const SimDirectoryPtr child = AsDirectory(inode)) {
        visit(*child);
      } else {
        bytes += static_cast<const SimFileNode&>(*inode).size();
      }
    }
  };
  visit(*root_);
  return bytes;
}

// --- Names ---

Status SimFileSystem::Rename(const std::string& from, const std::string& to) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(CheckAlive(from));
  HF_ASSIGN_OR_RETURN(const Place source, Find(from));
  HF_ASSIGN_OR_RETURN(const Place target, Find(to));
  const std::string what = from + " to " + to;
  if (source.inode == nullptr) return ErrnoStatus(ENOENT, "rename " + what);
  if (source.name.empty() || target.name.empty()) return ErrnoStatus(EBUSY, "rename " + what);
  if (source.inode == target.inode) return absl::OkStatus();
  return RenameChecked(source, target, what);
}

Status SimFileSystem::RenameChecked(const Place& from, const Place& to, const std::string& what) {
  const SimDirectoryPtr moved = AsDirectory(from.inode);
  const SimDirectoryPtr replaced = AsDirectory(to.inode);
  if (moved != nullptr && from.directory != to.directory) return ErrnoStatus(EXDEV, "rename " + what);
  if (moved != nullptr && to.inode != nullptr && replaced == nullptr) {
    return ErrnoStatus(ENOTDIR, "rename " + what);
  }
  if (replaced != nullptr && moved == nullptr) return ErrnoStatus(EISDIR, "rename " + what);
  if (replaced != nullptr && !replaced->entries().empty()) return ErrnoStatus(ENOTEMPTY, "rename " + what);
  return Mutate(SimOp::kRename, what, [&] {
    const uint64_t id = next_change_++;
    if (from.directory == to.directory) {
      to.directory->Make({.entries = {{from.name, nullptr}, {to.name, from.inode}}, .id = id});
    } else {
      to.directory->Make({.entries = {{to.name, from.inode}}, .id = id});
      from.directory->Make({.entries = {{from.name, nullptr}}, .id = id, .arrival_in = to.directory});
    }
    return absl::OkStatus();
  });
}

Status SimFileSystem::Remove(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.inode == nullptr) return ErrnoStatus(ENOENT, "remove " + path);
  if (place.name.empty()) return ErrnoStatus(EBUSY, "remove " + path);
  const SimDirectoryPtr directory = AsDirectory(place.inode);
  if (directory != nullptr && !directory->entries().empty()) return ErrnoStatus(ENOTEMPTY, "remove " + path);
  return Mutate(SimOp::kRemove, path, [&] {
    place.directory->Make({.entries = {{place.name, nullptr}}, .id = next_change_++});
    return absl::OkStatus();
  });
}

Status SimFileSystem::CreateDirectories(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> names, SplitPath(path));
  std::string prefix;
  for (const std::string& name : names) {
    prefix += "/" + name;
    HF_RETURN_IF_ERROR(CreateDirectory(prefix));
  }
  return absl::OkStatus();
}

Status SimFileSystem::CreateDirectory(const std::string& path) {
  HF_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (AsDirectory(place.inode) != nullptr) return absl::OkStatus();
  if (place.inode != nullptr) return ErrnoStatus(ENOTDIR, "create directory " + path);
  HF_RETURN_IF_ERROR(Mutate(SimOp::kCreate, path, [&] {
    auto directory = SimDirectoryNode::New(next_inode_++);
    Touch(*directory);
    place.directory->Make({.entries = {{place.name, std::move(directory)}}, .id = next_change_++});
    return absl::OkStatus();
  }));
  return Mutate(SimOp::kSyncDirectory, path, [&] {
    place.directory->Sync();
    return absl::OkStatus();
  });
}

Status SimFileSystem::SyncDirectory(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_ASSIGN_OR_RETURN(const SimInodePtr inode, FindExisting(path, "fsync directory"));
  const SimDirectoryPtr directory = AsDirectory(inode);
  if (directory == nullptr) return ErrnoStatus(ENOTDIR, "fsync directory " + path);
  return Mutate(SimOp::kSyncDirectory, path, [&] {
    if (!options_.lying_directory_syncs) directory->Sync();
    return absl::OkStatus();
  });
}

StatusOr<std::vector<DirectoryEntry>> SimFileSystem::List(const std::string& path, size_t max_entries) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_ASSIGN_OR_RETURN(const SimInodePtr inode, FindExisting(path, "list"));
  const SimDirectoryPtr directory = AsDirectory(inode);
  if (directory == nullptr) return ErrnoStatus(ENOTDIR, "list " + path);
  if (directory->entries().size() > max_entries) {
    return base::ResourceExhausted("list " + path + ": more than " + std::to_string(max_entries) +
                                   " entries");
  }
  std::vector<DirectoryEntry> entries;
  for (const auto& [name, child] : directory->entries()) entries.push_back({name, child->kind});
  return entries;
}

StatusOr<FileStat> SimFileSystem::Stat(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_ASSIGN_OR_RETURN(const SimInodePtr inode, FindExisting(path, "stat"));
  const bool regular = inode->kind == FileKind::kRegular;
  const uint64_t size = regular ? static_cast<const SimFileNode&>(*inode).size() : 0;
  return FileStat{.kind = inode->kind,
                  .size_bytes = size,
                  .mtime_ns = inode->changed.ns,
                  .ctime_ns = inode->changed.ns,
                  .inode = inode->id,
                  .device = kDevice,
                  .links = 1,
                  .allocated_bytes = size};
}

StatusOr<base::FileSystemInfo> SimFileSystem::Info(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(CheckAlive(path));
  HF_RETURN_IF_ERROR(FindExisting(path, "statfs").status());
  return base::FileSystemInfo{
      .type = "simulated",
      .network = network_,
      .free_bytes = options_.disk_bytes_max - std::min(UsedBytes(), options_.disk_bytes_max),
      .total_bytes = options_.disk_bytes_max};
}

StatusOr<std::unique_ptr<FileLock>> SimFileSystem::Lock(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_ASSIGN_OR_RETURN(const SimFilePtr file, OpenFile(path, OpenMode::kCreate));
  if (!locked_inodes_.insert(file->id).second) {
    return ErrnoStatus(EAGAIN, "lock " + path + " (held by process 1)");
  }
  return std::make_unique<SimLock>(*this, file->id);
}

// --- Faults ---

void SimFileSystem::FailNext(SimOp op, std::string path_part, int error, uint64_t skip) {
  const std::lock_guard<std::mutex> lock(mu_);
  planned_faults_.push_back({op, std::move(path_part), error, skip});
}

size_t SimFileSystem::FaultsWaiting(std::string_view path_part) const {
  const std::lock_guard<std::mutex> lock(mu_);
  return static_cast<size_t>(std::count_if(planned_faults_.begin(), planned_faults_.end(),
                                           [&](const auto& f) { return f.path_part == path_part; }));
}

void SimFileSystem::ForgetFaults() {
  const std::lock_guard<std::mutex> lock(mu_);
  planned_faults_.clear();
}

void SimFileSystem::FailRandomly(SimOp op, uint64_t percent, int error) {
  const std::lock_guard<std::mutex> lock(mu_);
  random_faults_[static_cast<size_t>(op)] = {percent, error};
}

void SimFileSystem::CutReads(uint64_t percent) {
  const std::lock_guard<std::mutex> lock(mu_);
  cut_reads_percent_ = percent;
}

void SimFileSystem::SetNetwork(bool network) {
  const std::lock_guard<std::mutex> lock(mu_);
  network_ = network;
}

void SimFileSystem::FlipBit(const std::string& path, uint64_t bit) {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto place = Find(path);
  HF_CHECK(place.ok() && place->inode != nullptr && place->inode->kind == FileKind::kRegular);
  static_cast<SimFileNode&>(*place->inode).FlipBit(bit);
}

void SimFileSystem::CrashAtMutation(uint64_t n) {
  const std::lock_guard<std::mutex> lock(mu_);
  crash_at_ = n == 0 ? 0 : mutations_ + n;
}

void SimFileSystem::Crash() {
  const std::lock_guard<std::mutex> lock(mu_);
  crashed_ = true;
}

bool SimFileSystem::crashed() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return crashed_;
}

uint64_t SimFileSystem::mutations() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return mutations_;
}

void SimFileSystem::Restart() {
  const std::lock_guard<std::mutex> lock(mu_);
  std::vector<SimDirectoryNode*> directories;
  root_->Collect(directories);
  for (SimDirectoryNode* directory : directories) directory->PickCut(random_);
  bool lowered = true;
  while (lowered) {
    lowered = false;
    for (SimDirectoryNode* directory : directories) lowered |= directory->LowerCut();
  }
  root_ = RestoreDirectory(*root_);
  restored_.clear();
  locked_inodes_.clear();
  crash_at_ = 0;
  crashed_ = false;
  ++boot_;
}

SimDirectoryPtr SimFileSystem::RestoreDirectory(const SimDirectoryNode& old) {
  auto directory = SimDirectoryNode::New(old.id);
  directory->changed = old.changed;
  SimDirectoryNode::Entries entries = old.AfterCrash();
  for (auto& [name, inode] : entries) inode = RestoreInode(inode);
  directory->Restore(std::move(entries));
  return directory;
}

// A file that a crash left under two names is one file.
SimInodePtr SimFileSystem::RestoreInode(const SimInodePtr& old) {
  const auto known = restored_.find(old->id);
  if (known != restored_.end()) return known->second;
  SimInodePtr inode;
  if (const SimDirectoryPtr directory = AsDirectory(old)) {
    inode = RestoreDirectory(*directory);
  } else {
    auto file = SimFileNode::New(old->id, options_.file_bytes_max);
    file->changed = old->changed;
    file->Restore(static_cast<const SimFileNode&>(*old).AfterCrash(random_));
    inode = std::move(file);
  }
  restored_[old->id] = inode;
  return inode;
}

}  // namespace holdfast::test
