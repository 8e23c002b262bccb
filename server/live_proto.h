// What may be seen of a session before it is durable, as clients see it (LiveUpdate in event.proto).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "agent/live_note.h"
#include "base/clock.h"
#include "model/tokenizer.h"

namespace holdfast::v1 {
class LiveUpdate;
}  // namespace holdfast::v1

namespace holdfast::server {

// How fast windows are prefilled: over all of a prefill so far, what was found in the store apart. One thread
// at a time.
class PrefillRates {
 public:
  // Tokens per second; 0: not known yet.
  double Take(const std::string& session, const sessions::PrefillProgress& progress, base::MonotonicTime now);

 private:
  struct Begun {
    int64_t tokens = 0;  // done then
    int64_t total = 0;
    base::MonotonicTime time;
  };
  std::map<std::string, Begun> begun_;  // prefills that have not ended
};

void PrefillToProto(const sessions::PrefillProgress& progress, double tokens_per_second, v1::LiveUpdate* out);
void SampledToProto(const agent::SampledTokens& tokens, const model::Tokenizer& tokenizer,
                    v1::LiveUpdate* out);

}  // namespace holdfast::server
