#include "agent/session_summary.h"

#include <utility>

#include "agent/bounded_text.h"
#include "nlohmann/json.hpp"
#include "sessions/session_store.h"

namespace holdfast::agent {
namespace {

using nlohmann::json;

constexpr size_t kTextBytesMax = 300;

std::string Text(const SessionSummary& summary, size_t bytes_max) {
  const json out = {{"display_name", OneLine(summary.display_name, bytes_max)},
                    {"goal", OneLine(summary.goal, bytes_max)},
                    {"goal_state", summary.goal_state},
                    {"goal_reason", OneLine(summary.goal_reason, bytes_max)}};
  // What people write may not be UTF-8.
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

SessionSummary SummaryOf(const SessionFold& fold) {
  SessionSummary summary{.display_name = fold.display_name()};
  const AgentFacts& agent = fold.agent();
  if (!agent.goal().has_value()) return summary;
  summary.goal = OneLine(agent.goal()->text, kTextBytesMax);
  summary.goal_state = GoalStateName(agent.goal_state());
  summary.goal_reason = OneLine(agent.goal_reason(), kTextBytesMax);
  return summary;
}

std::string EncodeSummary(const SessionSummary& summary) {
  if (summary == SessionSummary()) return {};
  size_t bytes_max = kTextBytesMax;
  std::string text = Text(summary, bytes_max);
  while (text.size() > sessions::kSummaryBytesMax) text = Text(summary, bytes_max /= 2);
  return text;
}

SessionSummary DecodeSummary(std::string_view text) {
  const json in = json::parse(text, nullptr, /*allow_exceptions=*/false);
  SessionSummary summary;
  if (!in.is_object()) return summary;
  const auto take = [&in](const char* name, std::string& to) {
    const auto found = in.find(name);
    if (found != in.end() && found->is_string()) to = found->get<std::string>();
  };
  take("display_name", summary.display_name);
  take("goal", summary.goal);
  take("goal_state", summary.goal_state);
  take("goal_reason", summary.goal_reason);
  return summary;
}

}  // namespace holdfast::agent
