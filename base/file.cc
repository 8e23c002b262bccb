#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/errno.h"
#include "base/faults.h"
#include "base/file_system_type.h"
#include "base/mapping_faults.h"
#include "base/sync_times.h"

namespace holdfast::base {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;
constexpr size_t kReadChunkBytes = 64 << 10;

Status PosixError(std::string_view operation, const std::string& path) {
  const int error = errno;
  return ErrnoStatus(error, std::string(operation) + " " + path);
}

// Repeats a call that returns -1 while a signal interrupts it.
template <class F>
auto RetryOnEintr(F&& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);  // EINTR or not, Linux has closed it
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

Status CheckPath(const std::string& path) {
  if (path.empty()) return InvalidArgument("empty path");
  if (path.find('\0') != std::string::npos) return InvalidArgument("path with a NUL byte: " + path);
  return absl::OkStatus();
}

// off_t is signed: a file position ends at 2^63 - 1.
Status CheckRange(uint64_t offset, uint64_t size, const std::string& path) {
  constexpr uint64_t kMaxOffset = std::numeric_limits<off_t>::max();
  if (offset <= kMaxOffset && size <= kMaxOffset - offset) return absl::OkStatus();
  return InvalidArgument(path + ": offset " + std::to_string(offset) + " out of range");
}

FileKind KindOf(mode_t mode) {
  if (S_ISREG(mode)) return FileKind::kRegular;
  if (S_ISDIR(mode)) return FileKind::kDirectory;
  if (S_ISLNK(mode)) return FileKind::kSymlink;
  return FileKind::kOther;
}

int64_t Nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

FileStat ToFileStat(const struct stat& s) {
  return {.kind = KindOf(s.st_mode),
          .size_bytes = static_cast<uint64_t>(s.st_size),
          .mtime_ns = Nanoseconds(s.st_mtim),
          .ctime_ns = Nanoseconds(s.st_ctim),
          .inode = s.st_ino,
          .device = s.st_dev,
          .links = s.st_nlink,
          .allocated_bytes = static_cast<uint64_t>(s.st_blocks) * 512};
}

StatusOr<Fd> OpenFd(const std::string& path, int flags) {
  HF_RETURN_IF_ERROR(CheckPath(path));
  const int fd = RetryOnEintr([&] { return open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY, kFileMode); });
  if (fd < 0) return PosixError("open", path);
  return Fd(fd);
}

// O_NONBLOCK keeps the open of a FIFO from waiting for its other end; it means nothing to a regular file.
StatusOr<Fd> OpenRegular(const std::string& path, int flags) {
  HF_ASSIGN_OR_RETURN(Fd fd, OpenFd(path, flags | O_NONBLOCK));
  struct stat s;
  if (fstat(fd.get(), &s) != 0) return PosixError("stat", path);
  if (!S_ISREG(s.st_mode)) return FailedPrecondition("open " + path + ": Not a regular file");
  return fd;
}

StatusOr<size_t> ReadFully(int fd, uint64_t offset, std::span<std::byte> out, const std::string& path) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = RetryOnEintr(
        [&] { return pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done)); });
    if (n < 0) return PosixError("read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

Status WriteFully(int fd, uint64_t offset, std::span<const std::byte> data, const std::string& path) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = RetryOnEintr([&] {
      return pwrite(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    });
    if (n < 0) return PosixError("write", path);
    if (n == 0) return Internal("write " + path + ": the kernel accepted no bytes");
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

// Memory of mmap, given back.
class Mapping {
 public:
  explicit Mapping(std::span<const std::byte> bytes) : bytes_(bytes) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  const std::span<const std::byte> bytes_;
};

class PosixMappedFile final : public MappedFile {
 public:
  explicit PosixMappedFile(std::span<const std::byte> bytes) : mapping_(bytes), watch_(bytes) {}
  std::span<const std::byte> bytes() const override { return mapping_.bytes(); }

  void WillNeed(uint64_t offset, uint64_t length) const override {
    const auto all = mapping_.bytes();
    if (offset >= all.size()) return;
    const uint64_t head = offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE));  // madvise wants whole pages
    const uint64_t end = offset + std::min<uint64_t>(length, all.size() - offset);
    const auto range = all.subspan(offset - head, end - (offset - head));
    // A hint: nothing to do when it is refused.
    static_cast<void>(madvise(const_cast<std::byte*>(range.data()), range.size(), MADV_WILLNEED));
  }

  bool damaged() const override { return watch_.damaged(); }

 private:
  const Mapping mapping_;
  const MappingWatch watch_;  // ends before the mapping does
};

