// One run of a server's program, as far as the protocol sees it: lines out, lines in, an end.
//
// Everything here happens on the control lane. A transport is used once: Start, then lines either way, then
// `ended`. No event comes from within a method, and none after the transport is destroyed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "base/status.h"

namespace holdfast::tools::mcp {

struct TransportEvents {
  // The program runs, or why it does not; then nothing else comes.
  absl::AnyInvocable<void(base::Status)> started;
  absl::AnyInvocable<void(std::string_view line)> line;
  // The server broke a bound of the transport: a line that is too long, more lines than can be taken. No more
  // lines come. `why` goes on from "the server ".
  absl::AnyInvocable<void(std::string why)> broken;
  // The program has ended, after all its lines. `how` goes on from "the server ": "ended: exit 1".
  absl::AnyInvocable<void(std::string how)> ended;
};

class Transport {
 public:
  // Ends the program at once, with everything it started.
  virtual ~Transport() = default;

  virtual void Start(TransportEvents events) = 0;

  // ResourceExhausted when the server has not read what was sent before; FailedPrecondition when it cannot
  // read any more.
  virtual base::Status Send(std::string_view line) = 0;

  virtual void CloseInput() = 0;

  // SIGTERM, then after a grace period SIGKILL; `ended` tells.
  virtual void Kill() = 0;

  // The last of what the program wrote to standard error, safe to show.
  virtual std::string ErrorTail() const = 0;
};

// Makes a transport for the next run.
using TransportFactory = std::function<std::unique_ptr<Transport>()>;

}  // namespace holdfast::tools::mcp
