#include "model/chat/automaton.h"

#include <utility>

namespace holdfast::model {
namespace {

const LiteralSet& Flags() {
  static const LiteralSet flags({"false\">", "true\">"});
  return flags;
}
constexpr uint32_t kTrueFlag = 1;  // its index in Flags()

void Enter(TurnState* state, Phase phase) {
  state->phase = phase;
  state->taken = 0;
}

// How much of `</` the bytes of a value end with.
uint8_t EndTagTaken(uint8_t taken, uint8_t byte) {
  if (byte == '<') return 1;
  return taken == 1 && byte == '/' ? 2 : 0;
}

std::string Text(std::string_view a, std::string_view b) { return std::string(a) + std::string(b); }

}  // namespace

Automaton::Automaton(const ChatFormat& format, const ToolSet* tools)
    : tools_(tools),
      json_(tools == nullptr ? std::nullopt : std::optional<JsonMachine>(*tools)),
      dsml_(format.dsml),
      parameter_(format.parameter),
      block_open_(Text(format.block, ">\n<")),
      invoke_open_(Text(format.invoke, " name=\"")),
      parameter_open_(Text(format.parameter, " name=\"")),
      parameter_close_(Text(format.parameter, ">\n")),
      invoke_close_(Text(format.invoke, ">\n")),
      block_close_(Text(format.block, ">")) {}

TurnState Automaton::Start(ThinkingMode mode) {
  return {.phase = mode == ThinkingMode::kThinking ? Phase::kReasoning : Phase::kContent};
}

bool Automaton::Step(TurnState* state, uint8_t byte) const {
  switch (state->phase) {
    case Phase::kReasoning:
      return StepFreeText(state, byte);
    case Phase::kContent:
      return StepContent(state, byte);
    case Phase::kBlockOpen:
      return StepFixed(state, block_open_, byte, Phase::kBlockOpen);
    case Phase::kInvokeOpen:
      return StepFixed(state, invoke_open_, byte, Phase::kToolName);
    case Phase::kToolName:
      return StepToolName(state, byte);
    case Phase::kToolNameEnd:
      return StepFixed(state, ">\n", byte, Phase::kBody);
    case Phase::kBody:
      return StepBody(state, byte);
    case Phase::kParameterOpen:
      return StepFixed(state, parameter_open_, byte, Phase::kParameterName);
    case Phase::kParameterName:
      return StepParameterName(state, byte);
    case Phase::kParameterNameEnd:
      return StepFixed(state, " string=\"", byte, Phase::kFlag);
    case Phase::kFlag:
      return StepFlag(state, byte);
    case Phase::kValue:
      return StepValue(state, byte);
    case Phase::kParameterClose:
      return StepParameterClose(state, byte);
    case Phase::kInvokeClose:
      return StepFixed(state, invoke_close_, byte, Phase::kAfterInvoke);
    case Phase::kAfterInvoke:
      return StepAfterInvoke(state, byte);
    case Phase::kBlockClose:
      return StepFixed(state, block_close_, byte, Phase::kAwaitEos);
    case Phase::kAwaitEos:
    case Phase::kDone:
      break;
  }
  return false;
}

bool Automaton::Step(TurnState* state, Control control) const {
  if (control == Control::kDsml) return TakeDsml(state);
  // Open text may break off within a character; closed text may not.
  if (!is_open() && state->utf8 != Utf8State::kClean) return false;
  if (control == Control::kEndThink) {
    if (state->phase != Phase::kReasoning) return false;
    Enter(state, Phase::kContent);
    state->utf8 = Utf8State::kClean;
    return true;
  }
  if (state->phase != Phase::kContent && state->phase != Phase::kAwaitEos) return false;
  Enter(state, Phase::kDone);
  return true;
}

bool Automaton::IsFreeText(const TurnState& state) const {
  if (state.phase == Phase::kReasoning || state.phase == Phase::kContent) return true;
  if (state.phase != Phase::kValue) return false;
  return is_open() || (state.is_text && tools_->tool(state.tool).parameters[state.parameter].texts.empty());
}

size_t Automaton::HeldBytes(const TurnState& state) const {
  if (state.phase == Phase::kContent || state.phase == Phase::kValue) return state.taken;
  if (state.phase == Phase::kParameterClose) return 2 + dsml_.size() + state.taken;
  return 0;
}

bool Automaton::StepFreeText(TurnState* state, uint8_t byte) const {
  if (is_open()) return true;
  state->utf8 = Utf8Step(state->utf8, byte);
  return state->utf8 != Utf8State::kBad;
}

bool Automaton::StepContent(TurnState* state, uint8_t byte) const {
  constexpr uint8_t kTwoNewlines = 2;
  if (byte == '\n') {
    state->taken = state->taken == 0 || state->taken > kTwoNewlines ? 1 : kTwoNewlines;
  } else {
    state->taken = byte == '<' && state->taken == kTwoNewlines ? kTwoNewlines + 1 : 0;
  }
  return StepFreeText(state, byte);
}

// Takes the next byte of `text`; once it is all there, enters `next` when that is another phase.
bool Automaton::StepFixed(TurnState* state, std::string_view text, uint8_t byte, Phase next) const {
  if (state->taken >= text.size() || static_cast<uint8_t>(text[state->taken]) != byte) return false;
  ++state->taken;
  if (state->taken < text.size() || next == state->phase) return true;
  Enter(state, next);
  if (next == Phase::kToolName && !is_open()) state->cursor = tools_->names().Begin();
  if (next == Phase::kParameterName && !is_open()) state->cursor = tools_->tool(state->tool).names.Begin();
  if (next == Phase::kFlag) state->cursor = Flags().Begin();
  if (next == Phase::kBody) {
    state->is_first = true;
    state->is_empty = false;
    state->used.reset();
  }
  return true;
}

bool Automaton::StepToolName(TurnState* state, uint8_t byte) const {
  if (byte == '"') {
    if (!is_open() && !tools_->names().IsComplete(state->cursor)) return false;
    state->tool = state->cursor.lo;
    Enter(state, Phase::kToolNameEnd);
    return true;
  }
  if (is_open()) return true;
  state->cursor = tools_->names().Step(state->cursor, byte);
  return state->cursor.lo < state->cursor.hi;
}

bool Automaton::ParametersRemain(const TurnState& state) const {
  return is_open() || AnyUnused(tools_->tool(state.tool).names.Begin(), state.used);
}

bool Automaton::RequiredAreThere(const TurnState& state) const {
  return is_open() || (tools_->tool(state.tool).required & ~state.used).none();
}

// `taken` counts `</` here.
bool Automaton::StepBody(TurnState* state, uint8_t byte) const {
  if (state->taken == 0 && byte == '\n') {
    if (!state->is_first || state->is_empty) return false;
    state->is_empty = true;
    return RequiredAreThere(*state);
  }
  if (state->taken == 0 && byte == '<') {
    state->taken = 1;
    // A call without parameters has its empty line first.
    return !state->is_first || state->is_empty || ParametersRemain(*state);
  }
  if (state->taken == 1 && byte == '/') {
    state->taken = 2;
    return is_open() || (RequiredAreThere(*state) && (!state->is_first || state->is_empty));
  }
  return false;
}

bool Automaton::TakeDsmlInBody(TurnState* state) const {
  if (state->taken == 2) {
    Enter(state, Phase::kInvokeClose);
    return true;
  }
  if (state->taken != 1 || !ParametersRemain(*state)) return false;
  if (state->is_empty && !is_open()) return false;
  Enter(state, Phase::kParameterOpen);
  return true;
}

bool Automaton::StepParameterName(TurnState* state, uint8_t byte) const {
  if (is_open()) {
    if (byte == '"') Enter(state, Phase::kParameterNameEnd);
    return true;
  }
  const LiteralSet& names = tools_->tool(state->tool).names;
  if (byte == '"') {
    if (!names.IsComplete(state->cursor) || state->used[state->cursor.lo]) return false;
    state->parameter = state->cursor.lo;
    state->used.set(state->parameter);
    Enter(state, Phase::kParameterNameEnd);
    return true;
  }
  state->cursor = names.Step(state->cursor, byte);
  return AnyUnused(state->cursor, state->used);
}

bool Automaton::StepFlag(TurnState* state, uint8_t byte) const {
  const ToolParameter* parameter =
      is_open() ? nullptr : &tools_->tool(state->tool).parameters[state->parameter];
  state->cursor = Flags().Step(state->cursor, byte);
  if (state->cursor.lo >= state->cursor.hi) return false;
  state->is_text = state->cursor.lo == kTrueFlag;
  if (parameter != nullptr && !(state->is_text ? parameter->takes_text : parameter->takes_json)) return false;
  if (!Flags().IsComplete(state->cursor)) return true;
  Enter(state, Phase::kValue);
  if (parameter == nullptr) return true;
  state->cursor = parameter->texts.Begin();
  if (!state->is_text) state->json = JsonMachine::Start(parameter->json);
  return true;
}

bool Automaton::StepValue(TurnState* state, uint8_t byte) const {
  if (!IsFreeText(*state)) return StepTypedValue(state, byte);
  state->taken = EndTagTaken(state->taken, byte);
  return StepFreeText(state, byte);
}

// A value that is followed byte by byte: JSON, or one of the texts of an enumeration.
bool Automaton::StepTypedValue(TurnState* state, uint8_t byte) const {
  if (state->taken > 0) return byte == '/' && state->taken++ == 1;
  if (state->is_text) {
    const LiteralSet& texts = tools_->tool(state->tool).parameters[state->parameter].texts;
    if (byte == '<' && texts.IsComplete(state->cursor)) {
      state->taken = 1;
      return true;
    }
    state->cursor = texts.Step(state->cursor, byte);
    return state->cursor.lo < state->cursor.hi;
  }
  if (byte == '<' && json_->IsComplete(state->json)) {
    state->taken = 1;
    return true;
  }
  return json_->Step(&state->json, byte);
}

bool Automaton::TakeDsmlInValue(TurnState* state) const {
  if (state->taken == 2) {
    Enter(state, Phase::kParameterClose);
    return true;
  }
  state->taken = 0;  // open: the token is content
  return is_open();
}

// Open, an end tag of another name is content after all.
bool Automaton::StepParameterClose(TurnState* state, uint8_t byte) const {
  if (is_open() && state->taken < parameter_.size() &&
      static_cast<uint8_t>(parameter_close_[state->taken]) != byte) {
    state->phase = Phase::kValue;
    state->taken = EndTagTaken(0, byte);
    return true;
  }
  if (!StepFixed(state, parameter_close_, byte, Phase::kParameterClose)) return false;
  if (state->taken == parameter_close_.size()) {
    Enter(state, Phase::kBody);
    state->is_first = false;
  }
  return true;
}

bool Automaton::StepAfterInvoke(TurnState* state, uint8_t byte) const {
  if ((state->taken == 0 && byte == '<') || (state->taken == 1 && byte == '/')) {
    ++state->taken;
    return true;
  }
  return false;
}

bool Automaton::TakeDsml(TurnState* state) const {
  switch (state->phase) {
    case Phase::kContent:
      if (state->taken != 3 || (!is_open() && tools_->names().empty())) return false;
      Enter(state, Phase::kBlockOpen);
      return true;
    case Phase::kBlockOpen:
      if (state->taken != block_open_.size()) return false;
      Enter(state, Phase::kInvokeOpen);
      return true;
    case Phase::kBody:
      return TakeDsmlInBody(state);
    case Phase::kValue:
      return TakeDsmlInValue(state);
    case Phase::kParameterClose:
      if (!is_open() || state->taken >= parameter_.size()) return false;
      Enter(state, Phase::kValue);  // `</` DSML DSML: the first was content
      return true;
    case Phase::kAfterInvoke:
      if (state->taken == 0) return false;
      Enter(state, state->taken == 1 ? Phase::kInvokeOpen : Phase::kBlockClose);
      return true;
    default:
      return false;
  }
}

}  // namespace holdfast::model
