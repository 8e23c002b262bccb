#include "tests/memory/store_fault_testing.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace holdfast::memory {
namespace {

std::vector<int32_t> Tokens(int32_t from, int32_t count) {
  std::vector<int32_t> tokens;
  for (int32_t t = 0; t < count; ++t) tokens.push_back(from + t);
  return tokens;
}

void Growth(StoreWorld&, Account& account) {
  account.Feed("a", 0, Tokens(0, 6));
  account.Sync().IgnoreError();
  account.Feed("a", 0, Tokens(0, 14), /*periodic=*/true);
  account.Write(500).IgnoreError();
  account.Feed("fork", 0, {0, 1, 2, 50, 51});
  account.Sync().IgnoreError();
  account.Feed("b", 1, Tokens(0, 3));
  account.Write().IgnoreError();
  account.Feed("fork", 0, {0, 1, 2, 50, 51, 52, 53});
  account.Sync().IgnoreError();
}

void Reuse(StoreWorld&, Account& account) {
  for (int32_t turn = 0; turn < 6; ++turn) {
    account.Feed("live", 0, Tokens(0, 2 + turn));
    account.Feed("passing", 1, Tokens(100 * turn, 5), turn % 2 == 0);
    account.Write().IgnoreError();
    account.LetGo("passing");
    account.Sync().IgnoreError();
  }
}

void FailedSyncs(StoreWorld& world, Account& account) {
  account.Feed("a", 0, Tokens(0, 3));
  account.Sync().IgnoreError();
  account.Feed("a", 0, Tokens(0, 7));
  world.fs.FailNext(test::SimOp::kSync, ".kvb", EIO);
  account.Sync().IgnoreError();
  account.Sync().IgnoreError();
  account.Feed("b", 0, {0, 1, 70, 71}, true);
  world.fs.FailNext(test::SimOp::kSync, ".kvt", EIO);
  world.fs.FailNext(test::SimOp::kRemove, ".kvb", EIO);
  account.Sync().IgnoreError();
  account.Feed("c", 2, Tokens(0, 5));
  world.fs.FailNext(test::SimOp::kWrite, ".kvb", EIO, 3);
  account.Sync().IgnoreError();
  account.Sync().IgnoreError();
}

void ComingAndGoing(StoreWorld&, Account& account) {
  account.Feed("a", 0, Tokens(0, 5));
  account.Feed("b", 0, {0, 1, 2, 90, 91, 92}, true);
  account.Sync().IgnoreError();
  account.Drop("b");
  account.Feed("a", 0, Tokens(0, 5), /*periodic=*/true);  // its tail becomes periodic
  account.Write().IgnoreError();
  account.Feed("c", 1, Tokens(0, 6));
  account.Write().IgnoreError();
  account.RestartProcess();
  account.Feed("c", 1, Tokens(0, 6));  // found: nothing to write
  account.Sync().IgnoreError();
  account.LetGo("c");
  account.EvictTo(3 * 12288);
  account.Feed("d", 2, Tokens(0, 9));
  account.Sync().IgnoreError();
}

}  // namespace

std::vector<NamedScenario> Scenarios() {
  return {{"growth", Growth, UINT64_MAX},
          {"reuse", Reuse, 5 * 12288},
          {"failed syncs", FailedSyncs, UINT64_MAX},
          {"coming and going", ComingAndGoing, UINT64_MAX}};
}

void Account::Feed(const std::string& name, int32_t root, const std::vector<int32_t>& tokens, bool periodic) {
  if (!Alive()) return;
  Held held{.root = TestRoot(root), .keys = ChainOf(TestRoot(root), tokens)};
  held.end = world_.store->Root(held.root);
  for (size_t b = 0; b < held.keys.size(); ++b) {
    const BlockKey& key = held.keys[b];
    held.end = world_.store->Append(held.end, key, BlockBytes(key));
    if (b % 4 == 3 || b + 1 == held.keys.size())
      held.tails.push_back(world_.store->PutTail(held.end, TailBytes(key), periodic));
  }
  chains_.insert({held.root, held.keys});
  held_[name] = std::move(held);
}

void Account::LetGo(const std::string& name) { held_.erase(name); }

