// What is so in a session now: its events folded into a few facts. Recovery, the scheduler and the agent ask
// here; the log has the last word.
//
// One thread at a time. Memory: the window's tokens, and what is open.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "sessions/event.h"
#include "sessions/token_log.h"

namespace holdfast::sessions {

// A call that has begun and not ended.
struct OpenCall {
  uint64_t seq = 0;  // of its intent
  CallIntent intent;
};

struct PendingApproval {
  uint64_t seq = 0;
  base::Sha256Digest action = {};
  std::string question;
};

// What a client asked for, and has been done.
struct DoneRequest {
  uint64_t seq = 0;  // of the last event that it made
  std::string what;  // the method, as RequestDone::what; "send" or "answer" of an event that brought the id

  bool operator==(const DoneRequest&) const = default;
};

class SessionFacts {
 public:
  // Takes the next live event (LiveHistory). DataLoss, with its number, for an event that contradicts those
  // before it: a second outcome; an outcome, answer or end of what never began; a call's name used twice; an
  // effectful call beside another; a first event that is not SESSION_CREATED (a fork's facts begin with its
  // parent's, so more of those may follow); or what TokenLog refuses. Nothing has changed then.
  base::Status Apply(const Event& event);

  uint64_t last_seq() const { return last_seq_; }
  const TokenLog& tokens() const { return tokens_; }

  SessionState state() const { return state_.state; }
  WaitFor wait() const { return state_.wait; }
  const std::string& state_reason() const { return state_.reason; }

  // In the order in which they began.
  const std::vector<OpenCall>& open_calls() const { return open_calls_; }
  // By call.
  const std::map<std::string, PendingApproval>& pending_approvals() const { return pending_approvals_; }
  // What a person has said about exactly this action for this call; nothing once the call has begun.
  std::optional<bool> AnswerTo(const std::string& call, const base::Sha256Digest& action) const;
  // The event with the outcome of a call that has ended.
  std::optional<uint64_t> OutcomeOf(const std::string& call) const;
  bool IsOpen(const std::string& call) const { return FindOpen(call) != nullptr; }
  // By name.
  const std::map<std::string, TimerSet>& timers() const { return timers_; }

  // Inputs and outcomes that the model has not been told yet, oldest first.
  const std::deque<uint64_t>& untold() const { return untold_; }

  // A request acts once: what it did, if it has. Those of a fork's parent are not the fork's.
  std::optional<DoneRequest> FindRequest(const std::string& request_id) const;

  // An event that does not count (a rewind went back behind it): what was asked for with it was done all the
  // same, so only FindRequest hears of it. In order with the events of Apply.
  void NoteRequest(const Event& event);

  // The manifest that the workspace is to equal; none while nothing has said one.
  const std::optional<base::Sha256Digest>& workspace() const { return workspace_; }

  // Recoveries since a token was last sampled, or a person said to go on: a session that only ever recovers
  // must not do so for ever.
  uint32_t fruitless_recoveries() const { return fruitless_recoveries_; }
  const TokensAccounted& accounted() const { return accounted_; }

 private:
  base::Status Check(const Event& event) const;
  void Take(const Event& event, const TokenRun& run);
  void Take(const Event& event, const StateChanged& changed);
  void Take(const Event& event, const InputReceived& input);
  void Take(const Event& event, const CallIntent& intent);
  void Take(const Event& event, const CallOutcome& outcome);
  void Take(const Event& event, const ApprovalRequested& request);
  void Take(const Event& event, const ApprovalResolved& answer);
  const OpenCall* FindOpen(const std::string& call) const;

  uint64_t last_seq_ = 0;
  TokenLog tokens_;
  StateChanged state_;
  std::vector<OpenCall> open_calls_;
  std::map<std::string, uint64_t> calls_;  // of all calls: the outcome's event, 0 while open
  std::map<std::string, PendingApproval> pending_approvals_;
  std::map<std::string, ApprovalResolved> answers_;
  std::map<std::string, TimerSet> timers_;
  std::deque<uint64_t> untold_;
  std::map<std::string, DoneRequest> requests_;
  std::optional<base::Sha256Digest> workspace_;
  uint32_t fruitless_recoveries_ = 0;
  TokensAccounted accounted_;
};

}  // namespace holdfast::sessions
