// The real Tree: every step is taken from the handle of the root by openat2, which refuses to leave it.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/errno.h"
#include "workspace/path.h"
#include "workspace/tree.h"

namespace holdfast::workspace {
namespace {

constexpr char kOpaqueAttribute[] = "user.overlay.opaque";
constexpr int kOpenTries = 100;  // while others rename directories around us
constexpr size_t kLinkBytesMax = 4096;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// /proc/self/fd/N: what takes a path only, done to an O_PATH descriptor. Leads to what is open, nowhere else.
class FdPath {
 public:
  explicit FdPath(int fd) { std::snprintf(text_, sizeof(text_), "/proc/self/fd/%d", fd); }
  const char* c_str() const { return text_; }

 private:
  char text_[40];
};

EntryKind KindOf(const struct stat& s) {
  if (S_ISREG(s.st_mode)) return EntryKind::kFile;
  if (S_ISDIR(s.st_mode)) return EntryKind::kDirectory;
  if (S_ISLNK(s.st_mode)) return EntryKind::kSymlink;
  if (S_ISCHR(s.st_mode) && s.st_rdev == makedev(0, 0)) return EntryKind::kWhiteout;
  return EntryKind::kOther;
}

int64_t Nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

EntryStat ToEntryStat(const struct stat& s) {
  return {.kind = KindOf(s),
          .mode = s.st_mode & 07777u,
          .size_bytes = static_cast<uint64_t>(s.st_size),
          .mtime_ns = Nanoseconds(s.st_mtim),
          .ctime_ns = Nanoseconds(s.st_ctim),
          .inode = s.st_ino,
          .device = s.st_dev,
          .links = s.st_nlink,
          .uid = s.st_uid,
          .gid = s.st_gid};
}

// Another identity for files, on this thread, while it lives.
class IdentityGuard {
 public:
  explicit IdentityGuard(const std::optional<TreeIdentity>& identity) : active_(identity.has_value()) {
    if (!active_) return;
    gid_ = setfsgid(identity->gid);
    uid_ = setfsuid(identity->uid);
  }
  ~IdentityGuard() {
    if (!active_) return;
    setfsuid(static_cast<uid_t>(uid_));
    setfsgid(static_cast<gid_t>(gid_));
  }
  IdentityGuard(const IdentityGuard&) = delete;
  IdentityGuard& operator=(const IdentityGuard&) = delete;

 private:
  const bool active_;
  int uid_ = 0, gid_ = 0;
};

// A file that can be asked for its stat.
class TreeFile final : public base::File {
 public:
  TreeFile(int fd, std::string name) : fd_(fd), file_(base::AdoptFile(fd, std::move(name))) {}
  base::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) override {
    return file_->ReadAt(offset, out);
  }
  base::Status WriteAt(uint64_t offset, std::span<const std::byte> data) override {
    return file_->WriteAt(offset, data);
  }
  base::Status Sync() override { return file_->Sync(); }
  base::Status DataSync() override { return file_->DataSync(); }
  base::StatusOr<uint64_t> Size() override { return file_->Size(); }
  base::Status Truncate(uint64_t size) override { return file_->Truncate(size); }
  base::Status Preallocate(uint64_t size) override { return file_->Preallocate(size); }
  int fd() const { return fd_; }  // file_'s

 private:
  const int fd_;
  const std::unique_ptr<base::File> file_;
};

struct Place {  // a name in an open directory
  Fd directory;
  std::string name;
};

class PosixTree final : public Tree {
 public:
  PosixTree(Fd root, TreeOptions options) : root_(std::move(root)), options_(std::move(options)) {}

