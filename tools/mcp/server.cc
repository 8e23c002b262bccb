#include "tools/mcp/server.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace holdfast::tools::mcp {
namespace {

constexpr int kRetriesMax = 8;  // of a call that the server asks to repeat
constexpr size_t kNoteErrorBytes = 1024;
constexpr int64_t kEndGraceMs = 1'000;  // beyond what the sandbox takes to end a process

base::Status NotThere(std::string_view why) { return absl::UnavailableError(base::View(why)); }

}  // namespace

ServerCore::ServerCore(McpServerConfig config, World world, std::optional<Catalogue> catalogue)
    : config_(std::move(config)),
      world_(std::move(world)),
      secrets_(McpSecrets(config_)),
      catalogue_(std::move(catalogue)),
      era_(config_.era) {}

ServerRef ServerCore::Make(McpServerConfig config, World world, std::optional<Catalogue> catalogue) {
  return ServerRef(new ServerCore(std::move(config), std::move(world), std::move(catalogue)));
}

ServerCore::~ServerCore() { Kill(); }

std::string ServerCore::Named(std::string_view why) const {
  return "MCP server `" + config_.name + "` " + std::string(why);
}

void ServerCore::Note(McpNote::Kind kind, std::string text) {
  if (!world_.observer) return;
  Redact(secrets_, text);
  world_.executor.PostResult(
      base::Lane::kControl,
      [observer = world_.observer, note = McpNote{kind, std::move(text)}] { observer(note); });
}

// --- opening ----------------------------------------------------------------------------------------

void ServerCore::Open(base::MonotonicTime deadline, absl::AnyInvocable<void(base::Status)> done) {
  const uint64_t number = next_opener_++;
  Opener& opener = openers_[number];
  opener.done = std::move(done);
  if (catalogue_.has_value()) return FinishOpeners(absl::OkStatus());
  if (state_ == State::kGivenUp || state_ == State::kClosing || state_ == State::kClosed) {
    return FinishOpeners(NotThere(Named(state_ == State::kGivenUp ? "was given up" : "is stopped")));
  }
  opener.timer.Set(world_.executor, deadline, [this, number] {
    const auto found = openers_.find(number);
    if (found == openers_.end()) return;
    auto expired = std::move(found->second.done);
    openers_.erase(found);
    expired(absl::DeadlineExceededError(base::View(Named("did not list its tools in time"))));
  });
  EnsureStarted();
}

void ServerCore::FinishOpeners(const base::Status& status) {
  for (auto& [number, opener] : std::exchange(openers_, {})) {
    world_.executor.PostResult(base::Lane::kControl,
                               [done = std::move(opener.done), status]() mutable { done(status); });
  }
}

// --- starting ---------------------------------------------------------------------------------------

void ServerCore::EnsureStarted() {
  if (state_ != State::kStopped) return;
  if (world_.clock.MonotonicNow() >= next_start_) return Begin();
  state_ = State::kBackingOff;
  backoff_.Set(world_.executor, next_start_, [this] {
    state_ = State::kStopped;
    if (!calls_.empty() || !openers_.empty()) Begin();  // else nobody wants it any more
  });
}

void ServerCore::Begin() {
  if (!fell_over_probe_) start_deadline_ = Later(world_.clock.MonotonicNow(), config_.timeouts.startup_ms);
  state_ = State::kStarting;
  ++counters_.starts;
  run_ = std::make_unique<Run>();
  run_->number = ++runs_;
  run_->peer = std::make_unique<Peer>(world_.executor, config_.bounds, counters_, world_.transport());
  run_->deadline.Set(world_.executor, start_deadline_,
                     OfThisRun([](ServerCore& self) { self.FailRun("did not start in time"); }));
  run_->peer->Start({
      .started = OfThisRun([](ServerCore& self, base::Status status) { self.OnStarted(std::move(status)); }),
      .notification =
          OfThisRun([](ServerCore& self, std::string_view method) { self.OnNotification(method); }),
      .lost = OfThisRun([](ServerCore& self, std::string why) { self.OnLost(std::move(why)); }),
  });
}

