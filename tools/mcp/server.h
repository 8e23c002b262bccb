// One server of one session: when its process runs, what waits for it, and what becomes of the calls.
//
//   stopped -> starting (era, tool list) -> ready -> stopped, after an end or a broken bound
//   stopped -> backing off -> starting: after a failure, for the next call
//   backing off .. -> given up: after restarts_max failures in a row without an answered call between
//   any -> closing -> closed
//
// A call waits while the server starts, and ends by its own deadline wherever it is. Results are posted:
// nothing is called from within a method.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "tools/mcp.h"
#include "tools/mcp/call_result.h"
#include "tools/mcp/catalogue.h"
#include "tools/mcp/handshake.h"
#include "tools/mcp/listing.h"
#include "tools/mcp/peer.h"
#include "tools/mcp/timer.h"
#include "tools/mcp/transport.h"
#include "tools/tool.h"

namespace holdfast::tools::mcp {

class ServerCore;
// Shared, because tools and what was posted may outlive the session's handle: they find it closed, or gone.
using ServerRef = std::shared_ptr<ServerCore>;

// Control lane only.
class ServerCore : public std::enable_shared_from_this<ServerCore> {
 public:
  struct World {
    base::Executor& executor;
    base::Clock& clock;
    TransportFactory transport;
    McpObserver observer;
  };

  // `catalogue`: of the session; none when it has yet to be listed.
  static ServerRef Make(McpServerConfig config, World world, std::optional<Catalogue> catalogue);
  ~ServerCore();

  // As McpServer.
  void Open(base::MonotonicTime deadline, absl::AnyInvocable<void(base::Status)> done);
  void Shutdown(absl::AnyInvocable<void()> done);
  void Revive();

  // At once, without a word.
  void Kill();

  const McpServerConfig& config() const { return config_; }
  const std::optional<Catalogue>& catalogue() const { return catalogue_; }
  const McpCounters& counters() const { return counters_; }

  using CallNumber = uint64_t;
  // `harmless`: it may be repeated, so its outcome is never unknown.
  CallNumber Call(const std::string& tool, const Json& arguments, bool harmless, base::MonotonicTime deadline,
                  Done done);
  // Ends a call early; its result comes as ever. True when the server never saw it. Nothing happens, and
  // false, when it has ended.
  bool Cancel(CallNumber number);
  // The same without a result.
  void Abandon(CallNumber number);

 private:
  ServerCore(McpServerConfig config, World world, std::optional<Catalogue> catalogue);

  enum class State { kStopped, kBackingOff, kStarting, kReady, kGivenUp, kClosing, kClosed };

  struct Waiting {
    std::string tool;
    Json arguments;
    bool harmless = false;
    base::MonotonicTime deadline;
    Done done;
    Timer timer;                     // until it is sent
    std::optional<int64_t> request;  // once it is sent
    int retries = 0;
  };
  struct Opener {
    absl::AnyInvocable<void(base::Status)> done;
    Timer timer;
  };
  // One process.
  struct Run {
    uint64_t number = 0;
    Timer deadline;  // of the start, then of the end
    std::unique_ptr<Peer> peer;
    std::unique_ptr<Handshake> handshake;
    Agreement agreement;
    std::unique_ptr<Listing> listing;
    Catalogue catalogue;
    bool told_of_change = false;
  };

  // Wraps what a run calls back: it does nothing once the run is over.
  template <typename F>
  auto OfThisRun(F f) {
    return [weak = weak_from_this(), number = run_->number, f](auto&&... arguments) {
      const ServerRef self = weak.lock();
      if (self == nullptr || self->run_ == nullptr || self->run_->number != number) return;
      f(*self, std::forward<decltype(arguments)>(arguments)...);
    };
  }

  void EnsureStarted();
  void Begin();
  void OnStarted(base::Status status);
  void OnAgreed(base::StatusOr<Agreement> agreement);
  void StartListing();
  void OnListed(base::StatusOr<Listed> listed);
  void BecomeReady();
  void OnNotification(std::string_view method);
  void OnLost(std::string why);

  void SendCall(CallNumber number, const std::optional<std::string>& state);
  void OnAnswer(CallNumber number, Answer answer);
  void TakeResult(CallNumber number, const Json& result);
  void CallExpired(CallNumber number);
  void Deliver(CallNumber number, ToolResult result);
  void EndCalls(std::string_view why);
  static Progress ProgressOf(const Waiting& call);

  void FailRun(std::string why);
  void LetGo();
  void FinishOpeners(const base::Status& status);
  void FinishClosing();
  void Note(McpNote::Kind kind, std::string text);
  std::string Named(std::string_view why) const;

  const McpServerConfig config_;
  World world_;
  const std::vector<sandbox::Secret> secrets_;
  std::optional<Catalogue> catalogue_;  // of the session; fixed once it is there
  McpCounters counters_;

  State state_ = State::kStopped;
  std::unique_ptr<Run> run_;
  uint64_t runs_ = 0;
  McpEra era_;  // as far as it is known
  base::MonotonicTime start_deadline_;
  bool fell_over_probe_ = false;
  int failures_in_row_ = 0;
  int unanswered_in_row_ = 0;
  base::MonotonicTime next_start_;
  Timer backoff_;

  CallNumber next_call_ = 1;
  std::map<CallNumber, Waiting> calls_;
  uint64_t next_opener_ = 1;
  std::map<uint64_t, Opener> openers_;
  std::vector<absl::AnyInvocable<void()>> closers_;
};

}  // namespace holdfast::tools::mcp
