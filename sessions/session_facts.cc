#include "sessions/session_facts.h"

#include <algorithm>
#include <type_traits>
#include <variant>

namespace holdfast::sessions {
namespace {

base::Status Contradiction(uint64_t seq, const std::string& what) {
  return base::DataLoss("event " + std::to_string(seq) + ": " + what);
}

}  // namespace

std::optional<bool> SessionFacts::AnswerTo(const std::string& call, const base::Sha256Digest& action) const {
  const auto found = answers_.find(call);
  if (found == answers_.end() || found->second.action != action) return std::nullopt;
  return found->second.allowed;
}

std::optional<uint64_t> SessionFacts::OutcomeOf(const std::string& call) const {
  const auto found = calls_.find(call);
  return found == calls_.end() || found->second == 0 ? std::nullopt : std::optional(found->second);
}

std::optional<DoneRequest> SessionFacts::FindRequest(const std::string& request_id) const {
  const auto found = requests_.find(request_id);
  return found == requests_.end() ? std::nullopt : std::optional(found->second);
}

void SessionFacts::NoteRequest(const Event& event) {
  const auto brought = [&](const std::string& id, std::string what) {
    if (!id.empty()) requests_.try_emplace(id, DoneRequest{.seq = event.seq, .what = std::move(what)});
  };
  if (std::holds_alternative<SessionCreated>(event.body)) {
    requests_.clear();
  } else if (const auto* done = std::get_if<RequestDone>(&event.body)) {
    requests_.insert_or_assign(done->request_id, DoneRequest{.seq = event.seq, .what = done->what});
  } else if (const auto* answer = std::get_if<ApprovalResolved>(&event.body)) {
    brought(answer->request_id, "answer");
  } else if (const auto* input = std::get_if<InputReceived>(&event.body)) {
    const bool is_runtimes = input->kind == InputKind::kNotice || input->kind == InputKind::kReminder;
    if (!is_runtimes) brought(input->request_id, "send");
  }
}

const OpenCall* SessionFacts::FindOpen(const std::string& call) const {
  const auto found = std::find_if(open_calls_.begin(), open_calls_.end(),
                                  [&call](const OpenCall& open) { return open.intent.call == call; });
  return found == open_calls_.end() ? nullptr : &*found;
}

base::Status SessionFacts::Check(const Event& event) const {
  const auto refuse = [&event](const std::string& what) { return Contradiction(event.seq, what); };
  if (event.seq <= last_seq_) return refuse("after event " + std::to_string(last_seq_));
  if (last_seq_ == 0 && !std::holds_alternative<SessionCreated>(event.body)) {
    return refuse("the first is " + KindName(KindOf(event.body)));
  }
  if (const auto* intent = std::get_if<CallIntent>(&event.body)) {
    if (calls_.contains(intent->call)) return refuse("call " + intent->call + " begins a second time");
    const auto effectful = [](const OpenCall& open) { return open.intent.effect == CallEffect::kEffectful; };
    if (effectful({.intent = *intent}) && std::any_of(open_calls_.begin(), open_calls_.end(), effectful)) {
      return refuse("call " + intent->call + " begins while another may be changing files");
    }
  } else if (const auto* outcome = std::get_if<CallOutcome>(&event.body)) {
    if (FindOpen(outcome->call) == nullptr) {
      return refuse("an outcome of " + outcome->call + ", which is not open");
    }
  } else if (const auto* request = std::get_if<ApprovalRequested>(&event.body)) {
    if (pending_approvals_.contains(request->call)) return refuse("a second question about " + request->call);
  } else if (const auto* answer = std::get_if<ApprovalResolved>(&event.body)) {
    const auto pending = pending_approvals_.find(answer->call);
    if (pending == pending_approvals_.end() || pending->second.action != answer->action) {
      return refuse("an answer about " + answer->call + " that nobody asked for");
    }
  } else if (const auto* timer = std::get_if<TimerSet>(&event.body)) {
    if (timers_.contains(timer->timer)) return refuse("timer " + timer->timer + " is set already");
  } else if (const auto* ended = std::get_if<TimerEnded>(&event.body)) {
    if (!timers_.contains(ended->timer)) return refuse("timer " + ended->timer + " is not set");
  }
  return {};
}

base::Status SessionFacts::Apply(const Event& event) {
  HF_RETURN_IF_ERROR(Check(event));
  HF_RETURN_IF_ERROR(tokens_.Apply(event));
  last_seq_ = event.seq;
  NoteRequest(event);
  std::visit(
      [this, &event](const auto& body) {
        using T = std::decay_t<decltype(body)>;
        if constexpr (std::is_same_v<T, WorkspaceChanged>) {
          workspace_ = body.manifest;
        } else if constexpr (std::is_same_v<T, TimerSet>) {
          timers_.emplace(body.timer, body);
        } else if constexpr (std::is_same_v<T, TimerEnded>) {
          timers_.erase(body.timer);
        } else if constexpr (std::is_same_v<T, Recovered>) {
          ++fruitless_recoveries_;
        } else if constexpr (std::is_same_v<T, TokensAccounted>) {
          accounted_.attached += body.attached;
          accounted_.prefilled += body.prefilled;
          accounted_.decoded += body.decoded;
          accounted_.forced += body.forced;
          accounted_.discarded += body.discarded;
        } else if constexpr (requires { Take(event, body); }) {
          Take(event, body);
        }
      },
      event.body);
  return {};
}

void SessionFacts::Take(const Event& /*event*/, const TokenRun& run) {
  if (run.origin == TokenOrigin::kSampled) fruitless_recoveries_ = 0;
  for (const uint64_t seq : run.rendered) {
    const auto told = std::find(untold_.begin(), untold_.end(), seq);
    if (told != untold_.end()) untold_.erase(told);
  }
}

void SessionFacts::Take(const Event& /*event*/, const StateChanged& changed) {
  if (state_.state == SessionState::kPaused && changed.state != SessionState::kPaused) {
    fruitless_recoveries_ = 0;
  }
  state_ = changed;
}

void SessionFacts::Take(const Event& event, const InputReceived& input) {
  if (input.kind != InputKind::kInterrupt && input.kind != InputKind::kSignal) untold_.push_back(event.seq);
}

void SessionFacts::Take(const Event& event, const CallIntent& intent) {
  calls_.emplace(intent.call, 0);
  open_calls_.push_back({.seq = event.seq, .intent = intent});
  answers_.erase(intent.call);  // used up
}

void SessionFacts::Take(const Event& event, const CallOutcome& outcome) {
  std::erase_if(open_calls_, [&outcome](const OpenCall& open) { return open.intent.call == outcome.call; });
  calls_[outcome.call] = event.seq;
  if (outcome.workspace_after.has_value()) workspace_ = outcome.workspace_after;
  untold_.push_back(event.seq);
}

void SessionFacts::Take(const Event& event, const ApprovalRequested& request) {
  pending_approvals_.emplace(
      request.call,
      PendingApproval{.seq = event.seq, .action = request.action, .question = request.question});
}

void SessionFacts::Take(const Event& /*event*/, const ApprovalResolved& answer) {
  pending_approvals_.erase(answer.call);
  answers_[answer.call] = answer;
}

}  // namespace holdfast::sessions