void ServerCore::OnStarted(base::Status status) {
  if (state_ != State::kStarting) return;
  if (!status.ok()) return FailRun("could not be started: " + base::Message(status));
  run_->deadline.Cancel();  // the handshake keeps it from here on
  run_->handshake =
      std::make_unique<Handshake>(world_.executor, world_.clock, *run_->peer, era_, config_.timeouts);
  run_->handshake->Start(start_deadline_,
                         OfThisRun([](ServerCore& self, base::StatusOr<Agreement> agreement) {
                           self.OnAgreed(std::move(agreement));
                         }));
}

void ServerCore::OnAgreed(base::StatusOr<Agreement> agreement) {
  if (state_ != State::kStarting) return;
  if (!agreement.ok()) {
    const bool at_probe = agreement.status().code() == absl::StatusCode::kUnavailable &&
                          era_ == McpEra::kAuto && run_->handshake->only_probed();
    if (!at_probe || fell_over_probe_) return FailRun(base::Message(agreement.status()));
    // Some old servers end when they are asked what they do not know: once more, without that question.
    fell_over_probe_ = true;
    era_ = McpEra::kLegacy;
    LetGo();
    // A task later, so that the old process is asked to end before the new one takes its place.
    return world_.executor.PostResult(base::Lane::kControl, [weak = weak_from_this()] {
      const ServerRef self = weak.lock();
      if (self != nullptr && self->state_ == State::kStarting && self->run_ == nullptr) self->Begin();
    });
  }
  fell_over_probe_ = false;
  era_ = agreement->era;
  run_->agreement = *std::move(agreement);
  StartListing();
}

void ServerCore::StartListing() {
  if (!run_->agreement.offers_tools) return OnListed(Listed{.left_out = {"all: the server offers no tools"}});
  run_->listing = std::make_unique<Listing>(*run_->peer, config_, run_->agreement);
  run_->listing->Start(
      Later(world_.clock.MonotonicNow(), config_.timeouts.list_ms),
      OfThisRun([](ServerCore& self, base::StatusOr<Listed> listed) { self.OnListed(std::move(listed)); }));
}

void ServerCore::OnListed(base::StatusOr<Listed> listed) {
  if (state_ != State::kStarting) return;
  if (!listed.ok()) return FailRun(base::Message(listed.status()));
  run_->catalogue = std::move(listed->catalogue);
  if (!catalogue_.has_value()) {
    for (const std::string& line : listed->left_out) {
      Note(McpNote::Kind::kToolLeftOut, Named("offers a tool that was left out: " + line));
    }
    catalogue_ = run_->catalogue;
  } else if (const std::string difference = DescribeDifference(*catalogue_, run_->catalogue);
             !difference.empty()) {
    Note(McpNote::Kind::kToolsDiffer,
         Named("now has other tools than this session, which keeps its own (" + difference + ")"));
  }
  BecomeReady();
}

void ServerCore::BecomeReady() {
  state_ = State::kReady;
  FinishOpeners(absl::OkStatus());
  std::vector<CallNumber> numbers;
  for (const auto& [number, call] : calls_) numbers.push_back(number);
  for (const CallNumber number : numbers) SendCall(number, std::nullopt);
}

void ServerCore::OnNotification(std::string_view method) {
  if (method != "notifications/tools/list_changed" || run_->told_of_change || state_ != State::kReady) return;
  run_->told_of_change = true;
  Note(McpNote::Kind::kToolsDiffer, Named("says that its tools have changed; this session keeps its own"));
}

void ServerCore::OnLost(std::string why) {
  if (state_ == State::kClosing) return FinishClosing();
  FailRun(std::move(why));
}

// --- calls ------------------------------------------------------------------------------------------

Progress ServerCore::ProgressOf(const Waiting& call) {
  if (!call.request.has_value()) return Progress::kNotSent;
  return call.harmless ? Progress::kHarmless : Progress::kSent;
}

