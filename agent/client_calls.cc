#include "agent/client_calls.h"

#include <algorithm>
#include <utility>

#include "base/coding.h"
#include "nlohmann/json.hpp"
#include "sessions/recovery.h"

namespace holdfast::agent {
namespace {

using sessions::CallIntent;
using sessions::CallOutcome;
using sessions::CallStatus;

bool IsClients(const CallIntent& intent) { return intent.client_deadline_utc_ms != 0; }

std::string NameOf(const std::string& tool_id) { return tool_id.substr(0, tool_id.rfind('@')); }

std::string_view StatusName(CallStatus status) {
  switch (status) {
    case CallStatus::kOk:
      return "ok";
    case CallStatus::kFailed:
      return "failed";
    case CallStatus::kTimedOut:
      return "timed out";
    case CallStatus::kCancelled:
      return "cancelled";
    case CallStatus::kRefused:
      return "refused";
    case CallStatus::kUnknown:
      return "unknown";
  }
  return "unknown";
}

std::string HashOf(const ClientAnswer& answer) {
  std::string text = std::to_string(static_cast<int>(answer.kind)) + "\n" + answer.text;
  return base::ToHex(base::Sha256Of(base::AsBytes(text)));
}

}  // namespace

std::vector<ClientCall> OpenClientCalls(const sessions::SessionFacts& facts) {
  std::vector<ClientCall> calls;
  for (const sessions::OpenCall& open : facts.open_calls()) {
    const CallIntent& intent = open.intent;
    if (!IsClients(intent)) continue;
    calls.push_back({.call = intent.call,
                     .tool = NameOf(intent.tool),
                     .arguments = intent.arguments,
                     .effect = intent.effect,
                     .deadline_utc_ms = intent.client_deadline_utc_ms});
  }
  return calls;
}

const CallIntent* FindClientCall(const sessions::SessionFacts& facts, const std::string& call) {
  for (const sessions::OpenCall& open : facts.open_calls()) {
    if (IsClients(open.intent) && open.intent.call == call) return &open.intent;
  }
  return nullptr;
}

std::optional<int64_t> FirstClientDeadline(const sessions::SessionFacts& facts) {
  std::optional<int64_t> first;
  for (const sessions::OpenCall& open : facts.open_calls()) {
    if (!IsClients(open.intent)) continue;
    first = std::min(first.value_or(INT64_MAX), open.intent.client_deadline_utc_ms);
  }
  return first;
}

std::vector<sessions::EventBody> ExpiredClientCalls(const sessions::SessionFacts& facts, int64_t now_utc_ms) {
  std::vector<sessions::EventBody> outcomes;
  for (const sessions::OpenCall& open : facts.open_calls()) {
    if (IsClients(open.intent) && now_utc_ms >= open.intent.client_deadline_utc_ms) {
      outcomes.push_back(sessions::ExpiredOutcome(open.intent));
    }
  }
  return outcomes;
}

std::vector<sessions::EventBody> AbandonedClientCalls(const sessions::SessionFacts& facts,
                                                      const std::string& why) {
  std::vector<sessions::EventBody> outcomes;
  for (const sessions::OpenCall& open : facts.open_calls()) {
    if (!IsClients(open.intent)) continue;
    const bool reads = open.intent.effect == sessions::CallEffect::kReadOnly;
    outcomes.push_back(CallOutcome{
        .call = open.intent.call,
        .status = reads ? CallStatus::kCancelled : CallStatus::kUnknown,
        .text = (reads ? "Cancelled: " : "Outcome unknown, the client may have run it: ") + why + ".\n"});
  }
  return outcomes;
}

tools::ToolResult ResultOf(const ClientAnswer& answer) {
  switch (answer.kind) {
    case ClientAnswer::Kind::kOk:
      return {.status = tools::ToolStatus::kOk, .text = answer.text};
    case ClientAnswer::Kind::kFailed:
      return {.status = tools::ToolStatus::kFailed, .text = answer.text};
    case ClientAnswer::Kind::kDisowned:
      break;
  }
  return {.status = tools::ToolStatus::kUnknown,
          .text = "Outcome unknown: the client that was to run this call gives it up" +
                  (answer.text.empty() ? std::string() : ": " + answer.text) + "\n"};
}

std::string AnswerRecord(const ClientAnswer& answer) {
  return nlohmann::json{{"answer", HashOf(answer)}, {"observed", nlohmann::json::array()}}.dump();
}

base::Status IsAnsweredBy(const CallOutcome& outcome, const ClientAnswer& answer) {
  if (outcome.record == AnswerRecord(answer)) return {};
  return base::FailedPrecondition("call " + outcome.call +
                                  " has ended: " + std::string(StatusName(outcome.status)));
}

}  // namespace holdfast::agent
