#include "cli/session_text.h"

#include <algorithm>
#include <cstdio>

#include "absl/time/time.h"
#include "cli/terminal.h"
#include "google/protobuf/util/json_util.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

constexpr size_t kLinesOfCheck = 12;  // of what a failing check printed, the last ones

// "STATE_RUNNING" -> "RUNNING".
std::string Without(const std::string& prefix, const std::string& name) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

std::string Reasoned(std::string text, const std::string& reason) {
  return reason.empty() ? text : text + " (" + OneLine(reason) + ")";
}

// The last lines of a text, each behind `indent`.
std::string LastLines(const std::string& text, size_t lines_max, const std::string& indent) {
  std::string clean = ForTerminal(text);
  while (clean.ends_with('\n')) clean.pop_back();
  size_t from = clean.size();
  for (size_t lines = 0; lines < lines_max && from != std::string::npos && from > 0; ++lines) {
    from = clean.rfind('\n', from - 1);
  }
  clean = from == std::string::npos ? clean : clean.substr(from == 0 ? 0 : from + 1);
  std::string out;
  for (size_t at = 0; at < clean.size();) {
    const size_t end = std::min(clean.find('\n', at), clean.size());
    out += "\n" + indent + clean.substr(at, end - at);
    at = end + 1;
  }
  return out;
}

std::string Text(const v1::InputEvent& input) {
  switch (input.kind()) {
    case v1::InputEvent::KIND_MESSAGE:
      return "you: " + OneLine(input.text());
    case v1::InputEvent::KIND_STEER:
      return "you, on the way: " + OneLine(input.text());
    case v1::InputEvent::KIND_INTERRUPT:
      return "interrupted";
    case v1::InputEvent::KIND_SIGNAL:
      return "signal " + OneLine(input.text());
    case v1::InputEvent::KIND_NOTICE:
      return "notice: " + OneLine(input.text());
    default:
      return {};
  }
}

std::string Text(const v1::CallEndedEvent& call) {
  std::string word = Without("STATUS_", v1::CallEndedEvent::Status_Name(call.status()));
  std::transform(word.begin(), word.end(), word.begin(), [](char c) {
    return static_cast<char>(c == '_' ? ' ' : c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return "  -> " + word + ": " + OneLine(call.text(), 80);
}

std::string Text(const v1::CheckEvent& check, bool whole) {
  const std::string line = "check (" + check.when() + ") " + OneLine(check.command()) + ": " +
                           (check.passed() ? "passed" : "failed");
  const bool told = whole && !check.passed() && check.when() != "start";
  return told ? line + LastLines(check.text(), kLinesOfCheck, "    ") : line;
}

std::string Text(const v1::PlanEvent& plan, bool whole) {
  static constexpr const char* kMarks[] = {"?", " ", ">", "x", "-"};
  int done = 0;
  std::string items;
  for (const v1::PlanItem& item : plan.items()) {
    done += item.state() == v1::PlanItem::STATE_DONE;
    items += "\n    [" + std::string(kMarks[static_cast<size_t>(item.state()) % std::size(kMarks)]) + "] " +
             OneLine(item.text());
  }
  return "plan: " + std::to_string(done) + " of " + std::to_string(plan.items_size()) + " done" +
         (whole ? items : "");
}

std::string Text(const v1::WaitStartedEvent& wait) {
  std::string text = "waits";
  if (!wait.process().empty()) text += " for process " + OneLine(wait.process());
  if (!wait.file().empty()) text += " for file " + OneLine(wait.file());
  if (!wait.signal().empty()) text += " for signal " + OneLine(wait.signal());
  if (wait.has_until()) text += " until " + TimeText(wait.until().seconds()) + " UTC at most";
  return text;
}

std::string Text(const v1::AppliedEvent& applied) {
  const std::string counts = "applied " + GroupDigits(applied.applied()) + " paths, " +
                             GroupDigits(applied.conflicts()) + " conflicts, " +
                             GroupDigits(applied.refused()) + " refused";
  return applied.conflicts() + applied.refused() == 0 ? counts
                                                      : counts + LastLines(applied.text(), 100, "    ");
}

std::string Text(const v1::GoalChangedEvent& goal) {
  if (goal.state() == v1::Goal::STATE_UNSPECIFIED) return {};
  return Reasoned("goal: " + Without("STATE_", v1::Goal::State_Name(goal.state())), goal.reason());
}

std::string Text(const v1::StateChangedEvent& changed) {
  if (changed.state() != v1::Session::STATE_PAUSED) return {};
  return Reasoned("paused", changed.reason());
}

}  // namespace

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  if (google::protobuf::util::MessageToJsonString(message, &text, options).ok()) {
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }
}

std::string IdOf(const std::string& name) { return name.substr(name.rfind('/') + 1); }

std::string StateText(const v1::Session& session) {
  const std::string state = Without("STATE_", v1::Session::State_Name(session.state()));
  if (session.state() != v1::Session::STATE_WAITING) return state;
  return state + " (" + Without("WAIT_REASON_", v1::WaitReason_Name(session.wait())) + ")";
}

std::string GoalText(const v1::Session& session) {
  if (!session.has_goal()) return {};
  return Reasoned(Without("STATE_", v1::Goal::State_Name(session.goal().state())),
                  session.goal().state_reason());
}

bool AtRest(const v1::Session& session) {
  if (session.state() == v1::Session::STATE_RUNNING) return false;
  return session.state() != v1::Session::STATE_WAITING || NeedsPerson(session);
}

bool NeedsPerson(const v1::Session& session) {
  return session.state() == v1::Session::STATE_WAITING &&
         (session.wait() == v1::WAIT_REASON_APPROVAL || session.wait() == v1::WAIT_REASON_INPUT);
}

std::string TimeText(int64_t utc_seconds) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(utc_seconds), absl::UTCTimeZone());
}

