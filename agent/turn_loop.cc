#include "agent/turn_loop.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "agent/agent_event.h"
#include "agent/bounded_text.h"
#include "agent/call_record.h"
#include "agent/client_calls.h"
#include "agent/feeding.h"
#include "base/check.h"

namespace holdfast::agent {
namespace {

using sessions::EventBody;

sessions::CallEffect EffectOf(tools::Effect effect) {
  switch (effect) {
    case tools::Effect::kReadOnly:
      return sessions::CallEffect::kReadOnly;
    case tools::Effect::kIdempotent:
      return sessions::CallEffect::kIdempotent;
    case tools::Effect::kEffectful:
      return sessions::CallEffect::kEffectful;
  }
  return sessions::CallEffect::kEffectful;
}

tools::ToolResult Refused(std::string text) {
  return {.status = tools::ToolStatus::kDenied, .text = std::move(text)};
}

// For a person, who sees nothing else of the call.
std::string QuestionAbout(const tools::Prepared& call) {
  constexpr size_t kArgumentBytesMax = 400;
  return call.tool_id + " " + OneLine(call.arguments, kArgumentBytesMax) + ": " + call.verdict.reason;
}

}  // namespace

class TurnLoop::Impl final : public sessions::OrderListener, public tools::BlockHost {
 public:
  Impl(Parts parts, TurnLoopOptions options) : parts_(parts), options_(std::move(options)) {
    HF_CHECK(options_.window_tokens_max > 0 && options_.turn_tokens_max > 0 && options_.commit_tokens > 0);
  }

  void Run(Rested rested) {
    HF_CHECK(!rested_);
    rested_ = std::move(rested);
    stop_ = false;
    Advance();
  }
  void Interrupt();
  void Stop();

  // OrderListener
  void OnPrefill(const sessions::PrefillProgress& progress) override {
    if (options_.on_live) options_.on_live(options_.session, progress);
  }
  void OnTokens(std::vector<int32_t> ids) override;
  void OnEnd(const sessions::OrderEnd& end) override;

  // BlockHost
  void BeforeStart(std::span<const size_t> indices, Go go) override;
  void AfterEnd(std::span<const size_t> indices, std::span<const tools::ToolResult> results, Go go) override;

 private:
  // A call of the turn that has no outcome yet.
  struct Call {
    std::string id;
    tools::Prepared prepared;
    bool has_intent = false;
    bool has_outcome = false;

    bool is_clients() const { return prepared.traits.by_client && !prepared.error.has_value(); }
    bool only_reads() const { return prepared.traits.effect == tools::Effect::kReadOnly; }
  };

  const sessions::SessionFacts& facts() const { return parts_.log.facts(); }
  std::string NameOf(size_t call) const { return CallName(facts().tokens(), call); }

  void Advance();
  void Tell(const Turn* turn);
  // Begins a window, the first or the next, and tells `said` in it.
  void OpenWindow(std::span<const Said> said, std::vector<uint64_t> rendered);
  // Where in the window the last turns begin that go over into the next.
  int64_t KeptFrom() const;
  void Speak(std::span<const int32_t> begun);
  void CommitTokens();
  void Close(std::span<const int32_t> begun, sessions::ForcedRule rule);
  void RunCalls(const Turn& turn);
  // Of the calls of a turn that have not ended, those that come next: either all are a client's, or none.
  std::vector<Call> NextCalls(const Turn& turn);
  Call CallOf(std::string id, const AskedCall& asked, const tools::ToolContext& context) const;
  void HandOut(std::vector<Call> calls);
  // Asks for what nobody has answered; true when there is such a call.
  bool AskFor(std::vector<Call>& calls);
  void EndCalls(std::vector<tools::ToolResult> results);
  sessions::CallIntent IntentOf(const Call& call) const;

  void Append(std::vector<EventBody> bodies, absl::AnyInvocable<void()> then);
  void Fail(const base::Status& status);
  void RestNow(Rest rest, base::Status status = {});

  const Parts parts_;
  const TurnLoopOptions options_;
  Rested rested_;  // while working
  base::Status failed_;
  size_t appends_ = 0;  // under way
  bool stop_ = false;
  bool interrupt_ = false;

