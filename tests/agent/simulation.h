// Scenarios of a simulated machine: sessions at work while processes are killed, the power goes, the disk
// fails and users interrupt; and the oracle that says what of it went wrong. A scenario follows from its seed
// alone.
//
//   Simulation simulation;                          // what scenarios share
//   const Verdict verdict = simulation.Run(MakeScenario(seed));
//   verdict.violations                               // empty, or a bug
//
// What must hold after each scenario:
//   - every event whose Append was answered with OK is on record, under its number, with its bytes
//   - numbers have no gap, and the chain of hashes holds
//   - every call has one outcome; every outcome and every input is told to the model once
//   - no effect outside happened twice, or without an intent; each that is said to have happened did
//   - the layer holds what the outcomes add up to, and every manifest they name can be read
//   - every sampled token is the one that follows from the tokens before it
//   - a session that nobody disturbed is, token for token and byte for byte, as if it had been left alone; up
//     to the first call of unknown outcome, if there is one
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/agent/simulation_machine.h"
#include "tests/agent/simulation_process.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::agent::simulation {

// How one process ends before its time. At most one of the first three; errors of the disk beside them.
struct Death {
  size_t tasks = 0;            // killed between two tasks, after so many
  uint64_t kill_change = 0;    // killed in this change of the disk, which is made or not
  bool change_made = false;    //   kill_change
  uint64_t power_change = 0;   // the power goes in this change of the disk
  size_t disk_full_tasks = 0;  // no write fits from then on, until the process has ended
  bool fails_once = false;     // one operation of the disk:
  test::SimOp fault_op = test::SimOp::kWrite;
  std::string fault_path;
  int fault_error = 0;
  uint64_t fault_skip = 0;
};

// What a user does.
struct Act {
  size_t task = 0;  // when so many tasks have run in all processes together
  size_t session = 0;
  bool interrupts = false;  // else says something
};

struct Scenario {
  uint64_t seed = 0;
  std::vector<uint64_t> sessions;  // seeds of what they do
  std::vector<Death> deaths;       // of the first processes; the last one lives
  std::vector<Act> acts;
};

// One to three sessions, some of them disturbed, and up to six deaths.
Scenario MakeScenario(uint64_t seed);

struct Verdict {
  std::vector<std::string> violations;
  uint64_t processes = 0;
  uint64_t kills = 0;
  uint64_t power_cuts = 0;
  uint64_t disk_errors = 0;  // processes that ended by one
  uint64_t acknowledged = 0;
  uint64_t calls = 0;
  uint64_t unknown = 0;
  uint64_t effects = 0;   // outside
  uint64_t compared = 0;  // sessions that were compared with the run that was left alone
  uint64_t audited = 0;   // tokens that were sampled once more

  void Add(const Verdict& other);
};

class Simulation {
 public:
  Verdict Run(const Scenario& scenario, Plant plant = Plant::kNone);

  // Over all scenarios that were run.
  const Counts& counts() const { return counts_; }

 private:
  // A session that was left alone.
  struct Whole {
    std::vector<std::vector<int32_t>> windows;
    Files layer;
    Rest rest = Rest::kFailed;
  };
  const Whole& WholeOf(uint64_t session_seed);

  std::map<uint64_t, Whole> wholes_;
  Counts counts_;
};

}  // namespace holdfast::agent::simulation
