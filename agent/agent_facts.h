// What is so with the agent of a session now: goal, plan, notes, wait, what was used of the budgets and
// whether it goes in circles. Folded from all events that count, so it is the same after a crash.
//
// One thread at a time.
// Source: DESIGN section 6; the page of failures, F4 to F6.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "base/hash.h"
#include "sessions/event.h"

namespace holdfast::agent {

struct Note {
  uint64_t seq = 0;
  std::string text;
};

struct Used {
  int64_t tokens = 0;
  int64_t running_ms = 0;
  int64_t calls = 0;
};

class AgentFacts {
 public:
  // Takes the next event that counts. Never fails: an agent event that cannot be read is counted
  // (`unreadable`) and means nothing.
  void Apply(const sessions::Event& event);

  const std::optional<ProfileSet>& profile() const { return profile_; }
  const std::optional<GoalSet>& goal() const { return goal_; }
  GoalState goal_state() const { return goal_state_.state; }
  const std::string& goal_reason() const { return goal_state_.reason; }
  // The model's last word about the goal since it was last told anything; empty: none.
  const std::string& claim() const { return claim_; }
  const std::string& evidence() const { return evidence_; }

  const std::vector<PlanItem>& plan() const { return plan_; }  // with items done that it no longer names
  const std::vector<Note>& notes() const { return notes_; }
  const std::optional<WaitSet>& wait() const { return wait_; }     // not ended
  const std::vector<CheckRan>& checks() const { return checks_; }  // the last of each command and `when`

  // Of the goal, since it was set.
  const Used& used() const { return used_; }
  const Budgets& budgets() const { return budgets_; }
  bool Warned(const std::string& which) const { return warned_.contains(which); }

  // How often the last call (tool, arguments and result the same) has been seen since anything changed: the
  // workspace, the plan, or what was said to the model.
  int repeats() const { return repeats_; }
  // Turns that ended since anything changed.
  int idle_turns() const { return idle_turns_; }
  // Tokens sampled and fed in this epoch after its opening.
  int64_t tokens_in_epoch() const { return tokens_in_epoch_; }
  // Tokens that entered the window since the goal was last told (opening or reminder).
  int64_t tokens_since_goal_told() const { return tokens_since_goal_told_; }

  uint64_t unreadable() const { return unreadable_; }

 private:
  std::optional<ProfileSet> profile_;
  std::optional<GoalSet> goal_;
  GoalChanged goal_state_;
  std::string claim_, evidence_;
  std::vector<PlanItem> plan_;
  std::vector<Note> notes_;
  std::optional<WaitSet> wait_;
  std::vector<CheckRan> checks_;
  Used used_;
  Budgets budgets_;
  std::set<std::string> warned_;
  int repeats_ = 0;
  int idle_turns_ = 0;
  int64_t tokens_in_epoch_ = 0;
  int64_t tokens_since_goal_told_ = 0;
  uint64_t unreadable_ = 0;
};

}  // namespace holdfast::agent
