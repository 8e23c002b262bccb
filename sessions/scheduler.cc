#include "sessions/scheduler.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/check.h"
#include "sessions/engine/engine_loop.h"

namespace holdfast::sessions {

class Scheduler::Impl final : public engine::LoopOutput {
 public:
  Impl(base::Executor& executor, base::Clock& clock, model::Engine& engine, KvCache& cache,
       KvFlusher* flusher, const SchedulerOptions& options)
      : executor_(executor),
        config_(engine.config()),
        options_(options),
        loop_(clock, engine, cache, flusher, options, *this) {}

  // --- Control lane

  base::StatusOr<OrderId> Submit(Order order, OrderListener& listener);
  void Cancel(OrderId id) {
    OnEngine([this, id] { loop_.Cancel(id); });
  }
  void Release(const std::string& session) {
    OnEngine([this, session] { loop_.Release(session); });
  }
  void Forget(const std::string& session) {
    OnEngine([this, session] { loop_.Forget(session); });
  }
  void Pin(const std::string& session, const memory::BlockKey& end, std::vector<memory::BlockKey> tails) {
    OnEngine([this, session, end, tails = std::move(tails)] { loop_.Pin(session, end, tails); });
  }
  SchedulerStats stats() const {
    const std::lock_guard lock(mu_);
    return stats_;
  }

  // --- Engine lane

  void Prefilled(OrderId id, const PrefillProgress& progress) override {
    Tell(id, [progress](OrderListener& listener) { listener.OnPrefill(progress); });
  }
  void Sampled(OrderId id, int32_t token) override {
    Tell(id, [token](OrderListener& listener) { listener.OnTokens({token}); });
  }
  void Ended(OrderId id, const OrderEnd& end) override;

 private:
  struct Open {
    std::string session;
    OrderListener* listener = nullptr;
  };

  base::Status Check(const Order& order) const;
  template <class Call>
  void Tell(OrderId id, Call call);
  void OnEngine(base::Task task);
  void Run();

  base::Executor& executor_;
  const model::ModelConfig& config_;
  const SchedulerOptions options_;

  // Control lane.
  uint64_t next_id_ = 1;
  std::map<OrderId, Open> open_;
  std::set<std::string> sessions_;

  // Engine lane.
  engine::EngineLoop loop_;
  bool step_posted_ = false;

  mutable std::mutex mu_;
  SchedulerStats stats_;  // guarded by mu_
};

base::Status Scheduler::Impl::Check(const Order& order) const {
  if (open_.size() >= options_.orders_max) {
    return base::ResourceExhausted("the scheduler has " + std::to_string(open_.size()) +
                                   " orders; try again when some have ended");
  }
  if (sessions_.contains(order.session)) {
    return base::FailedPrecondition("session " + order.session + " has an order already");
  }
  if (order.tokens.empty()) return base::InvalidArgument("an order without tokens");
  const int64_t wanted = static_cast<int64_t>(order.tokens.size()) +
                         (order.decode ? std::max<int64_t>(order.decode->tokens_max, 0) : 0);
  if (order.decode && order.decode->tokens_max <= 0) return base::InvalidArgument("an order for no tokens");
  if (wanted > config_.max_positions) {
    return base::InvalidArgument("a window of " + std::to_string(wanted) + " tokens; the model has " +
                                 std::to_string(config_.max_positions) + " positions");
  }
  const auto unknown = [this](int32_t id) { return id < 0 || id >= config_.vocab_size; };
  const auto bad = std::find_if(order.tokens.begin(), order.tokens.end(), unknown);
  if (bad != order.tokens.end()) {
    return base::InvalidArgument("token " + std::to_string(*bad) + " is not in the vocabulary");
  }
  return {};
}

base::StatusOr<OrderId> Scheduler::Impl::Submit(Order order, OrderListener& listener) {
  HF_RETURN_IF_ERROR(Check(order));
  std::optional<model::Sampler> sampler;
  if (order.decode) {
    HF_ASSIGN_OR_RETURN(model::Sampler made, model::Sampler::Make(order.decode->sampler));
    sampler.emplace(std::move(made));
  }
  const OrderId id{next_id_++};
  open_.emplace(id, Open{.session = order.session, .listener = &listener});
  sessions_.insert(order.session);
  OnEngine([this, id, order = std::move(order), sampler = std::move(sampler)]() mutable {
    loop_.Add(id, std::move(order), std::move(sampler));
  });
  return id;
}

// What was admitted must get through: the number of orders bounds what is posted.
void Scheduler::Impl::OnEngine(base::Task task) {
  executor_.PostResult(base::Lane::kEngine, [this, task = std::move(task)]() mutable {
    task();
    if (!std::exchange(step_posted_, true)) executor_.PostResult(base::Lane::kEngine, [this] { Run(); });
  });
}

// One step at a time, so that new orders and cancels get in between.
void Scheduler::Impl::Run() {
  step_posted_ = loop_.Step();
  {
    const std::lock_guard lock(mu_);
    stats_ = loop_.stats();
  }
  if (step_posted_) executor_.PostResult(base::Lane::kEngine, [this] { Run(); });
}

template <class Call>
void Scheduler::Impl::Tell(OrderId id, Call call) {
  executor_.PostResult(base::Lane::kControl, [this, id, call] { call(*open_.at(id).listener); });
}

void Scheduler::Impl::Ended(OrderId id, const OrderEnd& end) {
  executor_.PostResult(base::Lane::kControl, [this, id, end] {
    const auto found = open_.find(id);
    OrderListener* listener = found->second.listener;
    sessions_.erase(found->second.session);
    open_.erase(found);
    listener->OnEnd(end);  // may submit the next order
  });
}

Scheduler::Scheduler(base::Executor& executor, base::Clock& clock, model::Engine& engine, KvCache& cache,
                     KvFlusher* flusher, const SchedulerOptions& options)
    : impl_(std::make_unique<Impl>(executor, clock, engine, cache, flusher, options)) {}
Scheduler::~Scheduler() = default;

base::StatusOr<OrderId> Scheduler::Submit(Order order, OrderListener& listener) {
  return impl_->Submit(std::move(order), listener);
}
void Scheduler::Cancel(OrderId id) { impl_->Cancel(id); }
void Scheduler::Release(const std::string& session) { impl_->Release(session); }
void Scheduler::Forget(const std::string& session) { impl_->Forget(session); }
void Scheduler::Pin(const std::string& session, const memory::BlockKey& end,
                    std::vector<memory::BlockKey> tails) {
  impl_->Pin(session, end, std::move(tails));
}
SchedulerStats Scheduler::stats() const { return impl_->stats(); }

}  // namespace holdfast::sessions
