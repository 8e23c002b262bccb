#include "tests/agent/simulation_model.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/check.h"
#include "base/random.h"
#include "model/synth.h"
#include "tests/model/text_testing.h"

namespace holdfast::agent::simulation {
namespace {

constexpr size_t kTextTokens = 2;  // before the block of calls
constexpr size_t kForcedMasks =
    64;  // a mask of fewer tokens is markup or a name, of more the value of a string

// One CSA layer, every width at its least: some 20,000 tokens a second.
model::ModelConfig TinyModel(int32_t vocab_size) {
  model::ModelConfig c;
  c.vocab_size = vocab_size;
  c.max_positions = 1 << 20;
  c.hidden_size = 32;
  c.num_layers = 1;
  c.compress_ratios = {4};
  c.rope_dim = 16;
  c.head_dim = 80;
  c.num_heads = 1;
  c.o_groups = 1;
  c.q_lora_rank = 32;
  c.o_lora_rank = 32;
  c.sliding_window = 16;
  c.index_heads = 1;
  c.index_head_dim = 32;
  c.index_topk = 8;
  c.compress_rope = {.theta = 160000.0f, .factor = 16.0f, .original_max_positions = 65536};
  c.num_experts = 2;
  c.experts_per_token = 1;
  c.moe_inter_size = 32;
  c.routed_scale = 1.5f;
  c.swiglu_limit = 10.0f;
  c.hc_mult = 1;
  c.hc_sinkhorn_iters = 1;
  c.fp8_block_rows = c.fp8_block_cols = 32;
  return c;
}

// The pieces into which the tokenizer's patterns cut a text, as far as merges can span them: words and runs
// of punctuation, each with what may stand before it. The longest first, so that theirs are the first merges.
std::vector<std::string> PiecesOf(const std::string& text) {
  const auto is_word = [&text](size_t i) { return std::isalpha(static_cast<unsigned char>(text[i])) != 0; };
  const auto is_mark = [&text](size_t i) { return std::ispunct(static_cast<unsigned char>(text[i])) != 0; };
  std::vector<std::string> pieces;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = begin + 1;
    if (text[begin] == ' ' || (is_mark(begin) && end < text.size() && is_word(end))) {
      while (end < text.size() && is_word(end)) ++end;
    } else if (is_word(begin)) {
      while (end < text.size() && is_word(end)) ++end;
    }
    if (end == begin + 1 && !is_word(begin)) {
      while (end < text.size() && is_mark(end)) ++end;
      while (end < text.size() && text[end] == '\n') ++end;
    }
    if (end - begin > 1) pieces.push_back(text.substr(begin, end - begin));
  }
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  return pieces;
}

// Knows the words of the prompt, which is so a third as long as with SmallTokenizer.
std::unique_ptr<model::Tokenizer> WordTokenizer() {
  const model::Tokenizer& small = model::SmallTokenizer();
  const auto dialogue = Dialogue::Make(small, {.system = "s", .tools = ToolLines()});
  HF_CHECK(dialogue.ok());
  const auto prompt = (*dialogue)->First({{{.text = "go"}}});
  HF_CHECK(prompt.ok());
  std::string text;
  for (const int32_t id : *prompt) text += small.Bytes(id);
  std::vector<std::string> words = {"\n\n<",         "</",
                                    "tool_calls>\n", "invoke name=\"",
                                    "invoke>\n",     "parameter name=\"",
                                    "parameter>\n",  " string=\"true\">"};
  for (std::string& word : PiecesOf(text)) words.push_back(std::move(word));
  auto made =
      model::Tokenizer::FromJson(model::MakeTokenizerJson(model::MergesOfWords(words), model::ChatTokens()));
  HF_CHECK(made.ok());
  return *std::move(made);
}

MarkIds MarksOf(const model::Tokenizer& tokenizer) {
  MarkIds marks{.dsml = *tokenizer.FindAdded("｜DSML｜"),
                .eos = *tokenizer.FindAdded("<｜end▁of▁sentence｜>")};
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view bytes = tokenizer.Bytes(id);
    if (bytes == "\n\n<") marks.open = id;
    if (bytes == "</") marks.close = id;
    if (bytes == "a" || bytes == "b" || bytes == "c") marks.letters.push_back(id);
    if (bytes == "append" || bytes == "send") marks.changes.push_back(id);
  }
  return marks;
}

class Eager final : public sessions::TokenConstraint {
 public:
  Eager(const model::Tokenizer& tokenizer, const MarkIds& marks,
        std::unique_ptr<sessions::TokenConstraint> grammar, std::span<const int32_t> begun)
      : tokenizer_(tokenizer),
        marks_(marks),
        grammar_(std::move(grammar)),
        taken_(begun.begin(), begun.end()) {}

