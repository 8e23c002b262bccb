// Completion text from anywhere: the strict parser ends with a message or an error; what the incremental
// parser gives out is the same however the text is cut, and is valid JSON text.
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "model/chat.h"
#include "model/chat_stream.h"
#include "tests/model/text_testing.h"

namespace holdfast::model {
namespace {

struct Parsed {
  std::string message;
  bool complete = false;
};

Parsed ParseIds(const std::vector<int32_t>& ids, ThinkingMode mode) {
  auto parser = ChatStreamParser::Make(SmallTokenizer(), mode);
  HF_CHECK(parser.ok());
  std::vector<ChatEvent> events;
  for (const int32_t id : ids) (*parser)->Feed(id, &events);
  return {.message = (*parser)->Message().Dump(), .complete = (*parser)->IsComplete()};
}

void CheckCuts(std::string_view text, ThinkingMode mode) {
  const Tokenizer& tokenizer = SmallTokenizer();
  const auto ids = tokenizer.Encode(text, AddedTokens::kMatch);
  HF_CHECK(ids.ok());
  std::vector<int32_t> bytes;  // the same text, every ordinary token byte by byte
  for (const int32_t id : *ids) {
    if (tokenizer.IsAdded(id)) {
      bytes.push_back(id);
      continue;
    }
    for (const char byte : tokenizer.Bytes(id))
      bytes.push_back(*tokenizer.FindOrdinary(std::string(1, byte)));
  }
  const Parsed whole = ParseIds(*ids, mode), cut = ParseIds(bytes, mode);
  HF_CHECK(whole.complete == cut.complete);
  HF_CHECK(!whole.complete || whole.message == cut.message);
  HF_CHECK(Json::Parse(whole.message).ok());
}

}  // namespace
}  // namespace holdfast::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using holdfast::model::ThinkingMode;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const ThinkingMode mode : {ThinkingMode::kChat, ThinkingMode::kThinking}) {
    (void)holdfast::model::ParseCompletionText(text, mode);
    holdfast::model::CheckCuts(text, mode);
  }
  return 0;
}