ServerCore::CallNumber ServerCore::Call(const std::string& tool, const Json& arguments, bool harmless,
                                        base::MonotonicTime deadline, Done done) {
  const CallNumber number = next_call_++;
  const bool too_many = calls_.size() >= config_.bounds.calls_max;
  Waiting& call = calls_[number];
  call.tool = tool;
  call.arguments = arguments;
  call.harmless = harmless;
  call.deadline = deadline;
  call.done = std::move(done);
  ++counters_.calls;
  if (too_many) {
    Deliver(number, Unavailable(config_.name, "has as many calls as it is given at once"));
  } else if (state_ == State::kGivenUp) {
    Deliver(number, Unavailable(config_.name, "failed too often in a row and is not started again"));
  } else if (state_ == State::kClosing || state_ == State::kClosed) {
    Deliver(number, Unavailable(config_.name, "is stopped"));
  } else if (state_ != State::kReady && state_ != State::kStarting && next_start_ > deadline) {
    Deliver(number, Unavailable(config_.name, "failed, and is not started again yet"));
  } else if (state_ == State::kReady) {
    SendCall(number, std::nullopt);
  } else {
    call.timer.Set(world_.executor, deadline, [this, number] { CallExpired(number); });
    EnsureStarted();
  }
  return number;
}

void ServerCore::SendCall(CallNumber number, const std::optional<std::string>& state) {
  const auto found = calls_.find(number);
  if (found == calls_.end() || run_ == nullptr) return;
  Waiting& call = found->second;
  const auto& tools = run_->catalogue.tools;
  if (std::none_of(tools.begin(), tools.end(), [&](const CatalogueTool& t) { return t.name == call.tool; })) {
    return Deliver(number, Unavailable(config_.name, "does not offer this tool any more"));
  }
  Json params = {{"name", call.tool}, {"arguments", call.arguments}};
  if (state.has_value()) params["requestState"] = *state;
  auto request = run_->peer->Ask(
      "tools/call", WithMeta(run_->agreement, std::move(params)), call.deadline,
      OfThisRun([number](ServerCore& self, Answer answer) { self.OnAnswer(number, std::move(answer)); }));
  if (request.ok()) {
    call.timer.Cancel();
    call.request = *request;
    return;
  }
  call.request.reset();
  Deliver(number, request.status().code() == absl::StatusCode::kInvalidArgument
                      ? Failed("the call is too long: " + base::Message(request.status()))
                      : Unavailable(config_.name, "does not read what it is sent"));
}

void ServerCore::OnAnswer(CallNumber number, Answer answer) {
  const auto found = calls_.find(number);
  if (found == calls_.end()) return;
  switch (answer.kind) {
    case Answer::Kind::kResult:
      return TakeResult(number, answer.body);
    case Answer::Kind::kError:
      ++counters_.answered;
      failures_in_row_ = unanswered_in_row_ = 0;
      return Deliver(number, ReadCallError(config_.name, answer));
    case Answer::Kind::kDeadline:
      return CallExpired(number);
    case Answer::Kind::kLost:
      return Deliver(number, NoAnswer(config_.name, answer.message, ProgressOf(found->second)));
  }
}

void ServerCore::TakeResult(CallNumber number, const Json& result) {
  Waiting& call = calls_.at(number);
  unanswered_in_row_ = 0;
  const std::optional<std::string> state = RetryState(result);
  if (state.has_value() && call.retries < kRetriesMax) {
    ++call.retries;
    return SendCall(number, state);
  }
  failures_in_row_ = 0;
  ++counters_.answered;
  Deliver(number, ReadCallResult(config_.name, result));
}

void ServerCore::CallExpired(CallNumber number) {
  const auto found = calls_.find(number);
  if (found == calls_.end()) return;
  const Progress progress = ProgressOf(found->second);
  ++counters_.deadlines;
  Deliver(number, PastDeadline(config_.name, progress));
  if (progress == Progress::kNotSent || ++unanswered_in_row_ < config_.bounds.unanswered_calls_max) return;
  FailRun("answered none of " + std::to_string(unanswered_in_row_) + " calls in a row");
}

bool ServerCore::Cancel(CallNumber number) {
  const auto found = calls_.find(number);
  if (found == calls_.end()) return false;
  const Waiting& call = found->second;
  const Progress progress = ProgressOf(call);
  if (call.request.has_value()) run_->peer->Cancel(*call.request, "cancelled");
  if (world_.clock.MonotonicNow() >= call.deadline) {
    CallExpired(number);
  } else {
    Deliver(number, Cancelled(config_.name, progress));
  }
  return progress == Progress::kNotSent;
}

void ServerCore::Abandon(CallNumber number) {
  const auto found = calls_.find(number);
  if (found == calls_.end()) return;
  if (found->second.request.has_value()) run_->peer->Cancel(*found->second.request, "cancelled");
  calls_.erase(found);
}

