// A byte automaton for one JSON value that follows a schema, in the form json.dumps gives it: ", " and ": "
// between, no other space, only the escapes it uses. Numbers are bounded so that they are finite and integers
// fit 64 bits.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "model/chat/schema.h"
#include "model/text/utf8.h"

namespace holdfast::model {

// Where a byte stands in a JSON string.
struct StringState {
  Utf8State utf8 = Utf8State::kClean;
  uint8_t escape = 0;  // characters of an escape taken so far
};

enum class StringStep : uint8_t { kInside, kEnd, kBad };

StringStep StepString(StringState* state, uint8_t byte);

struct JsonState {
  enum class Mode : uint8_t {
    kValue,    // before a value of `node`
    kLiteral,  // within one of the node's literals
    kWord,     // within true, false, null
    kMinus,
    kMinusZero,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,  // after 'e'
    kExponentSign,
    kExponentDigits,
    kString,
    kObjectOpen,  // after '{'
    kKeyQuote,    // before the '"' of a further name
    kKey,         // within one of the node's names
    kFreeKey,
    kColon,
    kColonSpace,
    kArrayOpen,  // after '['
    kComma,      // after ','
    kAfter,      // a value is complete
  };
  struct Frame {  // an open bracket
    NodeId node = kAnyNode;
    bool is_object = false;
    MemberSet used;
  };

  Mode mode = Mode::kValue;
  uint8_t digits = 0;
  uint8_t depth = 0;
  StringState string;
  NodeId node = kAnyNode;  // the value being read, or next
  LiteralSet::Cursor cursor;
  std::array<Frame, kMaxJsonDepth> frames;
};

// Immutable; safe from any thread. `tools` outlives it.
class JsonMachine {
 public:
  explicit JsonMachine(const ToolSet& tools) : tools_(tools) {}

  static JsonState Start(NodeId node) { return {.node = node}; }

  // Takes a byte, or returns false when it may not come; then the state is spent. Before any state that it
  // returns true for, some byte may come, or the value is complete.
  bool Step(JsonState* state, uint8_t byte) const;

  // Whether the bytes so far are a whole value.
  bool IsComplete(const JsonState& state) const;

 private:
  bool BeginValue(JsonState* state, uint8_t byte) const;
  bool BeginObject(JsonState* state, const SchemaNode& node) const;
  bool BeginArray(JsonState* state) const;
  bool StepLiteral(JsonState* state, const LiteralSet& set, uint8_t byte) const;
  bool StepNumber(JsonState* state, uint8_t byte) const;
  bool StepBracket(JsonState* state, uint8_t byte) const;
  bool BeginKey(JsonState* state) const;
  bool StepKey(JsonState* state, uint8_t byte) const;
  bool StepFreeKey(JsonState* state, uint8_t byte) const;
  bool AfterValue(JsonState* state, uint8_t byte) const;
  bool EndScalar(JsonState* state, uint8_t byte) const;
  static bool Close(JsonState* state);
  bool MoreMayFollow(const JsonState& state) const;

  const ToolSet& tools_;
};

// Whether a member in [cursor.lo, cursor.hi) is not used yet.
bool AnyUnused(LiteralSet::Cursor cursor, const MemberSet& used);

}  // namespace holdfast::model
