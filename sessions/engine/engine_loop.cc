#include "sessions/engine/engine_loop.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace holdfast::sessions::engine {
namespace {

// Failed steps of a job without a token of progress: then the fault is not in what was stored.
constexpr int kFruitlessStepsMax = 3;

int64_t CommonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t shorter = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(shorter), b.begin()).first - a.begin();
}

}  // namespace

struct EngineLoop::Job {
  OrderId id{};
  Order order;
  std::vector<int32_t> tokens;  // those of the order, and what was sampled
  int64_t prompt_size = 0;      // those of the order
  std::optional<model::Sampler> sampler;
  std::unique_ptr<TokenConstraint> constraint;
  bool constraint_made = false;

  std::optional<KvTimeline> line;  // while it has a place
  KvPin pin;                       // while it has none
  bool entered = false;            // has had a place before
  base::MonotonicTime waiting_since;
  std::map<OrderId, int64_t> common;  // tokens that it begins with as others do
  int64_t served = 0;                 // rows, for fairness: comparable among those who have a place
  int64_t reached = 0;                // the most that was ever fed
  int64_t quantum_left = 0;           // beyond that
  bool leaving = false;               // at the next block boundary
  int fruitless = 0;
  OrderCost cost;
  std::optional<OrderEnd> end;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t unfed() const { return size() - line->position(); }
  // All but the last token are fed, so the next row gives the logits to sample from.
  bool IsDecoding() const { return order.decode.has_value() && unfed() == 1; }
  bool IsDone() const { return end.has_value() || (!order.decode.has_value() && unfed() == 0); }
};

struct EngineLoop::Warm {
  std::string session;
  std::vector<int32_t> tokens;
  KvTimeline line;
};

struct EngineLoop::Batch {
  std::vector<model::Feed> feeds;
  std::vector<Job*> jobs;  // parallel
  int64_t rows = 0;
  int64_t prefill_rows = 0;
  bool has_decoders = false;
};

EngineLoop::EngineLoop(base::Clock& clock, model::Engine& engine, KvCache& cache, KvFlusher* flusher,
                       const SchedulerOptions& options, LoopOutput& output)
    : clock_(clock), engine_(engine), cache_(cache), flusher_(flusher), options_(options), output_(output) {
  HF_CHECK(options.places_max > 0 && options.quantum_tokens > 0 && options.prefill_rows_min > 0);
}

EngineLoop::~EngineLoop() = default;

void EngineLoop::Add(OrderId id, Order order, std::optional<model::Sampler> sampler) {
  auto job = std::make_unique<Job>();
  job->id = id;
  job->tokens = std::move(order.tokens);
  job->prompt_size = job->size();
  job->order = std::move(order);
  job->sampler = std::move(sampler);
  job->waiting_since = clock_.MonotonicNow();
  waiting_.push_back(std::move(job));
}

void EngineLoop::Cancel(OrderId id) {
  for (Jobs* jobs : {&waiting_, &active_}) {
    for (std::unique_ptr<Job>& job : *jobs) {
      if (job->id == id) End(*job, EndReason::kCancelled);
    }
  }
  Sweep();
}

void EngineLoop::Release(const std::string& session) {
  const auto found =
      std::find_if(warm_.begin(), warm_.end(), [&session](const Warm& w) { return w.session == session; });
  if (found == warm_.end()) return;
  pins_.insert_or_assign(session, std::move(found->line).Park());
  warm_.erase(found);
}

void EngineLoop::Forget(const std::string& session) {
  Release(session);
  pins_.erase(session);
}

void EngineLoop::Pin(const std::string& session, const memory::BlockKey& end,
                     std::span<const memory::BlockKey> tails) {
  pins_.insert_or_assign(session, cache_.Pin(end, tails));
}

SchedulerStats EngineLoop::stats() const {
  SchedulerStats stats = counts_;
  stats.waiting = waiting_.size();
  stats.active = active_.size();
  stats.warm = warm_.size();
  return stats;
}

bool EngineLoop::Step() {
  GiveWay();
  FillPlaces();
  Batch batch;
  Gather(batch);
  if (!batch.feeds.empty()) Run(batch);
  Sweep();
  return !active_.empty() || !waiting_.empty();
}

// --- Places

// The priority, raised by one for each period of waiting: nobody waits for ever.
int EngineLoop::UrgencyOf(const Job& job) const {
  const int64_t waited = clock_.MonotonicNow().ns - job.waiting_since.ns;
  const int64_t raised =
      std::min<int64_t>(waited / options_.aging_ns, static_cast<int>(Priority::kInteractive));
  return static_cast<int>(job.order.priority) + static_cast<int>(raised);
}

