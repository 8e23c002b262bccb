// The tokens of a session, computed from its events: what stands in the window, and where it came from.
//
// A rewind leaves events behind that no longer count. LiveHistory says which do; a TokenLog is given those
// and no others. One thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "sessions/event.h"

namespace holdfast::sessions {

// Events `first` to `last`, both included.
struct EventRange {
  uint64_t first = 0;
  uint64_t last = 0;

  bool operator==(const EventRange&) const = default;
};

struct RewindPoint {
  uint64_t seq = 0;  // of the Rewound event
  uint64_t to_seq = 0;
};

// The events that count when the log ends with `last`, ascending. `rewinds` are all of the log up to there,
// ascending, each to_seq < seq; a Rewound event counts itself, until one further on goes back behind it.
// O(rewinds).
std::vector<EventRange> LiveHistory(std::span<const RewindPoint> rewinds, uint64_t last);

// Tokens of the window with one origin, put there by one event.
struct TokenSpan {
  uint64_t seq = 0;
  int64_t position = 0;
  int64_t count = 0;
  TokenOrigin origin = TokenOrigin::kFed;
  uint32_t stream = 0;  // that the log was in

  bool operator==(const TokenSpan&) const = default;
};

// Of all epochs together. fed + sampled + forced - cut is what the windows held when each was closed.
struct TokenTotals {
  uint64_t fed = 0;
  uint64_t sampled = 0;
  uint64_t forced = 0;
  uint64_t cut = 0;

  bool operator==(const TokenTotals&) const = default;
};

class TokenLog {
 public:
  // Takes the next live event; most kinds change nothing here. DataLoss, with the event's number, for one
  // that does not fit: a run that does not begin where the window ends, a cut of other tokens than the last,
  // an epoch that is not the next.
  base::Status Apply(const Event& event);

  std::span<const int32_t> window() const { return window_; }
  int64_t position() const { return static_cast<int64_t>(window_.size()); }
  std::span<const TokenSpan> spans() const { return spans_; }
  uint32_t epoch() const { return epoch_; }
  // Of the generator: what is sampled next belongs to it.
  uint32_t stream() const { return stream_; }
  const TokenTotals& totals() const { return totals_; }

 private:
  base::Status Add(uint64_t seq, const TokenRun& run);
  base::Status Cut(uint64_t seq, const TokensCut& cut);

  std::vector<int32_t> window_;
  std::vector<TokenSpan> spans_;
  uint32_t epoch_ = 0;
  uint32_t stream_ = 0;
  TokenTotals totals_;
};

}  // namespace holdfast::sessions
