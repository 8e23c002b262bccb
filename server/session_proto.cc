#include "server/session_proto.h"

#include <cstdint>
#include <utility>

#include "agent/session_summary.h"
#include "base/coding.h"
#include "base/hash.h"
#include "server/grpc_status.h"
#include "server/proto_value.h"

namespace holdfast::server {
namespace {

constexpr int64_t kTimeoutMsMax = 24 * 3'600'000ll;
constexpr int64_t kRunningMsMax = 10 * 365 * kTimeoutMsMax;
constexpr size_t kReasonBytesMax = 4096;
constexpr size_t kPlanTextBytesMax = 4096;

// Numbers of the record and of the API are the same.
static_assert(static_cast<int>(sessions::SessionState::kClosed) == v1::Session::STATE_CLOSED);
static_assert(static_cast<int>(sessions::WaitFor::kClient) == v1::WAIT_REASON_CLIENT);
static_assert(static_cast<int>(agent::GoalState::kCancelled) == v1::Goal::STATE_CANCELLED);

std::string Path(std::string_view parent, std::string_view field) {
  return std::string(parent) + "." + std::string(field);
}

void UsedToProto(const agent::Used& used, v1::Usage* out) {
  out->set_tokens(used.tokens);
  SetDuration(used.running_ms, out->mutable_running_time());
  out->set_tool_calls(used.calls);
}

void BudgetsToProto(const agent::Budgets& budgets, v1::Budgets* out) {
  out->set_tokens(budgets.tokens);
  SetDuration(budgets.running_ms, out->mutable_running_time());
  out->set_tool_calls(budgets.calls);
}

void SpecToProto(const agent::ProfileSet& profile, v1::SessionSpec* out) {
  out->set_profile(ValidText(profile.profile.substr(0, profile.profile.find('@')), kReasonBytesMax));
  out->set_repository(ValidText(profile.tree, kPathBytesMax));
  out->set_workspace_mode(profile.workspace_mode == "direct"     ? v1::SessionSpec::WORKSPACE_MODE_DIRECT
                          : profile.workspace_mode == "snapshot" ? v1::SessionSpec::WORKSPACE_MODE_SNAPSHOT
                                                                 : v1::SessionSpec::WORKSPACE_MODE_OVERLAY);
  for (const std::string& tool : profile.tools) out->add_tools(ValidText(tool, kReasonBytesMax));
  out->set_window_tokens_max(profile.window_tokens_max);
}

// The bytes of a message without maps are the same each time.
std::string EtagOf(const v1::Session& session) {
  const base::Sha256Digest digest = base::Sha256Of(base::AsBytes(session.SerializeAsString()));
  return base::ToHex(std::span(digest).first(8));
}

// By GoalStateName.
v1::Goal::State GoalStateOf(std::string_view name) {
  for (int state = v1::Goal::STATE_ACTIVE; state <= v1::Goal::STATE_CANCELLED; ++state) {
    if (agent::GoalStateName(static_cast<agent::GoalState>(state)) == name) {
      return static_cast<v1::Goal::State>(state);
    }
  }
  return v1::Goal::STATE_UNSPECIFIED;
}

base::StatusOr<int64_t> Count(int64_t count, std::string_view field) {
  if (count < 0) return FieldError(field, "is below 0");
  return count;
}

}  // namespace

v1::Session::State StateToProto(sessions::SessionState state) {
  return static_cast<v1::Session::State>(state);
}

v1::WaitReason WaitToProto(sessions::WaitFor wait) { return static_cast<v1::WaitReason>(wait); }

v1::Goal::State GoalStateToProto(agent::GoalState state) { return static_cast<v1::Goal::State>(state); }

void PlanItemToProto(const agent::PlanItem& item, v1::PlanItem* out) {
  out->set_text(ValidText(item.text, kPlanTextBytesMax));
  out->set_state(item.state == "done"      ? v1::PlanItem::STATE_DONE
                 : item.state == "active"  ? v1::PlanItem::STATE_ACTIVE
                 : item.state == "dropped" ? v1::PlanItem::STATE_DROPPED
                                           : v1::PlanItem::STATE_PENDING);
}

void GoalToProto(const agent::GoalSet& goal, v1::Goal* out) {
  out->set_text(ValidText(goal.text, kGoalTextBytesMax));
  for (const agent::GoalCheck& check : goal.checks) {
    v1::GoalCheck& told = *out->add_checks();
    told.set_command(ValidText(check.command, kCheckCommandBytesMax));
    SetDuration(check.timeout_ms, told.mutable_timeout());
  }
  BudgetsToProto(goal.budgets, out->mutable_budgets());
  out->set_apply_on_success(goal.apply_on_success);
}

void RowToProto(const sessions::SessionRow& row, v1::Session* out) {
  out->set_name(SessionName(row.id));
  out->set_uid(base::ToHex(row.uid));
  SetTime(row.created_utc_ms, out->mutable_create_time());
  SetTime(row.updated_utc_ms, out->mutable_update_time());
  out->set_state(StateToProto(row.state));
  out->set_wait(WaitToProto(row.wait));
  out->set_state_reason(ValidText(row.reason, kReasonBytesMax));
  out->set_last_sequence(row.last_seq);
  if (!row.parent.empty()) out->set_parent(SessionName(row.parent));
  out->set_parent_sequence(row.parent_seq);
  out->set_archived(row.archived);
  const agent::SessionSummary summary = agent::DecodeSummary(row.summary);
  out->set_display_name(ValidText(summary.display_name, kReasonBytesMax));
  if (summary.goal_state.empty()) return;
  out->mutable_goal()->set_text(ValidText(summary.goal, kReasonBytesMax));
  out->mutable_goal()->set_state(GoalStateOf(summary.goal_state));
  out->mutable_goal()->set_state_reason(ValidText(summary.goal_reason, kReasonBytesMax));
}

void StatusToProto(const agent::SessionStatus& status, v1::Session* out) {
  RowToProto(status.row, out);
  out->clear_goal();  // the row's may be behind
  out->set_display_name(ValidText(status.display_name, kReasonBytesMax));
  if (status.profile.has_value()) SpecToProto(*status.profile, out->mutable_spec());
  if (status.goal.has_value()) {
    v1::Goal& goal = *out->mutable_goal();
    GoalToProto(*status.goal, &goal);
    BudgetsToProto(status.budgets, goal.mutable_budgets());
    goal.set_state(GoalStateToProto(status.goal_state));
    goal.set_state_reason(ValidText(status.goal_reason, kReasonBytesMax));
    UsedToProto(status.used, goal.mutable_used());
  }
  for (const agent::PlanItem& item : status.plan) PlanItemToProto(item, out->add_plan());
  v1::TokenUsage& tokens = *out->mutable_tokens();
  tokens.set_attached(status.accounted.attached);
  tokens.set_prefilled(status.accounted.prefilled);
  tokens.set_decoded(status.accounted.decoded);
  tokens.set_forced(status.accounted.forced);
  tokens.set_discarded(status.accounted.discarded);
  v1::Window& window = *out->mutable_window();
  window.set_tokens(status.window_tokens);
  if (status.profile.has_value()) window.set_tokens_max(status.profile->window_tokens_max);
  window.set_epoch(status.epoch);
  out->set_last_text(ValidText(status.said, kLastTextBytesMax));
  for (const sessions::ApprovalRequested& question : status.questions) {
    v1::Approval& told = *out->add_approvals();
    told.set_call_id(ValidText(question.call, kReasonBytesMax));
    told.set_action(base::ToHex(question.action));
    told.set_question(ValidText(question.question, kLastTextBytesMax));
  }
  out->set_etag(EtagOf(*out));
}

base::Status WithReasonOf(base::Status status) {
  if (!ReasonOf(status).empty()) return status;
  if (absl::IsNotFound(status)) return WithReason(std::move(status), "SESSION_NOT_FOUND");
  if (absl::IsAlreadyExists(status)) return WithReason(std::move(status), "SESSION_EXISTS");
  return status;
}

bool Rests(const sessions::SessionRow& row) {
  if (row.state == sessions::SessionState::kRunning) return false;
  if (row.state != sessions::SessionState::kWaiting) return true;
  return row.wait == sessions::WaitFor::kApproval || row.wait == sessions::WaitFor::kInput;
}

base::StatusOr<agent::Budgets> BudgetsFromProto(const v1::Budgets& budgets, const agent::Budgets& now,
                                                std::string_view field) {
  agent::Budgets set = now;
  if (budgets.has_tokens()) {
    HF_ASSIGN_OR_RETURN(set.tokens, Count(budgets.tokens(), Path(field, "tokens")));
  }
  if (budgets.has_tool_calls()) {
    HF_ASSIGN_OR_RETURN(set.calls, Count(budgets.tool_calls(), Path(field, "tool_calls")));
  }
  if (budgets.has_running_time()) {
    HF_ASSIGN_OR_RETURN(set.running_ms,
                        DurationMs(budgets.running_time(), 0, kRunningMsMax, Path(field, "running_time")));
  }
  return set;
}

base::StatusOr<agent::GoalSet> GoalFromProto(const v1::Goal& goal, std::string_view field) {
  agent::GoalSet set{.text = goal.text(), .apply_on_success = goal.apply_on_success()};
  if (set.text.empty()) return FieldError(Path(field, "text"), "is empty");
  if (set.text.size() > kGoalTextBytesMax) {
    return FieldError(Path(field, "text"), "has more than 64 KiB: put the rest into a file");
  }
  if (goal.checks_size() > kGoalChecksMax) {
    return FieldError(Path(field, "checks"), "are more than " + std::to_string(kGoalChecksMax));
  }
  for (int i = 0; i < goal.checks_size(); ++i) {
    const std::string check = Path(field, "checks[" + std::to_string(i) + "]");
    agent::GoalCheck one{.command = goal.checks(i).command()};
    if (one.command.empty() || one.command.size() > kCheckCommandBytesMax) {
      return FieldError(Path(check, "command"), "is to have 1 byte to 16 KiB");
    }
    if (goal.checks(i).has_timeout()) {
      HF_ASSIGN_OR_RETURN(one.timeout_ms,
                          DurationMs(goal.checks(i).timeout(), 1, kTimeoutMsMax, Path(check, "timeout")));
    }
    set.checks.push_back(std::move(one));
  }
  HF_ASSIGN_OR_RETURN(set.budgets, BudgetsFromProto(goal.budgets(), {}, Path(field, "budgets")));
  return set;
}

base::Status CheckSpec(const v1::SessionSpec& spec, std::string_view field) {
  for (const auto& [name, path] : {std::pair("repository", &spec.repository()), {"load", &spec.load()}}) {
    if (path->empty()) continue;
    if (path->size() > kPathBytesMax || path->front() != '/' || path->find('\0') != std::string::npos) {
      return FieldError(Path(field, name), "is to be an absolute path of at most 4096 bytes");
    }
  }
  if (!v1::SessionSpec::WorkspaceMode_IsValid(spec.workspace_mode())) {
    return FieldError(Path(field, "workspace_mode"), "is none of those known");
  }
  return {};
}

std::string WorkspaceModeOf(const v1::SessionSpec& spec) {
  switch (spec.workspace_mode()) {
    case v1::SessionSpec::WORKSPACE_MODE_SNAPSHOT:
      return "snapshot";
    case v1::SessionSpec::WORKSPACE_MODE_DIRECT:
      return "direct";
    default:
      return "overlay";
  }
}

}  // namespace holdfast::server
