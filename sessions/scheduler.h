// Who is served by the model, and when. One engine works for all sessions: decoding sessions advance one
// token a step together, and prefills are cut into chunks that run beside them, so that nobody starves and
// nobody's next token waits for another's long prompt.
//
//   scheduler.Submit({.session = "s1", .tokens = window, .decode = Decode{...}}, listener)
//     -> OnPrefill ... OnTokens ... OnEnd
//
// An order names all tokens of the window. What is stored of them is attached, the rest is prefilled, and
// then tokens are sampled until one ends the turn. The result depends on the order alone: chunks, batches,
// preemption and what was stored change no bit of it. After an order its KV stays at hand for a while, since
// the next one of the session mostly goes on from there; an idle session holds nothing.
//
// Fairness. Orders of a higher priority go first, and take the place of lower ones between two steps. Among
// equals the prefill goes to whoever was served least since he came (a newcomer starts level with the least
// served), and when more orders are there than places each gives way after a quantum. Orders whose tokens
// begin alike do not prefill the same blocks twice: the later waits for the earlier one's.
//
// Threads: called, and calls back, on the control lane; the model runs on the engine lane. Destroyed when no
// task of the executor runs any more.
// Source: DESIGN section 3 and 6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "memory/block_key.h"
#include "model/engine.h"
#include "model/sampler.h"
#include "model/token_mask.h"
#include "sessions/kv_flusher.h"
#include "sessions/kv_timeline.h"

namespace holdfast::sessions {

// What limits the tokens of a turn; lives and is used on the engine lane.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Null: any token. Valid until the next call.
  virtual const model::TokenMask* Mask() = 0;
  virtual base::Status Accept(int32_t id) = 0;
  // Nothing may follow.
  virtual bool IsDone() const = 0;
};

struct Decode {
  model::SamplerOptions sampler;
  uint64_t seed = 0;
  uint32_t stream = 0;
  // Called once, on the engine lane, when sampling starts; none, or null: any token.
  std::function<std::unique_ptr<TokenConstraint>()> make_constraint;
  std::vector<int32_t> stop_ids;  // the turn ends with any of these
  int64_t tokens_max = 0;         // > 0
};

enum class Priority : uint8_t { kBackground, kNormal, kInteractive };

struct Order {
  std::string session;
  Priority priority = Priority::kNormal;
  std::vector<int32_t> tokens;       // at least one, of the vocabulary
  std::vector<int64_t> shared_ends;  // ends of prefixes that others will begin with: tails are kept there
  std::optional<Decode> decode;      // none: prefill only
};

enum class OrderId : uint64_t {};

struct PrefillProgress {
  int64_t attached = 0;  // tokens found in the store, now
  int64_t done = 0;      // tokens of the window that need no more work
  int64_t total = 0;
};

enum class EndReason : uint8_t {
  kStopToken,   // the last token is one of stop_ids
  kConstraint,  // the constraint is done
  kTokensMax,
  kPrefilled,  // nothing was to be sampled
  kCancelled,
  kError,  // `status` says what
};

// What an order took. attached + prefilled is the number of the order's tokens when nothing was done twice.
struct OrderCost {
  uint64_t attached = 0;   // tokens that were found in the store, the first time
  uint64_t prefilled = 0;  // tokens that were fed, those fed again after a loss or in another place included
  uint64_t decoded = 0;    // tokens that were sampled
};

struct OrderEnd {
  EndReason reason = EndReason::kError;
  base::Status status;
  OrderCost cost;
  // For the session's record (KvCache::Pin).
  memory::BlockKey kv_end;
  std::vector<memory::BlockKey> kv_tails;
};

// Called on the control lane, in this order; nothing after OnEnd.
class OrderListener {
 public:
  virtual ~OrderListener() = default;
  virtual void OnPrefill(const PrefillProgress& /*progress*/) {}
  virtual void OnTokens(std::vector<int32_t> ids) = 0;
  virtual void OnEnd(const OrderEnd& end) = 0;
};

struct SchedulerOptions {
  size_t places_max = 16;             // orders that hold KV memory at once
  size_t warm_max = 16;               // timelines kept at hand after their orders
  size_t orders_max = 1024;           // Submit refuses more
  int64_t aging_ns = 60'000'000'000;  // of waiting, then an order counts as of the next priority
  int64_t quantum_tokens = 4096;      // then another order may take the place
  int64_t step_ns_max = 200'000'000;  // of a step with decoders in it, as far as prefills decide it
  int64_t prefill_rows_min = 16;      // beside decoders, however slow
};

struct SchedulerStats {
  size_t waiting = 0;
  size_t active = 0;
  size_t warm = 0;
  uint64_t steps = 0;
  uint64_t rows = 0;  // fed to the engine
  uint64_t preemptions = 0;
};

class Scheduler {
 public:
  // All must outlive the scheduler and the executor's tasks. `flusher` may be null.
  Scheduler(base::Executor& executor, base::Clock& clock, model::Engine& engine, KvCache& cache,
            KvFlusher* flusher, const SchedulerOptions& options = {});
  ~Scheduler();

  // The listener must live until its OnEnd, or until the executor has shut down. ResourceExhausted beyond
  // orders_max; InvalidArgument for an order without tokens, with a token outside the vocabulary, a window
  // beyond the model's positions, or sampler options that do not go. One order of a session at a time:
  // FailedPrecondition for a second.
  base::StatusOr<OrderId> Submit(Order order, OrderListener& listener);

  // Ends an order between two steps: OnEnd follows with kCancelled, unless it has ended already. Tokens that
  // were sampled until then come first.
  void Cancel(OrderId id);

  // Gives up the memory that an idle session's KV still has; what is stored of it stays pinned.
  void Release(const std::string& session);
  // The same, and the pin: its KV may be evicted.
  void Forget(const std::string& session);
  // At start: keeps what the record says a session had (OrderEnd::kv_end, kv_tails).
  void Pin(const std::string& session, const memory::BlockKey& end, std::vector<memory::BlockKey> tails);

  // As of the last step.
  SchedulerStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::sessions
