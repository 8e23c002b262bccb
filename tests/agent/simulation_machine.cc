#include "tests/agent/simulation_machine.h"

#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/coding.h"

namespace holdfast::agent::simulation {
namespace {

// Which of the runtime's files a path is.
const char* KindOfFile(const std::string& path) {
  const auto has = [&path](const char* part) { return path.find(part) != std::string::npos; };
  if (has("/blobs")) return "blobs";
  if (has("/kv")) return "kv";
  return has(".db-wal") ? "wal" : "database";
}

base::Status Dead(const std::string& path) {
  return absl::UnavailableError(base::View(path + ": the simulated process is dead"));
}

}  // namespace

class ProcessFile final : public base::File {
 public:
  ProcessFile(ProcessFiles& files, std::unique_ptr<base::File> file, std::string path)
      : files_(files), file_(std::move(file)), path_(std::move(path)), kind_(KindOfFile(path_)) {}

  base::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) override {
    HF_RETURN_IF_ERROR(files_.Alive(path_));
    WriteHeld();
    return file_->ReadAt(offset, out);
  }
  base::Status WriteAt(uint64_t offset, std::span<const std::byte> data) override {
    return files_.Change("write", path_, [&]() -> base::Status {
      WriteHeld();
      if (files_.plant_ != Plant::kSwappedWrites || kind_ != "wal") return file_->WriteAt(offset, data);
      held_.emplace(offset, std::vector<std::byte>(data.begin(), data.end()));
      return {};
    });
  }
  base::Status Sync() override {
    return files_.Change("fsync", path_, [&]() -> base::Status {
      const bool lies =
          files_.plant_ == Plant::kSkippedDatabaseSync && (kind_ == "wal" || kind_ == "database");
      const base::Status status = lies ? base::Status() : file_->Sync();
      WriteHeld();
      return status;
    });
  }
  base::Status DataSync() override { return Sync(); }
  base::StatusOr<uint64_t> Size() override {
    HF_RETURN_IF_ERROR(files_.Alive(path_));
    WriteHeld();
    return file_->Size();
  }
  base::Status Truncate(uint64_t size) override {
    return files_.Change("truncate", path_, [&] {
      WriteHeld();
      return file_->Truncate(size);
    });
  }
  base::Status Preallocate(uint64_t size) override {
    return files_.Change("preallocate", path_, [&] { return file_->Preallocate(size); });
  }

 private:
  void WriteHeld() {
    if (held_.has_value()) file_->WriteAt(held_->first, held_->second).IgnoreError();
    held_.reset();
  }

  ProcessFiles& files_;
  const std::unique_ptr<base::File> file_;
  const std::string path_;
  const std::string kind_;
  std::optional<std::pair<uint64_t, std::vector<std::byte>>> held_;  // kSwappedWrites
};

void ProcessFiles::DieAtChange(uint64_t n, bool made) {
  die_in_ = n;
  make_last_ = made;
}

base::Status ProcessFiles::Alive(const std::string& path) const {
  return dead_ ? Dead(path) : base::Status();
}

template <class Call>
auto ProcessFiles::Change(const char* operation, const std::string& path, Call call) -> decltype(call()) {
  HF_RETURN_IF_ERROR(Alive(path));
  const std::string what = std::string(KindOfFile(path)) + " " + operation;
  if (die_in_ == 1) {
    ended_in_ = what;
    if (make_last_) call().IgnoreError();
    dead_ = true;
    return Dead(path);
  }
  if (die_in_ > 0) --die_in_;
  const bool crashed = disk_.crashed();
  auto result = call();
  if (!crashed && disk_.crashed()) ended_in_ = what;
  return result;
}

