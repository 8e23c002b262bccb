#include "model/grammar.h"

#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "model/chat/automaton.h"
#include "model/chat/control_ids.h"
#include "model/chat/token_trie.h"

namespace holdfast::model {
namespace {

constexpr size_t kCachedMasks = 256;  // of states that are not free text; 16 KB each for 129,280 tokens

// Tokens that stay within free text, or within a JSON string, from each point of a character on; and for the
// string, the nodes whose byte is the quote that ends it.
struct TextMasks {
  std::array<TokenMask, kUtf8States> free_text;
  std::array<TokenMask, kUtf8States> in_string;
  std::array<std::vector<uint32_t>, kUtf8States> string_ends;
};

TextMasks MakeTextMasks(const TokenTrie& trie, int32_t vocab_size) {
  TextMasks masks;
  const auto count = static_cast<uint32_t>(trie.nodes().size());
  std::vector<Utf8State> utf8_states;
  std::vector<StringState> string_states;
  for (int i = 0; i < kUtf8States; ++i) {
    const auto utf8 = static_cast<Utf8State>(i);
    masks.free_text[i] = TokenMask(vocab_size);
    const auto step_utf8 = [](Utf8State* state, uint8_t byte) {
      *state = Utf8Step(*state, byte);
      return *state != Utf8State::kBad;
    };
    trie.Walk(0, count, utf8, step_utf8, &utf8_states, &masks.free_text[i]);

    // Walk steps over the nodes in order, but does not say which: a subtree that a quote opens is noted by
    // walking it by hand.
    masks.in_string[i] = TokenMask(vocab_size);
    string_states.assign(trie.depth_max() + size_t{1}, StringState{.utf8 = utf8});
    for (uint32_t n = 0; n < count;) {
      const TokenTrie::Node& node = trie.nodes()[n];
      StringState& state = string_states[node.depth];
      state = string_states[node.depth - size_t{1}];
      const StringStep step = StepString(&state, node.byte);
      if (step == StringStep::kEnd) masks.string_ends[i].push_back(n);
      if (step == StringStep::kInside && node.token >= 0) masks.in_string[i].Add(node.token);
      n = step == StringStep::kInside ? n + 1 : node.end;
    }
  }
  return masks;
}

template <typename T>
void AppendBytes(const T& value, std::string* key) {
  key->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendCursor(const LiteralSet::Cursor& cursor, std::string* key) {
  AppendBytes(cursor.lo, key);
  AppendBytes(cursor.hi, key);
  AppendBytes(cursor.offset, key);
}

// All of a state that its future depends on.
std::string KeyOf(const TurnState& state) {
  std::string key;
  for (const uint8_t byte : {static_cast<uint8_t>(state.phase), state.taken, static_cast<uint8_t>(state.utf8),
                             static_cast<uint8_t>(state.is_text), static_cast<uint8_t>(state.is_first),
                             static_cast<uint8_t>(state.is_empty)}) {
    AppendBytes(byte, &key);
  }
  AppendBytes(state.tool, &key);
  AppendBytes(state.parameter, &key);
  AppendBytes(state.used, &key);
  AppendCursor(state.cursor, &key);
  if (state.phase != Phase::kValue || state.is_text) return key;
  const JsonState& json = state.json;
  for (const uint8_t byte : {static_cast<uint8_t>(json.mode), json.digits, json.depth,
                             static_cast<uint8_t>(json.string.utf8), json.string.escape}) {
    AppendBytes(byte, &key);
  }
  AppendBytes(json.node, &key);
  AppendCursor(json.cursor, &key);
  for (size_t i = 0; i < json.depth; ++i) {
    AppendBytes(json.frames[i].node, &key);
    AppendBytes(json.frames[i].used, &key);
  }
  return key;
}

// Whether the state is inside a JSON string, value or free name, and not inside an escape.
bool IsInJsonString(const TurnState& state) {
  if (state.phase != Phase::kValue || state.is_text || state.taken > 0) return false;
  const JsonState& json = state.json;
  return json.string.escape == 0 &&
         (json.mode == JsonState::Mode::kString || json.mode == JsonState::Mode::kFreeKey);
}

}  // namespace

struct GrammarVocabulary::Impl {
  Impl(const Tokenizer& tokenizer_in, const ControlIds& controls_in)
      : tokenizer(tokenizer_in),
        controls(controls_in),
        trie(tokenizer),
        text(MakeTextMasks(trie, tokenizer.vocab_size())) {}

  const Tokenizer& tokenizer;
  const ControlIds controls;
  const TokenTrie trie;
  const TextMasks text;
};

struct Grammar::Impl {
  Impl(const GrammarVocabulary::Impl& vocabulary_in, ToolSet tools_in)
      : vocabulary(vocabulary_in),
        tools(std::move(tools_in)),
        automaton(FormatOf(ChatVersion::kV4Preview), &tools) {}

  const TokenMask& Mask(const TurnState& state);
  TokenMask Compute(const TurnState& state);
  uint8_t PermittedControls(const TurnState& state) const;
  void AddControls(uint8_t controls, TokenMask* mask) const;

