// Whether a session is what its record says: every token that ever stood in a window is derived again, from
// the log and the weights alone, and compared with what is on record.
//
//   sampled  the window is fed by chunked prefill and sampled again, with the recorded settings and the
//   grammar fed      rendered again from the events that the run names; what a window keeps comes from the
//   one before forced   the rule that closes a turn (Dialogue::Close), cuts included record   the chain of
//   hashes holds, and no event contradicts those before it balance  the tokens that were accounted for are
//   those that are there
//
// What a rewind has left behind is proven as well. The audit ends at the first event that differs.
//
//   HF_ASSIGN_OR_RETURN(const AuditReport report, Audit(read, {.engine = engine, ...}));
//   if (report.proven()) ...
//
// Cost: one prefill of every window, the logits of every sampled token included, and one more up to the place
// for each rewind. Memory: one window, its KV, `logit_rows` rows of logits and a page of events. No KV store
// is read or written.
//
// Threads: all of it in the caller's, who has the engine and the dialogue for himself meanwhile.
// Source: DESIGN sections 1 and 3; ADR 0006.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/dialogue.h"
#include "agent/turn_loop.h"
#include "base/status.h"
#include "model/engine.h"
#include "model/tokenizer.h"
#include "sessions/event.h"
#include "sessions/scheduler.h"

namespace holdfast::agent {

// Gives the events after `after_seq`, some of them, the parent's among them (SessionStore::ReadEvents); none
// at the end. Called for each part of the log twice, and again for a rewind.
using AuditSource = std::function<base::StatusOr<std::vector<sessions::Event>>(uint64_t after_seq)>;

struct AuditOptions {
  model::Engine& engine;
  const model::Tokenizer& tokenizer;
  std::string numerics;  // id of the engine's backend: only what was sampled under the same is provable
  // The prompt of the session; null: as its record says (DialogueOptionsOf).
  const Dialogue* dialogue = nullptr;
  // As TurnLoopOptions::narrow of the loop that sampled.
  decltype(TurnLoopOptions::narrow) narrow;
  int32_t logit_rows = 32;  // sampled tokens of one step; each takes a row of the vocabulary, in float32
  // Tokens of the log that have been looked at, of all. False ends the audit: Cancelled.
  std::function<bool(uint64_t done, uint64_t total)> progress;
};

// The first thing that is not as it should be.
struct AuditFinding {
  uint64_t seq = 0;   // of the event that differs
  std::string check;  // "chain", "record", "fed", "sampled", "forced", "cut", "balance"
  uint32_t epoch = 0;
  int64_t position = 0;  // in the epoch, of the token; of the window's end where it is about no token
  std::optional<int32_t> wanted;  // token; none: there should be none
  std::optional<int32_t> found;   // on record; none: there is none
  uint64_t cause = 0;             // check "fed": the event whose text differs; 0: not known
  std::string text;               // all of it, for people
};

// Tokens that were not proven, since they were sampled under other numerics than the engine's.
struct AuditForeign {
  std::string numerics;
  uint64_t runs = 0;
  uint64_t tokens = 0;
};

struct AuditReport {
  uint64_t events = 0;
  uint64_t epochs = 0;
  uint64_t rewinds = 0;
  // Tokens that were derived again and are the same.
  uint64_t fed = 0;
  uint64_t sampled = 0;
  uint64_t forced = 0;
  uint64_t cut = 0;  // taken away by rule
  std::vector<AuditForeign> foreign;
  // Sampled tokens of the last history that no TOKENS_ACCOUNTED has: of orders that a crash has ended.
  uint64_t unaccounted = 0;
  std::optional<AuditFinding> finding;

  bool proven() const { return !finding.has_value() && foreign.empty(); }
};

// Errors are those of `source` and of the engine; Cancelled; InvalidArgument when the record has no prompt.
// That the log differs is a finding, not an error.
base::StatusOr<AuditReport> Audit(const AuditSource& source, const AuditOptions& options);

}  // namespace holdfast::agent