std::string KindText(const v1::SessionEvent& event) {
  const auto* field = event.GetDescriptor()->FindFieldByNumber(event.kind_case());
  std::string text = field == nullptr ? "unknown" : field->name();
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c); });
  return text;
}

std::string EventText(const v1::SessionEvent& event, bool whole) {
  switch (event.kind_case()) {
    case v1::SessionEvent::kInput:
      return Text(event.input());
    case v1::SessionEvent::kCallStarted:
      return event.call_started().tool() + " " + OneLine(event.call_started().arguments());
    case v1::SessionEvent::kCallEnded:
      return Text(event.call_ended());
    case v1::SessionEvent::kApprovalRequested:
      return "asks (call " + event.approval_requested().call_id() +
             "): " + ForTerminal(event.approval_requested().question());
    case v1::SessionEvent::kApprovalAnswered:
      return std::string(event.approval_answered().allowed() ? "allowed" : "denied") + ": call " +
             event.approval_answered().call_id();
    case v1::SessionEvent::kRecovered:
      return "recovered" +
             (event.recovered().report().empty() ? "" : ": " + OneLine(event.recovered().report()));
    case v1::SessionEvent::kWindowStarted:
      return "window " + std::to_string(event.window_started().epoch()) + ": " +
             OneLine(event.window_started().reason());
    case v1::SessionEvent::kRewound:
      return "back to event " + GroupDigits(static_cast<int64_t>(event.rewound().to_sequence()));
    case v1::SessionEvent::kStateChanged:
      return Text(event.state_changed());
    case v1::SessionEvent::kWorkspaceChanged:
      return Reasoned("files changed", event.workspace_changed().reason());
    case v1::SessionEvent::kGoalSet:
      return "goal: " + OneLine(event.goal_set().goal().text());
    case v1::SessionEvent::kGoalChanged:
      return Text(event.goal_changed());
    case v1::SessionEvent::kBudgetWarning:
      return "budget: " + GroupDigits(event.budget_warning().used()) + " of " +
             GroupDigits(event.budget_warning().bound()) + " " + event.budget_warning().budget();
    case v1::SessionEvent::kPlan:
      return Text(event.plan(), whole);
    case v1::SessionEvent::kNote:
      return "note: " + OneLine(event.note().text());
    case v1::SessionEvent::kCheck:
      return Text(event.check(), whole);
    case v1::SessionEvent::kWaitStarted:
      return Text(event.wait_started());
    case v1::SessionEvent::kWaitEnded:
      return "goes on: " + event.wait_ended().why();
    case v1::SessionEvent::kApplied:
      return Text(event.applied());
    default:
      return {};
  }
}

std::string DiffStat(const v1::DiffSessionResponse& diff) {
  std::string text = std::to_string(diff.paths_size()) + (diff.paths_size() == 1 ? " file, +" : " files, +") +
                     GroupDigits(diff.added()) + " -" + GroupDigits(diff.removed());
  for (const v1::PathDiff& path : diff.paths()) {
    text += "\n  " + Without("CHANGE_", v1::PathDiff::Change_Name(path.change())).substr(0, 1) + " " +
            OneLine(path.path(), 200) + "  +" + GroupDigits(path.added()) + " -" +
            GroupDigits(path.removed());
  }
  return text;
}

}  // namespace holdfast::cli
