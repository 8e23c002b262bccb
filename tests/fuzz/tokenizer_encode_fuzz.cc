// Any bytes: encoding round trips, and without added tokens it has none.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/tokenizer.h"
#include "tests/model/text_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using holdfast::model::AddedTokens;
  const holdfast::model::Tokenizer& tokenizer = holdfast::model::SmallTokenizer();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const AddedTokens added : {AddedTokens::kMatch, AddedTokens::kPlain}) {
    const auto ids = tokenizer.Encode(text, added);
    HF_CHECK(ids.ok());
    HF_CHECK(tokenizer.Decode(*ids).value_or("") == text);
    for (const int32_t id : *ids) HF_CHECK(added == AddedTokens::kMatch || !tokenizer.IsAdded(id));
  }
  return 0;
}
