// The client's side of a conversation: requests with deadlines and their answers, over one transport.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "tools/mcp.h"
#include "tools/mcp/message.h"
#include "tools/mcp/timer.h"
#include "tools/mcp/transport.h"

namespace holdfast::tools::mcp {

struct Answer {
  enum class Kind {
    kResult,
    kError,     // the server's: code and message
    kDeadline,  // none came; the server was told to stop
    kLost,      // none will come: the server has ended, or broke a bound
  };
  Kind kind = Kind::kLost;
  Json body;              // of a result; of an error its data
  int64_t code = 0;       // of an error
  std::string message;    // of an error, as the server wrote it
  std::string_view line;  // of a result: the whole line that it came in; valid during the call only
};
using OnAnswer = absl::AnyInvocable<void(Answer)>;

struct PeerEvents {
  absl::AnyInvocable<void(base::Status)> started;
  absl::AnyInvocable<void(std::string_view method)> notification;
  // The end, once, after kLost for all that was asked. `why` goes on from "the server ".
  absl::AnyInvocable<void(std::string why)> lost;
};

// Control lane only. No event comes from within a method. Destroying it ends the program at once; not from
// within an event (Close, and let go later).
class Peer {
 public:
  Peer(base::Executor& executor, const McpBounds& bounds, McpCounters& counters,
       std::unique_ptr<Transport> transport);

  void Start(PeerEvents events);

  // Asks. `answer` is called once, by `deadline` at the latest, unless Cancel or Close come first. Returns
  // the id of the request. Errors: the transport's, InvalidArgument for a line that is too long; nothing was
  // sent then.
  base::StatusOr<int64_t> Ask(std::string_view method, const Json& params, base::MonotonicTime deadline,
                              OnAnswer answer);

  // Nobody wants the answer any more: the server is told, and what comes is dropped.
  void Cancel(int64_t id, std::string_view reason);

  // Nobody wants the answer any more, and the server is not told.
  void Forget(int64_t id);

  void Tell(std::string_view method, const Json& params);

  // Servers of the modern era ask for nothing and get no answers.
  void AnswerNothing() { answers_ = false; }

  // From now on no event comes; what was asked is forgotten.
  void Close();

  Transport& transport() { return *transport_; }

 private:
  struct Waiting {
    OnAnswer answer;
    Timer deadline;
  };

  void Take(std::string_view line);
  void TakeAnswer(Message message, std::string_view line);
  void TakeRequest(const Message& message);
  void CountUnasked(size_t bytes);
  void Expire(int64_t id);
  void Lose(std::string why);

  base::Executor& executor_;
  const McpBounds bounds_;
  McpCounters& counters_;
  const std::unique_ptr<Transport> transport_;
  PeerEvents events_;
  std::map<int64_t, Waiting> waiting_;
  int64_t next_id_ = 1;
  bool answers_ = true;
  bool closed_ = false;

  // Since the last answer.
  size_t malformed_ = 0;
  size_t unasked_ = 0;
  uint64_t unasked_bytes_ = 0;
};

}  // namespace holdfast::tools::mcp
