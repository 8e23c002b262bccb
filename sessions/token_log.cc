#include "sessions/token_log.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace holdfast::sessions {
namespace {

base::Status Misfit(uint64_t seq, const std::string& what) {
  return base::DataLoss("event " + std::to_string(seq) + ": " + what);
}

}  // namespace

std::vector<EventRange> LiveHistory(std::span<const RewindPoint> rewinds, uint64_t last) {
  std::vector<EventRange> ranges;  // from the end
  uint64_t end = last;
  for (size_t i = rewinds.size(); i-- > 0;) {
    const RewindPoint& rewind = rewinds[i];
    HF_CHECK(rewind.to_seq < rewind.seq);
    if (rewind.seq > end) continue;  // itself left behind by a later one
    ranges.push_back({rewind.seq, end});
    end = rewind.to_seq;
  }
  if (end > 0) ranges.push_back({1, end});
  std::reverse(ranges.begin(), ranges.end());
  return ranges;
}

base::Status TokenLog::Apply(const Event& event) {
  if (const auto* run = std::get_if<TokenRun>(&event.body)) return Add(event.seq, *run);
  if (const auto* cut = std::get_if<TokensCut>(&event.body)) return Cut(event.seq, *cut);
  if (const auto* rewound = std::get_if<Rewound>(&event.body)) {
    stream_ = rewound->stream;
  } else if (const auto* created = std::get_if<SessionCreated>(&event.body)) {
    stream_ = created->stream;
  } else if (const auto* started = std::get_if<EpochStarted>(&event.body)) {
    if (started->epoch != epoch_ + 1) {
      return Misfit(event.seq,
                    "epoch " + std::to_string(started->epoch) + " after epoch " + std::to_string(epoch_));
    }
    epoch_ = started->epoch;
    window_.clear();
    spans_.clear();
  }
  return {};
}

base::Status TokenLog::Add(uint64_t seq, const TokenRun& run) {
  if (run.position != position()) {
    return Misfit(seq, "tokens for position " + std::to_string(run.position) + " of a window that ends at " +
                           std::to_string(position()));
  }
  const auto count = static_cast<int64_t>(run.ids.size());
  spans_.push_back(
      {.seq = seq, .position = run.position, .count = count, .origin = run.origin, .stream = stream_});
  window_.insert(window_.end(), run.ids.begin(), run.ids.end());
  uint64_t& total = run.origin == TokenOrigin::kFed       ? totals_.fed
                    : run.origin == TokenOrigin::kSampled ? totals_.sampled
                                                          : totals_.forced;
  total += run.ids.size();
  return {};
}

base::Status TokenLog::Cut(uint64_t seq, const TokensCut& cut) {
  if (cut.position < 0 || cut.count <= 0 || cut.count != position() - cut.position) {
    return Misfit(seq, "a cut of " + std::to_string(cut.count) + " tokens to position " +
                           std::to_string(cut.position) + " of a window that ends at " +
                           std::to_string(position()));
  }
  window_.resize(static_cast<size_t>(cut.position));
  while (!spans_.empty() && spans_.back().position >= cut.position) spans_.pop_back();
  if (!spans_.empty())
    spans_.back().count = std::min(spans_.back().count, cut.position - spans_.back().position);
  totals_.cut += static_cast<uint64_t>(cut.count);
  return {};
}

}  // namespace holdfast::sessions
