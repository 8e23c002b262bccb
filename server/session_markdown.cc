#include "server/session_markdown.h"

#include <algorithm>
#include <string_view>
#include <variant>

#include "agent/agent_event.h"
#include "server/event_proto.h"
#include "server/proto_value.h"

namespace holdfast::server {
namespace {

constexpr size_t kTextBytesMax = size_t{256} << 10;

// A fence that nothing in the text ends.
std::string Fenced(std::string_view text) {
  size_t longest = 2;
  size_t run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fence + "\n" + ValidText(text, kTextBytesMax) + "\n" + fence + "\n";
}

struct MarkdownWriter {
  const model::Tokenizer& tokenizer;
  std::string& out;

  template <class Body>
  void operator()(const Body&) const {}

  void Section(std::string_view title, std::string_view text) const {
    out += "\n## " + std::string(title) + "\n\n" + Fenced(text);
  }
  void operator()(const sessions::TokenRun& run) const {
    if (run.origin != sessions::TokenOrigin::kSampled) return;
    bool cut = false;
    Section("Model", TokenText(run.ids, tokenizer, kTokenTextBytesMax, &cut));
  }
  void operator()(const sessions::InputReceived& input) const {
    const bool by_person =
        input.kind == sessions::InputKind::kMessage || input.kind == sessions::InputKind::kSteer;
    if (by_person) Section("User", input.text);
  }
  void operator()(const sessions::CallIntent& intent) const {
    Section("Call " + ValidText(intent.call + ": " + intent.tool, 128), intent.arguments);
  }
  void operator()(const sessions::CallOutcome& outcome) const {
    Section("Result of " + ValidText(outcome.call, 128), outcome.text);
  }
  void operator()(const sessions::StateChanged& changed) const {
    if (changed.state == sessions::SessionState::kPaused) Section("Paused", changed.reason);
  }
  void operator()(const sessions::Rewound& rewound) const {
    out += "\n## Back to event " + std::to_string(rewound.to_seq) + "\n";
  }
  void operator()(const sessions::AgentEvent& event) const {
    const auto body = agent::Decode(event);
    if (body.ok() && body->has_value()) std::visit(*this, **body);
  }
  void operator()(const agent::GoalSet& goal) const { Section("Goal", goal.text); }
  void operator()(const agent::GoalChanged& changed) const {
    out += "\n## The goal is " + std::string(agent::GoalStateName(changed.state)) + "\n";
  }
  void operator()(const agent::NoteTaken& note) const { Section("Note", note.text); }
  void operator()(const agent::CheckRan& ran) const {
    Section(ran.passed ? "Check passed" : "Check failed", ran.command + "\n" + ran.text);
  }
};

}  // namespace

void AppendMarkdown(const sessions::Event& event, const model::Tokenizer& tokenizer, std::string& out) {
  std::visit(MarkdownWriter{.tokenizer = tokenizer, .out = out}, event.body);
}

void AddAllNamedObjects(const sessions::EventBody& body, sessions::NamedObjects& named) {
  sessions::AddNamedObjects(body, named);
  const auto* agent = std::get_if<sessions::AgentEvent>(&body);
  if (agent == nullptr) return;
  const auto decoded = agent::Decode(*agent);
  if (!decoded.ok() || !decoded->has_value()) return;
  const auto* check = std::get_if<agent::CheckRan>(&**decoded);
  if (check == nullptr) return;
  named.blobs.insert(named.blobs.end(), check->blobs.begin(), check->blobs.end());
  if (check->manifest.has_value()) named.manifests.push_back(*check->manifest);
}

}  // namespace holdfast::server
