#include "cli/follow.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "cli/exit_status.h"
#include "cli/interrupts.h"
#include "cli/session_name.h"
#include "cli/session_text.h"
#include "cli/terminal.h"
#include "cli/watch_view.h"
#include "holdfast/v1/session_service.pb.h"
#include "server/client_watch.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using server::Client;

constexpr int64_t kSecondInterruptNs = base::kNsPerSecond;  // so long the first one waits for a second

StatusOr<v1::Session> Get(Client& client, const std::string& name) {
  v1::GetSessionRequest request;
  request.set_name(name);
  HF_ASSIGN_OR_RETURN(v1::GetSessionResponse got, client.Call(request));
  return std::move(*got.mutable_session());
}

class Follower {
 public:
  Follower(Client& client, const FollowOptions& options, const v1::Session& session)
      : client_(client),
        options_(options),
        last_(std::max(options.busy_until, session.last_sequence())),
        view_(session, options.json                 ? WatchView::Style::kJson
                       : isatty(STDOUT_FILENO) != 0 ? WatchView::Style::kTerminal
                                                    : WatchView::Style::kPlain),
        rests_(AtRest(session) && session.last_sequence() >= options.busy_until),
        interrupts_before_(Interrupts()) {}

  Status Run() {
    if (rests_ && !options_.forever && options_.after_sequence >= last_) return {};
    if (options_.after_sequence > 0) view_.SkipTurn();
    client_.SetKeepOn([this] { return KeepOn(); });
    Status ended =
        server::Watch(client_, {.name = options_.name,
                                .after_sequence = options_.after_sequence,
                                .live = true,
                                .on_event = [this](const v1::SessionEvent& event) { return Take(event); },
                                .on_live = [this](const v1::LiveUpdate& live) { view_.TakeLive(live); },
                                .on_heartbeat = [](uint64_t) { return true; },
                                .on_lost =
                                    [this](const Status& why) {
                                      view_.Say("the connection was lost (" + base::Message(why) + ")");
                                    }});
    client_.SetKeepOn([before = Interrupts()] { return Interrupts() == before; });
    if (left_) return ExitWith(Exit::kLeft);
    return ended;
  }

  void Say(const std::string& line) { view_.Say(line); }

 private:
  bool Take(const v1::SessionEvent& event) {
    view_.Take(event);
    if (event.has_state_changed()) {
      v1::Session now;
      now.set_state(event.state_changed().state());
      now.set_wait(event.state_changed().wait());
      rests_ = AtRest(now);
    }
    return options_.forever || !rests_ || event.sequence() < last_;
  }

  // Asked many times a second, also during the call that interrupts.
  bool KeepOn() {
    if (asking_) return true;
    view_.Tick();
    const int count = Interrupts() - interrupts_before_;
    const int64_t now = base::RealClock().MonotonicNow().ns;
    if (count == 0) return true;
    if (!options_.interrupts || count >= 2) {
      left_ = true;
      return false;
    }
    if (first_ns_ == 0) {
      first_ns_ = now;
      view_.Say("interrupting; Ctrl-C again leaves, and the work goes on");
    }
    if (!interrupted_ && now - first_ns_ > kSecondInterruptNs) Interrupt();
    return true;
  }

  void Interrupt() {
    interrupted_ = asking_ = true;
    v1::InterruptSessionRequest request;
    request.set_name(options_.name);
    request.set_request_id(NewRequestId());
    if (const auto done = client_.Call(request); !done.ok()) view_.Say(base::Message(done.status()));
    asking_ = false;
  }

  Client& client_;
  const FollowOptions& options_;
  const uint64_t last_;  // events up to it are of the past: they do not end the watch
  WatchView view_;
  bool rests_;
  const int interrupts_before_;
  int64_t first_ns_ = 0;
  bool interrupted_ = false, asking_ = false, left_ = false;
};

