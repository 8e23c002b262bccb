// Between messages and tokens: what is fed to the model at each border of a conversation, and what a turn of
// the model's says. The tokens are the truth; nothing here is ever computed from text that was sampled.
//
// All methods are const and safe from any thread, but for Constrain: it and what it gives belong to the
// engine lane.
// Source: DESIGN section 3; the chat-format page of the specification; ADR 0002, 0008.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/chat.h"
#include "model/grammar.h"
#include "model/tokenizer.h"
#include "sessions/event.h"
#include "sessions/scheduler.h"

namespace holdfast::agent {

// What the model and its prompt are in a session; the same for all of it.
struct DialogueOptions {
  model::ThinkingMode mode = model::ThinkingMode::kChat;
  model::ChatVersion version = model::ChatVersion::kV4_0731;
  std::string effort;
  std::string system;
  std::vector<std::string> tools;  // schema lines (tools::Toolset::function_lines), in their order
};

// One thing to be told to the model.
struct Said {
  // A reminder stands before the rest, as the format wants it.
  enum class Kind : uint8_t { kUser, kToolResult, kReminder };
  Kind kind = Kind::kUser;
  std::string text;
};

// A call that a turn asks for, whole.
struct AskedCall {
  std::string tool;
  std::string arguments;  // JSON text
};

// A turn of the model's as far as it has come.
struct Turn {
  bool complete = false;   // it has ended by itself
  bool malformed = false;  // only without a grammar
  std::vector<AskedCall> calls;
  std::string text;
  std::string reasoning;
};

// How a turn that cannot go on is closed: the last `cut` tokens go, and `forced` come.
struct Closing {
  int64_t cut = 0;
  std::vector<int32_t> forced;
};

class Dialogue {
 public:
  // InvalidArgument for tools that are no schemas; FailedPrecondition when the tokenizer lacks a control
  // token. The tokenizer outlives it.
  static base::StatusOr<std::unique_ptr<Dialogue>> Make(const model::Tokenizer& tokenizer,
                                                        DialogueOptions options);

  // The window's beginning, up to where the model's first turn starts. `said` begins with a message.
  base::StatusOr<std::vector<int32_t>> First(std::span<const Said> said) const;

  // What follows a turn that has ended, up to where the next one starts; results in the order of their calls.
  base::StatusOr<std::vector<int32_t>> Next(std::span<const Said> said) const;

  // `ids` are the tokens of one turn, from its first.
  Turn Read(std::span<const int32_t> ids) const;

  // A turn that is interrupted: `</think>` when reasoning is open, no part of a block of calls, the end of
  // the sentence. Nothing for one that is complete.
  Closing Close(std::span<const int32_t> ids) const;

  // Limits the rest of a turn, of which `begun` has been sampled, to the grammar of the tools. For the engine
  // lane.
  std::unique_ptr<sessions::TokenConstraint> Constrain(std::span<const int32_t> begun) const;

  const DialogueOptions& options() const { return options_; }

  // At the beginning of every window, whatever is said in it: what sessions with these options share.
  int64_t prefix_tokens() const { return prefix_tokens_; }

  // Of what limits sampling: format, mode and tools.
  const base::Sha256Digest& grammar_hash() const { return grammar_hash_; }

 private:
  Dialogue(const model::Tokenizer& tokenizer, DialogueOptions options);
  base::StatusOr<std::vector<int32_t>> Render(model::Json messages, std::span<const Said> said,
                                              bool first) const;

  const model::Tokenizer& tokenizer_;
  const DialogueOptions options_;
  model::Json tools_ = model::Json::Array();
  std::unique_ptr<model::GrammarVocabulary> vocabulary_;
  std::unique_ptr<model::Grammar> grammar_;
  base::Sha256Digest grammar_hash_ = {};
  int32_t end_think_ = 0;
  int32_t eos_ = 0;
  int64_t prefix_tokens_ = 0;
};

}  // namespace holdfast::agent
