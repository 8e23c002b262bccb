// tokenizer.json from anywhere: an error or a tokenizer whose encoding round trips.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using holdfast::model::AddedTokens;
  const auto tokenizer =
      holdfast::model::Tokenizer::FromJson(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!tokenizer.ok()) return 0;
  constexpr std::string_view kText = "Hello <think>, 12345 \xFF 你好\n\n  <｜User｜>!";
  for (const AddedTokens added : {AddedTokens::kMatch, AddedTokens::kPlain}) {
    const auto ids = (*tokenizer)->Encode(kText, added);
    if (ids.ok()) HF_CHECK((*tokenizer)->Decode(*ids).value_or("") == kText);
  }
  return 0;
}