void Account::Drop(const std::string& name) {
  if (!Alive()) return;
  ChainRef end = std::move(held_.at(name).end);
  held_.erase(name);
  world_.store->Drop(std::move(end));
  ForgetWhatWentAway();
}

void Account::ForgetWhatWentAway() {
  std::erase_if(blocks_, [&](const BlockKey& key) { return !world_.store->Look(key).block; });
  std::erase_if(tails_, [&](const BlockKey& key) { return !world_.store->Look(key).tail; });
}

base::Status Account::Write(uint64_t bytes_max) {
  if (!Alive()) return absl::CancelledError("crashed");
  const base::Status status = world_.store->Write(bytes_max);
  ForgetWhatWentAway();
  return status;
}

base::Status Account::Sync() {
  if (!Alive()) return absl::CancelledError("crashed");
  const base::Status status = world_.store->Sync();
  ForgetWhatWentAway();
  if (!status.ok()) return status;
  for (const auto& [root, keys] : chains_) {
    for (const BlockKey& key : keys) {
      if (world_.store->Look(key).block) blocks_.insert(key);
      if (world_.store->Look(key).tail) tails_.insert(key);
    }
  }
  return status;
}

void Account::EvictTo(uint64_t bytes) {
  if (!Alive()) return;
  world_.store->EvictTo(bytes).IgnoreError();
  ForgetWhatWentAway();
}

void Account::RestartProcess() {
  held_.clear();
  if (!Alive()) return;
  world_.Close();
  world_.events.clear();
  world_.Open().IgnoreError();
}

void Account::ReadAll(std::vector<std::string>& violations) {
  for (const auto& [root, keys] : chains_) {
    for (size_t blocks = 1; blocks <= keys.size(); ++blocks) {
      const auto prefix = std::span(keys).first(blocks);
      size_t found = 0;
      const Served served = ReadChain(*world_.store, root, prefix, &found);
      const std::string where = ShortName(root) + ", " + std::to_string(blocks) + " blocks";
      if (served == Served::kWrong) violations.push_back("wrong: " + where);
      const bool whole = std::all_of(prefix.begin(), prefix.end(),
                                     [&](const BlockKey& key) { return blocks_.contains(key); });
      if (whole && tails_.contains(prefix.back()) && (served != Served::kRight || found != blocks))
        violations.push_back("lost: tail of " + where + ", found " + std::to_string(found));
    }
  }
}

std::vector<std::string> Account::Violations() {
  std::vector<std::string> violations;
  for (const BlockKey& key : blocks_) {
    const ChainRef pin = world_.store->Pin(key);
    const Served served = pin.valid() ? ReadBlock(*world_.store, pin.id(), key) : Served::kDetected;
    if (served == Served::kDetected) violations.push_back("lost: block " + ShortName(key));
    if (served == Served::kWrong) violations.push_back("wrong: block " + ShortName(key));
  }
  ReadAll(violations);
  return violations;
}

std::vector<std::string> Account::HeldViolations() {
  std::vector<std::string> violations;
  for (const auto& [name, held] : held_) {
    size_t found = 0;
    const Served served = ReadChain(*world_.store, held.root, held.keys, &found);
    if (served == Served::kWrong) violations.push_back("wrong: " + name);
    if (found != held.keys.size() || served == Served::kDetected) violations.push_back("lost: " + name);
  }
  return violations;
}

std::vector<std::string> Account::Rebuild() {
  const auto chains = chains_;
  for (const auto& [root, keys] : chains) {
    base::Status status;
    for (int attempt = 0; attempt < 4; ++attempt) {  // planted faults may be left
      const ChainRef end = AppendChain(*world_.store, world_.store->Root(root), keys);
      const TailRef tail = world_.store->PutTail(end, TailBytes(keys.back()), true);
      status = world_.store->Sync();
      if (status.ok()) break;
    }
    if (!status.ok()) return {"cannot sync: " + base::Message(status)};
    size_t found = 0;
    if (ReadChain(*world_.store, root, keys, &found) != Served::kRight || found != keys.size())
      return {"cannot be built again: " + ShortName(keys.back())};
  }
  return {};
}

}  // namespace holdfast::memory
