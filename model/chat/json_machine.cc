#include "model/chat/json_machine.h"

namespace holdfast::model {
namespace {

using Mode = JsonState::Mode;

// Digits of the integer part, of the fraction, of the exponent.
constexpr uint8_t kMaxIntegerDigits = 18, kMaxFractionDigits = 17, kMaxExponentDigits = 2;

const LiteralSet& Words() {
  static const LiteralSet words({"false", "null", "true"});
  return words;
}

bool IsDigit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

// After `\u`: 0, 0, 0 or 1, and a hex digit: the control characters, all that json.dumps escapes so.
bool IsEscapeByte(uint8_t taken, uint8_t byte) {
  switch (taken) {
    case 1:
      return std::string_view("\"\\nrtbfu").find(static_cast<char>(byte)) != std::string_view::npos;
    case 2:
    case 3:
      return byte == '0';
    case 4:
      return byte == '0' || byte == '1';
    default:
      return IsDigit(byte) || (byte >= 'a' && byte <= 'f');
  }
}

bool IsWholeNumber(Mode mode) {
  return mode == Mode::kZero || mode == Mode::kInteger || mode == Mode::kFraction ||
         mode == Mode::kExponentDigits;
}

}  // namespace

StringStep StepString(StringState* state, uint8_t byte) {
  if (state->escape > 0) {
    if (!IsEscapeByte(state->escape, byte)) return StringStep::kBad;
    const bool ends = state->escape == 5 || (state->escape == 1 && byte != 'u');
    state->escape = ends ? 0 : static_cast<uint8_t>(state->escape + 1);
    return StringStep::kInside;
  }
  if (state->utf8 == Utf8State::kClean) {
    if (byte == '"') return StringStep::kEnd;
    if (byte < 0x20) return StringStep::kBad;
    if (byte == '\\') state->escape = 1;
  }
  state->utf8 = Utf8Step(state->utf8, byte);
  return state->utf8 == Utf8State::kBad ? StringStep::kBad : StringStep::kInside;
}

bool AnyUnused(LiteralSet::Cursor cursor, const MemberSet& used) {
  for (uint32_t i = cursor.lo; i < cursor.hi; ++i) {
    if (!used[i]) return true;
  }
  return false;
}

bool JsonMachine::Step(JsonState* state, uint8_t byte) const {
  switch (state->mode) {
    case Mode::kValue:
      return BeginValue(state, byte);
    case Mode::kLiteral:
      return StepLiteral(state, tools_.node(state->node).literals, byte);
    case Mode::kWord:
      return StepLiteral(state, Words(), byte);
    case Mode::kMinus:
    case Mode::kMinusZero:
    case Mode::kZero:
    case Mode::kInteger:
    case Mode::kPoint:
    case Mode::kFraction:
    case Mode::kExponent:
    case Mode::kExponentSign:
    case Mode::kExponentDigits:
      return StepNumber(state, byte);
    case Mode::kString: {
      const StringStep step = StepString(&state->string, byte);
      if (step == StringStep::kEnd) state->mode = Mode::kAfter;
      return step != StringStep::kBad;
    }
    default:
      return StepBracket(state, byte);
  }
}

bool JsonMachine::IsComplete(const JsonState& state) const {
  if (state.depth > 0) return false;
  if (state.mode == Mode::kLiteral) return tools_.node(state.node).literals.IsComplete(state.cursor);
  if (state.mode == Mode::kWord) return Words().IsComplete(state.cursor);
  return state.mode == Mode::kAfter || IsWholeNumber(state.mode);
}

bool JsonMachine::BeginValue(JsonState* state, uint8_t byte) const {
  const SchemaNode& node = tools_.node(state->node);
  const auto permits = [&](uint8_t kinds) { return (node.kinds & kinds) != 0; };
  state->cursor = node.literals.Step(node.literals.Begin(), byte);
  if (state->cursor.lo < state->cursor.hi) {
    state->mode = Mode::kLiteral;
    return true;
  }
  state->string = {};
  state->digits = 1;
  state->cursor = Words().Step(Words().Begin(), byte);
  switch (byte) {
    case '"':
      state->mode = Mode::kString;
      return permits(kStringKind);
    case '{':
      return permits(kObjectKind) && BeginObject(state, node);
    case '[':
      return permits(kArrayKind) && BeginArray(state);
    case 't':
    case 'f':
      state->mode = Mode::kWord;
      return permits(kBoolKind);
    case 'n':
      state->mode = Mode::kWord;
      return permits(kNullKind);
    case '-':
      state->mode = Mode::kMinus;
      return permits(kIntegerKind | kNumberKind);
    default:
      state->mode = byte == '0' ? Mode::kZero : Mode::kInteger;
      return IsDigit(byte) && permits(kIntegerKind | kNumberKind);
  }
}

bool JsonMachine::BeginObject(JsonState* state, const SchemaNode& node) const {
  if (state->depth + node.object_depth > kMaxJsonDepth) return false;
  JsonState::Frame& frame = state->frames[state->depth++];
  frame = {.node = state->node, .is_object = true};
  // A member that has no room for its least value counts as used; none of these is required.
  for (size_t i = 0; i < node.members.size(); ++i) {
    frame.used[i] = state->depth + tools_.node(node.members[i]).min_depth > kMaxJsonDepth;
  }
  state->mode = Mode::kObjectOpen;
  return true;
}

bool JsonMachine::BeginArray(JsonState* state) const {
  if (state->depth + 1 > kMaxJsonDepth) return false;
  state->frames[state->depth++] = {.node = state->node, .is_object = false};
  state->mode = Mode::kArrayOpen;
  return true;
}

bool JsonMachine::StepLiteral(JsonState* state, const LiteralSet& set, uint8_t byte) const {
  const LiteralSet::Cursor next = set.Step(state->cursor, byte);
  if (next.lo < next.hi) {
    state->cursor = next;
    return true;
  }
  return set.IsComplete(state->cursor) && EndScalar(state, byte);
}

bool JsonMachine::StepNumber(JsonState* state, uint8_t byte) const {
  const bool may_be_fraction = (tools_.node(state->node).kinds & kNumberKind) != 0;
  const auto go = [&](Mode mode) {
    state->digits = mode == state->mode ? static_cast<uint8_t>(state->digits + 1) : 1;
    state->mode = mode;
    return true;
  };
  const bool has_point = byte == '.' && may_be_fraction, has_exponent = byte == 'e' && may_be_fraction;
  switch (state->mode) {
    case Mode::kMinus:
      if (byte == '0' && may_be_fraction) return go(Mode::kMinusZero);
      return IsDigit(byte) && byte != '0' && go(Mode::kInteger);
    case Mode::kMinusZero:
      return has_point && go(Mode::kPoint);
    case Mode::kInteger:
      if (IsDigit(byte)) return state->digits < kMaxIntegerDigits && go(Mode::kInteger);
      [[fallthrough]];
    case Mode::kZero:
      if (has_point) return go(Mode::kPoint);
      break;
    case Mode::kPoint:
      return IsDigit(byte) && go(Mode::kFraction);
    case Mode::kFraction:
      if (IsDigit(byte)) return state->digits < kMaxFractionDigits && go(Mode::kFraction);
      break;
    case Mode::kExponent:
      return (byte == '-' || byte == '+') && go(Mode::kExponentSign);
    case Mode::kExponentSign:
      return IsDigit(byte) && go(Mode::kExponentDigits);
    default:
      if (IsDigit(byte)) return state->digits < kMaxExponentDigits && go(Mode::kExponentDigits);
      return EndScalar(state, byte);
  }
  return has_exponent ? go(Mode::kExponent) : EndScalar(state, byte);
}

bool JsonMachine::EndScalar(JsonState* state, uint8_t byte) const {
  state->mode = Mode::kAfter;
  return AfterValue(state, byte);
}

bool JsonMachine::Close(JsonState* state) {
  --state->depth;
  state->mode = Mode::kAfter;
  return true;
}

// Whether another member or item fits in the innermost bracket.
bool JsonMachine::MoreMayFollow(const JsonState& state) const {
  const JsonState::Frame& frame = state.frames[state.depth - 1];
  const SchemaNode& node = tools_.node(frame.node);
  if (frame.is_object && !node.keys.empty()) return AnyUnused(node.keys.Begin(), frame.used);
  const NodeId value = frame.is_object ? node.member_values : node.items;
  return state.depth + tools_.node(value).min_depth <= kMaxJsonDepth;
}

bool JsonMachine::StepBracket(JsonState* state, uint8_t byte) const {
  const JsonState::Frame* frame = state->depth > 0 ? &state->frames[state->depth - 1] : nullptr;
  switch (state->mode) {
    case Mode::kObjectOpen:
      if (byte == '"' && MoreMayFollow(*state)) return BeginKey(state);
      return byte == '}' && tools_.node(frame->node).required.none() && Close(state);
    case Mode::kKeyQuote:
      return byte == '"' && BeginKey(state);
    case Mode::kKey:
      return StepKey(state, byte);
    case Mode::kFreeKey:
      return StepFreeKey(state, byte);
    case Mode::kColon:
      state->mode = Mode::kColonSpace;
      return byte == ':';
    case Mode::kColonSpace:
      state->mode = Mode::kValue;
      return byte == ' ';
    case Mode::kArrayOpen:
      if (byte == ']') return Close(state);
      state->node = tools_.node(frame->node).items;
      return MoreMayFollow(*state) && BeginValue(state, byte);
    case Mode::kComma:
      state->mode = frame->is_object ? Mode::kKeyQuote : Mode::kValue;
      state->node = frame->is_object ? kAnyNode : tools_.node(frame->node).items;
      return byte == ' ';
    default:
      return AfterValue(state, byte);
  }
}

bool JsonMachine::BeginKey(JsonState* state) const {
  const LiteralSet& keys = tools_.node(state->frames[state->depth - 1].node).keys;
  state->mode = keys.empty() ? Mode::kFreeKey : Mode::kKey;
  state->cursor = keys.Begin();
  state->string = {};
  return true;
}

bool JsonMachine::StepKey(JsonState* state, uint8_t byte) const {
  JsonState::Frame& frame = state->frames[state->depth - 1];
  const SchemaNode& node = tools_.node(frame.node);
  const LiteralSet::Cursor next = node.keys.Step(state->cursor, byte);
  if (AnyUnused(next, frame.used)) {
    state->cursor = next;
    return true;
  }
  const uint32_t member = state->cursor.lo;
  if (byte != '"' || !node.keys.IsComplete(state->cursor) || frame.used[member]) return false;
  frame.used.set(member);
  state->node = node.members[member];
  state->mode = Mode::kColon;
  return true;
}

bool JsonMachine::StepFreeKey(JsonState* state, uint8_t byte) const {
  const StringStep step = StepString(&state->string, byte);
  if (step == StringStep::kEnd) {
    state->node = tools_.node(state->frames[state->depth - 1].node).member_values;
    state->mode = Mode::kColon;
  }
  return step != StringStep::kBad;
}

bool JsonMachine::AfterValue(JsonState* state, uint8_t byte) const {
  if (state->depth == 0) return false;
  const JsonState::Frame& frame = state->frames[state->depth - 1];
  if (byte == ',') {
    state->mode = Mode::kComma;
    return MoreMayFollow(*state);
  }
  if (!frame.is_object) return byte == ']' && Close(state);
  const MemberSet missing = tools_.node(frame.node).required & ~frame.used;
  return byte == '}' && missing.none() && Close(state);
}

}  // namespace holdfast::model