  base::StatusOr<EntryStat> Stat(std::string_view path) override { return StatWith(path, O_NOFOLLOW); }
  base::StatusOr<EntryStat> StatTarget(std::string_view path) override {
    return StatWith(path, Following() ? 0 : O_NOFOLLOW);
  }
  base::StatusOr<std::vector<Entry>> List(std::string_view path, size_t entries_max) override;
  base::StatusOr<std::vector<NamedKind>> Names(std::string_view path, size_t entries_max) override;
  base::StatusOr<std::unique_ptr<base::File>> OpenFile(std::string_view path) override {
    return Open(path, O_RDONLY);
  }
  base::StatusOr<std::unique_ptr<base::File>> OpenFileForWriting(std::string_view path) override {
    return Open(path, O_RDWR);
  }
  base::StatusOr<EntryStat> StatOpen(base::File& file) override;
  base::StatusOr<std::unique_ptr<base::File>> CreateFile(std::string_view path, uint32_t mode) override;
  base::Status CopyFile(Tree& source, std::string_view from, std::string_view to, uint32_t mode) override;
  base::StatusOr<std::string> ReadLink(std::string_view path) override;
  base::Status MakeLink(std::string_view path, std::string_view target) override;
  base::Status MakeDirectory(std::string_view path, uint32_t mode) override;
  base::Status MakeWhiteout(std::string_view path) override;
  base::Status SetMode(std::string_view path, uint32_t mode) override;
  base::StatusOr<bool> IsOpaque(std::string_view path) override;
  base::Status SetOpaque(std::string_view path, bool opaque) override;
  base::Status Rename(std::string_view from, std::string_view to, Replace replace) override;
  base::Status Remove(std::string_view path) override;
  base::Status SyncDirectory(std::string_view path) override;
  base::Status SyncAll() override;

 private:
  bool Following() const { return options_.links == Links::kWithin; }
  std::string Named(std::string_view path) const;
  base::Status Error(int error, std::string_view operation, std::string_view path) const;

  // Descriptor of `path`; invalid with errno set.
  Fd OpenBeneath(std::string_view path, int flags) const;
  base::StatusOr<Fd> OpenAt(std::string_view path, int flags, std::string_view operation) const;
  base::StatusOr<Place> PlaceOf(std::string_view path, std::string_view operation) const;
  base::StatusOr<Place> PlaceToChange(std::string_view path, std::string_view operation) const;
  base::StatusOr<EntryStat> StatWith(std::string_view path, int flags);
  base::StatusOr<std::unique_ptr<base::File>> Open(std::string_view path, int flags);
  template <class Each>
  base::Status ForEachName(std::string_view path, size_t entries_max, const Each& each);

  // Runs `call`, which gives a Status or a StatusOr, with the tree's identity; where that is denied and
  // OwnerAccess::kForced allows it, once more with the modes on the way to `path` widened.
  template <class Call>
  auto AsOwner(std::string_view path, const Call& call) -> decltype(call());
  std::vector<std::pair<Fd, uint32_t>> Widen(std::string_view path) const;

  const Fd root_;
  const TreeOptions options_;
};

std::string PosixTree::Named(std::string_view path) const {
  if (options_.name.empty()) return path.empty() ? "." : std::string(path);
  return path.empty() ? options_.name : options_.name + "/" + std::string(path);
}

base::Status PosixTree::Error(int error, std::string_view operation, std::string_view path) const {
  const std::string what = std::string(operation) + " " + Named(path);
  if (error == EXDEV) return base::FailedPrecondition(what + ": a link or name leads out of the tree");
  if (error == ELOOP) {
    return base::FailedPrecondition(what +
                                    (Following() ? ": too many links" : ": a symbolic link is in the way"));
  }
  if (error == ENXIO) return base::FailedPrecondition(what + ": not a regular file");
  return base::ErrnoStatus(error, what);
}

Fd PosixTree::OpenBeneath(std::string_view path, int flags) const {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (Following() ? 0 : RESOLVE_NO_SYMLINKS);
  const std::string text = path.empty() ? "." : std::string(path);
  for (int attempt = 0;; ++attempt) {
    const int64_t fd = syscall(SYS_openat2, root_.get(), text.c_str(), &how, sizeof(how));
    // EAGAIN: a directory on the way was renamed at this moment, so the kernel cannot tell.
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN) || attempt == kOpenTries)
      return Fd(static_cast<int>(fd));
  }
}

