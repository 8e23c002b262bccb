#include "server/live_proto.h"

#include "holdfast/v1/event.pb.h"
#include "server/event_proto.h"
#include "server/proto_value.h"

namespace holdfast::server {
namespace {

constexpr size_t kBegunMax = 4096;  // of sessions whose prefill was cut off, too
constexpr int64_t kMeasuredNsMin = 10 * base::kNsPerMs;

}  // namespace

double PrefillRates::Take(const std::string& session, const sessions::PrefillProgress& progress,
                          base::MonotonicTime now) {
  if (begun_.size() >= kBegunMax) begun_.clear();
  const Begun first{.tokens = progress.done, .total = progress.total, .time = now};
  const auto [begun, is_new] = begun_.try_emplace(session, first);
  // Another window, or the same from an earlier place.
  if (begun->second.total != progress.total || progress.done < begun->second.tokens) begun->second = first;
  const int64_t took_ns = now.ns - begun->second.time.ns;
  const int64_t tokens = progress.done - begun->second.tokens;
  if (progress.done >= progress.total) begun_.erase(begun);
  if (took_ns < kMeasuredNsMin) return 0;
  return static_cast<double>(tokens) * static_cast<double>(base::kNsPerSecond) / static_cast<double>(took_ns);
}

void PrefillToProto(const sessions::PrefillProgress& progress, double tokens_per_second,
                    v1::LiveUpdate* out) {
  v1::PrefillProgress& told = *out->mutable_prefill();
  told.set_tokens_done(progress.done);
  told.set_tokens_total(progress.total);
  told.set_attached(progress.attached);
  told.set_tokens_per_second(tokens_per_second);
  if (tokens_per_second <= 0) return;
  const auto left = static_cast<double>(progress.total - progress.done);
  SetDuration(static_cast<int64_t>(left / tokens_per_second * 1000), told.mutable_time_left());
}

void SampledToProto(const agent::SampledTokens& tokens, const model::Tokenizer& tokenizer,
                    v1::LiveUpdate* out) {
  v1::TextDelta& told = *out->mutable_text();
  told.set_position(tokens.position);
  told.set_count(static_cast<int64_t>(tokens.ids.size()));
  bool cut = false;
  told.set_text(TokenText(tokens.ids, tokenizer, kTokenTextBytesMax, &cut));
  told.set_epoch(tokens.epoch);
}

}  // namespace holdfast::server
