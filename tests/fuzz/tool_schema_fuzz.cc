// Tool schemas from anywhere: an error, or a grammar that never comes to a dead end. The input is JSON; its
// bytes also drive the choice of tokens.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/grammar.h"
#include "tests/model/text_testing.h"

namespace holdfast::model {
namespace {

const GrammarVocabulary& Vocabulary() {
  static const auto vocabulary = GrammarVocabulary::Make(SmallTokenizer());
  HF_CHECK(vocabulary.ok());
  return **vocabulary;
}

void Take(GrammarTurn* turn, std::string_view text) {
  const auto ids = SmallTokenizer().Encode(text, AddedTokens::kMatch);
  for (const int32_t id : *ids) HF_CHECK(turn->Accept(id).ok());
}

// Some permitted id, the first from `start` on.
int32_t Choose(const TokenMask& mask, int32_t start) {
  for (int32_t i = 0; i < mask.size(); ++i) {
    const int32_t id = (start + i) % mask.size();
    if (mask.Has(id)) return id;
  }
  HF_CHECK(false);
  return -1;
}

void Walk(Grammar* grammar, std::string_view choices) {
  GrammarTurn turn(*grammar, ThinkingMode::kChat);
  Take(&turn, "\n\n<");
  const int32_t dsml = *SmallTokenizer().FindAdded("｜DSML｜");
  if (!turn.Mask().Has(dsml)) return;  // no tools
  constexpr size_t kSteps = 300;
  for (size_t step = 0; step < kSteps && !turn.IsDone(); ++step) {
    const uint8_t choice = static_cast<uint8_t>(choices[step % choices.size()]);
    const bool wants_tag = choice % 2 == 0 && turn.Mask().Has(dsml);
    const int32_t id = wants_tag ? dsml : Choose(turn.Mask(), choice * 7 % turn.Mask().size());
    HF_CHECK(turn.Accept(id).ok());
  }
}

}  // namespace
}  // namespace holdfast::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::model;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto tools = Json::Parse(text);
  if (!tools.ok()) return 0;
  const auto grammar = Grammar::Make(Vocabulary(), *tools);
  if (grammar.ok()) Walk(grammar->get(), text);
  return 0;
}
