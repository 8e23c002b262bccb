// Figures of a running daemon for Prometheus, as text at http://ADDRESS/metrics. Names, labels and units are
// in docs/operations.md. Everything is counted from the start of the process.
//
// Threads: OnEvent on the control lane; the rest from any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "server/call_gate.h"
#include "sessions/event.h"

namespace holdfast::server {

// What is asked for whenever somebody looks.
struct MetricsSample {
  int64_t requests_running = 0;
  int64_t requests_waiting = 0;
  int64_t sessions_open = 0;
  int64_t watchers = 0;
  uint64_t kv_disk_bytes = 0;
  uint64_t kv_memory_bytes = 0;
  uint64_t wal_bytes = 0;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();

  // Counts what became durable.
  void OnEvent(const std::string& session, const sessions::Event& event);
  void OnCall(const CallRecord& call);
  // A connection was not let in.
  void OnRefused(std::string_view door);

  // Answers requests at `address` (loopback only, numeric: "127.0.0.1:9464") until destroyed. `sample` fills
  // in what it knows at the moment, from a thread of the server's; it must not take long. InvalidArgument for
  // another address; FailedPrecondition when it is not to be had. Once.
  base::Status Serve(const std::string& address, std::function<void(MetricsSample&)> sample);
  void StopServing();  // `sample` is not called any more
  int port() const;    // 0: not served

  // As it is served.
  std::string Text() const;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;  // shared with the library that serves it
};

}  // namespace holdfast::server