std::atomic<uint64_t> sync_count{0};
std::atomic<uint64_t> sync_ns{0};

class SyncTimer {
 public:
  ~SyncTimer() {
    sync_count.fetch_add(1, std::memory_order_relaxed);
    sync_ns.fetch_add(static_cast<uint64_t>(RealClock().MonotonicNow().ns - began_ns_),
                      std::memory_order_relaxed);
  }

 private:
  const int64_t began_ns_ = RealClock().MonotonicNow().ns;
};

class PosixFile final : public File {
 public:
  PosixFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) override {
    HF_RETURN_IF_ERROR(CheckRange(offset, out.size(), path_));
    return ReadFully(fd_.get(), offset, out, path_);
  }

  Status WriteAt(uint64_t offset, std::span<const std::byte> data) override {
    HF_RETURN_IF_ERROR(CheckRange(offset, data.size(), path_));
    return WriteFully(fd_.get(), offset, data, path_);
  }

  Status Sync() override {
    const SyncTimer timer;
    return Check(RetryOnEintr([&] { return fsync(fd_.get()); }), "fsync");
  }
  Status DataSync() override {
    const SyncTimer timer;
    return Check(RetryOnEintr([&] { return fdatasync(fd_.get()); }), "fdatasync");
  }

  StatusOr<uint64_t> Size() override {
    struct stat s;
    if (fstat(fd_.get(), &s) != 0) return PosixError("stat", path_);
    return static_cast<uint64_t>(s.st_size);
  }

  Status Truncate(uint64_t size) override {
    HF_RETURN_IF_ERROR(CheckRange(size, 0, path_));
    return Check(RetryOnEintr([&] { return ftruncate(fd_.get(), static_cast<off_t>(size)); }), "truncate");
  }

  Status Preallocate(uint64_t size) override {
    HF_RETURN_IF_ERROR(CheckRange(size, 0, path_));
    if (size == 0) return absl::OkStatus();
    int error;
    do {
      error = posix_fallocate(fd_.get(), 0, static_cast<off_t>(size));
    } while (error == EINTR);
    return error == 0 ? absl::OkStatus() : ErrnoStatus(error, "preallocate " + path_);
  }

 private:
  Status Check(int result, std::string_view operation) const {
    return result == 0 ? absl::OkStatus() : PosixError(operation, path_);
  }

  const Fd fd_;
  const std::string path_;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(Fd fd) : fd_(std::move(fd)) {}

 private:
  const Fd fd_;  // closing it lets go of the lock
};

// " (held by process 123)", or nothing when the lock file does not say.
std::string DescribeHolder(int fd) {
  char text[32];
  const ssize_t n = pread(fd, text, sizeof(text), 0);
  int64_t pid = 0;
  if (n <= 0 || std::from_chars(text, text + n, pid).ec != std::errc() || pid <= 0) return "";
  return " (held by process " + std::to_string(pid) + ")";
}

// Created entries are made durable one by one, from the top.
Status MakeDirectory(const std::string& path, FileSystem& fs) {
  if (mkdir(path.c_str(), kDirectoryMode) == 0) return fs.SyncDirectory(ParentDirectory(path));
  if (errno != EEXIST) return PosixError("create directory", path);
  HF_ASSIGN_OR_RETURN(const FileStat stat, fs.Stat(path));
  if (stat.kind == FileKind::kDirectory) return absl::OkStatus();
  return ErrnoStatus(ENOTDIR, "create directory " + path);
}