// The most urgent first, then the order in which they came; those who wait for another's prefill are left
// out.
EngineLoop::Job* EngineLoop::NextWaiting() {
  Job* best = nullptr;
  for (std::unique_ptr<Job>& job : waiting_) {
    if (best != nullptr && UrgencyOf(*job) <= UrgencyOf(*best)) continue;
    if (!IsHeld(*job)) best = job.get();
  }
  return best;
}

// Whether somebody with a place is about to compute blocks that this one needs too.
bool EngineLoop::IsHeld(Job& job) {
  const int64_t block = cache_.layout().block_tokens;
  for (std::unique_ptr<Job>& other : active_) {
    const int64_t fed = other->line->position();
    if (other->IsDecoding()) continue;
    auto known = job.common.find(other->id);
    if (known == job.common.end()) {
      const int64_t tokens = CommonPrefix(job.tokens, other->tokens) / block * block;
      known = job.common.emplace(other->id, tokens).first;
    }
    const int64_t common = known->second;
    if (common <= fed) continue;
    other->line->WantTail(common);
    return true;
  }
  return false;
}

// Ends the turn of those whose place another should have.
void EngineLoop::GiveWay() {
  if (waiting_.empty() || active_.size() < options_.places_max) return;
  const Job* next = NextWaiting();
  if (next == nullptr) return;
  const int urgency = UrgencyOf(*next);
  Job* victim = nullptr;
  for (std::unique_ptr<Job>& job : active_) {
    const int priority = static_cast<int>(job->order.priority);
    const bool may_stay = priority > urgency || (priority == urgency && job->quantum_left > 0);
    if (may_stay) continue;
    const bool weaker = victim == nullptr || job->order.priority < victim->order.priority ||
                        (job->order.priority == victim->order.priority && job->served > victim->served);
    if (weaker) victim = job.get();
  }
  if (victim == nullptr) return;
  // A tail to come back to is taken at a boundary. One that decodes has the last boundary's.
  if (victim->IsDecoding()) return Leave(*victim);
  victim->leaving = true;
}

void EngineLoop::FillPlaces() {
  while (active_.size() < options_.places_max) {
    Job* next = NextWaiting();
    if (next == nullptr) return;
    Enter(*next);
  }
}

void EngineLoop::Enter(Job& job) {
  std::optional<KvTimeline> line = TakeWarm(job);
  // The last token is fed for its logits, so it is never attached.
  const std::span<const int32_t> known(job.tokens.data(), job.tokens.size() - (job.order.decode ? 1 : 0));
  job.line.emplace(line ? *std::move(line) : cache_.Attach(known));
  job.pin = KvPin{};
  pins_.erase(job.order.session);
  job.common.clear();
  for (const int64_t end : job.order.shared_ends) job.line->WantTail(end);
  job.quantum_left = options_.quantum_tokens;
  job.leaving = false;
  int64_t least = INT64_MAX;
  for (const std::unique_ptr<Job>& other : active_) least = std::min(least, other->served);
  job.served = active_.empty() ? 0 : least;
  if (!std::exchange(job.entered, true)) {
    job.cost.attached = static_cast<uint64_t>(job.line->position());
    output_.Prefilled(job.id, {.attached = job.line->position(),
                               .done = job.line->position(),
                               .total = static_cast<int64_t>(known.size())});
  }
  const auto at = std::find_if(waiting_.begin(), waiting_.end(),
                               [&job](const std::unique_ptr<Job>& w) { return w.get() == &job; });
  active_.splice(active_.end(), waiting_, at);
}

void EngineLoop::Leave(Job& job) {
  ++counts_.preemptions;
  job.pin = std::move(*job.line).Park();
  job.line.reset();
  job.waiting_since = clock_.MonotonicNow();
  const auto at = std::find_if(active_.begin(), active_.end(),
                               [&job](const std::unique_ptr<Job>& a) { return a.get() == &job; });
  waiting_.splice(waiting_.end(), active_, at);
}

// What the session's last order left, when this one goes on from there.
std::optional<KvTimeline> EngineLoop::TakeWarm(const Job& job) {
  const auto found = std::find_if(warm_.begin(), warm_.end(),
                                  [&job](const Warm& w) { return w.session == job.order.session; });
  if (found == warm_.end()) return std::nullopt;
  const int64_t wanted = job.size() - (job.order.decode ? 1 : 0);
  if (std::min(CommonPrefix(found->tokens, job.tokens), wanted) < found->line.position()) {
    Release(job.order.session);
    return std::nullopt;
  }
  KvTimeline line = std::move(found->line);
  warm_.erase(found);
  return line;
}

