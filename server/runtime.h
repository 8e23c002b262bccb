// Everything that works on the sessions of one data directory, put together: the model, the KV store, the
// record, the blobs, the sandbox, and the session manager over them. One process owns a data directory.
//
//   DIR/holdfast.db   the record (memory/sqlite_database.h)
//   DIR/blobs/        contents of files and outputs (memory/blob_store.h)
//   DIR/kv/           computed KV (memory/block_store.h); may be deleted while nobody runs
//   DIR/layers/ID/    what session ID has changed (workspace/workspace.h)
//
//   HF_ASSIGN_OR_RETURN(auto runtime, Runtime::Open({.directory = dir, .model = checkpoint, ...}));
//   runtime->Ask<sessions::SessionRow>([&](auto done) { runtime->manager().Create(session, std::move(done));
//   }); runtime->Stop();
//
// Threads: Ask, OnControl and Stop from any thread that is no task of the executor; manager() and store() on
// the control lane.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "agent/history_index.h"
#include "agent/sandbox_files.h"
#include "agent/session_manager.h"
#include "base/executor.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "memory/block_store.h"
#include "memory/sqlite_database.h"
#include "model/backend.h"
#include "model/engine.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include "sandbox/policy.h"
#include "sandbox/sandbox.h"
#include "sessions/kv_flusher.h"
#include "sessions/scheduler.h"
#include "sessions/session_store.h"
#include "tools/blob_spill.h"
#include "tools/permission.h"

namespace holdfast::server {

struct RuntimeOptions {
  std::string directory;  // of the data; made when absent
  std::string model;      // checkpoint directory, with tokenizer.json
  std::unique_ptr<model::Backend> backend;
  std::string broker;      // program of the sandbox; empty: found beside this one
  sandbox::Policy policy;  // of every session
  tools::PermissionPolicy permissions;
  agent::ManagerOptions manager;
  bool take_up = true;  // what was running or waiting; false: only what is asked for
  sessions::SchedulerOptions scheduler;
  // Told on the control lane: what happens in open sessions; what the stores have to say, for people; what
  // may be seen of sessions before it is durable.
  std::function<void(const std::string& id, const sessions::Event&)> on_event;
  std::function<void(const std::string& message)> on_message;
  agent::LiveSink on_live;
};

class Runtime {
 public:
  // Unavailable when another process has the directory. NotFound and InvalidArgument for the checkpoint. The
  // sandbox's FailedPrecondition when isolation cannot be had, with what would help. Blocks: hashes pages of
  // the weights, maps them, recovers the stores.
  static base::StatusOr<std::unique_ptr<Runtime>> Open(RuntimeOptions options);
  ~Runtime();  // Stop

  // Brings all sessions to rest where they are and closes them; commands that run are waited for.
  void Stop();

  // What a new session of a profile ("nano", "default") is made with, on a tree (empty: none): its AGENTS.md
  // are read now.
  base::StatusOr<agent::ProfileSet> MakeProfile(std::string_view profile, const std::string& tree) const;

  agent::SessionManager& manager() { return *manager_; }
  sessions::SessionStore& store() { return *store_; }
  memory::BlobStore& blobs() { return *blobs_; }
  memory::SqliteDatabase& database() { return *database_; }  // on the storage lane
  memory::BlockStore& blocks() { return *blocks_; }
  sessions::Scheduler& scheduler() { return *scheduler_; }
  const model::ModelConfig& config() const { return checkpoint_->config(); }
  const model::Tokenizer& tokenizer() const { return *tokenizer_; }

  base::Executor& executor() { return executor_; }
  void OnControl(base::Task task) { executor_.PostResult(base::Lane::kControl, std::move(task)); }

  // Runs `call(done)` on the control lane and waits for what `done` is given.
  template <class T, class Call>
  base::StatusOr<T> Ask(Call call) {
    auto promise = std::make_shared<std::promise<base::StatusOr<T>>>();  // by whoever of the two ends last
    auto answer = promise->get_future();
    OnControl([&call, promise] {
      call([promise](base::StatusOr<T> value) { promise->set_value(std::move(value)); });
    });
    return answer.get();
  }

 private:
  Runtime() = default;
  base::Status OpenModel(RuntimeOptions& options);
  base::Status OpenStores(const RuntimeOptions& options);
  base::Status OpenAgent(RuntimeOptions& options);
  base::StatusOr<const agent::Dialogue*> DialogueOf(const agent::ProfileSet& profile);

  base::ThreadExecutor executor_;
  bool stopped_ = false;
  std::unique_ptr<model::Backend> backend_;
  std::unique_ptr<model::Checkpoint> checkpoint_;
  std::unique_ptr<model::Tokenizer> tokenizer_;
  std::unique_ptr<model::Engine> engine_;
  agent::ModelIdentity identity_;
  memory::BlockKey root_;
  std::unique_ptr<memory::SqliteDatabase> database_;
  std::unique_ptr<memory::BlobStore> blobs_;
  std::unique_ptr<memory::BlockStore> blocks_;
  std::unique_ptr<sessions::KvCache> cache_;
  std::unique_ptr<sessions::KvFlusher> flusher_;
  std::unique_ptr<sessions::SessionStore> store_;
  std::unique_ptr<agent::HistoryIndex> history_;
  std::unique_ptr<sessions::Scheduler> scheduler_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<agent::SandboxFilesOpener> files_;
  std::unique_ptr<tools::BlobSpill> spill_;
  tools::PermissionPolicy permissions_;
  std::map<std::string, std::unique_ptr<agent::Dialogue>> dialogues_;  // by what makes them
  std::unique_ptr<agent::SessionManager> manager_;
};

}  // namespace holdfast::server
