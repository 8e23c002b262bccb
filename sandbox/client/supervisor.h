// The runtime's side of the sandbox: the broker's process, one thread that waits for all sessions and jobs,
// and what is known of them.
//
// Two locks. Supervisor::mu_ guards the two maps and the state of sessions; JobRecord::mu guards one job. mu_
// may be held while a job's is taken, not the other way round. A record is removed by the supervisor's thread
// only, and only when its handle is gone and it has ended; so that thread, and a handle, use it without
// further care.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "sandbox/broker/channel.h"
#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/wire.h"
#include "sandbox/client/output_capture.h"
#include "sandbox/client/redactor.h"
#include "sandbox/sandbox.h"

namespace holdfast::sandbox {

struct Stream {
  Descriptor fd;  // read end; or the terminal's master
  std::unique_ptr<OutputCapture> capture;
};

struct JobRecord {
  uint64_t id = 0;
  uint64_t session = 0;
  // Constant after start.
  Limits limits;
  std::string directory;
  bool terminal = false;

  std::mutex mu;
  std::condition_variable changed;
  // Guarded by mu.
  Stream output;
  Stream error;
  Descriptor input;  // write end; a terminal's is output.fd
  std::string input_waiting;
  bool input_closing = false;
  bool input_closed = false;
  bool started = false;
  base::Status failure;  // the sandbox's
  std::optional<Outcome> outcome;
  bool released = false;    // the handle is gone
  bool limit_told = false;  // the broker was asked to end it for its output or idleness
  int64_t active_ns = 0;
  LayerSet layers = 0;
  absl::AnyInvocable<void(const Outcome&)> on_end;
};

struct SessionRecord {
  uint64_t id = 0;
  Policy policy;
  // Guarded by Supervisor::mu_.
  bool opened = false;
  bool ended = false;
  bool released = false;
  base::Status failure;
  wire::SessionReady ready;
  Descriptor workspace;  // while it has not ended
};

class Supervisor {
 public:
  static base::StatusOr<std::unique_ptr<Supervisor>> Start(SandboxOptions options);
  ~Supervisor();

  const HostFacts& host() const { return host_; }
  pid_t broker_pid() const { return broker_pid_; }
  const std::string& broker_path() const { return broker_path_; }

  base::StatusOr<SessionRecord*> OpenSession(Policy policy);
  void ReleaseSession(SessionRecord& session);
  base::StatusOr<Descriptor> OpenWorkspace(SessionRecord& session);

  base::StatusOr<JobRecord*> StartJob(SessionRecord& session, const Command& command, RunOptions options);
  void ReleaseJob(JobRecord& job);
  void KillJob(uint64_t id, wire::EndCause cause, bool at_once);
  base::Status WriteInput(JobRecord& job, std::string_view bytes);
  void CloseInput(JobRecord& job);

 private:
  Supervisor(SandboxOptions options, base::Clock& clock);

  base::Status SpawnBroker();
  base::Status AwaitHello();

  // The thread.
  void Loop();
  void PollOnce(std::vector<JobRecord*>& jobs);
  int TimeoutMs(const std::vector<JobRecord*>& jobs);
  void ServeJob(JobRecord& job, short output, short error, short input);
  void ReadBroker();
  void HandleBroker(Message& message);
  void HandleJob(Message& message);
  void BrokerLost();
  void EndJob(JobRecord& job, const wire::JobEnd& end);
  void FailJob(JobRecord& job, const wire::Failure& failure);
  void Conclude(JobRecord& job, std::unique_lock<std::mutex>& lock, Outcome outcome);
  void CheckLimits(JobRecord& job, int64_t now_ns);
  void RemoveReleased();

  bool ReadStream(JobRecord& job, Stream& stream, bool drain);
  void WriteWaiting(JobRecord& job);
  void Wake();
  bool Tell(wire::MessageType type, uint64_t id, std::string_view body, const std::vector<int>& fds = {});
  base::Status Lost() const;

  const SandboxOptions options_;
  base::Clock& clock_;
  const SecretSet secrets_;
  HostFacts host_;
  std::string broker_path_;
  pid_t broker_pid_ = -1;
  Descriptor broker_;
  Descriptor broker_pidfd_;
  Descriptor wake_;
  std::mutex send_mu_;

  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  std::map<uint64_t, std::unique_ptr<SessionRecord>> sessions_;
  std::map<uint64_t, std::unique_ptr<JobRecord>> jobs_;
  uint64_t next_id_ = 1;
  bool lost_ = false;
  bool stopping_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace holdfast::sandbox