void EngineLoop::KeepWarm(Job& job) {
  job.tokens.resize(static_cast<size_t>(job.line->position()));
  warm_.push_front({job.order.session, std::move(job.tokens), *std::move(job.line)});
  job.line.reset();
  if (warm_.size() > options_.warm_max) Release(std::string(warm_.back().session));
}

// --- One step

void EngineLoop::Gather(Batch& batch) {
  AddDecoders(batch);
  AddPrefill(batch);
  if (batch.feeds.empty()) return;
  // Room for the logits of every job that has its last token in this step; the spans come after the resize.
  const auto vocab = static_cast<size_t>(engine_.config().vocab_size);
  logits_.resize(std::max(logits_.size(), batch.jobs.size() * vocab));
  for (size_t i = 0; i < batch.feeds.size(); ++i) {
    const bool last = static_cast<int64_t>(batch.feeds[i].tokens.size()) == batch.jobs[i]->unfed();
    if (!last || !batch.jobs[i]->order.decode.has_value()) continue;
    batch.feeds[i].logits = model::LogitRows::kLast;
    batch.feeds[i].logits_out = std::span(logits_).subspan(i * vocab, vocab);
  }
}

void EngineLoop::AddDecoders(Batch& batch) {
  // When there are more decoders than rows, those who were served least come first.
  std::vector<Job*> decoders;
  for (const std::unique_ptr<Job>& job : active_) {
    if (!job->IsDone() && job->IsDecoding()) decoders.push_back(job.get());
  }
  const auto rows = static_cast<size_t>(engine_.max_rows());
  if (decoders.size() > rows) {
    std::stable_sort(decoders.begin(), decoders.end(),
                     [](const Job* a, const Job* b) { return a->served < b->served; });
    decoders.resize(rows);
  }
  for (Job* job : decoders) {
    batch.feeds.push_back({.sequence = &job->line->sequence(), .tokens = std::span(job->tokens).last(1)});
    batch.jobs.push_back(job);
  }
  batch.rows = static_cast<int64_t>(decoders.size());
  batch.has_decoders = !decoders.empty();
}

int64_t EngineLoop::PrefillRows(const Batch& batch) const {
  const int64_t room = engine_.max_rows() - batch.rows;
  if (!batch.has_decoders || row_ns_ <= 0) return room;
  const auto affordable = static_cast<int64_t>(static_cast<double>(options_.step_ns_max) / row_ns_);
  return std::min(room, std::max(options_.prefill_rows_min, affordable));
}

void EngineLoop::AddPrefill(Batch& batch) {
  std::vector<Job*> prefills;
  for (const std::unique_ptr<Job>& job : active_) {
    if (!job->IsDone() && !job->IsDecoding()) prefills.push_back(job.get());
  }
  std::stable_sort(prefills.begin(), prefills.end(), [](const Job* a, const Job* b) {
    if (a->order.priority != b->order.priority) return a->order.priority > b->order.priority;
    return a->served < b->served;
  });
  const int64_t block = cache_.layout().block_tokens;
  int64_t left = PrefillRows(batch);
  for (Job* job : prefills) {
    if (left == 0) break;
    int64_t wanted = job->unfed();
    if (job->leaving) wanted = std::min(wanted, block - job->line->position() % block);
    const int64_t count = std::min(left, job->line->FeedLimit(wanted));
    batch.feeds.push_back(
        {.sequence = &job->line->sequence(),
         .tokens = std::span(job->tokens)
                       .subspan(static_cast<size_t>(job->line->position()), static_cast<size_t>(count))});
    batch.jobs.push_back(job);
    batch.rows += count;
    batch.prefill_rows += count;
    left -= count;
  }
}

void EngineLoop::Run(Batch& batch) {
  ++counts_.steps;
  const base::MonotonicTime begin = clock_.MonotonicNow();
  const base::Status status = engine_.Forward(batch.feeds);
  if (!status.ok()) return Recover(batch, status);
  counts_.rows += static_cast<uint64_t>(batch.rows);
  const auto took = static_cast<double>(clock_.MonotonicNow().ns - begin.ns);
  if (batch.prefill_rows > batch.rows / 2) {
    const double row_ns = took / static_cast<double>(batch.rows);
    row_ns_ = row_ns_ == 0 ? row_ns : 0.75 * row_ns_ + 0.25 * row_ns;
  }
  for (size_t i = 0; i < batch.jobs.size(); ++i) {
    Advance(*batch.jobs[i], batch.feeds[i].tokens, batch.feeds[i].logits_out);
  }
  if (flusher_ != nullptr) flusher_->Kick();
}

