// What happens in a session, as it is recorded. The log of a session is a list of events, numbered from 1
// without gaps; everything else that is known about the session is computed from it. Events are only ever
// appended.
//
// Two ranges of kinds. Those below kFirstAgentEvent are the timeline's own: tokens, calls, approvals, timers
// and states, which recovery must understand. From there on they are the agent's (goals, plans, notes): here
// only bytes.
//
// Format: docs/formats/session_log.md. Source: DESIGN sections 1, 3 and 6; ADR 0006, 0007.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/hash.h"
#include "base/status.h"

namespace holdfast::sessions {

inline constexpr size_t kEventBytesMax = size_t{8} << 20;  // larger things are blobs
inline constexpr size_t kRunTokensMax = size_t{1} << 20;   // of one TokenRun
inline constexpr size_t kRequestIdBytesMax = 128;
inline constexpr uint16_t kFirstAgentEvent = 256;

// Says nothing and never changes: 16 random bytes. What people call a session is its id, which they may
// choose.
using SessionUid = std::array<std::byte, 16>;

// The first event. What a session was made with it keeps: other weights or another tool set need a fork.
struct SessionCreated {
  SessionUid uid = {};
  base::Sha256Digest weights = {};    // model/fingerprint.h, sampled
  base::Sha256Digest config = {};     // of the fields that reach the graph
  base::Sha256Digest tokenizer = {};  // of tokenizer.json
  std::string chat_template;          // "v4-0731/1": version of the format, and of our renderer
  std::string tools;                  // the schema lines, as they stand in the prompt
  uint64_t seed = 0;
  // Forked: the history up to this event of the parent is the history of this session, and its own events go
  // on with the next number.
  std::optional<SessionUid> parent;
  uint64_t parent_seq = 0;
  uint32_t stream = 0;  // that it samples from: of a fork another than its parent's and siblings'

  bool operator==(const SessionCreated&) const = default;
};

// Where a run of tokens comes from.
enum class TokenOrigin : uint8_t {
  kFed = 1,      // rendered from events
  kSampled = 2,  // chosen by the model
  kForced = 3,   // put in by a rule of the runtime, to close a turn
};

enum class ForcedRule : uint8_t {
  kNone = 0,
  kInterrupted = 1,  // by the user
  kBudget = 2,
  kTooLong = 3,    // the turn's own bound
  kMalformed = 4,  // the block that does not parse was cut away
};

// All that a sampled run depends on beside the tokens before it and the weights.
struct Sampling {
  float temperature = 0;
  int32_t top_k = 0;
  float min_p = 0;
  float top_p = 1;
  uint64_t seed = 0;
  uint32_t stream = 0;
  base::Sha256Digest grammar = {};  // of what constrained it; zeros: nothing did
  std::string numerics;             // numerics id

  bool operator==(const Sampling&) const = default;
};

// Tokens at the end of the window.
struct TokenRun {
  int64_t position = 0;  // in the epoch, of the first
  TokenOrigin origin = TokenOrigin::kFed;
  std::vector<int32_t> ids;
  std::vector<uint64_t> rendered;  // kFed: the events they say, ascending
  std::optional<Sampling> sampling;
  ForcedRule rule = ForcedRule::kNone;

  bool operator==(const TokenRun&) const = default;
};

// The window goes back to `position` tokens: what was there stays in the record only.
struct TokensCut {
  int64_t position = 0;
  int64_t count = 0;
  std::string reason;

  bool operator==(const TokensCut&) const = default;
};

// A new, empty window. The first is epoch 0 and needs no event.
struct EpochStarted {
  uint32_t epoch = 0;
  std::string reason;

  bool operator==(const EpochStarted&) const = default;
};

// The history after event `to_seq` and before this one no longer counts. Sampling goes on in a new stream.
struct Rewound {
  uint64_t to_seq = 0;
  uint32_t stream = 0;

  bool operator==(const Rewound&) const = default;
};

enum class SessionState : uint8_t {
  kIdle = 1,     // nothing to do
  kRunning = 2,  // needs a live lease
  kWaiting = 3,
  kPaused = 4,
  kClosed = 5,
};

enum class WaitFor : uint8_t {
  kNothing = 0,
  kTimer = 1,
  kProcess = 2,
  kFile = 3,
  kApproval = 4,
  kInput = 5,
  kClient = 6,
};

struct StateChanged {
  SessionState state = SessionState::kIdle;
  WaitFor wait = WaitFor::kNothing;  // kWaiting
  std::string reason;                // kPaused: upper-case, as STORAGE; else for people

  bool operator==(const StateChanged&) const = default;
};

// What somebody says to the session. `request_id` makes it act once however often it is sent.
enum class InputKind : uint8_t {
  kMessage = 1,    // a turn
  kSteer = 2,      // to be told to the model at the next border, without ending its turn
  kInterrupt = 3,  // ends the turn
  kSignal = 4,     // for a wait
  kNotice = 5,     // by the runtime, to be told to the model at the next border
  kReminder = 6,   // the same, of what was said before: goal, plan and budgets
};
struct InputReceived {
  InputKind kind = InputKind::kMessage;
  std::string request_id;
  std::string text;

