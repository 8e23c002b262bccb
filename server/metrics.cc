#include "server/metrics.h"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "agent/agent_event.h"
#include "base/sync_times.h"
#include "prometheus/counter.h"
#include "prometheus/exposer.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "server/tcp_listener.h"

namespace holdfast::server {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;

constexpr int64_t kObservationsMax = 4096;  // of one run of tokens

// In the order of sessions::CallStatus, from 1.
constexpr const char* kOutcomes[] = {"ok", "failed", "timed_out", "cancelled", "refused", "unknown"};
// In the order of sessions::SessionState, from 1.
constexpr const char* kSessionStates[] = {"idle", "running", "waiting", "paused", "closed"};

const Histogram::BucketBoundaries& Seconds() {
  static const auto& bounds = *new Histogram::BucketBoundaries{
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000};
  return bounds;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

double Count(uint64_t n) { return static_cast<double>(n); }

}  // namespace

class Metrics::Impl final : public prometheus::Collectable {
 public:
  void OnEvent(const std::string& session, const sessions::Event& event) {
    const std::lock_guard lock(mutex_);
    Session& seen = sessions_[session];
    if (const auto* run = std::get_if<sessions::TokenRun>(&event.body)) OnTokens(seen, *run, event.utc_ms);
    if (const auto* work = std::get_if<sessions::TokensAccounted>(&event.body)) OnWork(seen, *work);
    if (const auto* changed = std::get_if<sessions::StateChanged>(&event.body)) {
      seen.state = changed->state;
      seen.fed_ms = seen.sampled_ms = 0;
    }
    if (std::get_if<sessions::Recovered>(&event.body) != nullptr) {
      seen.recovered = true;
      seen.fed_since = 0;
      recoveries_.Increment();
    }
    if (const auto* ended = std::get_if<sessions::CallOutcome>(&event.body)) {
      const size_t index = static_cast<size_t>(ended->status) - 1;
      if (index < std::size(kOutcomes)) outcomes_.Add({{"outcome", kOutcomes[index]}}).Increment();
      if (ended->status == sessions::CallStatus::kUnknown) unknown_outcomes_.Increment();
    }
    if (const auto* agent = std::get_if<sessions::AgentEvent>(&event.body)) OnAgent(seen, *agent);
  }

  void OnCall(const CallRecord& call) {
    calls_.Add({{"method", std::string(call.method)}, {"code", CodeName(call.status)}}).Increment();
    call_seconds_.Add({{"method", std::string(call.method)}}, Seconds())
        .Observe(static_cast<double>(call.took_ns) / 1e9);
  }

  void OnRefused(std::string_view door) { refused_.Add({{"door", std::string(door)}}).Increment(); }

  base::Status Serve(const std::string& address, std::function<void(MetricsSample&)> sample,
                     const std::shared_ptr<Impl>& self /* shared with the library that serves it */) {
    HF_RETURN_IF_ERROR(CheckLoopback(address));
    {
      const std::lock_guard lock(mutex_);
      sample_ = std::move(sample);
    }
    try {
      exposer_ = std::make_unique<prometheus::Exposer>(address, 1);
      exposer_->RegisterCollectable(self);
    } catch (const std::exception& error) {
      return base::FailedPrecondition("metrics at " + address + ": " + error.what());
    }
    return {};
  }
  void StopServing() { exposer_.reset(); }

  int port() const {
    if (exposer_ == nullptr) return 0;
    const std::vector<int> ports = exposer_->GetListeningPorts();
    return ports.empty() ? 0 : ports[0];
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    const_cast<Impl*>(this)->Refresh();
    return registry_.Collect();
  }

 private:
  // What is known of a session that has done something since the start.
  struct Session {
    sessions::SessionState state = sessions::SessionState::kIdle;
    std::string goal;        // state; empty: none
    int64_t fed_ms = 0;      // when its prompt was committed; 0: an answer has begun
    int64_t sampled_ms = 0;  // when the last tokens of the answer were committed; 0: none
    bool recovered = false;  // no work was accounted for since
    uint64_t fed_since = 0;  // tokens, since it was recovered
  };

