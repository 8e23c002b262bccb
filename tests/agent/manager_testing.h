// A simulated machine with a session manager on it: the real store, scheduler, dispatcher, workers and
// control tools; files and tools of the simulation; and a model whose words are written by the test. The
// machine can be killed at any task, lose its power at any write, and stand still for days.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/dialogue.h"
#include "agent/session_files.h"
#include "agent/session_manager.h"
#include "sessions/session_store.h"
#include "tests/sessions/kv_testing.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_file_system.h"
#include "tests/support/sim_tree.h"
#include "tools/registry.h"

namespace holdfast::agent {

// A turn of the scripted model.
struct Reply {
  std::string text;
  std::vector<std::pair<std::string, std::string>> calls;  // tool, arguments as JSON
};

// What the model answers to what it was told last (all since its last turn, or the whole window before its
// first). A function of its argument alone, so it is the same after a crash.
using Script = std::function<Reply(const std::string& told)>;

using SimTree = std::map<std::string, std::string>;

// What stays of a session's files when the process dies; of the live layer only while the power stays on.
struct SimLayer {
  SimTree files;
  bool opened = false;
  bool same_boot = true;
};

struct SimWorldDisk {
  std::map<std::string, SimLayer> layers;           // by directory
  std::map<base::Sha256Digest, SimTree> manifests;  // durable
  SimTree user_tree;                                // where applied changes go
  int sends = 0;                                    // calls of `send`, which nobody can take back
  std::map<std::string, bool> jobs;                 // background commands; lost with the process
};

class ManagerWorld {
 public:
  explicit ManagerWorld(Script script, uint64_t seed = 1);
  ~ManagerWorld();

  // A process with a manager. Start answers before it returns; false: it could not (the disk).
  bool Boot();
  void Kill();      // SIGKILL: what the kernel has stays
  void PowerCut();  // the disk forgets what was not synced

  SessionManager& manager();

  // Runs until `done`, or nothing is left to do but wait for longer than `ns`.
  bool RunUntil(const std::function<bool()>& done, int64_t ns = 3'600'000'000'000);
  // Lets time go on.
  void RunFor(int64_t ns);

  // Ask, and run until there is an answer.
  base::StatusOr<sessions::SessionRow> Create(NewSession session);
  base::StatusOr<SessionStatus> Status(const std::string& id);
  base::StatusOr<uint64_t> Send(const std::string& id, sessions::InputReceived input);
  template <class T, class Call>
  base::StatusOr<T> Ask(Call call) {
    std::optional<base::StatusOr<T>> answer;
    call([&answer](base::StatusOr<T> given) { answer = std::move(given); });
    RunUntil([&answer] { return answer.has_value(); });
    if (!answer.has_value()) return base::Internal("no answer");
    return *std::move(answer);
  }

  // Runs until the session is in one of these states.
  bool RunUntilState(const std::string& id, std::vector<sessions::SessionState> states,
                     int64_t ns = 3'600'000'000'000);

  // The whole record of a session, from the disk; its process need not run.
  std::vector<sessions::Event> Events(const std::string& id);

  // A profile with all tools of the simulation.
  static ProfileSet Profile();

  SimWorldDisk disk;
  std::map<std::string, std::vector<uint64_t>> told;  // by session: numbers of the events that were told of
  test::SimClock clock;
  test::SimFileSystem fs;
  test::SimTree watched{clock};  // what waits for files look at

 private:
  struct Process;
  const Script script_;
  uint64_t boots_ = 0;
  const uint64_t seed_;
  std::unique_ptr<Process> process_;
};

}  // namespace holdfast::agent
