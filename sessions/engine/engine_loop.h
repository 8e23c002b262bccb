// The engine lane's side of the scheduler (sessions/scheduler.h): orders in, steps of the model, results out.
// Everything here runs on the engine lane.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "model/engine.h"
#include "model/sampler.h"
#include "sessions/kv_flusher.h"
#include "sessions/kv_timeline.h"
#include "sessions/scheduler.h"

namespace holdfast::sessions::engine {

// What the loop has to say; called on the engine lane.
class LoopOutput {
 public:
  virtual ~LoopOutput() = default;
  virtual void Prefilled(OrderId id, const PrefillProgress& progress) = 0;
  virtual void Sampled(OrderId id, int32_t token) = 0;
  virtual void Ended(OrderId id, const OrderEnd& end) = 0;
};

class EngineLoop {
 public:
  EngineLoop(base::Clock& clock, model::Engine& engine, KvCache& cache, KvFlusher* flusher,
             const SchedulerOptions& options, LoopOutput& output);
  ~EngineLoop();

  // `sampler` is that of order.decode.
  void Add(OrderId id, Order order, std::optional<model::Sampler> sampler);
  void Cancel(OrderId id);
  void Release(const std::string& session);
  void Forget(const std::string& session);
  void Pin(const std::string& session, const memory::BlockKey& end, std::span<const memory::BlockKey> tails);

  // One step for whoever is next; false when there was nothing to do.
  bool Step();

  SchedulerStats stats() const;

 private:
  struct Job;
  struct Warm;
  using Jobs = std::list<std::unique_ptr<Job>>;

  // Places.
  void FillPlaces();
  void GiveWay();
  Job* NextWaiting();
  bool IsHeld(Job& job);
  int UrgencyOf(const Job& job) const;
  void Enter(Job& job);
  void Leave(Job& job);
  std::optional<KvTimeline> TakeWarm(const Job& job);
  void KeepWarm(Job& job);

  // One step.
  struct Batch;
  void Gather(Batch& batch);
  void AddDecoders(Batch& batch);
  void AddPrefill(Batch& batch);
  int64_t PrefillRows(const Batch& batch) const;
  void Run(Batch& batch);
  void Advance(Job& job, std::span<const int32_t> fed, std::span<const float> logits);
  void Sample(Job& job, std::span<const float> logits);
  void Recover(Batch& batch, const base::Status& status);
  void End(Job& job, EndReason reason, base::Status status = {});
  void Sweep();

  base::Clock& clock_;
  model::Engine& engine_;
  KvCache& cache_;
  KvFlusher* const flusher_;
  const SchedulerOptions options_;
  LoopOutput& output_;

  Jobs waiting_;  // in the order in which they came or gave way
  Jobs active_;
  std::list<Warm> warm_;               // the last used first
  std::map<std::string, KvPin> pins_;  // of sessions without a place
  std::vector<float> logits_;
  double row_ns_ = 0;  // of prefill, as measured; 0: not yet
  SchedulerStats counts_;
};

}  // namespace holdfast::sessions::engine