base::StatusOr<std::unique_ptr<base::MappedFile>> ProcessFiles::Map(const std::string& path) {
  HF_RETURN_IF_ERROR(Alive(path));
  return disk_.Map(path);
}
base::StatusOr<std::string> ProcessFiles::ReadFile(const std::string& path, uint64_t max_bytes) {
  HF_RETURN_IF_ERROR(Alive(path));
  return disk_.ReadFile(path, max_bytes);
}
base::StatusOr<std::unique_ptr<base::File>> ProcessFiles::Open(const std::string& path, base::OpenMode mode) {
  const bool creates = mode != base::OpenMode::kRead && mode != base::OpenMode::kReadWrite;
  std::unique_ptr<base::File> file;
  const auto open = [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(file, disk_.Open(path, mode));
    return {};
  };
  HF_RETURN_IF_ERROR(Alive(path));
  const base::Status status = creates && !disk_.Stat(path).ok() ? Change("create", path, open) : open();
  HF_RETURN_IF_ERROR(status);
  return std::make_unique<ProcessFile>(*this, std::move(file), path);
}
base::Status ProcessFiles::Rename(const std::string& from, const std::string& to) {
  return Change("rename", to, [&] { return disk_.Rename(from, to); });
}
base::Status ProcessFiles::Remove(const std::string& path) {
  return Change("remove", path, [&] { return disk_.Remove(path); });
}
base::Status ProcessFiles::CreateDirectories(const std::string& path) {
  HF_RETURN_IF_ERROR(Alive(path));
  if (disk_.Stat(path).ok()) return {};
  return Change("create", path, [&] { return disk_.CreateDirectories(path); });
}
base::Status ProcessFiles::SyncDirectory(const std::string& path) {
  return Change("fsync directory", path, [&] { return disk_.SyncDirectory(path); });
}
base::StatusOr<std::vector<base::DirectoryEntry>> ProcessFiles::List(const std::string& path,
                                                                     size_t max_entries) {
  HF_RETURN_IF_ERROR(Alive(path));
  return disk_.List(path, max_entries);
}
base::StatusOr<base::FileStat> ProcessFiles::Stat(const std::string& path) {
  HF_RETURN_IF_ERROR(Alive(path));
  return disk_.Stat(path);
}
base::StatusOr<base::FileSystemInfo> ProcessFiles::Info(const std::string& path) {
  HF_RETURN_IF_ERROR(Alive(path));
  return disk_.Info(path);
}
base::StatusOr<std::unique_ptr<base::FileLock>> ProcessFiles::Lock(const std::string& path) {
  HF_RETURN_IF_ERROR(Alive(path));
  return disk_.Lock(path);
}

std::string EncodeFiles(const Files& files) {
  std::string all;
  for (const auto& [name, content] : files) {
    base::PutLengthPrefixed(all, name);
    base::PutLengthPrefixed(all, content);
  }
  return all;
}

Files DecodeFiles(const std::string& bytes) {
  Files files;
  base::Decoder decoder(base::AsBytes(bytes));
  while (decoder.ok() && decoder.remaining() > 0) {
    const std::string_view name = decoder.LengthPrefixed(bytes.size());
    files.emplace(name, decoder.LengthPrefixed(bytes.size()));
  }
  HF_CHECK(decoder.ok());
  return files;
}

base::Sha256Digest ManifestOf(const Files& files) {
  return base::Sha256Of(base::AsBytes(EncodeFiles(files)));
}

std::string BytesOf(const sessions::EventBody& body) {
  return std::to_string(sessions::KindOf(body)) + ":" + sessions::EncodeBody(body);
}

Machine::Machine(uint64_t seed, Plant planted)
    : plant(planted), disk(clock, {.seed = seed, .file_bytes_max = 8 << 20}) {
  HF_CHECK(disk.CreateDirectories("/data").ok());
}

void Machine::Reboot() {
  disk.Restart();
  for (auto& [id, witness] : witnesses) {
    witness.layer = {{"file", "whatever the disk makes of it"}};
    witness.same_boot = false;
  }
}

}  // namespace holdfast::agent::simulation
