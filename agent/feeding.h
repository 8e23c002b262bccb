// What is fed to the model at each border of a conversation, from the record alone. The turn loop feeds it,
// and the audit proves that it was fed.
//
// Pure functions, safe from any thread.
// Source: DESIGN section 3; ADR 0006.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "agent/dialogue.h"
#include "base/status.h"
#include "sessions/event.h"
#include "sessions/token_log.h"

namespace holdfast::agent {

// The tokens of the model's last turn: all behind what was fed last. Views into `tokens`.
std::span<const int32_t> TurnTokens(const sessions::TokenLog& tokens);

// The name of a call of the turn that the window ends with. From the place in the log and the stream that the
// turn was sampled in, so that it is the same however often the turn is read, and no other call of the
// session has it, one that a rewind has left behind included: a client knows by it what it has run.
std::string CallName(const sessions::TokenLog& tokens, size_t index);

// What an event says to the model; none for one that says nothing.
std::optional<Said> SaidBy(const sessions::EventBody& body);

// `untold`, ascending, in the order in which it is told: first `outcomes`, those of the last turn's calls in
// the order of the calls, then the rest as it came.
std::vector<uint64_t> TellingOrder(std::span<const uint64_t> outcomes, std::span<const uint64_t> untold);

// The tokens that a window begins with: `texts` of the user's, `kept` of the window before as turns of their
// own, then `said`. Nothing kept: texts and what is said are one message, of at least one part. Errors are
// those of Dialogue::First.
base::StatusOr<std::vector<int32_t>> OpeningTokens(const Dialogue& dialogue,
                                                   std::span<const std::string> texts,
                                                   std::span<const int32_t> kept, std::span<const Said> said);

// The prompt of a session as it is on record. InvalidArgument for a mode or a version that is none.
base::StatusOr<DialogueOptions> DialogueOptionsOf(const sessions::SessionCreated& created,
                                                  const ProfileSet& profile);

}  // namespace holdfast::agent
