// A session on a simulated machine that can be killed at any task or lose its power at any write: the real
// store, scheduler, dispatcher and turn loop, a workspace of a few files, tools that change it, and a model
// that has learnt nothing but has to follow the grammar.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/dialogue.h"
#include "agent/turn_loop.h"
#include "model/engine.h"
#include "model/weights.h"
#include "sessions/session_store.h"
#include "tests/sessions/kv_testing.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_file_system.h"
#include "tools/dispatcher.h"
#include "tools/registry.h"

namespace holdfast::agent {

// What a kill leaves behind beside the files of the runtime. A power cut leaves the manifests only: what the
// live layer held was never synced.
struct SimDisk {
  std::map<std::string, std::string> files;                                    // of the live layer
  std::map<base::Sha256Digest, std::map<std::string, std::string>> manifests;  // durable
  std::map<std::string, int> sent;  // runs of `send`, by canonical arguments
  bool same_boot = true;            // the live layer is as it was left
  int64_t window_tokens_max = 6000;
};

base::Sha256Digest ManifestOf(const std::map<std::string, std::string>& files);

class MemoryWorkspace final : public CallWorkspace {
 public:
  MemoryWorkspace(base::Executor& executor, base::Clock& clock, SimDisk& disk,
                  const base::Sha256Digest& current);
  base::Sha256Digest current() const override { return current_; }
  void Checkpoint(Checked done) override;
  tools::ToolContext context() override;

 private:
  base::Executor& executor_;
  base::Clock& clock_;
  SimDisk& disk_;
  base::Sha256Digest current_;
};

// Adds nothing to the loop.
class QuietHost final : public LoopHost {
 public:
  bool Holds() override { return false; }
  std::vector<sessions::EventBody> WithOutcomes(std::span<const sessions::CallOutcome>) override {
    return {};
  }
  int64_t TokensLeft() override { return INT64_MAX; }
  std::optional<std::vector<std::string>> OpeningTexts(uint32_t epoch) override {
    if (epoch == 0) return std::vector<std::string>();
    return std::vector<std::string>{"go on"};
  }
};

// The weights, engine and prompt of the model; one for all tests of a process.
class ChaosModel {
 public:
  static ChaosModel& Get();
  model::Engine& engine() { return *engine_; }

 private:
  ChaosModel();
  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
  std::unique_ptr<model::Checkpoint> checkpoint_;
  std::unique_ptr<model::Backend> backend_;
  std::unique_ptr<model::Engine> engine_;
};

// As the loops here limit sampling beyond the grammar: calls are made, and turns end.
std::unique_ptr<sessions::TokenConstraint> NarrowEagerly(std::unique_ptr<sessions::TokenConstraint> grammar,
                                                         std::span<const int32_t> before,
                                                         std::span<const int32_t> begun);

// One process, from its start to its end or its death: opens the session, or makes it, recovers it, and works
// on it until it rests. All of it by tasks.
class SimProcess {
 public:
  // `executor_seed` decides the order of tasks and how long they take.
  SimProcess(SimDisk& disk, base::FileSystem& fs, test::SimClock& clock, uint64_t executor_seed);
  ~SimProcess();

  // One task; false when there is none.
  bool Step() { return executor_.RunOne(); }

  bool rested() const { return rest_.has_value(); }
  Rest rest() const { return *rest_; }
  const base::Status& status() const { return status_; }
  const Dialogue& dialogue() const { return *dialogue_; }
  // Does nothing before the recovery is over.
  void Interrupt();

 private:
  void OpenOrCreate();
  void Recover(base::StatusOr<std::unique_ptr<sessions::StoredSession>> session);
  void Work(const base::Sha256Digest& workspace);
  void RestWith(Rest rest, base::Status status);

  SimDisk& disk_;
  test::SimClock& clock_;
  test::SimExecutor executor_;
  std::unique_ptr<memory::SqliteDatabase> database_;
  std::unique_ptr<sessions::SessionStore> sessions_;
  std::unique_ptr<sessions::OpenedStore> kv_;
  tools::Registry registry_;
  tools::Toolset toolset_;
  tools::PermissionPolicy policy_;
  tools::ApprovalBook approvals_;
  std::unique_ptr<Dialogue> dialogue_;
  std::unique_ptr<sessions::Scheduler> scheduler_;
  std::unique_ptr<sessions::StoredSession> session_;
  std::unique_ptr<MemoryWorkspace> workspace_;
  QuietHost host_;
  std::unique_ptr<tools::Dispatcher> dispatcher_;
  std::unique_ptr<TurnLoop> loop_;
  std::optional<Rest> rest_;
  base::Status status_;
};

// How a process ends before its time.
struct Death {
  size_t tasks = 0;        // it is killed after so many tasks, or
  uint64_t mutations = 0;  // the power goes at this write, sync, rename, ... of its files; 0: it does not
};

// A machine on which processes run one after another.
struct World {
  explicit World(uint64_t disk_seed = 1);

  // Runs until the loop rests; the i-th process dies of deaths[i].
  void Run(uint64_t seed, const std::vector<Death>& deaths);

  // The whole record.
  std::vector<sessions::Event> Events();
  // The tokens of each epoch's window as it was at its end, from it.
  std::vector<std::vector<int32_t>> Windows();

  SimDisk disk;
  test::SimClock clock;
  test::SimFileSystem fs;
  Rest rest = Rest::kFailed;
  base::Status status;
};

}  // namespace holdfast::agent
