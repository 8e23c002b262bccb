// A session in memory that can be killed at any task: a log that becomes durable a little later, a workspace
// of a few files, tools that change it, and a model that has learnt nothing but has to follow the grammar.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/dialogue.h"
#include "agent/turn_loop.h"
#include "model/engine.h"
#include "model/weights.h"
#include "sessions/recovery.h"
#include "sessions/session_log.h"
#include "tests/sessions/kv_testing.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_file_system.h"
#include "tools/dispatcher.h"
#include "tools/registry.h"

namespace holdfast::agent {

// What a kill leaves behind.
struct SimDisk {
  std::vector<sessions::Event> events;
  std::map<std::string, std::string> files;                                    // of the live layer
  std::map<base::Sha256Digest, std::map<std::string, std::string>> manifests;  // durable
  std::map<std::string, int> sent;  // runs of `send`, by canonical arguments
};

base::Sha256Digest ManifestOf(const std::map<std::string, std::string>& files);

// Durable on the storage lane, a task after it was asked for.
class MemoryLog final : public sessions::SessionLog {
 public:
  MemoryLog(base::Executor& executor, SimDisk& disk);
  void Append(std::vector<sessions::EventBody> bodies, sessions::Appended done) override;
  const sessions::SessionFacts& facts() const override { return facts_; }
  base::StatusOr<sessions::Event> ReadUntold(uint64_t seq) const override;
  // From now on nothing is written: as a full disk.
  void FailFromNowOn(base::Status status) { failure_ = std::move(status); }

 private:
  base::Executor& executor_;
  SimDisk& disk_;
  sessions::SessionFacts facts_;
  base::Status failure_;
};

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

// One process, from its start to its end or its death.
class SimProcess {
 public:
  // `executor_seed` decides the order of tasks and how long tools take.
  SimProcess(SimDisk& disk, base::FileSystem& fs, test::SimClock& clock, uint64_t executor_seed);
  ~SimProcess();

  // Recovers, and goes to work.
  void Run();
  // One task; false when there is none.
  bool Step() { return executor_.RunOne(); }

  bool rested() const { return rest_.has_value(); }
  Rest rest() const { return *rest_; }
  const base::Status& status() const { return status_; }
  TurnLoop& loop() { return *loop_; }
  MemoryLog& log() { return *log_; }

 private:
  sessions::RecoveryPlan Recover();

  SimDisk& disk_;
  test::SimExecutor executor_;
  std::unique_ptr<MemoryLog> log_;
  std::unique_ptr<sessions::OpenedStore> store_;
  tools::Registry registry_;
  tools::Toolset toolset_;
  tools::PermissionPolicy policy_;
  tools::ApprovalBook approvals_;
  std::unique_ptr<Dialogue> dialogue_;
  std::unique_ptr<sessions::Scheduler> scheduler_;
  std::unique_ptr<MemoryWorkspace> workspace_;
  std::unique_ptr<tools::Dispatcher> dispatcher_;
  std::unique_ptr<TurnLoop> loop_;
  test::SimClock& clock_;
  std::optional<Rest> rest_;
  base::Status status_;
};

// The tokens of the window, from the log.
std::vector<int32_t> Window(const SimDisk& disk);

// A machine on which processes run one after another.
struct World {
  SimDisk disk;
  test::SimClock clock;
  test::SimFileSystem fs{clock};
  Rest rest = Rest::kFailed;

  // Runs until the loop rests; the process is killed after kills[i] tasks of the i-th.
  void RunWithKills(uint64_t seed, const std::vector<size_t>& kills);
};

}  // namespace holdfast::agent