  void OnTokens(Session& seen, const sessions::TokenRun& run, int64_t utc_ms) {
    if (run.origin == sessions::TokenOrigin::kFed) {
      seen.fed_ms = utc_ms;
      seen.sampled_ms = 0;
      seen.fed_since += run.ids.size();
      return;
    }
    if (run.origin != sessions::TokenOrigin::kSampled || run.ids.empty()) return;
    if (seen.fed_ms != 0) {
      first_token_.Observe(static_cast<double>(std::max<int64_t>(utc_ms - seen.fed_ms, 0)) / 1e3);
      seen.fed_ms = 0;
    } else if (seen.sampled_ms != 0) {
      const auto tokens = static_cast<int64_t>(run.ids.size());
      const double seconds = static_cast<double>(std::max<int64_t>(utc_ms - seen.sampled_ms, 0)) / 1e3;
      for (int64_t i = 0; i < std::min(tokens, kObservationsMax); ++i) {
        between_tokens_.Observe(seconds / static_cast<double>(tokens));
      }
    }
    seen.sampled_ms = utc_ms;
  }

  void OnWork(Session& seen, const sessions::TokensAccounted& work) {
    prompt_tokens_.Increment(Count(work.prefilled));
    generation_tokens_.Increment(Count(work.decoded));
    prefix_queries_.Increment(Count(work.attached + work.prefilled));
    prefix_hits_.Increment(Count(work.attached));
    if (!std::exchange(seen.recovered, false)) return;
    if (work.prefilled > seen.fed_since) refilled_.Increment(Count(work.prefilled - seen.fed_since));
  }

  void OnAgent(Session& seen, const sessions::AgentEvent& event) {
    const auto body = agent::Decode(event);
    if (!body.ok() || !body->has_value()) return;
    if (std::get_if<agent::GoalSet>(&**body) != nullptr) seen.goal = "active";
    const auto* changed = std::get_if<agent::GoalChanged>(&**body);
    if (changed == nullptr) return;
    const std::string state = Lower(agent::GoalStateName(changed->state));
    if (seen.goal != state) goal_changes_.Add({{"state", state}}).Increment();
    seen.goal = state;
  }

  static std::string CodeName(const base::Status& status) { return absl::StatusCodeToString(status.code()); }

  // Called by whoever looks.
  void Refresh() {
    MetricsSample sample;
    std::function<void(MetricsSample&)> ask;
    {
      const std::lock_guard lock(mutex_);
      ask = sample_;
      RefreshStates();
    }
    if (ask) ask(sample);
    requests_running_.Set(static_cast<double>(sample.requests_running));
    requests_waiting_.Set(static_cast<double>(sample.requests_waiting));
    sessions_open_.Set(static_cast<double>(sample.sessions_open));
    watchers_.Set(static_cast<double>(sample.watchers));
    kv_disk_bytes_.Set(Count(sample.kv_disk_bytes));
    kv_memory_bytes_.Set(Count(sample.kv_memory_bytes));
    wal_bytes_.Set(Count(sample.wal_bytes));
    const base::SyncTimes syncs = base::GetSyncTimes();
    fsyncs_.Increment(std::max(0.0, Count(syncs.count) - fsyncs_.Value()));
    fsync_seconds_.Increment(std::max(0.0, Count(syncs.ns) / 1e9 - fsync_seconds_.Value()));
  }

  void RefreshStates() {
    std::map<std::string, double> sessions, goals;
    for (const char* state : kSessionStates) sessions[state] = 0;
    for (int state = 1; state <= static_cast<int>(agent::GoalState::kCancelled); ++state) {
      goals[Lower(agent::GoalStateName(static_cast<agent::GoalState>(state)))] = 0;
    }
    for (const auto& [id, seen] : sessions_) {
      sessions[kSessionStates[static_cast<size_t>(seen.state) - 1]] += 1;
      if (!seen.goal.empty()) goals[seen.goal] += 1;
    }
    for (const auto& [state, count] : sessions) session_states_.Add({{"state", state}}).Set(count);
    for (const auto& [state, count] : goals) goal_states_.Add({{"state", state}}).Set(count);
  }

