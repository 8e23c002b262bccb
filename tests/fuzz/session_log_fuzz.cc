// A session's event from anywhere: two bytes of kind, then the body. What is accepted is the encoding of what
// it was read as, and a token log takes or refuses it without harm.
#include <cstdint>
#include <span>

#include "base/check.h"
#include "base/coding.h"
#include "sessions/event.h"
#include "sessions/token_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast;
  if (size < 2) return 0;
  const auto kind = static_cast<uint16_t>(data[0] | data[1] << 8);
  const auto bytes = std::as_bytes(std::span(data + 2, size - 2));
  auto body = sessions::DecodeBody(kind, bytes);
  if (!body.ok()) {
    HF_CHECK(absl::IsDataLoss(body.status()));
    return 0;
  }
  HF_CHECK(sessions::KindOf(*body) == kind);
  HF_CHECK(sessions::EncodeBody(*body) == base::AsText(bytes));
  sessions::TokenLog log;
  const sessions::Event event{.seq = 1, .body = *std::move(body)};
  if (!log.Apply(event).ok()) HF_CHECK(log.position() == 0);
  return 0;
}
