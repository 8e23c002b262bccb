// Works on a session until there is nothing to do: tells the model what it has not been told, lets it speak,
// runs the calls it makes, and goes on. What is next follows from the log alone, so the same code begins a
// session, carries it on and takes it up after a crash.
//
//   tell: render what is untold  ->  speak: sample to the end of the turn  ->  calls: run them  ->  tell ...
//
// The calls of a turn go in order. One that a client runs is put on record with its deadline, and the loop
// rests; once its outcome is on record, by whomever, the next Run goes on behind it. Calls of clients that
// only read and stand side by side are handed out together.
//
// Nothing happens before its cause is durable: sampling goes on from committed tokens, calls start when the
// tokens that ask for them and their intents are committed, and the model is told outcomes that are
// committed.
//
// Threads: control lane. Everything it is given outlives it.
// Source: DESIGN section 3; ADR 0006, 0007.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/dialogue.h"
#include "agent/live_note.h"
#include "agent/session_files.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/hash.h"
#include "base/status.h"
#include "sessions/scheduler.h"
#include "sessions/session_log.h"
#include "tools/dispatcher.h"

namespace holdfast::agent {

// What the loop's owner has to say in it. Answers at once; control lane.
class LoopHost {
 public:
  virtual ~LoopHost() = default;

  // Asked at each border, before the model is told anything or begins to speak. True: rest (kHeld).
  virtual bool Holds() = 0;

  // Whether so many calls of clients may begin; an error refuses them, its message is for the model. Others
  // are asked about by the dispatcher (tools::CallBudget).
  virtual base::Status MayHandOut(size_t /*calls*/) { return {}; }

  // These calls are about to start, together.
  virtual void OnStart(std::span<const std::string> /*calls*/) {}

  // Events to be committed with the outcomes of calls that have just ended.
  virtual std::vector<sessions::EventBody> WithOutcomes(std::span<const sessions::CallOutcome> outcomes) = 0;

  // Tokens that may still enter the window. A turn that would go beyond is closed.
  virtual int64_t TokensLeft() = 0;

  // What the window of `epoch` begins with, before anything that is untold: messages of the user's. Empty for
  // the first window of a conversation, never for a later one. None: no other window is to be begun.
  virtual std::optional<std::vector<std::string>> OpeningTexts(uint32_t epoch) = 0;

  // An order has ended: what of its KV is stored.
  virtual void OnStored(const sessions::OrderEnd& /*end*/) {}
};

struct TurnLoopOptions {
  std::string session;
  sessions::Priority priority = sessions::Priority::kNormal;
  model::SamplerOptions sampler;
  uint64_t seed = 0;
  std::string numerics;                      // id, for the record
  int64_t window_tokens_max = 0;             // of the session; > 0. At 90% a new epoch begins,
  int64_t kept_tokens_max = 16384;           // with the last turns up to so many, or 5% of the window
  int64_t turn_tokens_max = 16384;           // of one turn of the model's
  size_t commit_tokens = 32;                 // sampled tokens are committed when there are so many,
  int64_t commit_ns = 250 * base::kNsPerMs;  // or so late, whichever is first
  LiveSink on_live;                          // may be empty
  // Limits sampling further than the grammar does, after `begun` tokens of the turn that follows `before`.
  // For tests, which want calls from a model that has learnt nothing. Called on the engine lane.
  std::function<std::unique_ptr<sessions::TokenConstraint>(std::unique_ptr<sessions::TokenConstraint> grammar,
                                                           std::span<const int32_t> before,
                                                           std::span<const int32_t> begun)>
      narrow;
};

// Why the loop has come to rest.
enum class Rest : uint8_t {
  kDone,        // the model has ended its turn, and nothing is untold
  kApproval,    // a person has to answer first
  kClient,      // calls are with a client (agent/client_calls.h), and those behind them wait
  kHeld,        // by LoopHost::Holds
  kWindowFull,  // no room for what is to be said, or no other window is to be begun
  kStopped,     // by Stop
  kFailed,      // status: the log, the engine or the workspace cannot go on
};

class TurnLoop {
 public:
  struct Parts {
    base::Executor& executor;
    base::Clock& clock;
    sessions::SessionLog& log;
    sessions::Scheduler& scheduler;
    const Dialogue& dialogue;
    tools::Dispatcher& dispatcher;
    tools::ApprovalBook& approvals;
    CallWorkspace& workspace;
    LoopHost& host;
  };
  using Rested = absl::AnyInvocable<void(Rest, base::Status)>;

  TurnLoop(Parts parts, TurnLoopOptions options);
  // At rest, or after the dispatcher has shut down and when no task of the executor runs any more.
  ~TurnLoop();

  // Goes to work; `rested` is called once for each Run, when it has come to rest. The log's session must not
  // have been resting on an open call that is not to be run again: recovery comes first.
  void Run(Rested rested);

  // Ends the model's turn here and now; what it was doing is closed by rule, calls that are with a client
  // among it. The loop goes on with what is untold, or rests. At rest: so the next Run begins.
  void Interrupt();

  // Rests as soon as what is under way is on record, leaving the turn open.
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::agent
