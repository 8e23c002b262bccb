// The one definition of what an assistant's turn may look like, as an automaton over bytes and control
// tokens. The parser (stream_parser.cc) runs it open: any tool, any parameter, any value. The grammar
// (grammar.cc) runs it closed, over the tools of the session, and permits a token when its bytes may all
// come.
//
//   reasoning </think> content [\n\n <DSML tool_calls>\n
//     { <DSML invoke name="NAME">\n
//         { <DSML parameter name="K" string="true|false">VALUE</DSML parameter>\n }  (\n instead when none)
//       </DSML invoke>\n }
//   </DSML tool_calls>] EOS
//
// DSML, </think> and EOS are control tokens; the same characters from ordinary tokens are content. A value
// ends at DSML when the bytes before it are `</`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/chat.h"
#include "model/chat/format.h"
#include "model/chat/json_machine.h"
#include "model/chat/schema.h"

namespace holdfast::model {

enum class Control : uint8_t { kDsml, kEndThink, kEos };
inline constexpr int kControls = 3;

enum class Phase : uint8_t {
  kReasoning,
  kContent,
  kBlockOpen,         // `tool_calls>\n<`
  kInvokeOpen,        // `invoke name="`
  kToolName,          // up to and with '"'
  kToolNameEnd,       // `>\n`
  kBody,              // between the tags of an invoke
  kParameterOpen,     // `parameter name="`
  kParameterName,     // up to and with '"'
  kParameterNameEnd,  // ` string="`
  kFlag,              // `true">` or `false">`
  kValue,
  kParameterClose,  // `parameter>\n`
  kInvokeClose,     // `invoke>\n`
  kAfterInvoke,
  kBlockClose,  // `tool_calls>`
  kAwaitEos,
  kDone,
};

struct TurnState {
  Phase phase = Phase::kContent;
  // Bytes taken of a fixed text, or of what may open a tag: `\n\n<` in content, `</` in a value, and so on.
  uint8_t taken = 0;
  Utf8State utf8 = Utf8State::kClean;  // in free text
  bool is_text = false;                // the value is string="true"
  bool is_first = false;               // in a body: before any parameter
  bool is_empty = false;               // in a body: the empty line of a call without parameters was taken
  uint32_t tool = 0;
  uint32_t parameter = 0;
  MemberSet used;             // parameters of the call so far
  LiteralSet::Cursor cursor;  // in a name, the flag, or an enumerated text
  JsonState json;             // in a value of string="false", when closed
};

// Immutable; safe from any thread.
class Automaton {
 public:
  // `tools` null: open. Otherwise it outlives this, and is what calls must follow; when it is empty there are
  // no calls.
  Automaton(const ChatFormat& format, const ToolSet* tools);

  static TurnState Start(ThinkingMode mode);

  // Takes a byte or a control token, or returns false when it may not come; then the state is spent. When
  // closed, after every true some byte or control token may come, except in kDone.
  bool Step(TurnState* state, uint8_t byte) const;
  bool Step(TurnState* state, Control control) const;

  // Whether any text may come here, with nothing but UTF-8 to limit it.
  bool IsFreeText(const TurnState& state) const;
  // The bytes at the end of content or of a value, or since then, that belong to a tag if one follows.
  size_t HeldBytes(const TurnState& state) const;

 private:
  bool is_open() const { return tools_ == nullptr; }
  bool StepContent(TurnState* state, uint8_t byte) const;
  bool StepFixed(TurnState* state, std::string_view text, uint8_t byte, Phase next) const;
  bool StepToolName(TurnState* state, uint8_t byte) const;
  bool StepBody(TurnState* state, uint8_t byte) const;
  bool StepParameterName(TurnState* state, uint8_t byte) const;
  bool StepFlag(TurnState* state, uint8_t byte) const;
  bool StepValue(TurnState* state, uint8_t byte) const;
  bool StepTypedValue(TurnState* state, uint8_t byte) const;
  bool StepParameterClose(TurnState* state, uint8_t byte) const;
  bool StepAfterInvoke(TurnState* state, uint8_t byte) const;
  bool StepFreeText(TurnState* state, uint8_t byte) const;
  bool TakeDsml(TurnState* state) const;
  bool TakeDsmlInBody(TurnState* state) const;
  bool TakeDsmlInValue(TurnState* state) const;
  bool ParametersRemain(const TurnState& state) const;
  bool RequiredAreThere(const TurnState& state) const;

  const ToolSet* const tools_;
  const std::optional<JsonMachine> json_;  // when closed
  const std::string dsml_, parameter_;
  const std::string block_open_, invoke_open_, parameter_open_, parameter_close_, invoke_close_, block_close_;
};

}  // namespace holdfast::model