base::StatusOr<Fd> PosixTree::OpenAt(std::string_view path, int flags, std::string_view operation) const {
  HF_RETURN_IF_ERROR(ValidatePath(path));
  Fd fd = OpenBeneath(path, flags);
  // With RESOLVE_NO_SYMLINKS a link at the end is ELOOP even for O_PATH | O_NOFOLLOW, which wants the link.
  if (!fd.valid() && errno == ELOOP && !Following() && (flags & O_PATH) != 0 && (flags & O_NOFOLLOW) != 0) {
    const Fd parent = OpenBeneath(Parent(path), O_PATH | O_DIRECTORY);
    if (parent.valid()) {
      fd = Fd(openat(parent.get(), std::string(BaseName(path)).c_str(), flags | O_CLOEXEC));
    }
  }
  if (!fd.valid()) return Error(errno, operation, path);
  return fd;
}

base::StatusOr<Place> PosixTree::PlaceOf(std::string_view path, std::string_view operation) const {
  HF_RETURN_IF_ERROR(ValidatePath(path));
  if (path.empty()) return base::InvalidArgument(std::string(operation) + ": the root of the tree");
  Fd parent = OpenBeneath(Parent(path), O_PATH | O_DIRECTORY);
  if (!parent.valid()) return Error(errno, operation, path);
  return Place{std::move(parent), std::string(BaseName(path))};
}

base::StatusOr<Place> PosixTree::PlaceToChange(std::string_view path, std::string_view operation) const {
  HF_ASSIGN_OR_RETURN(Place place, PlaceOf(path, operation));
  if (options_.is_protected == nullptr || !options_.is_protected(place.directory.get(), place.name))
    return place;
  return absl::PermissionDeniedError(
      base::View(std::string(operation) + " " + Named(path) + ": a protected path of the workspace"));
}

std::vector<std::pair<Fd, uint32_t>> PosixTree::Widen(std::string_view path) const {
  std::vector<std::pair<Fd, uint32_t>> widened;
  for (size_t end = 0; end != path.npos;) {
    end = path.find('/', end + 1);
    Fd fd = OpenBeneath(path.substr(0, end), O_PATH | O_NOFOLLOW);
    struct stat s;
    if (!fd.valid() || fstat(fd.get(), &s) != 0) break;
    const uint32_t wanted = S_ISDIR(s.st_mode) ? 0700 : S_ISREG(s.st_mode) ? 0600 : 0;
    const uint32_t mode = s.st_mode & 07777u;
    if ((mode & wanted) == wanted) continue;
    if (chmod(FdPath(fd.get()).c_str(), mode | wanted) != 0) break;
    widened.emplace_back(std::move(fd), mode);
  }
  return widened;
}

template <class Call>
auto PosixTree::AsOwner(std::string_view path, const Call& call) -> decltype(call()) {
  const IdentityGuard guard(options_.identity);
  auto result = call();
  if (options_.owner_access != OwnerAccess::kForced || result.ok()) return result;
  base::Status status;
  if constexpr (std::is_same_v<decltype(result), base::Status>) {
    status = result;
  } else {
    status = result.status();
  }
  if (!absl::IsPermissionDenied(status)) return result;
  const auto widened = Widen(path);
  if (widened.empty()) return result;
  result = call();
  for (auto it = widened.rbegin(); it != widened.rend(); ++it)
    chmod(FdPath(it->first.get()).c_str(), it->second);
  return result;
}

base::StatusOr<EntryStat> PosixTree::StatWith(std::string_view path, int flags) {
  return AsOwner(path, [&]() -> base::StatusOr<EntryStat> {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenAt(path, O_PATH | flags, "stat"));
    struct stat s;
    if (fstat(fd.get(), &s) != 0) return Error(errno, "stat", path);
    return ToEntryStat(s);
  });
}

