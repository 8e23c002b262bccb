// Scenarios that write to a store, and what a store owes after each of them, whatever went wrong.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/memory/kv_testing.h"

namespace holdfast::memory {

// Drives a store and keeps account of what it has promised: what was there after a good Sync, and was neither
// dropped nor evicted since. Steps do nothing once the simulated machine has crashed.
class Account {
 public:
  explicit Account(StoreWorld& world) : world_(world) {}

  // Appends the chain of `tokens` below root `root`, with tails at the end and after every `tail_every`
  // blocks, and holds it under `name`. What the chain was before is let go.
  void Feed(const std::string& name, int32_t root, const std::vector<int32_t>& tokens, bool periodic = false);
  void LetGo(const std::string& name);
  void Drop(const std::string& name);
  base::Status Write(uint64_t bytes_max = UINT64_MAX);
  base::Status Sync();
  void EvictTo(uint64_t bytes);
  // The process ends without a sync, and another one takes up the store.
  void RestartProcess();

  // What is wrong with the store of the world, which has been opened again: "lost: ..." for a promise that
  // was not kept, "wrong: ..." for bytes that are not what was stored.
  std::vector<std::string> Violations();
  // The same for everything that is held, while it is: "lost" when it cannot be read.
  std::vector<std::string> HeldViolations();

  // Feeds every chain again, syncs, and returns what is wrong afterwards.
  std::vector<std::string> Rebuild();

  void LetGoOfAll() { held_.clear(); }
  size_t promised() const { return blocks_.size() + tails_.size(); }

 private:
  struct Held {
    ChainRef end;
    std::vector<TailRef> tails;
    BlockKey root;
    std::vector<BlockKey> keys;
  };

  bool Alive() const { return world_.store != nullptr && !world_.fs.crashed(); }
  void ForgetWhatWentAway();
  void ReadAll(std::vector<std::string>& violations);

  StoreWorld& world_;
  std::map<std::string, Held> held_;
  std::set<std::pair<BlockKey, std::vector<BlockKey>>> chains_;  // all that were ever fed, with their roots
  std::set<BlockKey> blocks_;                                    // promised
  std::set<BlockKey> tails_;                                     // promised
};

using Scenario = void (*)(StoreWorld& world, Account& account);

struct NamedScenario {
  const char* name;
  Scenario run;
  uint64_t disk_bytes_max;  // budget of the store
};

// Growth over several segments with forks; reuse of slots under a tight budget; syncs that fail; drops, tails
// that come and go, and a process that is killed.
std::vector<NamedScenario> Scenarios();

}  // namespace holdfast::memory