void EngineLoop::Advance(Job& job, std::span<const int32_t> fed, std::span<const float> logits) {
  const auto count = static_cast<int64_t>(fed.size());
  // What was sampled is fed once to get the token after it; that is no prefill.
  const int64_t fed_to = job.line->position() + count;
  const int64_t newly_sampled = std::max<int64_t>(0, fed_to - std::max(job.reached, job.prompt_size));
  job.cost.prefilled += static_cast<uint64_t>(count - newly_sampled);
  job.fruitless = 0;
  job.served += count;
  job.line->Fed(fed, job.leaving ? 0 : job.unfed() - count);
  const int64_t position = job.line->position();
  job.quantum_left -= std::max<int64_t>(0, position - job.reached);
  job.reached = std::max(job.reached, position);
  if (job.cost.decoded == 0) {
    const int64_t total = job.prompt_size - (job.order.decode ? 1 : 0);
    output_.Prefilled(job.id, {.attached = static_cast<int64_t>(job.cost.attached),
                               .done = std::min(position, total),
                               .total = total});
  }
  if (job.unfed() == 0) {
    job.order.decode.has_value() ? Sample(job, logits) : End(job, EndReason::kPrefilled);
  } else if (job.leaving && (position % cache_.layout().block_tokens == 0 || job.IsDecoding())) {
    Leave(job);
  }
}

void EngineLoop::Sample(Job& job, std::span<const float> logits) {
  const Decode& decode = *job.order.decode;
  if (!std::exchange(job.constraint_made, true) && decode.make_constraint) {
    job.constraint = decode.make_constraint();
  }
  const model::TokenMask* mask = job.constraint ? job.constraint->Mask() : nullptr;
  const base::StatusOr<int32_t> id = job.sampler->Sample(
      logits, mask,
      {.seed = decode.seed, .stream = decode.stream, .position = static_cast<uint64_t>(job.size())});
  if (!id.ok()) return End(job, EndReason::kError, id.status());
  if (job.constraint) {
    if (base::Status taken = job.constraint->Accept(*id); !taken.ok()) {
      return End(job, EndReason::kError, std::move(taken));
    }
  }
  job.tokens.push_back(*id);
  ++job.cost.decoded;
  output_.Sampled(job.id, *id);
  if (std::find(decode.stop_ids.begin(), decode.stop_ids.end(), *id) != decode.stop_ids.end()) {
    End(job, EndReason::kStopToken);
  } else if (job.constraint && job.constraint->IsDone()) {
    End(job, EndReason::kConstraint);
  } else if (static_cast<int64_t>(job.cost.decoded) >= decode.tokens_max) {
    End(job, EndReason::kTokensMax);
  }
}

// Damage in what was stored, or in the weights: everybody in the batch takes up again what is sound. Nothing
// else can fail that an order's checks have let through.
void EngineLoop::Recover(Batch& batch, const base::Status& status) {
  for (Job* job : batch.jobs) {
    if (!absl::IsDataLoss(status) || ++job->fruitless >= kFruitlessStepsMax) {
      End(*job, EndReason::kError, status);
    } else {
      job->line->Reattach();
    }
  }
}

void EngineLoop::End(Job& job, EndReason reason, base::Status status) {
  if (job.end.has_value()) return;
  OrderEnd& end = job.end.emplace();
  end.reason = reason;
  end.status = std::move(status);
  end.cost = job.cost;
  if (!job.line.has_value()) return;
  job.line->Checkpoint();
  end.kv_end = job.line->end_key();
  end.kv_tails = job.line->tail_keys();
}

// Takes leave of those that have ended.
void EngineLoop::Sweep() {
  for (Jobs* jobs : {&waiting_, &active_}) {
    for (auto at = jobs->begin(); at != jobs->end();) {
      Job& job = **at;
      if (job.line.has_value() && job.IsDone() && !job.end.has_value()) End(job, EndReason::kPrefilled);
      if (!job.end.has_value()) {
        ++at;
        continue;
      }
      if (job.line.has_value() && job.end->reason != EndReason::kError) KeepWarm(job);
      output_.Ended(job.id, *job.end);
      at = jobs->erase(at);
    }
  }
}

}  // namespace holdfast::sessions::engine