template <class Each>
base::Status PosixTree::ForEachName(std::string_view path, size_t entries_max, const Each& each) {
  HF_ASSIGN_OR_RETURN(Fd fd, OpenAt(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK, "list"));
  DIR* const directory = fdopendir(fd.get());
  if (directory == nullptr) return Error(errno, "list", path);
  const int descriptor = fd.Release();  // the stream's from here on
  const std::unique_ptr<DIR, int (*)(DIR*)> closer(directory, closedir);
  size_t count = 0;
  for (;;) {
    errno = 0;
    const dirent* const entry = readdir(directory);
    if (entry == nullptr) return errno == 0 ? base::Status() : Error(errno, "list", path);
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (++count > entries_max) {
      return base::ResourceExhausted("list " + Named(path) + ": more than " + std::to_string(entries_max) +
                                     " entries");
    }
    if (const int error = each(descriptor, *entry); error != 0) return Error(error, "stat", path);
  }
}

base::StatusOr<std::vector<Entry>> PosixTree::List(std::string_view path, size_t entries_max) {
  return AsOwner(path, [&]() -> base::StatusOr<std::vector<Entry>> {
    std::vector<Entry> entries;
    HF_RETURN_IF_ERROR(ForEachName(path, entries_max, [&](int directory, const dirent& entry) {
      struct stat s;
      if (fstatat(directory, entry.d_name, &s, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) {
        return errno == ENOENT ? 0 : errno;
      }
      entries.push_back({entry.d_name, ToEntryStat(s)});
      return 0;
    }));
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
    return entries;
  });
}

base::StatusOr<std::vector<NamedKind>> PosixTree::Names(std::string_view path, size_t entries_max) {
  return AsOwner(path, [&]() -> base::StatusOr<std::vector<NamedKind>> {
    std::vector<NamedKind> names;
    HF_RETURN_IF_ERROR(ForEachName(path, entries_max, [&](int directory, const dirent& entry) {
      EntryKind kind = EntryKind::kOther;
      if (entry.d_type == DT_REG) {
        kind = EntryKind::kFile;
      } else if (entry.d_type == DT_DIR) {
        kind = EntryKind::kDirectory;
      } else if (entry.d_type == DT_LNK) {
        kind = EntryKind::kSymlink;
      } else if (entry.d_type == DT_CHR || entry.d_type == DT_UNKNOWN) {
        struct stat s;
        if (fstatat(directory, entry.d_name, &s, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) {
          return errno == ENOENT ? 0 : errno;
        }
        kind = KindOf(s);
      }
      names.push_back({entry.d_name, kind});
      return 0;
    }));
    std::sort(names.begin(), names.end(),
              [](const NamedKind& a, const NamedKind& b) { return a.name < b.name; });
    return names;
  });
}

base::StatusOr<std::unique_ptr<base::File>> PosixTree::Open(std::string_view path, int flags) {
  return AsOwner(path, [&]() -> base::StatusOr<std::unique_ptr<base::File>> {
    // O_NONBLOCK keeps the open of a FIFO from waiting for its other end.
    HF_ASSIGN_OR_RETURN(Fd fd,
                        OpenAt(path, flags | O_NONBLOCK | O_NOCTTY | (Following() ? 0 : O_NOFOLLOW), "open"));
    struct stat s;
    if (fstat(fd.get(), &s) != 0) return Error(errno, "open", path);
    if (!S_ISREG(s.st_mode)) return base::FailedPrecondition("open " + Named(path) + ": not a regular file");
    return std::make_unique<TreeFile>(fd.Release(), Named(path));
  });
}

base::StatusOr<EntryStat> PosixTree::StatOpen(base::File& file) {
  auto* const ours = dynamic_cast<TreeFile*>(&file);
  if (ours == nullptr) return base::InvalidArgument("a file of another kind of tree");
  struct stat s;
  if (fstat(ours->fd(), &s) != 0) return base::ErrnoStatus(errno, "stat of an open file");
  return ToEntryStat(s);
}

base::StatusOr<std::unique_ptr<base::File>> PosixTree::CreateFile(std::string_view path, uint32_t mode) {
  return AsOwner(Parent(path), [&]() -> base::StatusOr<std::unique_ptr<base::File>> {
    HF_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "create"));
    Fd fd(openat(place.directory.get(), place.name.c_str(),
                 O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600));
    if (!fd.valid()) return Error(errno, "create", path);
    if (fchmod(fd.get(), mode & 07777u) != 0) return Error(errno, "set the mode of", path);
    return std::make_unique<TreeFile>(fd.Release(), Named(path));
  });
}

