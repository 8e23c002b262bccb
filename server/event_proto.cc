#include "server/event_proto.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "agent/agent_event.h"
#include "base/hash.h"
#include "holdfast/v1/event.pb.h"
#include "holdfast/v1/session_service.pb.h"
#include "server/proto_value.h"
#include "server/session_proto.h"

namespace holdfast::server {
namespace {

constexpr size_t kInputBytesMax = kEventProtoBytesMax - 4096;
constexpr size_t kResultBytesMax = size_t{256} << 10;
constexpr size_t kTextBytesMax = size_t{64} << 10;
constexpr size_t kShortBytesMax = 4096;  // reasons, names

std::string Short(std::string_view text) { return ValidText(text, kShortBytesMax); }

std::string Json(const std::string& json, size_t bytes_max) {
  return json.size() <= bytes_max ? ValidText(json, bytes_max + kShortBytesMax) : std::string();
}

// Numbers of the record and of the API are the same.
static_assert(static_cast<int>(sessions::TokenOrigin::kForced) == v1::TokensEvent::ORIGIN_FORCED);
static_assert(static_cast<int>(sessions::InputKind::kReminder) == v1::InputEvent::KIND_REMINDER);
static_assert(static_cast<int>(sessions::CallStatus::kUnknown) == v1::CallEndedEvent::STATUS_UNKNOWN);

// Writes the kind of one event.
struct KindWriter {
  const EventView& view;
  const model::Tokenizer& tokenizer;
  v1::SessionEvent* out;

  // What has no message.
  template <class Body>
  void operator()(const Body&) const {
    out->mutable_other();
  }

  void operator()(const sessions::SessionCreated& created) const {
    v1::CreatedEvent& told = *out->mutable_created();
    told.set_uid(base::ToHex(created.uid));
    if (created.parent.has_value()) told.set_parent_uid(base::ToHex(*created.parent));
    told.set_parent_sequence(created.parent_seq);
    told.set_seed(created.seed);
  }
  void operator()(const sessions::TokenRun& run) const {
    v1::TokensEvent& told = *out->mutable_tokens();
    told.set_position(run.position);
    told.set_origin(static_cast<v1::TokensEvent::Origin>(run.origin));
    told.set_count(static_cast<int64_t>(run.ids.size()));
    if (run.origin != sessions::TokenOrigin::kFed || view.fed_text) {
      bool cut = false;
      told.set_text(TokenText(run.ids, tokenizer, kTokenTextBytesMax, &cut));
      told.set_text_truncated(cut);
    }
    if (!view.token_ids) return;
    const size_t count = std::min(run.ids.size(), static_cast<size_t>(kTokenIdsMax));
    told.mutable_ids()->Add(run.ids.begin(), run.ids.begin() + static_cast<ptrdiff_t>(count));
  }
  void operator()(const sessions::TokensCut& cut) const {
    v1::TokensCutEvent& told = *out->mutable_tokens_cut();
    told.set_position(cut.position);
    told.set_count(cut.count);
    told.set_reason(Short(cut.reason));
  }
  void operator()(const sessions::EpochStarted& started) const {
    out->mutable_window_started()->set_epoch(started.epoch);
    out->mutable_window_started()->set_reason(Short(started.reason));
  }
  void operator()(const sessions::Rewound& rewound) const {
    out->mutable_rewound()->set_to_sequence(rewound.to_seq);
  }
  void operator()(const sessions::StateChanged& changed) const {
    v1::StateChangedEvent& told = *out->mutable_state_changed();
    told.set_state(StateToProto(changed.state));
    told.set_wait(WaitToProto(changed.wait));
    told.set_reason(Short(changed.reason));
  }
  void operator()(const sessions::InputReceived& input) const {
    v1::InputEvent& told = *out->mutable_input();
    told.set_kind(static_cast<v1::InputEvent::Kind>(input.kind));
    told.set_text(ValidText(input.text, kInputBytesMax));
    told.set_request_id(Short(input.request_id));
  }
  void operator()(const sessions::CallIntent& intent) const {
    v1::CallStartedEvent& told = *out->mutable_call_started();
    told.set_call_id(Short(intent.call));
    told.set_tool(Short(intent.tool));
    bool cut = false;
    told.set_arguments(ValidBeginning(intent.arguments, kTextBytesMax, &cut));
    told.set_arguments_truncated(cut);
    told.set_contained(intent.contained);
    if (intent.client_deadline_utc_ms != 0)
      SetTime(intent.client_deadline_utc_ms, told.mutable_client_deadline());
  }
  void operator()(const sessions::CallOutcome& outcome) const {
    v1::CallEndedEvent& told = *out->mutable_call_ended();
    told.set_call_id(Short(outcome.call));
    told.set_status(static_cast<v1::CallEndedEvent::Status>(outcome.status));
    bool cut = false;
    told.set_text(ValidBeginning(outcome.text, kResultBytesMax, &cut));
    told.set_text_truncated(cut);
    told.set_record(Json(outcome.record, kTextBytesMax));
  }
  void operator()(const sessions::ApprovalRequested& asked) const {
    v1::ApprovalRequestedEvent& told = *out->mutable_approval_requested();
    told.set_call_id(Short(asked.call));
    told.set_action(base::ToHex(asked.action));
    told.set_question(ValidText(asked.question, kTextBytesMax));
  }
  void operator()(const sessions::ApprovalResolved& answered) const {
    v1::ApprovalAnsweredEvent& told = *out->mutable_approval_answered();
    told.set_call_id(Short(answered.call));
    told.set_action(base::ToHex(answered.action));
    told.set_allowed(answered.allowed);
  }
  void operator()(const sessions::TurnFinished& finished) const {
    out->mutable_turn_finished()->set_reason(Short(finished.reason));
  }
  void operator()(const sessions::Recovered& recovered) const {
    out->mutable_recovered()->set_report(ValidText(recovered.report, kTextBytesMax));
  }
  void operator()(const sessions::TokensAccounted& cost) const {
    v1::TokenUsage& told = *out->mutable_token_usage();
    told.set_attached(cost.attached);
    told.set_prefilled(cost.prefilled);
    told.set_decoded(cost.decoded);
    told.set_forced(cost.forced);
    told.set_discarded(cost.discarded);
  }
  void operator()(const sessions::WorkspaceChanged& changed) const {
    out->mutable_workspace_changed()->set_manifest(base::ToHex(changed.manifest));
    out->mutable_workspace_changed()->set_reason(Short(changed.reason));
  }
  void operator()(const sessions::AgentEvent& event) const {
    const auto body = agent::Decode(event);
    if (!body.ok() || !body->has_value()) return (void)out->mutable_other();
    std::visit(*this, **body);
  }

