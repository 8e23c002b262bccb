#include "cli/session_data.h"

#include <cstdio>

#include "agent/history_index.h"
#include "base/clock.h"
#include "base/file.h"
#include "memory/text_index.h"

namespace holdfast::cli {
base::StatusOr<std::unique_ptr<SessionData>> SessionData::Open(const std::string& directory, Absent absent) {
  base::FileSystem& fs = base::RealFileSystem();
  const std::string path = directory + "/holdfast.db";
  if (absent == Absent::kMake) {
    HF_RETURN_IF_ERROR(fs.CreateDirectories(directory));
  } else if (const auto stat = fs.Stat(path); absl::IsNotFound(stat.status())) {
    return base::NotFound(path +
                          ": there are no sessions; name their directory with --data DIR or HOLDFAST_DATA");
  } else {
    HF_RETURN_IF_ERROR(stat.status());
  }
  auto data = std::unique_ptr<SessionData>(new SessionData(directory));
  auto database = memory::SqliteDatabase::Open(
      fs, {.path = path}, {sessions::SessionSchema(), memory::TextIndex::kSchema, agent::HistorySchema()});
  if (absl::IsUnavailable(database.status())) {
    return base::Annotate(
        database.status(),
        "the sessions are in use; ask the daemon that has them, or end it with: holdfast stop");
  }
  HF_RETURN_IF_ERROR(database.status());
  data->database_ = *std::move(database);
  HF_ASSIGN_OR_RETURN(data->store_,
                      sessions::SessionStore::Open(data->executor_, base::RealClock(), *data->database_));
  return data;
}

SessionData::~SessionData() { executor_.Shutdown(); }

base::StatusOr<memory::BlobStore*> SessionData::Blobs(Absent absent) {
  const std::string directory = directory_ + "/blobs";
  if (blobs_ != nullptr) return blobs_.get();
  if (absent == Absent::kRefuse && !base::RealFileSystem().Stat(directory).ok()) {
    return static_cast<memory::BlobStore*>(nullptr);
  }
  HF_ASSIGN_OR_RETURN(blobs_, memory::BlobStore::Open(
                                  base::RealFileSystem(),
                                  {.directory = directory, .on_event = [](const memory::BlobEvent& event) {
                                     std::fprintf(stderr, "%s\n", event.message.c_str());
                                   }}));
  return blobs_.get();
}

base::StatusOr<std::vector<sessions::Event>> SessionData::ReadEvents(const std::string& id,
                                                                     uint64_t after_seq, size_t count) {
  return Ask<std::vector<sessions::Event>>(
      [&](auto done) { store_->ReadEvents(id, after_seq, count, std::move(done)); });
}

std::string StateText(const sessions::SessionRow& row) {
  static constexpr const char* kStates[] = {"?", "IDLE", "RUNNING", "WAITING", "PAUSED", "CLOSED"};
  static constexpr const char* kWaits[] = {"", "TIMER", "PROCESS", "FILE", "APPROVAL", "INPUT", "CLIENT"};
  std::string text = kStates[static_cast<size_t>(row.state) % std::size(kStates)];
  const std::string wait = kWaits[static_cast<size_t>(row.wait) % std::size(kWaits)];
  if (!wait.empty()) text += " (" + wait + ")";
  return text;
}

}  // namespace holdfast::cli
