#include <algorithm>
#include <utility>

#include "model/chat/automaton.h"
#include "model/chat/control_ids.h"
#include "model/chat/format.h"
#include "model/chat_stream.h"
#include "model/text/utf8.h"

namespace holdfast::model {
namespace {

using Kind = ChatEvent::Kind;

struct ParsedParameter {
  std::string name;
  std::string value;
  bool is_string = false;
};

struct ParsedCall {
  std::string name;
  std::vector<ParsedParameter> parameters;
  bool is_whole = false;
};

// Control tokens of the format that never stand in a turn.
std::vector<int32_t> ForeignControls(const Tokenizer& tokenizer, const ChatFormat& format) {
  std::vector<std::string_view> tokens = {format.bos, format.user, format.assistant, format.think,
                                          format.latest_reminder};
  for (const TaskToken& task : format.tasks) tokens.push_back(task.token);
  std::vector<int32_t> ids;
  for (const std::string_view token : tokens) {
    if (const std::optional<int32_t> id = tokenizer.FindAdded(token)) ids.push_back(*id);
  }
  return ids;
}

Kind KindOfText(Phase phase) {
  if (phase == Phase::kReasoning) return Kind::kReasoning;
  return phase == Phase::kContent ? Kind::kText : Kind::kValue;
}

bool HoldsText(Phase phase) {
  return phase == Phase::kReasoning || phase == Phase::kContent || phase == Phase::kValue ||
         phase == Phase::kParameterClose;
}

Json CallJson(const ParsedCall& call) {
  std::string arguments = "{";
  for (const ParsedParameter& parameter : call.parameters) {
    if (arguments.size() > 1) arguments += ", ";
    arguments += JsonQuote(parameter.name) + ": ";
    arguments += parameter.is_string ? JsonQuote(parameter.value) : parameter.value;
  }
  Json function = Json::Object();
  function.Set("name", Json::String(call.name));
  function.Set("arguments", Json::String(arguments + "}"));
  Json json = Json::Object();
  json.Set("type", Json::String("function"));
  json.Set("function", std::move(function));
  return json;
}

}  // namespace

struct ChatStreamParser::Impl {
  Impl(const Tokenizer& tokenizer_in, const ChatFormat& format_in, const ControlIds& controls_in,
       ThinkingMode mode)
      : tokenizer(tokenizer_in),
        format(format_in),
        controls(controls_in),
        foreign(ForeignControls(tokenizer, format)),
        automaton(format, nullptr),
        state(Automaton::Start(mode)) {}

  void Feed(int32_t id);
  void FeedByte(uint8_t byte);
  void FeedControl(Control control);
  void AfterByte(Phase before, size_t held, uint8_t byte);
  void StartParameter();
  void Flush(Phase phase, size_t held);
  void EndText(Phase phase, size_t held);
  void Emit(Kind kind, std::string text) { out->push_back({.kind = kind, .text = std::move(text)}); }
  void Fail(std::string what) {
    malformed = true;
    Emit(Kind::kMalformed, std::move(what));
  }

  const Tokenizer& tokenizer;
  const ChatFormat& format;
  const ControlIds controls;
  const std::vector<int32_t> foreign;
  const Automaton automaton;

  TurnState state;
  bool malformed = false;
  size_t tokens = 0;
  size_t block_start = 0;  // the token with the last `<` that may open a block
  bool has_block = false;
  std::string pending;  // bytes of text not given out yet
  std::string name;     // of the tool or parameter, so far
  Utf8Stream utf8;
  std::vector<ChatEvent>* out = nullptr;  // during Feed