std::string Counted(uint64_t tokens) { return GroupDigits(static_cast<int64_t>(tokens)); }

void PrintTokens(const v1::Session& session) {
  const v1::TokenUsage& tokens = session.tokens();
  std::printf(
      "tokens: %s prefilled, %s decoded, %s forced%s\n", Counted(tokens.prefilled()).c_str(),
      Counted(tokens.decoded()).c_str(), Counted(tokens.forced()).c_str(),
      session.has_goal() ? ("; " + GroupDigits(session.goal().used().tool_calls()) + " calls").c_str() : "");
  if (tokens.attached() > 0) {
    std::printf("the store saved %s tokens of prefill\n", Counted(tokens.attached()).c_str());
  }
}

// What it has changed, and how to take it over.
void PrintChanges(Client& client, const v1::Session& session) {
  if (session.spec().repository().empty()) return;
  v1::DiffSessionRequest request;
  request.set_name(session.name());
  const auto diff = client.Call(request);
  if (!diff.ok() || diff->paths_size() == 0) return;
  std::printf("changes: %s\ntake them over with: holdfast apply %s --all\n", DiffStat(*diff).c_str(),
              IdOf(session.name()).c_str());
}

void PrintOpen(const v1::Session& session) {
  const std::string id = IdOf(session.name());
  for (const v1::Approval& approval : session.approvals()) {
    std::printf("call %s waits for an answer: %s\n  holdfast approve %s %s, or holdfast deny %s %s\n",
                approval.call_id().c_str(), ForTerminal(approval.question()).c_str(), id.c_str(),
                approval.call_id().c_str(), id.c_str(), approval.call_id().c_str());
  }
  if (session.state() == v1::Session::STATE_PAUSED) {
    std::printf("paused: %s; go on with: holdfast resume %s%s\n", OneLine(session.state_reason()).c_str(),
                id.c_str(),
                session.state_reason().starts_with("BUDGET_TOKENS")    ? " --tokens N"
                : session.state_reason().starts_with("BUDGET_CALLS")   ? " --calls N"
                : session.state_reason().starts_with("BUDGET_RUNNING") ? " --minutes N"
                                                                       : "");
  }
}

Status Outcome(const v1::Session& session) {
  if (NeedsPerson(session)) return ExitWith(Exit::kNeedsPerson);
  if (!session.has_goal()) return {};
  switch (session.goal().state()) {
    case v1::Goal::STATE_SUCCEEDED:
    case v1::Goal::STATE_FINISHED_UNVERIFIED:
      return {};
    default:
      return ExitWith(Exit::kNotReached);
  }
}

}  // namespace

Status Follow(Client& client, const FollowOptions& options) {
  HF_ASSIGN_OR_RETURN(const v1::Session session, Get(client, options.name));
  Follower follower(client, options, session);
  const Status ended = follower.Run();
  if (ExitOf(ended) == Exit::kLeft) {
    follower.Say("left; the work goes on. See it with: holdfast watch " + IdOf(options.name));
  }
  if (!absl::IsUnavailable(ended)) return ended;
  return base::Annotate(
      ended, "the daemon is gone; nothing is lost, go on with: holdfast resume " + IdOf(options.name));
}

Status Summarise(Client& client, const std::string& name, bool json) {
  HF_ASSIGN_OR_RETURN(const v1::Session session, Get(client, name));
  if (json) {
    PrintJson(session);
    return Outcome(session);
  }
  std::printf("session %s: %s\n", IdOf(name).c_str(),
              session.has_goal() ? GoalText(session).c_str() : StateText(session).c_str());
  PrintTokens(session);
  PrintChanges(client, session);
  PrintOpen(session);
  std::fflush(stdout);
  return Outcome(session);
}

Status TellOpen(Client& client, const std::string& name) {
  HF_ASSIGN_OR_RETURN(const v1::Session session, Get(client, name));
  PrintOpen(session);
  return {};
}

}  // namespace holdfast::cli