base::Status PosixTree::CopyFile(Tree& source, std::string_view from, std::string_view to, uint32_t mode) {
  {
    HF_ASSIGN_OR_RETURN(const auto in, source.OpenFile(from));
    HF_ASSIGN_OR_RETURN(const auto out, CreateFile(to, mode));
    const auto* const real_in = dynamic_cast<TreeFile*>(in.get());
    const auto* const real_out = dynamic_cast<TreeFile*>(out.get());
    if (real_in != nullptr && real_out != nullptr && ioctl(real_out->fd(), FICLONE, real_in->fd()) == 0)
      return {};
  }
  HF_RETURN_IF_ERROR(Remove(to));
  return Tree::CopyFile(source, from, to, mode);
}

base::StatusOr<std::string> PosixTree::ReadLink(std::string_view path) {
  return AsOwner(Parent(path), [&]() -> base::StatusOr<std::string> {
    HF_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "read link"));
    std::string target(kLinkBytesMax, '\0');
    const ssize_t n = readlinkat(place.directory.get(), place.name.c_str(), target.data(), target.size());
    if (n < 0 && errno == EINVAL)
      return base::FailedPrecondition("read link " + Named(path) + ": not a link");
    if (n < 0) return Error(errno, "read link", path);
    target.resize(static_cast<size_t>(n));
    return target;
  });
}

base::Status PosixTree::MakeLink(std::string_view path, std::string_view target) {
  if (target.empty() || target.find('\0') != target.npos || target.size() >= kLinkBytesMax) {
    return base::InvalidArgument("link " + Named(path) +
                                 ": its target is empty, too long or holds a NUL byte");
  }
  return AsOwner(Parent(path), [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "link"));
    if (symlinkat(std::string(target).c_str(), place.directory.get(), place.name.c_str()) == 0) return {};
    return Error(errno, "link", path);
  });
}

base::Status PosixTree::MakeDirectory(std::string_view path, uint32_t mode) {
  return AsOwner(Parent(path), [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "create directory"));
    if (mkdirat(place.directory.get(), place.name.c_str(), 0700) != 0)
      return Error(errno, "create directory", path);
    const Fd fd(
        openat(place.directory.get(), place.name.c_str(), O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
    if (fd.valid() && chmod(FdPath(fd.get()).c_str(), mode & 07777u) == 0) return {};
    return Error(errno, "set the mode of", path);
  });
}

base::Status PosixTree::MakeWhiteout(std::string_view path) {
  return AsOwner(Parent(path), [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "whiteout"));
    if (mknodat(place.directory.get(), place.name.c_str(), S_IFCHR, makedev(0, 0)) == 0) return {};
    return Error(errno, "whiteout", path);
  });
}

base::Status PosixTree::SetMode(std::string_view path, uint32_t mode) {
  return AsOwner(Parent(path), [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Fd fd,
                        OpenAt(path, O_PATH | (Following() ? 0 : O_NOFOLLOW), "set the mode of"));
    struct stat s;
    if (fstat(fd.get(), &s) != 0) return Error(errno, "set the mode of", path);
    if (S_ISLNK(s.st_mode)) return Error(ELOOP, "set the mode of", path);
    if (chmod(FdPath(fd.get()).c_str(), mode & 07777u) == 0) return {};
    return Error(errno, "set the mode of", path);
  });
}

base::StatusOr<bool> PosixTree::IsOpaque(std::string_view path) {
  return AsOwner(path, [&]() -> base::StatusOr<bool> {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenAt(path, O_PATH | O_DIRECTORY, "look at"));
    char value[8];
    const ssize_t n = getxattr(FdPath(fd.get()).c_str(), kOpaqueAttribute, value, sizeof(value));
    if (n < 0 && errno != ENODATA && errno != EOPNOTSUPP && errno != ERANGE) {
      return Error(errno, "read the attributes of", path);
    }
    return n == 1 && value[0] == 'y';
  });
}

