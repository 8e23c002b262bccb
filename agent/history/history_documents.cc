#include "agent/history/history_documents.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "agent/agent_event.h"
#include "agent/control_tools.h"
#include "nlohmann/json.hpp"
#include "sessions/token_log.h"

namespace holdfast::agent {
namespace {

using sessions::Event;
using sessions::EventBody;

struct Text {
  std::string kind;
  std::string text;
};
using MaybeText = std::optional<Text>;

std::string NameOf(std::string_view tool) { return std::string(tool.substr(0, tool.rfind('@'))); }

// Arguments as words: strings without the escapes of JSON, which would run into them.
void AppendWords(const nlohmann::json& value, std::string& text) {
  if (value.is_string()) {
    text += value.get_ref<const std::string&>() + "\n";
  } else if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      text += key + ": ";
      AppendWords(member, text);
    }
  } else if (value.is_array()) {
    for (const nlohmann::json& item : value) AppendWords(item, text);
  } else {
    text += value.dump() + "\n";
  }
}

std::string WordsOf(const sessions::CallIntent& call) {
  std::string text = NameOf(call.tool) + "\n";
  const auto arguments = nlohmann::json::parse(call.arguments, nullptr, /*allow_exceptions=*/false);
  if (arguments.is_discarded()) return text + call.arguments;
  AppendWords(arguments, text);
  return text;
}

MaybeText TextOf(const sessions::InputReceived& input) {
  switch (input.kind) {
    case sessions::InputKind::kMessage:
    case sessions::InputKind::kSteer:
    case sessions::InputKind::kInterrupt:
      return Text{"user", input.text};
    case sessions::InputKind::kSignal:
      return Text{"signal", input.text};
    case sessions::InputKind::kNotice:
      return Text{"notice", input.text};
    case sessions::InputKind::kReminder:
      return std::nullopt;
  }
  return std::nullopt;
}

MaybeText TextOf(const GoalSet& goal) { return Text{"goal", goal.text}; }
MaybeText TextOf(const GoalChanged& change) {
  if (change.claim.empty()) return std::nullopt;
  return Text{"goal", change.claim + ": " + change.evidence};
}
MaybeText TextOf(const NoteTaken& note) { return Text{"note", note.text}; }
MaybeText TextOf(const PlanSet& plan) {
  std::string text;
  for (const PlanItem& item : plan.items) text += item.state + ": " + item.text + "\n";
  return Text{"plan", text};
}
MaybeText TextOf(const CheckRan& check) { return Text{"check", check.command + "\n" + check.text}; }
template <class Other>
MaybeText TextOf(const Other&) {
  return std::nullopt;
}

MaybeText TextOf(const sessions::AgentEvent& event) {
  const auto body = Decode(event);
  if (!body.ok() || !body->has_value()) return std::nullopt;
  return std::visit([](const auto& known) { return TextOf(known); }, **body);
}

// Of an event that is no run of tokens; `call` decides how a call is put.
template <class CallText>
MaybeText TextOfEvent(const EventBody& body, CallText call) {
  if (const auto* input = std::get_if<sessions::InputReceived>(&body)) return TextOf(*input);
  if (const auto* intent = std::get_if<sessions::CallIntent>(&body)) return Text{"call", call(*intent)};
  if (const auto* outcome = std::get_if<sessions::CallOutcome>(&body)) return Text{"result", outcome->text};
  if (const auto* agent = std::get_if<sessions::AgentEvent>(&body)) return TextOf(*agent);
  return std::nullopt;
}

// The tokens of a turn as they come.
class TurnBuilder {
 public:
  void Take(const Event& event) {
    if (const auto* run = std::get_if<sessions::TokenRun>(&event.body)) {
      if (run->origin == sessions::TokenOrigin::kFed) return;
      if (first_ == 0) first_ = event.seq;
      last_ = event.seq;
      ids_.insert(ids_.end(), run->ids.begin(), run->ids.end());
    } else if (const auto* cut = std::get_if<sessions::TokensCut>(&event.body);
               cut != nullptr && first_ != 0) {
      last_ = event.seq;
      ids_.resize(ids_.size() - std::min(ids_.size(), static_cast<size_t>(std::max<int64_t>(cut->count, 0))));
    }
  }
  uint64_t first() const { return first_; }  // 0: no turn has begun
  uint64_t last() const { return last_; }
  const std::vector<int32_t>& ids() const { return ids_; }