FileKind KindOfEntry(int directory_fd, const dirent& entry) {
  switch (entry.d_type) {
    case DT_REG:
      return FileKind::kRegular;
    case DT_DIR:
      return FileKind::kDirectory;
    case DT_LNK:
      return FileKind::kSymlink;
    case DT_UNKNOWN: {  // a file system that does not say
      struct stat s;
      if (fstatat(directory_fd, entry.d_name, &s, AT_SYMLINK_NOFOLLOW) != 0) return FileKind::kOther;
      return KindOf(s.st_mode);
    }
    default:
      return FileKind::kOther;
  }
}

int OpenFlags(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead:
      return O_RDONLY;
    case OpenMode::kReadWrite:
      return O_RDWR;
    case OpenMode::kCreate:
      return O_RDWR | O_CREAT;
    case OpenMode::kCreateNew:
      return O_RDWR | O_CREAT | O_EXCL;
    case OpenMode::kTruncate:
      return O_RDWR | O_CREAT | O_TRUNC;
  }
  HF_CHECK(false);
}

class PosixFileSystem final : public FileSystem {
 public:
  StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenRegular(path, O_RDONLY));
    struct stat s;
    if (fstat(fd.get(), &s) != 0) return PosixError("stat", path);
    const auto size = static_cast<size_t>(s.st_size);
    if (size == 0) return std::make_unique<PosixMappedFile>(std::span<const std::byte>());
    void* const data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (data == MAP_FAILED) return PosixError("map", path);
    return std::make_unique<PosixMappedFile>(std::span(static_cast<const std::byte*>(data), size));
  }

  // Reads to the end instead of trusting the size: files of /proc say 0.
  StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) override {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenRegular(path, O_RDONLY));
    std::string content;
    for (;;) {
      const size_t done = content.size();
      content.resize(done + kReadChunkBytes);
      const auto chunk = std::as_writable_bytes(std::span(content)).subspan(done);
      HF_ASSIGN_OR_RETURN(const size_t n, ReadFully(fd.get(), done, chunk, path));
      content.resize(done + n);
      if (content.size() > max_bytes) return TooLarge(path, max_bytes);
      if (n < kReadChunkBytes) return content;
    }
  }

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    HF_ASSIGN_OR_RETURN(Fd fd, OpenRegular(path, OpenFlags(mode)));
    return std::make_unique<PosixFile>(std::move(fd), path);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    HF_RETURN_IF_ERROR(CheckPath(from));
    HF_RETURN_IF_ERROR(CheckPath(to));
    if (rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    return PosixError("rename", from + " to " + to);
  }

  Status Remove(const std::string& path) override {
    HF_RETURN_IF_ERROR(CheckPath(path));
    return std::remove(path.c_str()) == 0 ? absl::OkStatus() : PosixError("remove", path);
  }

  Status CreateDirectories(const std::string& path) override {
    HF_RETURN_IF_ERROR(CheckPath(path));
    for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
      HF_RETURN_IF_ERROR(MakeDirectory(path.substr(0, end), *this));
    }
    return MakeDirectory(path, *this);
  }

  Status SyncDirectory(const std::string& path) override {
    HF_ASSIGN_OR_RETURN(const Fd fd, OpenFd(path, O_RDONLY | O_DIRECTORY));
    if (RetryOnEintr([&] { return fsync(fd.get()); }) == 0) return absl::OkStatus();
    return PosixError("fsync directory", path);
  }

  StatusOr<std::vector<DirectoryEntry>> List(const std::string& path, size_t max_entries) override {
    HF_RETURN_IF_ERROR(CheckPath(path));
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
    if (directory == nullptr) return PosixError("list", path);
    std::vector<DirectoryEntry> entries;
    errno = 0;
    while (const dirent* entry = readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (entries.size() == max_entries) return TooMany(path, max_entries);
      entries.push_back({std::string(name), KindOfEntry(dirfd(directory.get()), *entry)});
      errno = 0;
    }
    if (errno != 0) return PosixError("list", path);
    std::sort(entries.begin(), entries.end(),
              [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
    return entries;
  }

  StatusOr<FileStat> Stat(const std::string& path) override {
    HF_RETURN_IF_ERROR(CheckPath(path));
    struct stat s;
    if (stat(path.c_str(), &s) != 0) return PosixError("stat", path);
    return ToFileStat(s);
  }

  StatusOr<FileSystemInfo> Info(const std::string& path) override {
    HF_RETURN_IF_ERROR(CheckPath(path));
    struct statfs s;
    if (RetryOnEintr([&] { return statfs(path.c_str(), &s); }) != 0) return PosixError("statfs", path);
    const FileSystemType type = FileSystemTypeOf(static_cast<uint32_t>(s.f_type));
    const auto block_bytes = static_cast<uint64_t>(s.f_bsize);
    return FileSystemInfo{.type = type.name,
                          .network = type.network,
                          .free_bytes = s.f_bavail * block_bytes,
                          .total_bytes = s.f_blocks * block_bytes};
  }

  StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    HF_ASSIGN_OR_RETURN(Fd fd, OpenRegular(path, O_RDWR | O_CREAT));
    if (RetryOnEintr([&] { return flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
      const int error = errno;
      return ErrnoStatus(error, "lock " + path + DescribeHolder(fd.get()));
    }
    // Only for the message of who comes second, hence neither synced nor fatal; it is empty or whole because
    // what it replaces is cut off first.
    const std::string pid = std::to_string(getpid()) + "\n";
    if (ftruncate(fd.get(), 0) == 0) {
      WriteFully(fd.get(), 0, std::as_bytes(std::span(pid)), path).IgnoreError();
    }
    return std::make_unique<PosixFileLock>(std::move(fd));
  }

 private:
  static Status TooLarge(const std::string& path, uint64_t max_bytes) {
    return ResourceExhausted("read " + path + ": larger than " + std::to_string(max_bytes) + " bytes");
  }
  static Status TooMany(const std::string& path, size_t max_entries) {
    return ResourceExhausted("list " + path + ": more than " + std::to_string(max_entries) + " entries");
  }
};

Status WriteAndSync(FileSystem& fs, const std::string& path, std::span<const std::byte> bytes) {
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kTruncate));
  HF_RETURN_IF_ERROR(file->WriteAt(0, bytes));
  HF_FAULT_POINT("base.file.before_sync");
  return file->Sync();
}

}  // namespace

Status File::Append(std::span<const std::byte> data) {
  HF_ASSIGN_OR_RETURN(const uint64_t size, Size());
  return WriteAt(size, data);
}

std::unique_ptr<File> AdoptFile(int descriptor, std::string name) {
  HF_CHECK(descriptor >= 0);
  return std::make_unique<PosixFile>(Fd(descriptor), std::move(name));
}

FileSystem& RealFileSystem() {
  static PosixFileSystem& fs = *new PosixFileSystem;
  return fs;
}

SyncTimes GetSyncTimes() {
  return {.count = sync_count.load(std::memory_order_relaxed), .ns = sync_ns.load(std::memory_order_relaxed)};
}

Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::span<const std::byte> bytes) {
  const std::string temporary = path + ".tmp";
  Status status = WriteAndSync(fs, temporary, bytes);
  HF_FAULT_POINT("base.file.before_rename");
  if (status.ok()) status = fs.Rename(temporary, path);
  if (!status.ok()) {
    fs.Remove(temporary).IgnoreError();
    return status;
  }
  HF_FAULT_POINT("base.file.before_directory_sync");
  return fs.SyncDirectory(ParentDirectory(path));
}

std::string ParentDirectory(std::string_view path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

}  // namespace holdfast::base
