// What is so with the agent of a session now: goal, plan, notes, wait, what was used of the budgets and
// whether it goes in circles. Folded from all events that count (LiveHistory; of a fork from its parent's
// first), so it is the same after a crash.
//
// One thread at a time. Memory: what was set, planned and noted; of calls a bounded number of hashes.
// Source: DESIGN section 6; the page of failures, F4 to F6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/agent_event.h"
#include "base/hash.h"
#include "sessions/event.h"

namespace holdfast::agent {

// Reasons of a pause by rule, beside the budgets' (BudgetReason in goal_rules.h).
inline constexpr std::string_view kBlocked = "BLOCKED";                     // the model says so
inline constexpr std::string_view kNoProgress = "NO_PROGRESS";              // turn after turn
inline constexpr std::string_view kRepeating = "REPEATING";                 // the same call, the same result
inline constexpr std::string_view kCompactionThrash = "COMPACTION_THRASH";  // windows fill without work

// Beginnings of the `request_id` of notices that rules ask for (goal_rules.h): by them the facts know that
// the model was told.
inline constexpr std::string_view kRepeatNoticeId = "runtime/repeats/";
inline constexpr std::string_view kNoteRequestId = "runtime/note/";

// Of the time between two events at most so much is taken for work: the longest call, and some more.
inline constexpr int64_t kGapMsMax = 11 * 60'000;

// After so long a wait the same call may be made again: who waits so long does not run away.
inline constexpr int64_t kPatientWaitMs = 5 * 60'000;

// Different calls that are told apart since something changed; with more, counting begins anew.
inline constexpr size_t kCallsToldApartMax = 1024;

struct Note {
  uint64_t seq = 0;
  std::string text;

  bool operator==(const Note&) const = default;
};

struct Used {
  int64_t tokens = 0;      // of every origin, in every window
  int64_t running_ms = 0;  // while RUNNING, between one event and the next
  int64_t calls = 0;       // that were begun

  bool operator==(const Used&) const = default;
};

class AgentFacts {
 public:
  // Takes the next event that counts. Never fails: an agent event that cannot be read is counted
  // (`unreadable`) and means nothing.
  void Apply(const sessions::Event& event);

  uint64_t last_seq() const { return last_seq_; }

  const std::optional<ProfileSet>& profile() const { return profile_; }
  const std::optional<GoalSet>& goal() const { return goal_; }
  // Claims of the model do not change it.
  GoalState goal_state() const { return goal_state_.state; }
  const std::string& goal_reason() const { return goal_state_.reason; }
  // The model's last word about the goal since the goal was set or taken up again, or a person last said
  // something; empty: none.
  const std::string& claim() const { return claim_; }
  const std::string& evidence() const { return evidence_; }

  // Items are the same when their texts are. What is done stays done: an item that a later plan omits or
  // opens again is kept, done, before the others. Another goal begins without a plan.
  const std::vector<PlanItem>& plan() const { return plan_; }
  const std::vector<Note>& notes() const { return notes_; }        // each text once, where it was first taken
  const std::optional<WaitSet>& wait() const { return wait_; }     // not ended
  const std::vector<CheckRan>& checks() const { return checks_; }  // the last of each command and `when`

  // Of the goal, since it was set.
  const Used& used() const { return used_; }
  const Budgets& budgets() const { return budgets_; }
  bool Warned(const std::string& which) const { return warned_.contains(which); }

  // How often the last call (tool, arguments, status and text of the result the same) has been seen since
  // anything changed: the workspace, the plan, what a person said; a wait ended by what it waited for or was
  // a patient one; or a pause for repeating ended. 1: for the first time. 0: no call since.
  int repeats() const { return repeats_; }
  // The model was told so since then.
  bool told_of_repeats() const { return told_of_repeats_; }

  // Turns that ended since anything changed: the workspace, the plan, a new note, whether a check passes,
  // what a person said; a wait ended by what it waited for; or a pause for lack of progress ended.
  int idle_turns() const { return idle_turns_; }

  uint32_t epoch() const { return epoch_; }
  int64_t window_tokens() const { return window_tokens_; }  // in the window now
  // That entered the window of this epoch after its opening.
  int64_t tokens_in_epoch() const { return tokens_in_epoch_; }
  // That entered windows since the goal was last told: set, in an opening, or by a reminder.
  int64_t tokens_since_goal_told() const { return tokens_since_goal_told_; }
  // A pause for windows that fill without work has ended in this epoch: one more may be begun.
  bool thrash_forgiven() const { return thrash_forgiven_; }
  // The model was asked in this epoch for notes.
  bool note_requested() const { return note_requested_; }

  uint64_t unreadable() const { return unreadable_; }

 private:
  void CountTime(const sessions::Event& event);
  // The kinds that mean something here.
  void Take(const sessions::TokenRun& run);
  void Take(const sessions::TokensCut& cut);
  void Take(const sessions::EpochStarted& start);
  void Take(const sessions::StateChanged& change);
  void Take(const sessions::InputReceived& input);
  void Take(const sessions::CallIntent& intent);
  void Take(const sessions::CallOutcome& outcome);
  void Take(const sessions::TurnFinished& finished);
  void Take(const sessions::WorkspaceChanged& change);
  void Take(const sessions::AgentEvent& agent);
  void Take(const ProfileSet& profile);
  void Take(const GoalSet& goal);
  void Take(const GoalChanged& change);
  void Take(const BudgetsSet& set);
  void Take(const BudgetWarned& warned);
  void Take(const PlanSet& set);
  void Take(const NoteTaken& note);
  void Take(const CheckRan& ran);
  void Take(const Opening& opening);
  void Take(const WaitSet& wait);
  void Take(const WaitEnded& ended);
  // The manifest of the workspace, wherever an event names it.
  void SeeWorkspace(const base::Sha256Digest& manifest);
  void ForgetRepeats();
  // Something is otherwise than it was: neither repeating nor idle.
  void Progress();
  // A pause for this reason has ended.
  void EndPause(std::string_view reason);
  void DropClaim();

  uint64_t last_seq_ = 0;
  std::optional<ProfileSet> profile_;
  std::optional<GoalSet> goal_;
  GoalChanged goal_state_;
  std::string claim_, evidence_;
  std::vector<PlanItem> plan_;
  std::vector<Note> notes_;
  std::optional<WaitSet> wait_;
  int64_t wait_since_utc_ms_ = 0;
  std::vector<CheckRan> checks_;

  Used used_;
  Budgets budgets_;
  std::set<std::string> warned_;
  sessions::StateChanged state_;
  int64_t last_utc_ms_ = 0;

  std::map<std::string, uint64_t> open_calls_;  // hash of tool and arguments, by call
  std::map<uint64_t, int> seen_calls_;          // how often, by hash of call and result
  std::optional<base::Sha256Digest> workspace_;
  int repeats_ = 0;
  bool told_of_repeats_ = false;
  int idle_turns_ = 0;

  uint32_t epoch_ = 0;
  int64_t window_tokens_ = 0;
  int64_t tokens_in_epoch_ = 0;
  int64_t tokens_since_goal_told_ = 0;
  bool thrash_forgiven_ = false;
  bool note_requested_ = false;

  uint64_t unreadable_ = 0;
};

}  // namespace holdfast::agent
