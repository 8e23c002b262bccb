// Finding out which era a server is of, and agreeing on a version.
//
//   1. Unless it is known to be of the old era, it is asked server/discover. A list of versions, or an error
//      that only the modern era has, settles it: modern.
//   2. Any other answer, or none within probe_ms, and it is asked to initialize. A result settles it: legacy.
//   3. A server that is only slow to start may answer both. A handshake that was granted counts, whatever
//      was discovered late; one that was refused leaves what was discovered.
//   4. A modern server that refuses the version names others. One that we speak is taken; when it is of the
//      old era, that is by its handshake. None, and it cannot be used: initialize is then not tried.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "tools/mcp.h"
#include "tools/mcp/message.h"
#include "tools/mcp/peer.h"
#include "tools/mcp/timer.h"

namespace holdfast::tools::mcp {

inline constexpr std::string_view kModernVersion = "2026-07-28";
// Newest first.
inline constexpr std::string_view kLegacyVersions[] = {"2025-11-25", "2025-06-18", "2025-03-26",
                                                       "2024-11-05"};

struct Agreement {
  McpEra era = McpEra::kLegacy;  // never kAuto
  std::string version;
  bool offers_tools = false;
};

// `params` with what a request of this agreement carries.
Json WithMeta(const Agreement& agreement, Json params);

// Control lane only. Used once; the peer outlives it.
class Handshake {
 public:
  // An error says what the server did wrong, going on from "the server ". Unavailable: it did not answer,
  // ended, or refused; FailedPrecondition: it speaks no version that is spoken here.
  using OnDone = absl::AnyInvocable<void(base::StatusOr<Agreement>)>;

  Handshake(base::Executor& executor, base::Clock& clock, Peer& peer, McpEra era,
            const McpTimeouts& timeouts);

  // Calls `done` once, by `deadline` at the latest; never from within Start, unless nothing can be sent.
  void Start(base::MonotonicTime deadline, OnDone done);

  // Nothing but the probe was sent so far: a server that ended now may have fallen over it.
  bool only_probed() const { return probe_ != 0 && initialize_ == 0; }

 private:
  void Probe();
  void Initialize(std::string_view version);
  void OnDiscovered(Answer answer);
  void OnRefusedVersion(const Json& data);
  void OnInitialized(Answer answer);
  void OnHandshakeRefused(const Answer& answer);
  void Finish(base::StatusOr<Agreement> result);

  base::Executor& executor_;
  base::Clock& clock_;
  Peer& peer_;
  const McpEra era_;
  const McpTimeouts timeouts_;
  base::MonotonicTime deadline_;
  OnDone done_;
  int64_t probe_ = 0;  // ids; 0: not asked
  int64_t initialize_ = 0;
  bool probing_ = false;       // an answer may still come
  bool initializing_ = false;  // the same
  bool retried_ = false;
  std::optional<Agreement> discovered_;
  Timer patience_;  // for the probe, then for an answer to initialize once discovered
};

}  // namespace holdfast::tools::mcp
