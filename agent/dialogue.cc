#include "agent/dialogue.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/coding.h"
#include "base/hash.h"
#include "model/chat_stream.h"

namespace holdfast::agent {
namespace {

using model::Json;

constexpr std::string_view kEndThink = "</think>";
constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";

base::StatusOr<int32_t> ControlId(const model::Tokenizer& tokenizer, std::string_view token) {
  const std::optional<int32_t> id = tokenizer.FindAdded(token);
  if (!id.has_value()) {
    return base::FailedPrecondition("the tokenizer has no control token '" + std::string(token) + "'");
  }
  return *id;
}

Json Message(std::string_view role, std::string_view content) {
  Json message = Json::Object();
  message.Set("role", Json::String(role));
  message.Set("content", Json::String(content));
  return message;
}

class GrammarConstraint final : public sessions::TokenConstraint {
 public:
  GrammarConstraint(model::Grammar& grammar, model::ThinkingMode mode, std::span<const int32_t> begun)
      : turn_(grammar, mode) {
    // What was sampled under the grammar is accepted again; if it was not, the next Accept says so.
    for (const int32_t id : begun) {
      if (!turn_.Accept(id).ok()) break;
    }
  }
  const model::TokenMask* Mask() override { return &turn_.Mask(); }
  base::Status Accept(int32_t id) override { return turn_.Accept(id); }
  bool IsDone() const override { return turn_.IsDone(); }

 private:
  model::GrammarTurn turn_;
};

}  // namespace

Dialogue::Dialogue(const model::Tokenizer& tokenizer, DialogueOptions options)
    : tokenizer_(tokenizer), options_(std::move(options)) {}

base::StatusOr<std::unique_ptr<Dialogue>> Dialogue::Make(const model::Tokenizer& tokenizer,
                                                         DialogueOptions options) {
  auto dialogue = std::unique_ptr<Dialogue>(new Dialogue(tokenizer, std::move(options)));
  base::Sha256 hash;
  const std::string settings = std::to_string(static_cast<int>(dialogue->options_.mode)) + " " +
                               std::to_string(static_cast<int>(dialogue->options_.version)) + "\n";
  hash.Update(base::AsBytes(settings));
  for (const std::string& line : dialogue->options_.tools) {
    HF_ASSIGN_OR_RETURN(Json function, Json::Parse(line));
    Json tool = Json::Object();
    tool.Set("type", Json::String("function"));
    tool.Set("function", std::move(function));
    dialogue->tools_.Append(std::move(tool));
    hash.Update(base::AsBytes(line));
    hash.Update(base::AsBytes("\n"));
  }
  dialogue->grammar_hash_ = hash.Finish();
  HF_ASSIGN_OR_RETURN(dialogue->end_think_, ControlId(tokenizer, kEndThink));
  HF_ASSIGN_OR_RETURN(dialogue->eos_, ControlId(tokenizer, kEos));
  HF_ASSIGN_OR_RETURN(dialogue->vocabulary_, model::GrammarVocabulary::Make(tokenizer));
  HF_ASSIGN_OR_RETURN(dialogue->grammar_, model::Grammar::Make(*dialogue->vocabulary_, dialogue->tools_));
  // Two messages with nothing in common tell where what is common ends.
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> a, dialogue->First({{{.text = "a"}}}));
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> b, dialogue->First({{{.text = "b"}}}));
  const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  dialogue->prefix_tokens_ = differ.first - a.begin();
  return dialogue;
}

base::StatusOr<std::vector<int32_t>> Dialogue::Render(Json messages, std::span<const Said> said,
                                                      bool first) const {
  for (const Said& one : said) {
    if (one.kind == Said::Kind::kReminder) messages.Append(Message("latest_reminder", one.text));
  }
  for (const Said& one : said) {
    if (one.kind == Said::Kind::kReminder) continue;
    messages.Append(Message(one.kind == Said::Kind::kUser ? "user" : "tool", one.text));
  }
  return model::RenderIds(messages,
                          {.mode = options_.mode,
                           .version = options_.version,
                           .drop_thinking = false,
                           .add_bos = first,
                           .effort = first ? options_.effort : std::string()},
                          tokenizer_);
}

base::StatusOr<std::vector<int32_t>> Dialogue::First(std::span<const Said> said) const {
  Json messages = Json::Array();
  Json system = Message("system", options_.system);
  if (!tools_.items().empty()) system.Set("tools", tools_);
  messages.Append(std::move(system));
  return Render(std::move(messages), said, /*first=*/true);
}

base::StatusOr<std::vector<int32_t>> Dialogue::Next(std::span<const Said> said) const {
  return Render(Json::Array(), said, /*first=*/false);
}

Turn Dialogue::Read(std::span<const int32_t> ids) const {
  auto parser = model::ChatStreamParser::Make(tokenizer_, options_.mode);
  HF_CHECK(parser.ok());  // Make found the control tokens
  std::vector<model::ChatEvent> events;
  for (const int32_t id : ids) (*parser)->Feed(id, &events);
  const Json message = (*parser)->Message();
  const auto text = [&message](std::string_view key) {
    const Json* value = message.Find(key);
    return value != nullptr && value->is_string() ? value->text() : std::string();
  };
  Turn turn{.complete = !ids.empty() && ids.back() == eos_ && (*parser)->IsComplete(),
            .malformed = (*parser)->IsMalformed(),
            .text = text("content"),
            .reasoning = text("reasoning_content")};
  const Json* calls = message.Find("tool_calls");
  if (calls == nullptr || !calls->is_array() || turn.malformed) return turn;
  for (const Json& call : calls->items()) {
    const Json* function = call.Find("function");
    if (function == nullptr) continue;
    turn.calls.push_back(
        {.tool = function->Find("name")->text(), .arguments = function->Find("arguments")->text()});
  }
  return turn;
}

Closing Dialogue::Close(std::span<const int32_t> ids) const {
  auto parser = model::ChatStreamParser::Make(tokenizer_, options_.mode);
  HF_CHECK(parser.ok());
  std::vector<model::ChatEvent> events;
  for (const int32_t id : ids) (*parser)->Feed(id, &events);
  if (!ids.empty() && ids.back() == eos_ && (*parser)->IsComplete()) return {};
  const size_t kept = (*parser)->TokensBeforeBlock();
  Closing closing{.cut = static_cast<int64_t>(ids.size() - kept)};
  const auto rest = ids.first(kept);
  const bool thinks = options_.mode == model::ThinkingMode::kThinking &&
                      std::find(rest.begin(), rest.end(), end_think_) == rest.end();
  if (thinks) closing.forced.push_back(end_think_);
  closing.forced.push_back(eos_);
  return closing;
}

std::unique_ptr<sessions::TokenConstraint> Dialogue::Constrain(std::span<const int32_t> begun) const {
  return std::make_unique<GrammarConstraint>(*grammar_, options_.mode, begun);
}

}  // namespace holdfast::agent
