// Requests of clients: each acts once, and a repeat is answered as the first was.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sessions/event.h"
#include "sessions/session_facts.h"

namespace holdfast::agent::manager {

struct Request {
  std::string id;         // empty: it has none, and acts every time
  std::string_view what;  // the method, a literal
};

// InvalidArgument for an id that is too long.
base::Status CheckRequest(const Request& request);

// The sequence number that a request was answered with; none when it has not acted in this session.
// InvalidArgument when its id was another method's.
std::optional<base::StatusOr<uint64_t>> AnswerTo(const Request& request, const sessions::SessionFacts& facts);

// Puts the end of the request behind the events that it makes.
void Conclude(const Request& request, std::vector<sessions::EventBody>& bodies);

// A session's id that is the same for a request whenever it is made: "s-" and 16 hexadecimal digits of the
// SHA-256 of its id.
std::string SessionIdOf(const Request& request);

}  // namespace holdfast::agent::manager