 private:
  uint64_t first_ = 0;
  uint64_t last_ = 0;
  std::vector<int32_t> ids_;
};

// What ends a turn: something is fed, calls begin, the loop says so, or another window begins.
bool EndsTurn(const EventBody& body) {
  if (const auto* run = std::get_if<sessions::TokenRun>(&body)) {
    return run->origin == sessions::TokenOrigin::kFed;
  }
  return std::holds_alternative<sessions::CallIntent>(body) ||
         std::holds_alternative<sessions::TurnFinished>(body) ||
         std::holds_alternative<sessions::EpochStarted>(body);
}

class Gatherer {
 public:
  explicit Gatherer(const std::function<std::string(std::span<const int32_t>)>& said) : said_(said) {}

  void Take(const Event& event) {
    if (EndsTurn(event.body)) EndTurn(event.seq);
    turn_.Take(event);
    if (IsOfControlTool(event)) return;
    MaybeText text = TextOfEvent(event.body, WordsOf);
    if (!text || text->text.empty()) return;
    gathered_.documents.push_back({.seq = event.seq,
                                   .first = event.seq,
                                   .end = event.seq,
                                   .kind = std::move(text->kind),
                                   .text = std::move(text->text)});
  }

  GatheredHistory Finish() {
    gathered_.open_from = turn_.first();
    for (const auto& [call, seq] : open_) {
      if (gathered_.open_from == 0 || seq < gathered_.open_from) gathered_.open_from = seq;
    }
    std::sort(gathered_.documents.begin(), gathered_.documents.end(),
              [](const HistoryDocument& a, const HistoryDocument& b) { return a.seq < b.seq; });
    return std::move(gathered_);
  }

 private:
  void EndTurn(uint64_t end) {
    std::string text = turn_.ids().empty() ? std::string() : said_(turn_.ids());
    if (!text.empty()) {
      gathered_.documents.push_back(
          {.seq = turn_.last(), .first = turn_.first(), .end = end, .kind = "said", .text = std::move(text)});
    }
    turn_ = {};
  }

  // Such calls are no documents: a recall would find itself, and what the others change is an event.
  bool IsOfControlTool(const Event& event) {
    if (const auto* intent = std::get_if<sessions::CallIntent>(&event.body)) {
      if (!IsControlTool(intent->tool)) return false;
      open_[intent->call] = event.seq;
      return true;
    }
    const auto* outcome = std::get_if<sessions::CallOutcome>(&event.body);
    return outcome != nullptr && open_.erase(outcome->call) > 0;
  }

  const std::function<std::string(std::span<const int32_t>)>& said_;
  GatheredHistory gathered_;
  TurnBuilder turn_;
  std::map<std::string, uint64_t> open_;  // calls of control tools, by name
};

}  // namespace

std::vector<const Event*> LiveOf(std::span<const Event> events, const Rewinds& rewinds) {
  std::vector<const Event*> live;
  if (events.empty()) return live;
  std::vector<sessions::RewindPoint> points;
  for (const auto& [seq, to_seq] : rewinds) {
    if (to_seq < seq)
      points.push_back({.seq = seq, .to_seq = to_seq});  // any other is damage, told elsewhere
  }
  const uint64_t last = std::max(events.back().seq, rewinds.empty() ? 0 : rewinds.rbegin()->first);
  const std::vector<sessions::EventRange> ranges = sessions::LiveHistory(points, last);
  size_t at = 0;
  for (const Event& event : events) {
    while (at < ranges.size() && ranges[at].last < event.seq) ++at;
    if (at < ranges.size() && ranges[at].first <= event.seq) live.push_back(&event);
  }
  return live;
}

GatheredHistory GatherHistory(std::span<const Event* const> events,
                              const std::function<std::string(std::span<const int32_t>)>& said) {
  Gatherer gatherer(said);
  for (const Event* event : events) gatherer.Take(*event);
  return gatherer.Finish();
}

std::vector<int32_t> TurnOf(std::span<const Event* const> events) {
  TurnBuilder turn;
  for (const Event* event : events) turn.Take(*event);
  return turn.ids();
}

std::optional<std::string> FetchedText(const EventBody& body) {
  const auto as_written = [](const sessions::CallIntent& call) {
    return NameOf(call.tool) + " " + call.arguments;
  };
  MaybeText text = TextOfEvent(body, as_written);
  if (!text) return std::nullopt;
  return std::move(text->text);
}

}  // namespace holdfast::agent