void ServerCore::Deliver(CallNumber number, ToolResult result) {
  const auto found = calls_.find(number);
  HF_CHECK(found != calls_.end());
  Redact(secrets_, result.text);
  world_.executor.PostResult(base::Lane::kControl,
                             [done = std::move(found->second.done), result = std::move(result)]() mutable {
                               done(std::move(result));
                             });
  calls_.erase(found);
}

void ServerCore::EndCalls(std::string_view why) {
  while (!calls_.empty()) {
    const auto& [number, call] = *calls_.begin();
    if (call.request.has_value()) run_->peer->Forget(*call.request);
    Deliver(number, NoAnswer(config_.name, why, ProgressOf(call)));
  }
}

// --- ending -----------------------------------------------------------------------------------------

void ServerCore::FailRun(std::string why) {
  ++counters_.failures;
  unanswered_in_row_ = 0;
  fell_over_probe_ = false;
  if (state_ == State::kStarting) era_ = config_.era;  // what was believed of it may be what failed
  std::string note = Named(why);
  const std::string error = run_->peer->transport().ErrorTail();
  if (!error.empty()) {
    note += "; the end of its standard error: " +
            error.substr(error.size() - std::min(error.size(), kNoteErrorBytes));
  }
  Note(McpNote::Kind::kServerFailed, std::move(note));
  EndCalls(why);
  LetGo();
  ++failures_in_row_;
  state_ = State::kStopped;
  int64_t wait_ms = config_.bounds.backoff_ms_min;
  for (int i = 1; i < failures_in_row_ && wait_ms < config_.bounds.backoff_ms_max; ++i) wait_ms *= 2;
  next_start_ = Later(world_.clock.MonotonicNow(), std::min(wait_ms, config_.bounds.backoff_ms_max));
  FinishOpeners(NotThere(Named(why)));
  if (failures_in_row_ < config_.bounds.restarts_max) return;
  state_ = State::kGivenUp;
  Note(McpNote::Kind::kServerGivenUp,
       Named("failed " + std::to_string(failures_in_row_) + " times in a row and is not started again"));
}

void ServerCore::Revive() {
  if (state_ != State::kGivenUp) return;
  failures_in_row_ = 0;
  next_start_ = {};
  state_ = State::kStopped;
}

// What is on the stack right now may belong to the run, so it is let go a task later.
void ServerCore::LetGo() {
  if (run_ == nullptr) return;
  run_->deadline.Cancel();
  run_->peer->Close();
  world_.executor.PostResult(base::Lane::kControl, [run = std::move(run_)] {});
  run_ = nullptr;
}

void ServerCore::Shutdown(absl::AnyInvocable<void()> done) {
  closers_.push_back(std::move(done));
  if (state_ == State::kClosing) return;
  backoff_.Cancel();
  EndCalls("was stopped");
  FinishOpeners(NotThere(Named("was stopped")));
  if (run_ == nullptr) return FinishClosing();
  state_ = State::kClosing;
  run_->peer->transport().CloseInput();
  const auto give_up = [](ServerCore& self) { self.FinishClosing(); };
  const auto end = [give_up](ServerCore& self) {
    self.run_->peer->transport().Kill();
    const auto grace = static_cast<int64_t>(self.config_.limits.kill_grace_ms) + kEndGraceMs;
    self.run_->deadline.Set(self.world_.executor, Later(self.world_.clock.MonotonicNow(), grace),
                            self.OfThisRun(give_up));
  };
  run_->deadline.Set(world_.executor, Later(world_.clock.MonotonicNow(), config_.timeouts.shutdown_ms),
                     OfThisRun(end));
}

void ServerCore::FinishClosing() {
  LetGo();
  state_ = State::kClosed;
  for (auto& done : std::exchange(closers_, {})) {
    world_.executor.PostResult(base::Lane::kControl, std::move(done));
  }
}

void ServerCore::Kill() {
  if (state_ == State::kClosed) return;
  backoff_.Cancel();
  EndCalls("was stopped");
  FinishOpeners(NotThere(Named("was stopped")));
  FinishClosing();
}

}  // namespace holdfast::tools::mcp