  const GrammarVocabulary::Impl& vocabulary;
  const ToolSet tools;
  const Automaton automaton;
  // Free text, by where it stands in a character and by the control tokens permitted.
  std::array<std::array<std::optional<TokenMask>, 1 << kControls>, kUtf8States> free_text;
  absl::flat_hash_map<std::string, std::unique_ptr<TokenMask>> cache;
  std::vector<TurnState> scratch;
};

struct GrammarTurn::Impl {
  Grammar::Impl& grammar;
  TurnState state;
};

uint8_t Grammar::Impl::PermittedControls(const TurnState& state) const {
  uint8_t permitted = 0;
  for (int control = 0; control < kControls; ++control) {
    TurnState next = state;
    if (automaton.Step(&next, static_cast<Control>(control))) permitted |= static_cast<uint8_t>(1 << control);
  }
  return permitted;
}

void Grammar::Impl::AddControls(uint8_t controls, TokenMask* mask) const {
  for (int control = 0; control < kControls; ++control) {
    if ((controls >> control & 1) != 0) mask->Add(vocabulary.controls.ids[control]);
  }
}

const TokenMask& Grammar::Impl::Mask(const TurnState& state) {
  if (automaton.IsFreeText(state)) {
    const auto utf8 = static_cast<size_t>(state.utf8);
    const uint8_t controls = PermittedControls(state);
    std::optional<TokenMask>& mask = free_text[utf8][controls];
    if (!mask) {
      mask = vocabulary.text.free_text[utf8];
      AddControls(controls, &*mask);
    }
    return *mask;
  }
  const std::string key = KeyOf(state);
  if (const auto found = cache.find(key); found != cache.end()) return *found->second;
  if (cache.size() >= kCachedMasks) cache.clear();
  return *cache.emplace(key, std::make_unique<TokenMask>(Compute(state))).first->second;
}

TokenMask Grammar::Impl::Compute(const TurnState& state) {
  const TokenTrie& trie = vocabulary.trie;
  const auto step = [this](TurnState* at, uint8_t byte) { return automaton.Step(at, byte); };
  TokenMask mask(vocabulary.tokenizer.vocab_size());
  if (IsInJsonString(state)) {
    // What stays inside is known; what follows the closing quote is walked.
    const auto utf8 = static_cast<size_t>(state.json.string.utf8);
    mask = vocabulary.text.in_string[utf8];
    TurnState quote = state;
    quote.json.string.utf8 = Utf8State::kClean;  // a quote ends a string only there
    for (const uint32_t n : vocabulary.text.string_ends[utf8]) {
      trie.Walk(n, trie.nodes()[n].end, quote, step, &scratch, &mask);
    }
  } else {
    trie.Walk(0, static_cast<uint32_t>(trie.nodes().size()), state, step, &scratch, &mask);
  }
  AddControls(PermittedControls(state), &mask);
  return mask;
}

GrammarVocabulary::GrammarVocabulary(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
GrammarVocabulary::~GrammarVocabulary() = default;

base::StatusOr<std::unique_ptr<GrammarVocabulary>> GrammarVocabulary::Make(const Tokenizer& tokenizer) {
  HF_ASSIGN_OR_RETURN(const ControlIds controls,
                      ControlIds::Find(tokenizer, FormatOf(ChatVersion::kV4Preview)));
  return std::unique_ptr<GrammarVocabulary>(
      new GrammarVocabulary(std::make_unique<const Impl>(tokenizer, controls)));
}

Grammar::Grammar(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Grammar::~Grammar() = default;

base::StatusOr<std::unique_ptr<Grammar>> Grammar::Make(const GrammarVocabulary& vocabulary,
                                                       const Json& tools) {
  HF_ASSIGN_OR_RETURN(ToolSet set, ToolSet::Make(tools));
  return std::unique_ptr<Grammar>(new Grammar(std::make_unique<Impl>(*vocabulary.impl_, std::move(set))));
}

GrammarTurn::GrammarTurn(Grammar& grammar, ThinkingMode mode)
    : impl_(std::make_unique<Impl>(Impl{*grammar.impl_, Automaton::Start(mode)})) {}
GrammarTurn::~GrammarTurn() = default;

const TokenMask& GrammarTurn::Mask() { return impl_->grammar.Mask(impl_->state); }

base::Status GrammarTurn::Accept(int32_t id) {
  const Grammar::Impl& grammar = impl_->grammar;
  const Tokenizer& tokenizer = grammar.vocabulary.tokenizer;
  TurnState next = impl_->state;
  bool permitted = tokenizer.HasToken(id);
  if (tokenizer.IsAdded(id)) {
    permitted = false;
    for (int control = 0; control < kControls; ++control) {
      if (grammar.vocabulary.controls.ids[control] != id) continue;
      permitted = grammar.automaton.Step(&next, static_cast<Control>(control));
    }
  }
  for (const char byte : tokenizer.IsAdded(id) ? std::string_view() : tokenizer.Bytes(id)) {
    permitted = permitted && grammar.automaton.Step(&next, static_cast<uint8_t>(byte));
  }
  if (!permitted) return base::InvalidArgument("token " + std::to_string(id) + " is not permitted here");
  impl_->state = next;
  return {};
}

bool GrammarTurn::IsDone() const { return impl_->state.phase == Phase::kDone; }

}  // namespace holdfast::model
