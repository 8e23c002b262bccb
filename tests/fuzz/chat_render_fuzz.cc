// Messages from anywhere: text and ids say the same, and no message forges a control token.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/chat.h"
#include "tests/model/text_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::model;
  const auto messages = Json::Parse(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!messages.ok()) return 0;
  const std::string dump = messages->Dump();
  HF_CHECK(Json::Parse(dump)->Dump() == dump);
  for (const ThinkingMode mode : {ThinkingMode::kChat, ThinkingMode::kThinking}) {
    const auto text = RenderText(*messages, {.mode = mode, .effort = "max"});
    const auto ids = RenderIds(*messages, {.mode = mode, .effort = "max"}, SmallTokenizer());
    HF_CHECK(text.ok() == ids.ok());
    if (text.ok()) HF_CHECK(SmallTokenizer().Decode(*ids).value_or("") == *text);
  }
  return 0;
}
