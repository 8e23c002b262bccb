// From events to documents.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sessions/event.h"

namespace holdfast::agent {

struct HistoryDocument {
  uint64_t seq = 0;  // of its event; of a turn of the model's, of its last tokens
  // Of a turn: the event that begins it, and the one that shows that it has ended; else as `seq`.
  uint64_t first = 0;
  uint64_t end = 0;
  std::string kind;
  std::string text;

  bool operator==(const HistoryDocument&) const = default;
};

struct GatheredHistory {
  std::vector<HistoryDocument> documents;  // ascending
  // The first event of what is not complete yet: the model's turn, or a call of a control tool. All from
  // there on is to be read again with what follows. 0: nothing is open.
  uint64_t open_from = 0;
};

// Rewinds of a log, by their events: to which event each goes back.
using Rewinds = std::map<uint64_t, uint64_t>;

// Those of `events` that count, given all rewinds that have to do with them.
std::vector<const sessions::Event*> LiveOf(std::span<const sessions::Event> events, const Rewinds& rewinds);

// `events` count, ascend, and do not begin in the middle of a turn. `said` gives the text of a turn's tokens.
GatheredHistory GatherHistory(std::span<const sessions::Event* const> events,
                              const std::function<std::string(std::span<const int32_t>)>& said);

// The tokens of the turn that begins with the first of `events` and is complete with the last.
std::vector<int32_t> TurnOf(std::span<const sessions::Event* const> events);

// What Fetch gives for an event that is no run of tokens; none: it is no document.
std::optional<std::string> FetchedText(const sessions::EventBody& body);

}  // namespace holdfast::agent
