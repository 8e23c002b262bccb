// Calls that are with a client of the session: their intents are on record with a deadline, and they are open
// until a client delivers what they gave or disowns them, or the deadline passes. What is open follows from
// the log alone, so it is the same after a restart; a client that comes back finds its calls under the same
// names and knows by them which it has run.
//
// A server learns of them from SessionManager's `on_event`: a CallIntent with client_deadline_utc_ms != 0 is
// handed out with it, and ends with the CallOutcome of the same call. Who attaches later asks
// SessionManager::ClientCalls.
//
// Deadlines are of the wall clock. Pure functions; as thread-safe as the facts they are given.
// Source: DESIGN sections 1 (invariant 2) and 6; docs/tools.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "sessions/event.h"
#include "sessions/session_facts.h"
#include "tools/tool.h"

namespace holdfast::agent {

// A call that a client is to run, or is running.
struct ClientCall {
  std::string call;       // its name, of no other call of the session
  std::string tool;       // as the session was given it: "page"
  std::string arguments;  // canonical JSON, which fits the tool's schema
  sessions::CallEffect effect = sessions::CallEffect::kEffectful;
  int64_t deadline_utc_ms = 0;

  bool operator==(const ClientCall&) const = default;
};

// What a client says of a call.
struct ClientAnswer {
  enum class Kind : uint8_t {
    kOk,
    kFailed,    // it ran, and says no
    kDisowned,  // nobody will say how it ended, or whether it began
  };
  std::string call;
  Kind kind = Kind::kOk;
  std::string text;  // for the model; kDisowned: why

  bool operator==(const ClientAnswer&) const = default;
};

// In the order in which they began.
std::vector<ClientCall> OpenClientCalls(const sessions::SessionFacts& facts);

// Null: no such call is with a client.
const sessions::CallIntent* FindClientCall(const sessions::SessionFacts& facts, const std::string& call);

// When the first of them is over; none: none is open.
std::optional<int64_t> FirstClientDeadline(const sessions::SessionFacts& facts);

// The outcomes of those whose deadline has passed.
std::vector<sessions::EventBody> ExpiredClientCalls(const sessions::SessionFacts& facts, int64_t now_utc_ms);

// The outcomes of all that are open, for which nobody will wait any longer: cancelled when they only read,
// else unknown. `why` follows a colon: "the user interrupted it".
std::vector<sessions::EventBody> AbandonedClientCalls(const sessions::SessionFacts& facts,
                                                      const std::string& why);

// The outcome of a call by its answer, before its text is bounded (tools/result_text.h).
tools::ToolResult ResultOf(const ClientAnswer& answer);

// Of the answer, as it goes on record beside the outcome: by it an answer that comes again is known.
std::string AnswerRecord(const ClientAnswer& answer);

// Whether `outcome` is what this answer has led to. Any other way to end is FailedPrecondition, saying how
// the call has ended.
base::Status IsAnsweredBy(const sessions::CallOutcome& outcome, const ClientAnswer& answer);

}  // namespace holdfast::agent
