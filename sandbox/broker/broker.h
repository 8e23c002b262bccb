// The broker: one small process with one thread that makes sessions, starts jobs in them, holds the clocks,
// and ends what has to end. It never runs a command itself. When the runtime is gone, so is all it made.
#pragma once

#include <linux/filter.h>
#include <poll.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "sandbox/broker/cgroup.h"
#include "sandbox/broker/channel.h"
#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/id_map.h"
#include "sandbox/broker/job.h"
#include "sandbox/broker/meters.h"
#include "sandbox/broker/session_init.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

class Broker {
 public:
  // `runtime` is the channel to the runtime.
  explicit Broker(Descriptor runtime);

  // Serves until the runtime is gone; then kills everything and returns once it is dead.
  void Run();

 private:
  enum class SessionState { kOpening, kOpen, kClosing };
  struct Session {
    uint64_t id = 0;
    wire::SessionSpec spec;
    std::string work;  // its own part of the layer's work directory
    SessionState state = SessionState::kOpening;
    Descriptor channel;
    Descriptor pidfd;
    Descriptor janitor;  // cleans up after earlier sessions of the layer
    pid_t pid = 0;
    int64_t deadline_ns = 0;
    wire::SessionReady ready;
    wire::Failure failure;     // told once the process is gone
    bool close_asked = false;  // told so by the runtime, not by a failure
    std::unique_ptr<DiskMeter> disk;
  };

  // Messages of the runtime.
  void HandleRuntime(Message& message);
  void OpenSession(Message& message);
  void CloseSession(uint64_t id);
  void StartJob(Message& message);
  void KillJob(Message& message);
  wire::Failure LaunchInSession(Session& session, Message& message, const Descriptor& far);
  wire::Failure LaunchBubblewrap(Session& session, Message& message, const wire::JobSpec& spec,
                                 Descriptor far, Job& job);

  // Sessions.
  wire::Failure CloneSession(Session& session, const std::vector<sock_filter>& filter);
  wire::Failure OpenMounts(const wire::SessionSpec& spec, SessionStart& start);
  wire::Failure OpenExtra(const wire::SessionSpec& spec, const wire::MountEntry& entry, Descriptor& mount);
  wire::Failure OpenPath(const wire::SessionSpec& spec, const std::string& path, int flags, wire::Stage stage,
                         Descriptor& place);
  wire::Failure MapOwner(const wire::SessionSpec& spec, const std::string& path, wire::Stage stage,
                         Descriptor& mount);
  wire::Failure Filter(const wire::SessionSpec& spec, const std::vector<sock_filter>*& filter);
  void HandleSession(Session& session);
  void SessionOpened(Session& session, Message& message);
  void SessionReady(Session& session, wire::SessionReady ready, Descriptor handle);
  wire::Failure OpenTree(const wire::SessionSpec& spec, Descriptor& handle);
  void FailSession(Session& session, wire::Failure failure);
  void ReapSession(Session& session);
  void EndSession(Session& session);
  void CleanLayer(Session& session);

  // Jobs.
  void HandleJob(Job& job);
  void JobReady(Job& job, Message& message);
  void FailJob(Job& job, const wire::Failure& failure);
  void FinishJob(Job& job, bool unkillable);
  void Kill(Job& job, wire::EndCause cause, bool at_once);
  void CheckTimes(int64_t now_ns);
  void CheckUsage(int64_t now_ns);
  void CheckDisk(int64_t now_ns);
  void CheckDiskOf(Job& job, const DiskMeter& disk);
  void CheckMachineMemory();

  // The loop.
  void Poll();
  int TimeoutMs(int64_t now_ns) const;
  void Tell(wire::MessageType type, uint64_t id, std::string body, Descriptor descriptor = Descriptor());
  void FlushOutbox();
  void Sweep();
  void Shutdown();

  struct Outgoing {
    wire::MessageType type;
    uint64_t id;
    std::string body;
    Descriptor descriptor;
  };

  Descriptor runtime_;
  const bool root_;
  const int landlock_abi_;
  CgroupPlaces cgroups_;
  IdMapper id_mapper_;
  std::map<std::tuple<bool, bool, bool, bool>, std::vector<sock_filter>> filters_;
  std::map<uint64_t, Session> sessions_;
  std::map<uint64_t, Job> jobs_;
  std::vector<Job> unkillable_;        // dead to the runtime, watched until the kernel lets go of them
  std::vector<Descriptor> monitors_;   // other children, not waited for yet
  std::vector<CgroupSet> old_groups_;  // still busy when their job ended
  std::deque<Outgoing> outbox_;
  bool runtime_gone_ = false;
  int64_t next_tick_ns_ = 0;
};

}  // namespace holdfast::sandbox