  bool operator==(const InputReceived&) const = default;
};

enum class CallEffect : uint8_t { kReadOnly = 1, kIdempotent = 2, kEffectful = 3 };

// A tool is about to be called: durable before it starts.
struct CallIntent {
  std::string call;       // unique in the session: "c17"
  std::string tool;       // "bash@2"
  std::string arguments;  // canonical JSON
  base::Sha256Digest action = {};
  CallEffect effect = CallEffect::kEffectful;
  bool contained = false;                              // all it can touch is the session's own layer
  std::optional<base::Sha256Digest> workspace_before;  // manifest
  int64_t client_deadline_utc_ms = 0;                  // a client runs it, until then; 0: the runtime does

  bool operator==(const CallIntent&) const = default;
};

enum class CallStatus : uint8_t {
  kOk = 1,
  kFailed = 2,
  kTimedOut = 3,
  kCancelled = 4,
  kRefused = 5,  // by a rule or a person: it did not run
  kUnknown = 6,  // it had started, and nobody can say how it ended
};

// A call has ended. Exactly one for each intent.
struct CallOutcome {
  std::string call;
  CallStatus status = CallStatus::kOk;
  std::string text;                                   // for the model
  std::optional<base::Sha256Digest> workspace_after;  // manifest
  std::vector<base::Sha256Digest> blobs;              // whole outputs
  std::string record;                                 // JSON, for people

  bool operator==(const CallOutcome&) const = default;
};

struct ApprovalRequested {
  std::string call;
  base::Sha256Digest action = {};
  std::string question;

  bool operator==(const ApprovalRequested&) const = default;
};

struct ApprovalResolved {
  std::string call;
  base::Sha256Digest action = {};
  bool allowed = false;
  std::string request_id;

  bool operator==(const ApprovalResolved&) const = default;
};

// Fires when the wall clock reaches `due_utc_ms` or when `remaining_ms` have passed while we looked,
// whichever is first.
struct TimerSet {
  std::string timer;
  int64_t due_utc_ms = 0;
  int64_t remaining_ms = 0;

  bool operator==(const TimerSet&) const = default;
};

struct TimerEnded {
  std::string timer;
  bool fired = false;  // false: cancelled

  bool operator==(const TimerEnded&) const = default;
};

struct TurnFinished {
  std::string reason;

  bool operator==(const TurnFinished&) const = default;
};

// What recovery found and did.
struct Recovered {
  uint64_t generation = 0;  // of the lease it took
  std::string report;

  bool operator==(const Recovered&) const = default;
};

// Work of the engine since the last such event. Summed up it balances: attached + prefilled + decoded +
// forced is what the windows held, and discarded is what of it was cut away.
struct TokensAccounted {
  uint64_t attached = 0;   // from the store
  uint64_t prefilled = 0;  // of these, the ones that had been computed before count again
  uint64_t decoded = 0;
  uint64_t forced = 0;
  uint64_t discarded = 0;

  bool operator==(const TokensAccounted&) const = default;
};

// The workspace is another now, and no call made it so: applied, discarded, gone back.
struct WorkspaceChanged {
  base::Sha256Digest manifest = {};
  std::string reason;

  bool operator==(const WorkspaceChanged&) const = default;
};

// What a client asked for has been done: the last of the events that it made, in one commit with them. A
// request that is repeated finds it, and acts no second time.
struct RequestDone {
  std::string request_id;  // by the client: any 1 to 128 bytes
  std::string what;        // the method: "pause"

  bool operator==(const RequestDone&) const = default;
};

// An event of the agent's.
struct AgentEvent {
  uint16_t kind = kFirstAgentEvent;
  std::string payload;

  bool operator==(const AgentEvent&) const = default;
};

// The order is the order of kinds, from 1: never changed, only added to. AgentEvent is last and has its own.
using EventBody =
    std::variant<SessionCreated, TokenRun, TokensCut, EpochStarted, Rewound, StateChanged, InputReceived,
                 CallIntent, CallOutcome, ApprovalRequested, ApprovalResolved, TimerSet, TimerEnded,
                 TurnFinished, Recovered, TokensAccounted, WorkspaceChanged, RequestDone, AgentEvent>;

struct Event {
  uint64_t seq = 0;
  int64_t utc_ms = 0;  // when it was appended
  EventBody body;
  base::Sha256Digest chain = {};  // over all events up to this one

  bool operator==(const Event&) const = default;
};

uint16_t KindOf(const EventBody& body);
// "TOKEN_RUN", ...; "AGENT_256" for what is the agent's.
std::string KindName(uint16_t kind);

// The bytes of a body, without its kind. One body has one encoding.
std::string EncodeBody(const EventBody& body);

// DataLoss for bytes that EncodeBody cannot have written, or of a later version; never crashes.
base::StatusOr<EventBody> DecodeBody(uint16_t kind, std::span<const std::byte> bytes);

// The chain before event 1.
base::Sha256Digest ChainRoot(const SessionUid& uid);

// The chain after an event: SHA-256 over the chain before it, seq, kind, time and body.
base::Sha256Digest NextChain(const base::Sha256Digest& before, uint64_t seq, int64_t utc_ms, uint16_t kind,
                             std::span<const std::byte> body);

}  // namespace holdfast::sessions
