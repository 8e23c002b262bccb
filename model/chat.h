// The chat format of DeepSeek-V4: messages to a prompt, as text or as token ids, and the text of a finished
// completion back to a message. Source: the chat-format page of the specification (official encoding code).
//
// Messages are JSON in OpenAI form: an array of objects with `role` (system, user, assistant, tool,
// developer, latest_reminder), `content`, and where they apply `tools`, `response_format`, `tool_calls`,
// `tool_call_id`, `reasoning_content`, `task`, `wo_eos`.
//
// All functions are pure and safe from any thread. What streams, and what constrains decoding, is in
// model/chat_stream.h and model/grammar.h; all of them share one definition of the markup (model/chat/).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/json.h"
#include "model/tokenizer.h"

namespace holdfast::model {

enum class ThinkingMode : uint8_t {
  kChat,      // turns open with `</think>`: no reasoning
  kThinking,  // turns open with `<think>`
};

// The published sets of fixed texts. They differ in what an effort means.
enum class ChatVersion : uint8_t {
  kV4Preview,  // effort "max" has a text; "high" and none have none
  kV4_0731,    // "low" (the default) none; "high" has the preview's text of "max"; "max" its own
};

struct RenderOptions {
  ThinkingMode mode = ThinkingMode::kChat;
  ChatVersion version = ChatVersion::kV4Preview;
  // Leave out reasoning before the last user message. Has no effect when a message carries tools: then all
  // reasoning stays.
  bool drop_thinking = true;
  bool add_bos = true;
  std::string effort;  // empty: the version's default
};

// The prompt, byte for byte that of the official encoder. InvalidArgument, naming the message, where that
// raises an error, and for fields of the wrong type.
base::StatusOr<std::string> RenderText(const Json& messages, const RenderOptions& options);

// The prompt as ids. Markup is structural: control tokens stand only where the format puts them, and the text
// between two of them, ours and the messages', is tokenised as one run with added tokens unmatched, so that
// no message can forge one. Equals Encode(RenderText(), kMatch) when no message holds a control token's text.
// FailedPrecondition when the tokenizer lacks a control token that the prompt needs.
base::StatusOr<std::vector<int32_t>> RenderIds(const Json& messages, const RenderOptions& options,
                                               const Tokenizer& tokenizer);

// The message of a completion's text, exactly as the official parser has it, its quirks included: an object
// with `role`, `content`, `reasoning_content`, `tool_calls`. InvalidArgument where that raises an error. For
// imports and tests; the runtime parses ids (model/chat_stream.h), where markup cannot be forged.
base::StatusOr<Json> ParseCompletionText(std::string_view text, ThinkingMode mode);

}  // namespace holdfast::model
