#include "agent/feeding.h"

#include <algorithm>
#include <iterator>
#include <variant>

namespace holdfast::agent {

std::span<const int32_t> TurnTokens(const sessions::TokenLog& tokens) {
  const std::span<const sessions::TokenSpan> spans = tokens.spans();
  for (size_t i = spans.size(); i-- > 0;) {
    if (spans[i].origin != sessions::TokenOrigin::kFed) continue;
    return tokens.window().subspan(static_cast<size_t>(spans[i].position + spans[i].count));
  }
  return tokens.window();
}

std::string CallName(const sessions::TokenLog& tokens, size_t index) {
  const uint32_t stream = tokens.spans().empty() ? 0 : tokens.spans().back().stream;
  return "c" + std::to_string(tokens.epoch()) + "." + std::to_string(tokens.position()) + "." +
         std::to_string(index) + (stream == 0 ? "" : "." + std::to_string(stream));
}

std::optional<Said> SaidBy(const sessions::EventBody& body) {
  if (const auto* outcome = std::get_if<sessions::CallOutcome>(&body)) {
    return Said{.kind = Said::Kind::kToolResult, .text = outcome->text};
  }
  if (const auto* input = std::get_if<sessions::InputReceived>(&body)) {
    const bool reminds = input->kind == sessions::InputKind::kReminder;
    return Said{.kind = reminds ? Said::Kind::kReminder : Said::Kind::kUser, .text = input->text};
  }
  return std::nullopt;
}

std::vector<uint64_t> TellingOrder(std::span<const uint64_t> outcomes, std::span<const uint64_t> untold) {
  std::vector<uint64_t> order(outcomes.begin(), outcomes.end());
  std::copy_if(untold.begin(), untold.end(), std::back_inserter(order), [outcomes](uint64_t seq) {
    return std::find(outcomes.begin(), outcomes.end(), seq) == outcomes.end();
  });
  return order;
}

base::StatusOr<std::vector<int32_t>> OpeningTokens(const Dialogue& dialogue,
                                                   std::span<const std::string> texts,
                                                   std::span<const int32_t> kept,
                                                   std::span<const Said> said) {
  std::vector<Said> begin;
  for (const std::string& text : texts) begin.push_back({.kind = Said::Kind::kUser, .text = text});
  if (kept.empty()) begin.insert(begin.end(), said.begin(), said.end());
  HF_ASSIGN_OR_RETURN(std::vector<int32_t> ids, dialogue.First(begin));
  if (kept.empty()) return ids;
  ids.insert(ids.end(), kept.begin(), kept.end());
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> next, dialogue.Next(said));
  ids.insert(ids.end(), next.begin(), next.end());
  return ids;
}

base::StatusOr<DialogueOptions> DialogueOptionsOf(const sessions::SessionCreated& created,
                                                  const ProfileSet& profile) {
  DialogueOptions options{.effort = profile.effort, .system = profile.system};
  if (profile.mode == "thinking") {
    options.mode = model::ThinkingMode::kThinking;
  } else if (profile.mode != "chat") {
    return base::InvalidArgument("there is no mode '" + profile.mode + "': chat or thinking");
  }
  if (profile.version == "v4-preview") {
    options.version = model::ChatVersion::kV4Preview;
  } else if (profile.version != "v4-0731") {
    return base::InvalidArgument("there is no chat format '" + profile.version + "': v4-0731 or v4-preview");
  }
  for (size_t at = 0; at < created.tools.size();) {
    const size_t end = std::min(created.tools.find('\n', at), created.tools.size());
    if (end > at) options.tools.push_back(created.tools.substr(at, end - at));
    at = end + 1;
  }
  return options;
}

}  // namespace holdfast::agent