  const model::TokenMask* Mask() override {
    const model::TokenMask& mask = *grammar_->Mask();
    if (mask.Has(marks_.dsml)) return Only(mask, {marks_.dsml});
    if (std::find(taken_.begin(), taken_.end(), marks_.dsml) != taken_.end()) return InBlock(mask);
    if (taken_.size() < kTextTokens) return Without(mask, marks_.eos);
    if (taken_.front() % 8 == 0) return Only(mask, {marks_.eos});
    return Only(mask, {marks_.open});
  }
  base::Status Accept(int32_t id) override {
    taken_.push_back(id);
    return grammar_->Accept(id);
  }
  bool IsDone() const override { return grammar_->IsDone(); }

 private:
  const model::TokenMask* InBlock(const model::TokenMask& mask) {
    const uint64_t dice = base::RandomBits({.seed = 77, .position = taken_.size()}, 0) % 100;
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < mask.size() && ids.size() < kForcedMasks; ++id) {
      if (mask.Has(id)) ids.push_back(id);
    }
    if (ids.size() < kForcedMasks) {
      const bool is_name = mask.Has(marks_.changes.front());
      if (is_name && dice < 60) return Only(mask, marks_.changes);
      std::vector<int32_t> longest;
      for (const int32_t id : ids) {
        if (!IsPassed(ids, tokenizer_.Bytes(id))) longest.push_back(id);
      }
      return Only(mask, longest);
    }
    return dice < 50 ? Only(mask, {marks_.close}) : Only(mask, marks_.letters);
  }
  // Whether another of `ids` begins with `bytes`. What opens a tag is never passed: what closes one begins
  // alike.
  bool IsPassed(std::span<const int32_t> ids, std::string_view bytes) const {
    if (bytes.ends_with('<')) return false;
    return std::any_of(ids.begin(), ids.end(), [&](int32_t id) {
      const std::string_view other = tokenizer_.Bytes(id);
      return other.size() > bytes.size() && other.starts_with(bytes);
    });
  }
  // Those of `ids` that `mask` has; all of the mask when there are none.
  const model::TokenMask* Only(const model::TokenMask& mask, std::span<const int32_t> ids) {
    narrowed_ = model::TokenMask(mask.size());
    for (const int32_t id : ids) {
      if (mask.Has(id)) narrowed_.Add(id);
    }
    if (narrowed_.empty()) narrowed_ = mask;
    return &narrowed_;
  }
  const model::TokenMask* Only(const model::TokenMask& mask, std::initializer_list<int32_t> ids) {
    return Only(mask, std::span(ids.begin(), ids.size()));
  }
  const model::TokenMask* Without(const model::TokenMask& mask, int32_t without) {
    narrowed_ = model::TokenMask(mask.size());
    for (int32_t id = 0; id < mask.size(); ++id) {
      if (mask.Has(id) && id != without) narrowed_.Add(id);
    }
    return &narrowed_;
  }

  const model::Tokenizer& tokenizer_;
  const MarkIds& marks_;
  std::unique_ptr<sessions::TokenConstraint> grammar_;
  std::vector<int32_t> taken_;
  model::TokenMask narrowed_;
};

}  // namespace

SharedModel& SharedModel::Get() {
  static SharedModel& shared = *new SharedModel();
  return shared;
}

SharedModel::SharedModel() : tokenizer_(WordTokenizer()), marks_(MarksOf(*tokenizer_)) {
  auto dialogue = Dialogue::Make(*tokenizer_, {.system = "s", .tools = ToolLines()});
  HF_CHECK(dialogue.ok());
  dialogue_ = *std::move(dialogue);
  const model::ModelConfig config = TinyModel(tokenizer_->vocab_size());
  const base::Status written = model::WriteSynthCheckpoint(fs_, config, "/model", {.seed = 5});
  HF_CHECK(written.ok());
  auto checkpoint = model::Checkpoint::Open(fs_, "/model");
  HF_CHECK(checkpoint.ok());
  checkpoint_ = *std::move(checkpoint);
  backend_ = model::MakeCpuBackend({.threads = 1, .pin_threads = false});
  engine_ = std::make_unique<model::Engine>(checkpoint_->config(), checkpoint_->weights(), *backend_,
                                            model::EngineOptions{.max_rows = 200});
}

std::unique_ptr<sessions::TokenConstraint> SharedModel::Narrow(
    std::unique_ptr<sessions::TokenConstraint> grammar, std::span<const int32_t> begun) const {
  return std::make_unique<Eager>(*tokenizer_, marks_, std::move(grammar), begun);
}

}  // namespace holdfast::agent::simulation