  void operator()(const agent::GoalSet& goal) const {
    GoalToProto(goal, out->mutable_goal_set()->mutable_goal());
  }
  void operator()(const agent::GoalChanged& changed) const {
    v1::GoalChangedEvent& told = *out->mutable_goal_changed();
    told.set_state(GoalStateToProto(changed.state));
    told.set_reason(Short(changed.reason));
    told.set_claim(Short(changed.claim));
    told.set_evidence(ValidText(changed.evidence, kTextBytesMax));
  }
  void operator()(const agent::BudgetWarned& warned) const {
    v1::BudgetWarningEvent& told = *out->mutable_budget_warning();
    told.set_budget(Short(warned.which));
    told.set_used(warned.used);
    told.set_bound(warned.bound);
  }
  void operator()(const agent::PlanSet& plan) const {
    for (const agent::PlanItem& item : plan.items) PlanItemToProto(item, out->mutable_plan()->add_items());
    out->mutable_plan();  // also one without items
  }
  void operator()(const agent::NoteTaken& note) const {
    out->mutable_note()->set_text(ValidText(note.text, kInputBytesMax));
  }
  void operator()(const agent::CheckRan& ran) const {
    v1::CheckEvent& told = *out->mutable_check();
    told.set_command(ValidText(ran.command, kTextBytesMax));
    told.set_when(Short(ran.when));
    told.set_passed(ran.passed);
    told.set_text(ValidText(ran.text, kTextBytesMax));
  }
  void operator()(const agent::WaitSet& wait) const {
    v1::WaitStartedEvent& told = *out->mutable_wait_started();
    told.set_call_id(Short(wait.call));
    if (wait.until_utc_ms != 0) SetTime(wait.until_utc_ms, told.mutable_until());
    told.set_process(Short(wait.process));
    told.set_file(ValidText(wait.file, kTextBytesMax));
    told.set_signal(ValidText(wait.signal, kTextBytesMax));
  }
  void operator()(const agent::WaitEnded& ended) const {
    out->mutable_wait_ended()->set_why(Short(ended.why));
  }
  void operator()(const agent::Applied& applied) const {
    v1::AppliedEvent& told = *out->mutable_applied();
    told.set_applied(applied.applied);
    told.set_conflicts(applied.conflicts);
    told.set_refused(applied.refused);
    told.set_text(ValidText(applied.text, kTextBytesMax));
  }
};

}  // namespace

EventView ViewOf(const v1::EventView& view) {
  return {.token_ids = view.token_ids(), .fed_text = view.fed_text()};
}

void EventToProto(const sessions::Event& event, const EventView& view, const model::Tokenizer& tokenizer,
                  v1::SessionEvent* out) {
  out->set_sequence(event.seq);
  SetTime(event.utc_ms, out->mutable_time());
  std::visit(KindWriter{.view = view, .tokenizer = tokenizer, .out = out}, event.body);
  if (out->ByteSizeLong() > kEventProtoBytesMax) out->clear_kind(), out->mutable_other();
  if (out->has_other()) out->mutable_other()->set_kind(sessions::KindName(sessions::KindOf(event.body)));
}

std::string TokenText(std::span<const int32_t> ids, const model::Tokenizer& tokenizer, size_t bytes_max,
                      bool* cut) {
  std::string text;
  *cut = false;
  for (const int32_t id : ids) {
    const std::string_view bytes = tokenizer.Bytes(id);
    if (text.size() + bytes.size() > bytes_max) {
      *cut = true;
      break;
    }
    text += bytes;
  }
  return text;
}

}  // namespace holdfast::server
