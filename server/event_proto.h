// Events of a session as clients see them (proto/holdfast/v1/event.proto), with the bounds that it states.
//
// Texts that are longer than their bound are cut and say so; JSON for programs that is longer is left out.
// Kinds that the API has no message for, and events that would be larger than an event may be all the same,
// are told as OtherEvent: the number counts.
//
// Threads: any. Cost: of an event's text.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "model/tokenizer.h"
#include "sessions/event.h"

namespace holdfast::v1 {
class EventView;
class SessionEvent;
}  // namespace holdfast::v1

namespace holdfast::server {

inline constexpr size_t kEventProtoBytesMax = size_t{1} << 20;
inline constexpr size_t kTokenTextBytesMax = size_t{256} << 10;
inline constexpr int kTokenIdsMax = 65'536;

// How much of events is wanted.
struct EventView {
  bool token_ids = false;
  bool fed_text = false;

  auto operator<=>(const EventView&) const = default;
};
EventView ViewOf(const v1::EventView& view);

// `out` is empty.
void EventToProto(const sessions::Event& event, const EventView& view, const model::Tokenizer& tokenizer,
                  v1::SessionEvent* out);

// What the tokens say, as far as it has at most `bytes_max` bytes; `cut`: that is not all. Ids without a
// token say nothing.
std::string TokenText(std::span<const int32_t> ids, const model::Tokenizer& tokenizer, size_t bytes_max,
                      bool* cut);

}  // namespace holdfast::server