  Counter& MakeCounter(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry_).Add({});
  }
  Gauge& MakeGauge(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry_).Add({});
  }
  Histogram& MakeHistogram(const char* name, const char* help) {
    return BuildHistogram().Name(name).Help(help).Register(registry_).Add({}, Seconds());
  }

  prometheus::Registry registry_;
  Gauge& requests_running_ =
      MakeGauge("holdfast_num_requests_running", "Orders that the model works on at the moment");
  Gauge& requests_waiting_ = MakeGauge("holdfast_num_requests_waiting", "Orders that wait for the model");
  Counter& prompt_tokens_ = MakeCounter("holdfast_prompt_tokens_total", "Tokens that were prefilled");
  Counter& generation_tokens_ = MakeCounter("holdfast_generation_tokens_total", "Tokens that were sampled");
  Counter& prefix_queries_ = MakeCounter("holdfast_prefix_cache_queries_total",
                                         "Tokens of prompts that were looked for in the KV store");
  Counter& prefix_hits_ =
      MakeCounter("holdfast_prefix_cache_hits_total", "Tokens of prompts that were found in the KV store");
  Counter& refilled_ = MakeCounter("holdfast_resume_reprefill_tokens_total",
                                   "Tokens that were prefilled again because a process had died");
  Counter& recoveries_ = MakeCounter("holdfast_sessions_recovered_total",
                                     "Sessions that were taken up after a process had died");
  Histogram& first_token_ =
      MakeHistogram("holdfast_time_to_first_token_seconds",
                    "From the commit of a prompt to the commit of the first tokens of its answer");
  Histogram& between_tokens_ = MakeHistogram("holdfast_inter_token_latency_seconds",
                                             "Between tokens of an answer, from the times of their commits");
  prometheus::Family<Counter>& outcomes_ = BuildCounter()
                                               .Name("holdfast_tool_outcome_total")
                                               .Help("Calls of tools that have ended, by how")
                                               .Register(registry_);
  Counter& unknown_outcomes_ =
      MakeCounter("holdfast_unknown_outcomes_total", "Calls of which nobody can say how they ended");
  prometheus::Family<Gauge>& session_states_ =
      BuildGauge()
          .Name("holdfast_sessions")
          .Help("Sessions that have done something since the start, by their state")
          .Register(registry_);
  prometheus::Family<Gauge>& goal_states_ =
      BuildGauge().Name("holdfast_goals").Help("Goals of these sessions, by their state").Register(registry_);
  prometheus::Family<Counter>& goal_changes_ = BuildCounter()
                                                   .Name("holdfast_goal_changes_total")
                                                   .Help("Changes of goals, by the state they led to")
                                                   .Register(registry_);
  Gauge& sessions_open_ = MakeGauge("holdfast_sessions_open", "Sessions that are held open");
  Gauge& watchers_ = MakeGauge("holdfast_watchers", "Streams that watch sessions");
  Gauge& kv_disk_bytes_ = MakeGauge("holdfast_kv_disk_bytes", "Of the files of the KV store");
  Gauge& kv_memory_bytes_ =
      MakeGauge("holdfast_kv_memory_bytes", "KV that is not on the disk yet, or read there");
  Gauge& wal_bytes_ = MakeGauge("holdfast_wal_bytes", "Of the write-ahead log of the record");
  Counter& fsyncs_ = MakeCounter("holdfast_fsync_seconds_count", "Times that the disk was waited for");
  Counter& fsync_seconds_ = MakeCounter("holdfast_fsync_seconds_sum", "For how long, all in all");
  prometheus::Family<Counter>& calls_ = BuildCounter()
                                            .Name("holdfast_rpcs_total")
                                            .Help("Calls of the API that were answered")
                                            .Register(registry_);
  prometheus::Family<Histogram>& call_seconds_ = BuildHistogram()
                                                     .Name("holdfast_rpc_seconds")
                                                     .Help("How long calls of the API took")
                                                     .Register(registry_);
  prometheus::Family<Counter>& refused_ = BuildCounter()
                                              .Name("holdfast_connections_refused_total")
                                              .Help("Connections that were closed at once")
                                              .Register(registry_);

  std::mutex mutex_;
  std::map<std::string, Session> sessions_;     // guarded by mutex_
  std::function<void(MetricsSample&)> sample_;  // the same
  std::unique_ptr<prometheus::Exposer> exposer_;
};

// shared, as the library wants what it collects from.
Metrics::Metrics() : impl_(std::make_shared<Impl>()) {}
Metrics::~Metrics() { impl_->StopServing(); }

void Metrics::OnEvent(const std::string& session, const sessions::Event& event) {
  impl_->OnEvent(session, event);
}
void Metrics::OnCall(const CallRecord& call) { impl_->OnCall(call); }
void Metrics::OnRefused(std::string_view door) { impl_->OnRefused(door); }

base::Status Metrics::Serve(const std::string& address, std::function<void(MetricsSample&)> sample) {
  return impl_->Serve(address, std::move(sample), impl_);
}
void Metrics::StopServing() { impl_->StopServing(); }
int Metrics::port() const { return impl_->port(); }

std::string Metrics::Text() const { return prometheus::TextSerializer().Serialize(impl_->Collect()); }

}  // namespace holdfast::server
