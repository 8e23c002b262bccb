#include "server/backup.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "base/file.h"
#include "memory/sqlite_backup.h"

namespace holdfast::server {
namespace {

constexpr int kPagesAtOnce = 512;  // 2 MiB
constexpr size_t kBytesAtOnce = size_t{2} << 20;
constexpr size_t kFilesMax = 1 << 20;
constexpr int kRoundsMax = 100;  // of looking for packs that came while others went

// One copy, held by the task that goes on with it.
class Backup {
 public:
  Backup(const BackupParts& parts, std::string directory, std::function<bool(const BackupProgress&)> progress,
         absl::AnyInvocable<void(base::Status)> done)
      : parts_(parts),
        directory_(std::move(directory)),
        temporary_(directory_ + ".tmp"),
        progress_(std::move(progress)),
        done_(std::move(done)) {}
  ~Backup() {
    database_.reset();
    if (begun_ && !finished_) RemoveTree(temporary_);
  }

  static void GoOn(std::unique_ptr<Backup> backup) {
    base::Executor& executor = backup->parts_.executor;
    executor.PostResult(base::Lane::kStorage, [backup = std::move(backup)]() mutable {
      const base::StatusOr<bool> ended = backup->Step();
      if (ended.ok() && !*ended) return GoOn(std::move(backup));
      (void)backup->progress_(backup->so_far_);
      auto done = std::move(backup->done_);
      backup.reset();
      done(ended.status());
    });
  }

 private:
  // True: all is done.
  base::StatusOr<bool> Step() {
    if (!progress_(so_far_)) return absl::CancelledError("the backup was given up by its client");
    if (!begun_) return Begin();
    if (database_ != nullptr) return CopyPages();
    if (source_ != nullptr) return CopyPiece();
    return NextFile();
  }

  base::StatusOr<bool> Begin() {
    if (directory_.empty() || directory_[0] != '/' || directory_.back() == '/') {
      return base::InvalidArgument("`" + directory_ + "`: want an absolute path, without / at its end");
    }
    if (fs_.Stat(directory_).ok()) {
      return absl::AlreadyExistsError(base::View(directory_ + " is there already; name another directory"));
    }
    HF_RETURN_IF_ERROR(fs_.Stat(base::ParentDirectory(directory_)).status());
    begun_ = true;
    RemoveTree(temporary_);  // of a process that has died
    HF_RETURN_IF_ERROR(fs_.CreateDirectories(temporary_ + "/blobs"));
    HF_ASSIGN_OR_RETURN(database_,
                        memory::SqliteBackup::Begin(parts_.database, fs_, temporary_ + "/holdfast.db"));
    return false;
  }

  base::StatusOr<bool> CopyPages() {
    HF_ASSIGN_OR_RETURN(const bool complete, database_->Step(kPagesAtOnce));
    so_far_ = {.bytes_done = database_->bytes_done(), .bytes_total = database_->bytes_total()};
    if (!complete) return false;
    database_.reset();
    return Look();
  }

  // What is there of the blobs and not copied yet. A pack may grow meanwhile: what the copied rows name is in
  // the bytes that it has now.
  base::StatusOr<bool> Look() {
    gone_ = false;
    if (++rounds_ > kRoundsMax)
      return absl::AbortedError("the blobs are being rewritten all the time; try again");
    HF_ASSIGN_OR_RETURN(const auto entries, fs_.List(parts_.blobs, kFilesMax));
    for (const base::DirectoryEntry& entry : entries) {
      const bool wanted = entry.name == "STORE" || entry.name.ends_with(".hfp");
      if (!wanted || seen_.contains(entry.name)) continue;
      files_.push_back(entry.name);
      const auto stat = fs_.Stat(parts_.blobs + "/" + entry.name);
      if (stat.ok()) so_far_.bytes_total += stat->size_bytes;
    }
    return false;
  }

  base::StatusOr<bool> NextFile() {
    if (files_.empty()) {
      if (!gone_) return Finish();
      return Look();
    }
    const std::string name = std::move(files_.back());
    files_.pop_back();
    seen_.insert(name);
    auto source = fs_.Open(parts_.blobs + "/" + name, base::OpenMode::kRead);
    if (absl::IsNotFound(source.status())) {  // merged into a new one
      gone_ = true;
      return false;
    }
    HF_RETURN_IF_ERROR(source.status());
    HF_ASSIGN_OR_RETURN(source_bytes_, (*source)->Size());
    HF_ASSIGN_OR_RETURN(target_, fs_.Open(temporary_ + "/blobs/" + name, base::OpenMode::kCreateNew));
    source_ = *std::move(source);
    at_ = 0;
    return false;
  }

  base::StatusOr<bool> CopyPiece() {
    if (at_ == source_bytes_) {
      HF_RETURN_IF_ERROR(target_->Sync());
      source_.reset();
      target_.reset();
      return false;
    }
    window_.resize(kBytesAtOnce);
    const auto part = std::span(window_).first(std::min<uint64_t>(kBytesAtOnce, source_bytes_ - at_));
    HF_ASSIGN_OR_RETURN(const size_t n, source_->ReadAt(at_, part));
    if (n != part.size()) return base::DataLoss("a pack of blobs has become shorter while it was copied");
    HF_RETURN_IF_ERROR(target_->WriteAt(at_, part));
    at_ += n;
    so_far_.bytes_done += n;
    return false;
  }

  base::StatusOr<bool> Finish() {
    HF_RETURN_IF_ERROR(fs_.SyncDirectory(temporary_ + "/blobs"));
    HF_RETURN_IF_ERROR(fs_.SyncDirectory(temporary_));
    HF_RETURN_IF_ERROR(fs_.Rename(temporary_, directory_));
    finished_ = true;
    HF_RETURN_IF_ERROR(fs_.SyncDirectory(base::ParentDirectory(directory_)));
    return true;
  }

  void RemoveTree(const std::string& path) {
    if (fs_.Remove(path).ok()) return;
    if (const auto entries = fs_.List(path, kFilesMax); entries.ok()) {
      for (const base::DirectoryEntry& entry : *entries) RemoveTree(path + "/" + entry.name);
    }
    (void)fs_.Remove(path);
  }

  const BackupParts parts_;
  const std::string directory_;
  const std::string temporary_;
  const std::function<bool(const BackupProgress&)> progress_;
  absl::AnyInvocable<void(base::Status)> done_;
  base::FileSystem& fs_ = base::RealFileSystem();
  BackupProgress so_far_;
  bool begun_ = false;
  bool finished_ = false;                           // it has its name
  std::unique_ptr<memory::SqliteBackup> database_;  // while it is copied
  int rounds_ = 0;
  bool gone_ = false;  // a pack that was seen is not there any more: its blobs are in another
  std::set<std::string> seen_;
  std::vector<std::string> files_;  // to be copied
  std::unique_ptr<base::File> source_, target_;
  uint64_t source_bytes_ = 0;
  uint64_t at_ = 0;
  std::vector<std::byte> window_;
};

}  // namespace

void StartBackup(const BackupParts& parts, std::string directory,
                 std::function<bool(const BackupProgress&)> progress,
                 absl::AnyInvocable<void(base::Status)> done) {
  Backup::GoOn(std::make_unique<Backup>(parts, std::move(directory), std::move(progress), std::move(done)));
}

}  // namespace holdfast::server
