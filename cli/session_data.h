// The sessions of a data directory, for commands that look after them: nobody else may have it meanwhile.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/executor.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "memory/sqlite_database.h"
#include "model/json.h"
#include "sessions/session_store.h"

namespace holdfast::cli {

// One thread at a time.
class SessionData {
 public:
  enum class Absent { kRefuse, kMake };

  // NotFound when there is none and it is not to be made; Unavailable while another process has it.
  static base::StatusOr<std::unique_ptr<SessionData>> Open(const std::string& directory, Absent absent);
  ~SessionData();

  sessions::SessionStore& store() { return *store_; }

  // The blobs of the directory, which need not have any: null, unless they are to be made.
  base::StatusOr<memory::BlobStore*> Blobs(Absent absent);

  // Calls `call` with a callback, and waits for what it is given.
  template <class T, class Call>
  base::StatusOr<T> Ask(Call call) {
    std::optional<base::StatusOr<T>> got;
    executor_.PostResult(base::Lane::kControl,
                         [&] { call([&got](base::StatusOr<T> answer) { got.emplace(std::move(answer)); }); });
    executor_.Drain();
    if (!got.has_value()) return base::Internal("the store has not answered");
    return *std::move(got);
  }

  // Events after `after_seq`, a page of them.
  base::StatusOr<std::vector<sessions::Event>> ReadEvents(const std::string& id, uint64_t after_seq,
                                                          size_t count = 1000);

 private:
  explicit SessionData(std::string directory) : directory_(std::move(directory)) {}

  const std::string directory_;
  base::ThreadExecutor executor_;
  std::unique_ptr<memory::SqliteDatabase> database_;
  std::unique_ptr<sessions::SessionStore> store_;
  std::unique_ptr<memory::BlobStore> blobs_;
};

// "RUNNING", "WAITING (TIMER)", "PAUSED".
std::string StateText(const sessions::SessionRow& row);

}  // namespace holdfast::cli
