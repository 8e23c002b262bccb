// A history of a session for tests of what is folded from it: events with numbers and times, and the facts.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "agent/agent_event.h"
#include "agent/agent_facts.h"
#include "base/coding.h"
#include "base/hash.h"
#include "sessions/event.h"

namespace holdfast::agent {

inline base::Sha256Digest DigestOf(const std::string& text) { return base::Sha256Of(base::AsBytes(text)); }

// A profile with these tools, a window of 10,000 tokens and a reminder every 1,000.
inline ProfileSet ProfileWith(std::vector<std::string> tools) {
  return {
      .profile = "test@1", .tools = std::move(tools), .window_tokens_max = 10'000, .reminder_tokens = 1'000};
}

// One thread at a time.
class AgentHistory {
 public:
  // Appends, `after_ms` after the event before.
  void Add(sessions::EventBody body, int64_t after_ms = 0) {
    utc_ms_ += after_ms;
    events_.push_back({.seq = events_.size() + 1, .utc_ms = utc_ms_, .body = std::move(body)});
    facts_.Apply(events_.back());
  }
  void Put(const AgentBody& body, int64_t after_ms = 0) { Add(Encode(body), after_ms); }

  // Tokens at the end of the window.
  void Tokens(int64_t count, sessions::TokenOrigin origin = sessions::TokenOrigin::kSampled) {
    sessions::TokenRun run{.position = facts_.window_tokens(), .origin = origin};
    run.ids.assign(static_cast<size_t>(count), 7);
    Add(std::move(run));
  }
  // A new window with `count` tokens.
  void Epoch(int64_t count) {
    Add(sessions::EpochStarted{.epoch = facts_.epoch() + 1});
    Put(Opening{.texts = {"x"}});
    Tokens(count, sessions::TokenOrigin::kFed);
  }
  // A call from its intent to its outcome.
  void Call(const std::string& arguments, const std::string& text, const std::string& manifest = "",
            sessions::CallStatus status = sessions::CallStatus::kOk) {
    const std::string call = "c" + std::to_string(events_.size());
    Add(sessions::CallIntent{.call = call, .tool = "bash@2", .arguments = arguments});
    sessions::CallOutcome outcome{.call = call, .status = status, .text = text};
    if (!manifest.empty()) outcome.workspace_after = DigestOf(manifest);
    Add(std::move(outcome));
  }
  void Say(sessions::InputKind kind, const std::string& text = "") {
    Add(sessions::InputReceived{.kind = kind, .text = text});
  }
  void Turns(int count) {
    for (int i = 0; i < count; ++i) Add(sessions::TurnFinished{});
  }
  void State(sessions::SessionState state, const std::string& reason = "", int64_t after_ms = 0) {
    Add(sessions::StateChanged{.state = state, .reason = reason}, after_ms);
  }

  const AgentFacts& facts() const { return facts_; }
  const std::vector<sessions::Event>& events() const { return events_; }

 private:
  int64_t utc_ms_ = 1'000'000;
  std::vector<sessions::Event> events_;
  AgentFacts facts_;
};

}  // namespace holdfast::agent