  // Speaking.
  std::optional<sessions::OrderId> order_;
  std::vector<int32_t> uncommitted_;
  int64_t uncommitted_at_ = 0;  // position of the first
  std::optional<base::TimerId> commit_timer_;
  bool too_long_ = false;

  // Calls.
  std::optional<tools::BlockId> block_;
  std::vector<Call> calls_;
};

// --- What is next

void TurnLoop::Impl::Advance() {
  if (!rested_ || appends_ > 0 || order_.has_value() || block_.has_value()) return;
  if (!failed_.ok()) return RestNow(Rest::kFailed, failed_);
  if (facts().tokens().position() == 0) {
    if (stop_) return RestNow(Rest::kStopped);
    if (parts_.host.Holds()) return RestNow(Rest::kHeld);
    return Tell(nullptr);
  }
  const std::span<const int32_t> ids = TurnTokens(facts().tokens());
  const Turn turn = parts_.dialogue.Read(ids);
  if (!turn.complete) {
    if (interrupt_) return Close(ids, sessions::ForcedRule::kInterrupted);
    if (turn.malformed) return Close(ids, sessions::ForcedRule::kMalformed);
    if (parts_.host.TokensLeft() <= 0) return Close(ids, sessions::ForcedRule::kBudget);
    if (too_long_ || static_cast<int64_t>(ids.size()) >= options_.turn_tokens_max) {
      return Close(ids, sessions::ForcedRule::kTooLong);
    }
    if (stop_) return RestNow(Rest::kStopped);
    if (parts_.host.Holds()) return RestNow(Rest::kHeld);
    return Speak(ids);
  }
  too_long_ = false;
  if (stop_) return RestNow(Rest::kStopped);
  for (size_t i = 0; i < turn.calls.size(); ++i) {
    if (!facts().OutcomeOf(NameOf(i)).has_value()) return RunCalls(turn);
  }
  interrupt_ = false;
  if (parts_.host.Holds()) return RestNow(Rest::kHeld);
  if (!facts().untold().empty()) return Tell(&turn);
  Append({sessions::TurnFinished{.reason = "the model has ended its turn"}},
         [this] { RestNow(Rest::kDone); });
}

void TurnLoop::Impl::Interrupt() {
  interrupt_ = true;
  if (order_.has_value()) parts_.scheduler.Cancel(*order_);
  if (block_.has_value()) parts_.dispatcher.CancelBlock(*block_);
  Advance();
}

void TurnLoop::Impl::Stop() {
  stop_ = true;
  if (order_.has_value()) parts_.scheduler.Cancel(*order_);
  Advance();
}

// --- Telling

void TurnLoop::Impl::Tell(const Turn* turn) {
  std::vector<uint64_t> outcomes;
  for (size_t i = 0; turn != nullptr && i < turn->calls.size(); ++i) {
    outcomes.push_back(*facts().OutcomeOf(NameOf(i)));
  }
  std::vector<Said> said;
  std::vector<uint64_t> rendered(facts().untold().begin(), facts().untold().end());
  for (const uint64_t seq : TellingOrder(outcomes, rendered)) {
    const auto event = parts_.log.ReadUntold(seq);
    if (!event.ok()) return Fail(event.status());
    if (std::optional<Said> one = SaidBy(event->body)) said.push_back(*std::move(one));
  }
  if (turn == nullptr) return OpenWindow(said, std::move(rendered));
  if (said.empty()) return RestNow(Rest::kDone);
  auto ids = parts_.dialogue.Next(said);
  if (!ids.ok()) return Fail(ids.status());
  const int64_t position = facts().tokens().position();
  if (position + static_cast<int64_t>(ids->size()) >= options_.window_tokens_max / 10 * 9) {
    return OpenWindow(said, std::move(rendered));
  }
  Append({sessions::TokenRun{.position = position,
                             .origin = sessions::TokenOrigin::kFed,
                             .ids = *std::move(ids),
                             .rendered = std::move(rendered)}},
         {});
}

int64_t TurnLoop::Impl::KeptFrom() const {
  const int64_t end = facts().tokens().position();
  const int64_t most = std::min(options_.kept_tokens_max, options_.window_tokens_max / 20);
  int64_t from = end;
  for (const sessions::TokenSpan& span : facts().tokens().spans()) {
    // A turn of the model's begins where something fed ends.
    const int64_t border = span.position + span.count;
    if (span.origin == sessions::TokenOrigin::kFed && border >= end - most) from = std::min(from, border);
  }
  return from;
}

void TurnLoop::Impl::OpenWindow(std::span<const Said> said, std::vector<uint64_t> rendered) {
  const sessions::TokenLog& tokens = facts().tokens();
  const bool first = tokens.position() == 0;
  const uint32_t epoch = tokens.epoch() + (first ? 0 : 1);
  std::optional<std::vector<std::string>> texts = parts_.host.OpeningTexts(epoch);
  if (!texts.has_value()) return RestNow(Rest::kWindowFull);
  HF_CHECK(first || !texts->empty());
  Opening opening{.texts = *std::move(texts)};
  if (!first) {
    opening.kept_from = KeptFrom();
    opening.kept_count = tokens.position() - opening.kept_from;
  }
  if (opening.texts.empty() && said.empty()) return RestNow(Rest::kDone);
  const auto kept = tokens.window().last(static_cast<size_t>(opening.kept_count));
  auto ids = OpeningTokens(parts_.dialogue, opening.texts, kept, said);
  if (!ids.ok()) return Fail(ids.status());
  if (static_cast<int64_t>(ids->size()) >= options_.window_tokens_max / 10 * 9) {
    return RestNow(Rest::kWindowFull);
  }
  std::vector<EventBody> bodies;
  if (!first) bodies.push_back(sessions::EpochStarted{.epoch = epoch, .reason = "the window was full"});
  if (!opening.texts.empty()) bodies.push_back(Encode(opening));
  bodies.push_back(sessions::TokenRun{.position = 0,
                                      .origin = sessions::TokenOrigin::kFed,
                                      .ids = *std::move(ids),
                                      .rendered = std::move(rendered)});
  Append(std::move(bodies), {});
}

// --- Speaking

void TurnLoop::Impl::Speak(std::span<const int32_t> begun) {
  const std::span<const int32_t> window = facts().tokens().window();
  const auto size = static_cast<int64_t>(window.size());
  const int64_t room = std::min({options_.turn_tokens_max - static_cast<int64_t>(begun.size()),
                                 options_.window_tokens_max - size, parts_.host.TokensLeft()});
  if (room <= 0) return Close(begun, sessions::ForcedRule::kTooLong);
  sessions::Order order{
      .session = options_.session, .priority = options_.priority, .tokens = {window.begin(), window.end()}};
  if (parts_.dialogue.prefix_tokens() < size) order.shared_ends = {parts_.dialogue.prefix_tokens()};
  order.decode = sessions::Decode{
      .sampler = options_.sampler,
      .seed = options_.seed,
      .stream = facts().tokens().stream(),
      .make_constraint =
          [this, ids = std::vector(window.begin(), window.end()), turn = window.size() - begun.size()] {
            const auto all = std::span<const int32_t>(ids);
            auto grammar = parts_.dialogue.Constrain(all.subspan(turn));
            return options_.narrow ? options_.narrow(std::move(grammar), all.first(turn), all.subspan(turn))
                                   : std::move(grammar);
          },
      .tokens_max = room};
  auto id = parts_.scheduler.Submit(std::move(order), *this);
  if (!id.ok()) return Fail(id.status());
  order_ = *id;
  uncommitted_at_ = size;
}

void TurnLoop::Impl::OnTokens(std::vector<int32_t> ids) {
  if (options_.on_live) {
    const int64_t position = uncommitted_at_ + static_cast<int64_t>(uncommitted_.size());
    options_.on_live(options_.session,
                     SampledTokens{.epoch = facts().tokens().epoch(), .position = position, .ids = ids});
  }
  uncommitted_.insert(uncommitted_.end(), ids.begin(), ids.end());
  if (uncommitted_.size() >= options_.commit_tokens) return CommitTokens();
  if (commit_timer_.has_value()) return;
  const base::MonotonicTime due{parts_.clock.MonotonicNow().ns + options_.commit_ns};
  auto timer = parts_.executor.PostAt(due, [this] {
    commit_timer_.reset();
    CommitTokens();
  });
  if (timer.ok()) commit_timer_ = *timer;  // else: with the next tokens
}

void TurnLoop::Impl::CommitTokens() {
  if (commit_timer_.has_value()) parts_.executor.Cancel(*std::exchange(commit_timer_, std::nullopt));
  if (uncommitted_.empty()) return;
  sessions::TokenRun run{.position = uncommitted_at_,
                         .origin = sessions::TokenOrigin::kSampled,
                         .ids = std::exchange(uncommitted_, {}),
                         .sampling = sessions::Sampling{.temperature = options_.sampler.temperature,
                                                        .top_k = options_.sampler.top_k,
                                                        .min_p = options_.sampler.min_p,
                                                        .top_p = options_.sampler.top_p,
                                                        .seed = options_.seed,
                                                        .stream = facts().tokens().stream(),
                                                        .grammar = parts_.dialogue.grammar_hash(),
                                                        .numerics = options_.numerics}};
  uncommitted_at_ += static_cast<int64_t>(run.ids.size());
  Append({std::move(run)}, {});
}

void TurnLoop::Impl::OnEnd(const sessions::OrderEnd& end) {
  order_.reset();
  parts_.host.OnStored(end);
  CommitTokens();
  if (end.reason == sessions::EndReason::kTokensMax) too_long_ = true;
  if (end.reason == sessions::EndReason::kError) failed_ = end.status;
  Append({sessions::TokensAccounted{
             .attached = end.cost.attached, .prefilled = end.cost.prefilled, .decoded = end.cost.decoded}},
         {});
}

void TurnLoop::Impl::Close(std::span<const int32_t> begun, sessions::ForcedRule rule) {
  const Closing closing = parts_.dialogue.Close(begun);
  const int64_t position = facts().tokens().position() - closing.cut;
  std::vector<EventBody> bodies;
  if (closing.cut > 0) {
    bodies.push_back(sessions::TokensCut{
        .position = position, .count = closing.cut, .reason = "an unfinished block of calls"});
  }
  bodies.push_back(sessions::TokenRun{
      .position = position, .origin = sessions::TokenOrigin::kForced, .ids = closing.forced, .rule = rule});
  const auto forced = static_cast<uint64_t>(closing.forced.size());
  bodies.push_back(
      sessions::TokensAccounted{.forced = forced, .discarded = static_cast<uint64_t>(closing.cut)});
  Append(std::move(bodies), {});
}

// --- Calls

void TurnLoop::Impl::RunCalls(const Turn& turn) {
  if (interrupt_ && !OpenClientCalls(facts()).empty()) {
    return Append(AbandonedClientCalls(facts(), "the user interrupted it"), {});
  }
  std::vector<Call> calls = NextCalls(turn);
  const bool clients = calls.front().is_clients();
  if (AskFor(calls)) return;
  if (clients) return HandOut(std::move(calls));
  calls_ = std::move(calls);
  std::vector<tools::Prepared> block;
  for (const Call& call : calls_) block.push_back(call.prepared);
  block_ = parts_.dispatcher.RunBlock(
      std::move(block), parts_.workspace.context(), *this,
      [this](std::vector<tools::ToolResult> results) { EndCalls(std::move(results)); });
}

TurnLoop::Impl::Call TurnLoop::Impl::CallOf(std::string id, const AskedCall& asked,
                                            const tools::ToolContext& context) const {
  Call call{.id = std::move(id)};
  call.prepared = parts_.dispatcher.Prepare(context, asked.tool, asked.arguments);
  call.has_intent = facts().IsOpen(call.id);  // to be run again
  if (interrupt_) call.prepared.error = Refused("cancelled by the user before it started\n");
  if (FindClientCall(facts(), call.id) == nullptr) return call;
  // It was handed out: whatever is said of it by now, it has begun.
  call.prepared.error.reset();
  call.prepared.traits.by_client = true;
  return call;
}

std::vector<TurnLoop::Impl::Call> TurnLoop::Impl::NextCalls(const Turn& turn) {
  const tools::ToolContext context = parts_.workspace.context();
  std::vector<Call> calls;
  for (size_t i = 0; i < turn.calls.size(); ++i) {
    std::string id = NameOf(i);
    if (facts().OutcomeOf(id).has_value()) continue;  // before a crash, or by a client
    Call call = CallOf(std::move(id), turn.calls[i], context);
    const bool joins =
        calls.empty() || (call.is_clients() == calls.front().is_clients() &&
                          (!call.is_clients() || (call.only_reads() && calls.front().only_reads())));
    if (!joins) break;
    calls.push_back(std::move(call));
  }
  return calls;
}

// Those that are out already stay so.
void TurnLoop::Impl::HandOut(std::vector<Call> calls) {
  std::vector<EventBody> bodies;
  size_t handed_out = 0;
  for (Call& call : calls) {
    if (call.has_intent) continue;
    tools::Prepared& prepared = call.prepared;
    if (!prepared.error.has_value()) {
      if (prepared.verdict.permission == tools::Permission::kAsk) {
        HF_CHECK(parts_.approvals.Use(prepared.action));
      }
      const base::Status may = parts_.host.MayHandOut(++handed_out);
      if (!may.ok()) prepared.error = Refused(prepared.name + ": not run: " + base::Message(may) + "\n");
    }
    bodies.push_back(IntentOf(call));
    if (prepared.error.has_value()) bodies.push_back(OutcomeOf(call.id, *prepared.error));
  }
  if (bodies.empty()) return RestNow(Rest::kClient);
  Append(std::move(bodies), {});
}

bool TurnLoop::Impl::AskFor(std::vector<Call>& calls) {
  std::vector<EventBody> bodies;
  bool waits = false;
  for (Call& call : calls) {
    if (call.prepared.error.has_value() || call.prepared.verdict.permission != tools::Permission::kAsk)
      continue;
    if (call.has_intent && call.is_clients()) continue;  // it is out
    const std::optional<bool> answer = facts().AnswerTo(call.id, call.prepared.action);
    // A call that has begun was allowed.
    if (answer == true || call.has_intent) {
      if (base::Status granted = parts_.approvals.Grant(call.prepared.action); !granted.ok()) {
        call.prepared.error = Refused(base::Message(granted) + "\n");
      }
    } else if (answer == false) {
      call.prepared.error = Refused("refused by the user\n");
    } else {
      waits = true;
      if (facts().pending_approvals().contains(call.id)) continue;
      bodies.push_back(sessions::ApprovalRequested{
          .call = call.id, .action = call.prepared.action, .question = QuestionAbout(call.prepared)});
    }
  }
  if (!waits) return false;
  if (bodies.empty()) {
    RestNow(Rest::kApproval);
  } else {
    Append(std::move(bodies), [this] { RestNow(Rest::kApproval); });
  }
  return true;
}

sessions::CallIntent TurnLoop::Impl::IntentOf(const Call& call) const {
  const tools::Prepared& prepared = call.prepared;
  sessions::CallIntent intent{.call = call.id,
                              .tool = prepared.tool_id.empty() ? prepared.name : prepared.tool_id,
                              .arguments = prepared.arguments,
                              .action = prepared.action,
                              .effect = EffectOf(prepared.traits.effect),
                              .contained = prepared.traits.contained};
  if (prepared.error.has_value()) intent.effect = sessions::CallEffect::kReadOnly;  // it never starts
  if (call.is_clients()) {
    intent.client_deadline_utc_ms = parts_.clock.UtcNow().ns / base::kNsPerMs + prepared.traits.timeout_ms;
  } else if (intent.effect == sessions::CallEffect::kEffectful) {
    intent.workspace_before = parts_.workspace.current();
  }
  return intent;
}

void TurnLoop::Impl::BeforeStart(std::span<const size_t> indices, Go go) {
  std::vector<EventBody> bodies;
  std::vector<std::string> starting;
  for (const size_t i : indices) starting.push_back(calls_[i].id);
  parts_.host.OnStart(starting);
  for (const size_t i : indices) {
    if (!std::exchange(calls_[i].has_intent, true)) bodies.push_back(IntentOf(calls_[i]));
  }
  if (bodies.empty()) return go({});
  ++appends_;
  parts_.log.Append(std::move(bodies), [this, go = std::move(go)](base::Status status) mutable {
    --appends_;
    if (!status.ok()) failed_ = status;
    go(status);
  });
}

void TurnLoop::Impl::AfterEnd(std::span<const size_t> indices, std::span<const tools::ToolResult> results,
                              Go go) {
  std::vector<sessions::CallOutcome> outcomes;
  bool effectful = false;
  for (size_t i = 0; i < indices.size(); ++i) {
    Call& call = calls_[indices[i]];
    call.has_outcome = true;
    effectful = effectful || call.prepared.traits.effect == tools::Effect::kEffectful;
    outcomes.push_back(OutcomeOf(call.id, results[i]));
  }
  ++appends_;
  auto commit = [this, outcomes = std::move(outcomes),
                 go = std::move(go)](base::StatusOr<base::Sha256Digest> manifest) mutable {
    const auto finish = [this](Go& to, const base::Status& status) {
      --appends_;
      if (!status.ok()) failed_ = status;
      to(status);
    };
    if (!manifest.ok()) return finish(go, manifest.status());
    std::vector<EventBody> bodies;
    for (sessions::CallOutcome& outcome : outcomes) {
      if (*manifest != base::Sha256Digest{}) outcome.workspace_after = *manifest;
    }
    std::vector<EventBody> more = parts_.host.WithOutcomes(outcomes);
    for (sessions::CallOutcome& outcome : outcomes) bodies.push_back(std::move(outcome));
    for (EventBody& body : more) bodies.push_back(std::move(body));
    parts_.log.Append(std::move(bodies),
                      [finish, go = std::move(go)](base::Status status) mutable { finish(go, status); });
  };
  if (effectful) {
    parts_.workspace.Checkpoint(std::move(commit));
  } else {
    commit(base::Sha256Digest{});
  }
}

// Calls that never started have neither intent nor outcome yet: they get both.
void TurnLoop::Impl::EndCalls(std::vector<tools::ToolResult> results) {
  block_.reset();
  std::vector<EventBody> bodies;
  std::vector<sessions::CallOutcome> outcomes;
  for (size_t i = 0; failed_.ok() && i < calls_.size(); ++i) {
    if (calls_[i].has_outcome) continue;
    if (!calls_[i].has_intent) bodies.push_back(IntentOf(calls_[i]));
    bodies.push_back(outcomes.emplace_back(OutcomeOf(calls_[i].id, results[i])));
  }
  if (!outcomes.empty()) {
    for (EventBody& body : parts_.host.WithOutcomes(outcomes)) bodies.push_back(std::move(body));
  }
  calls_.clear();
  if (bodies.empty()) return Advance();
  Append(std::move(bodies), {});
}

// --- The rest

void TurnLoop::Impl::Append(std::vector<EventBody> bodies, absl::AnyInvocable<void()> then) {
  ++appends_;
  parts_.log.Append(std::move(bodies), [this, then = std::move(then)](base::Status status) mutable {
    --appends_;
    if (!status.ok()) failed_ = status;
    if (status.ok() && then) return then();
    Advance();
  });
}

void TurnLoop::Impl::Fail(const base::Status& status) {
  failed_ = status;
  Advance();
}

void TurnLoop::Impl::RestNow(Rest rest, base::Status status) {
  Rested rested = std::move(rested_);
  rested_ = {};
  rested(rest, std::move(status));
}

TurnLoop::TurnLoop(Parts parts, TurnLoopOptions options)
    : impl_(std::make_unique<Impl>(parts, std::move(options))) {}
TurnLoop::~TurnLoop() = default;
void TurnLoop::Run(Rested rested) { impl_->Run(std::move(rested)); }
void TurnLoop::Interrupt() { impl_->Interrupt(); }
void TurnLoop::Stop() { impl_->Stop(); }

}  // namespace holdfast::agent