  std::string reasoning, content;
  std::vector<ParsedCall> calls;
};

void ChatStreamParser::Impl::Feed(int32_t id) {
  const std::string_view bytes = tokenizer.Bytes(id);
  const auto control = std::find(controls.ids.begin(), controls.ids.end(), id);
  ++tokens;
  if (bytes.empty()) {
    Fail("id " + std::to_string(id) + " has no token");
  } else if (control != controls.ids.end()) {
    FeedControl(static_cast<Control>(control - controls.ids.begin()));
  } else if (state.phase != Phase::kValue && std::count(foreign.begin(), foreign.end(), id) > 0) {
    Fail("control token " + std::string(bytes) + " within the turn");
  } else {
    for (const char byte : bytes) {
      if (!malformed) FeedByte(static_cast<uint8_t>(byte));
    }
  }
  if (!malformed && HoldsText(state.phase)) Flush(state.phase, automaton.HeldBytes(state));
}

void ChatStreamParser::Impl::FeedControl(Control control) {
  const Phase before = state.phase;
  const size_t held = automaton.HeldBytes(state);
  if (control == Control::kEos && before == Phase::kValue) return Fail("the turn ends within a tool call");
  if (!automaton.Step(&state, control)) {
    return Fail("control token " + std::string(tokenizer.Bytes(controls.of(control))) + " out of place");
  }
  switch (control) {
    case Control::kDsml:
      if (before == Phase::kContent) {
        has_block = true;
        EndText(before, held);
      } else if (HoldsText(before)) {
        pending += format.dsml;
      }
      break;
    case Control::kEndThink:
      EndText(before, 0);
      break;
    case Control::kEos:
      EndText(before, 0);
      Emit(Kind::kTurnEnd, "");
      break;
  }
}

void ChatStreamParser::Impl::FeedByte(uint8_t byte) {
  const Phase before = state.phase;
  const size_t held = automaton.HeldBytes(state);
  if (!automaton.Step(&state, byte)) return Fail("text out of place in a tool block");
  if (state.phase == Phase::kContent && automaton.HeldBytes(state) == 3) block_start = tokens - 1;
  AfterByte(before, held, byte);
}

// What a byte brought, from where it led. `held` is of before it.
void ChatStreamParser::Impl::AfterByte(Phase before, size_t held, uint8_t byte) {
  const Phase after = state.phase;
  if (HoldsText(before) && HoldsText(after)) {
    pending.push_back(static_cast<char>(byte));
  } else if (before == after && (after == Phase::kToolName || after == Phase::kParameterName)) {
    name.push_back(static_cast<char>(byte));
  } else if (before == Phase::kToolNameEnd && after == Phase::kBody) {
    calls.push_back({.name = ReplaceInvalidUtf8(std::exchange(name, {}))});
    Emit(Kind::kCallStart, calls.back().name);
  } else if (before == Phase::kFlag && after == Phase::kValue) {
    StartParameter();
  } else if (before == Phase::kParameterClose && after == Phase::kBody) {
    EndText(before, held);
    Emit(Kind::kParameterEnd, "");
  } else if (before == Phase::kInvokeClose && after == Phase::kAfterInvoke) {
    calls.back().is_whole = true;
    Emit(Kind::kCallEnd, "");
  }
}

void ChatStreamParser::Impl::StartParameter() {
  std::vector<ParsedParameter>& parameters = calls.back().parameters;
  ParsedParameter parameter = {.name = ReplaceInvalidUtf8(std::exchange(name, {})),
                               .is_string = state.is_text};
  for (const ParsedParameter& other : parameters) {
    if (other.name == parameter.name) return Fail("parameter " + JsonQuote(other.name) + " occurs twice");
  }
  out->push_back({.kind = Kind::kParameterStart, .is_string = parameter.is_string, .text = parameter.name});
  parameters.push_back(std::move(parameter));
}

// Gives out the pending text, all but its last `held` bytes.
void ChatStreamParser::Impl::Flush(Phase phase, size_t held) {
  std::string text;
  utf8.Feed(std::string_view(pending).substr(0, pending.size() - held), &text);
  pending.erase(0, pending.size() - held);
  if (text.empty()) return;
  const Kind kind = KindOfText(phase);
  std::string& whole = kind == Kind::kReasoning ? reasoning
                       : kind == Kind::kText    ? content
                                                : calls.back().parameters.back().value;
  whole += text;
  if (!out->empty() && out->back().kind == kind) {
    out->back().text += text;  // of the same token
  } else {
    Emit(kind, std::move(text));
  }
}

// Gives out the pending text but for its last `held` bytes, which were a tag's.
void ChatStreamParser::Impl::EndText(Phase phase, size_t held) {
  pending.resize(pending.size() - held);
  Flush(phase, 0);
  std::string rest;
  utf8.Finish(&rest);
  if (rest.empty()) return;
  pending = rest;
  Flush(phase, 0);
}

ChatStreamParser::ChatStreamParser(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatStreamParser::~ChatStreamParser() = default;

base::StatusOr<std::unique_ptr<ChatStreamParser>> ChatStreamParser::Make(const Tokenizer& tokenizer,
                                                                         ThinkingMode mode) {
  const ChatFormat& format = FormatOf(ChatVersion::kV4Preview);
  HF_ASSIGN_OR_RETURN(const ControlIds controls, ControlIds::Find(tokenizer, format));
  return std::unique_ptr<ChatStreamParser>(
      new ChatStreamParser(std::make_unique<Impl>(tokenizer, format, controls, mode)));
}

void ChatStreamParser::Feed(int32_t id, std::vector<ChatEvent>* events) {
  if (impl_->malformed) return;
  std::vector<ChatEvent> of_token;
  impl_->out = &of_token;
  impl_->Feed(id);
  impl_->out = nullptr;
  std::move(of_token.begin(), of_token.end(), std::back_inserter(*events));
}

bool ChatStreamParser::IsComplete() const {
  return !impl_->malformed && (impl_->state.phase == Phase::kDone || impl_->state.phase == Phase::kAwaitEos);
}

bool ChatStreamParser::IsMalformed() const { return impl_->malformed; }

size_t ChatStreamParser::TokensBeforeBlock() const {
  return impl_->has_block ? impl_->block_start : impl_->tokens;
}

Json ChatStreamParser::Message() const {
  Json calls = Json::Array();
  for (const ParsedCall& call : impl_->calls) {
    if (call.is_whole) calls.Append(CallJson(call));
  }
  Json message = Json::Object();
  message.Set("role", Json::String("assistant"));
  message.Set("content", Json::String(impl_->content));
  message.Set("reasoning_content", Json::String(impl_->reasoning));
  message.Set("tool_calls", std::move(calls));
  return message;
}

}  // namespace holdfast::model