base::Status PosixTree::SetOpaque(std::string_view path, bool opaque) {
  return AsOwner(path, [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenAt(path, O_PATH | O_DIRECTORY, "mark"));
    const FdPath name(fd.get());
    const bool done = opaque ? setxattr(name.c_str(), kOpaqueAttribute, "y", 1, 0) == 0
                             : removexattr(name.c_str(), kOpaqueAttribute) == 0 || errno == ENODATA;
    return done ? base::Status() : Error(errno, "mark as opaque", path);
  });
}

base::Status PosixTree::Rename(std::string_view from, std::string_view to, Replace replace) {
  const auto rename = [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Place source, PlaceToChange(from, "rename"));
    HF_ASSIGN_OR_RETURN(const Place target, PlaceToChange(to, "rename to"));
    const unsigned flags = replace == Replace::kNo ? RENAME_NOREPLACE : 0;
    if (renameat2(source.directory.get(), source.name.c_str(), target.directory.get(), target.name.c_str(),
                  flags) == 0) {
      return {};
    }
    return Error(errno, "rename " + Named(from) + " to", to);
  };
  return AsOwner(Parent(from), [&] { return AsOwner(Parent(to), rename); });
}

base::Status PosixTree::Remove(std::string_view path) {
  return AsOwner(Parent(path), [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Place place, PlaceToChange(path, "remove"));
    if (unlinkat(place.directory.get(), place.name.c_str(), 0) == 0) return {};
    if (errno == EISDIR && unlinkat(place.directory.get(), place.name.c_str(), AT_REMOVEDIR) == 0) return {};
    return Error(errno, "remove", path);
  });
}

base::Status PosixTree::SyncDirectory(std::string_view path) {
  return AsOwner(path, [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenAt(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK, "sync"));
    if (fsync(fd.get()) == 0) return {};
    return Error(errno, "sync", path);
  });
}

base::Status PosixTree::SyncAll() {
  return AsOwner("", [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenAt("", O_RDONLY | O_DIRECTORY | O_NONBLOCK, "sync"));
    if (syncfs(fd.get()) == 0) return {};
    return Error(errno, "sync", "");
  });
}

// Whether this thread can take on the identity. setfsuid tells nothing; asking for an impossible one gives
// the present one.
bool CanBe(const TreeIdentity& identity) {
  const IdentityGuard guard(identity);
  return setfsuid(static_cast<uid_t>(-1)) == static_cast<int>(identity.uid) &&
         setfsgid(static_cast<gid_t>(-1)) == static_cast<int>(identity.gid);
}

}  // namespace

base::StatusOr<std::unique_ptr<Tree>> OpenTree(int directory, TreeOptions options) {
  Fd root(directory);
  struct stat s;
  if (fstat(root.get(), &s) != 0) return base::ErrnoStatus(errno, "open the tree " + options.name);
  if (!S_ISDIR(s.st_mode)) return base::ErrnoStatus(ENOTDIR, "open the tree " + options.name);
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH;
  const Fd probe(static_cast<int>(syscall(SYS_openat2, root.get(), ".", &how, sizeof(how))));
  if (!probe.valid() && (errno == ENOSYS || errno == EPERM)) {
    return base::FailedPrecondition(
        "this kernel or container has no openat2, without which links could lead out of the workspace: Linux "
        "5.6 "
        "or newer is needed, and in a container a seccomp profile that knows it");
  }
  if (geteuid() != 0) options.identity.reset();
  if (options.identity.has_value() && !CanBe(*options.identity)) {
    return absl::PermissionDeniedError(
        "this process is root, but may not act for others (CAP_SETUID, CAP_SETGID)");
  }
  return std::make_unique<PosixTree>(std::move(root), std::move(options));
}

base::StatusOr<std::unique_ptr<Tree>> OpenTree(const std::string& host_path, TreeOptions options) {
  const int fd = open(host_path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return base::ErrnoStatus(errno, "open " + host_path);
  if (options.name.empty()) options.name = host_path;
  return OpenTree(fd, std::move(options));
}

}  // namespace holdfast::workspace
