#include "sandbox/broker/broker.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "sandbox/broker/bubblewrap.h"
#include "sandbox/broker/filter.h"
#include "sandbox/broker/kernel.h"
#include "sandbox/broker/landlock.h"
#include "sandbox/broker/mounts.h"
#include "sandbox/broker/open_in_time.h"
#include "sandbox/broker/pidfd.h"
#include "sandbox/broker/session_init.h"

namespace holdfast::sandbox {
namespace {

using wire::EndCause;
using wire::Failure;
using wire::MessageType;
using wire::Stage;

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kTickNs = 50 * kNsPerMs;
constexpr int64_t kJobSetupNs = 2000 * kNsPerMs;
constexpr int64_t kDeathNs = 5000 * kNsPerMs;
constexpr size_t kTreeMax = 20'000;  // processes looked at

uint64_t NamespaceFlags(const wire::SessionSpec& spec) {
  uint64_t flags =
      uint64_t{CLONE_NEWUSER} | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
  if (!spec.host_network) flags |= CLONE_NEWNET;
  return flags;
}

void SignalKill(const Descriptor& pidfd) {
  if (pidfd.valid()) SendSignal(pidfd, SIGKILL);
}

bool IsReadable(const Descriptor& fd) {
  pollfd polled = {fd.get(), POLLIN, 0};
  return fd.valid() && poll(&polled, 1, 0) > 0;
}

void NeverBlock(const Descriptor& fd) { fcntl(fd.get(), F_SETFL, O_NONBLOCK); }

}  // namespace

Broker::Broker(Descriptor runtime)
    : runtime_(std::move(runtime)), root_(geteuid() == 0), landlock_abi_(LandlockAbi()) {
  NeverBlock(runtime_);
  wire::Hello hello = {.root = root_, .landlock_abi = static_cast<uint32_t>(landlock_abi_)};
  cgroups_ = FindCgroups(hello.cgroups);
  RemoveStaleGroups(cgroups_);
  Tell(MessageType::kHello, 0, wire::Encode(hello));
}

void Broker::Run() {
  while (!runtime_gone_) {
    Poll();
    const int64_t now = MonotonicNs();
    CheckTimes(now);
    if (now >= next_tick_ns_) {
      CheckUsage(now);
      CheckDisk(now);
      CheckMachineMemory();
      next_tick_ns_ = MonotonicNs() + kTickNs;
    }
    Sweep();
    FlushOutbox();
  }
  Shutdown();
}

// --- the loop ---------------------------------------------------------------------------------------

void Broker::Poll() {
  std::vector<pollfd> polled = {
      {runtime_.get(), static_cast<short>(POLLIN | (outbox_.empty() ? 0 : POLLOUT)), 0}};
  std::vector<uint64_t> session_ids, job_ids;
  for (auto& [id, session] : sessions_) {
    polled.push_back({session.channel.get(), POLLIN, 0});
    polled.push_back({session.pidfd.get(), POLLIN, 0});
    polled.push_back({session.janitor.get(), POLLIN, 0});
    session_ids.push_back(id);
  }
  for (auto& [id, job] : jobs_) {
    polled.push_back({job.channel.get(), POLLIN, 0});
    polled.push_back({job.pidfd.get(), POLLIN, 0});
    job_ids.push_back(id);
  }
  if (poll(polled.data(), polled.size(), TimeoutMs(MonotonicNs())) < 0) return;
  size_t at = 1;
  for (const uint64_t id : session_ids) {
    const short events = polled[at].revents | polled[at + 1].revents | polled[at + 2].revents;
    at += 3;
    if (const auto found = sessions_.find(id); events != 0 && found != sessions_.end())
      HandleSession(found->second);
  }
  for (const uint64_t id : job_ids) {
    const short events = polled[at].revents | polled[at + 1].revents;
    at += 2;
    if (const auto found = jobs_.find(id); events != 0 && found != jobs_.end()) HandleJob(found->second);
  }
  if ((polled[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0) return;
  Message message;
  ReceiveResult result;
  while ((result = Receive(runtime_.get(), false, message)) == ReceiveResult::kMessage)
    HandleRuntime(message);
  runtime_gone_ = result != ReceiveResult::kEmpty;
}

int Broker::TimeoutMs(int64_t now_ns) const {
  int64_t due = INT64_MAX;
  for (const auto& [id, session] : sessions_) {
    if (session.state == SessionState::kOpening) due = std::min(due, session.deadline_ns);
  }
  for (const auto& [id, job] : jobs_) {
    if (job.deadline_ns != 0) due = std::min(due, job.deadline_ns);
    due = std::min(due, next_tick_ns_);
  }
  if (!old_groups_.empty() || !unkillable_.empty() || !monitors_.empty())
    due = std::min(due, now_ns + kTickNs);
  if (due == INT64_MAX) return -1;
  return static_cast<int>(std::clamp<int64_t>((due - now_ns + kNsPerMs - 1) / kNsPerMs, 0, 60'000));
}

// What is told to the runtime never waits here: a runtime that does not read must not keep clocks from
// running.
void Broker::Tell(MessageType type, uint64_t id, std::string body, Descriptor descriptor) {
  outbox_.push_back({type, id, std::move(body), std::move(descriptor)});
  FlushOutbox();
}

void Broker::FlushOutbox() {
  while (!outbox_.empty()) {
    Outgoing& next = outbox_.front();
    std::vector<int> fds;
    if (next.descriptor.valid()) fds.push_back(next.descriptor.get());
    if (!Send(runtime_.get(), next.type, next.id, next.body, fds)) {
      if (errno != EAGAIN && errno != ENOBUFS) runtime_gone_ = true;
      return;
    }
    outbox_.pop_front();
  }
}

void Broker::Sweep() {
  std::erase_if(old_groups_, [](CgroupSet& group) { return group.Remove(); });
  std::erase_if(monitors_, [](const Descriptor& monitor) {
    return IsReadable(monitor) && waitid(P_PIDFD, static_cast<id_t>(monitor.get()), nullptr, WEXITED) == 0;
  });
  std::erase_if(unkillable_, [](const Job& job) { return IsReadable(job.pidfd); });
}

void Broker::Shutdown() {
  for (auto& [id, session] : sessions_) SignalKill(session.pidfd);
  for (auto& [id, job] : jobs_) {
    SignalKill(job.pidfd);
    SignalKill(job.monitor);
  }
  const int64_t deadline = MonotonicNs() + kDeathNs;
  for (auto& [id, session] : sessions_) {
    const int64_t left_ms = (deadline - MonotonicNs()) / kNsPerMs;
    pollfd polled = {session.pidfd.get(), POLLIN, 0};
    poll(&polled, 1, static_cast<int>(std::max<int64_t>(left_ms, 0)));
    waitid(P_PIDFD, static_cast<id_t>(session.pidfd.get()), nullptr, WEXITED | WNOHANG);
    SignalKill(session.janitor);
  }
  // The groups of the last processes are free a moment after these are dead.
  for (auto& [id, job] : jobs_) old_groups_.push_back(std::move(job.cgroups));
  while (MonotonicNs() < deadline) {
    Sweep();
    if (old_groups_.empty()) return;
    poll(nullptr, 0, 5);
  }
}

// --- messages of the runtime ------------------------------------------------------------------------

void Broker::HandleRuntime(Message& message) {
  switch (message.type) {
    case MessageType::kOpenSession:
      return OpenSession(message);
    case MessageType::kCloseSession:
      return CloseSession(message.id);
    case MessageType::kStartJob:
      return StartJob(message);
    case MessageType::kKillJob:
      return KillJob(message);
    default:
      runtime_gone_ = true;  // not a runtime that speaks this protocol
  }
}

void Broker::OpenSession(Message& message) {
  Session session;
  session.id = message.id;
  if (!wire::Decode(message.body, session.spec) || sessions_.contains(message.id)) {
    runtime_gone_ = true;
    return;
  }
  Failure failure;
  Descriptor handle;
  const bool bubblewrap = session.spec.backend == wire::Backend::kBubblewrap;
  if (bubblewrap) {
    failure = OpenTree(session.spec, handle);
    if (access(kBubblewrapProgram, X_OK) != 0) failure = {Stage::kClone, errno, kBubblewrapProgram};
  } else {
    const std::vector<sock_filter>* filter = nullptr;
    failure = Filter(session.spec, filter);
    if (failure.ok()) failure = CloneSession(session, *filter);
  }
  if (!failure.ok()) {
    Tell(MessageType::kSessionFailed, session.id, wire::Encode(failure));
    return;
  }
  session.deadline_ns = MonotonicNs() + int64_t{session.spec.setup_ms} * kNsPerMs;
  const wire::SessionSpec& spec = session.spec;
  session.disk = std::make_unique<DiskMeter>(spec.overlay ? spec.layer + "/upper" : std::string(),
                                             spec.overlay ? spec.layer : spec.workspace_host);
  const uint64_t id = session.id;
  Session& kept = sessions_.emplace(id, std::move(session)).first->second;
  if (bubblewrap) SessionReady(kept, {.layers = BubblewrapLayers(kept.spec)}, std::move(handle));
}

// What the runtime gets of a session without a mount namespace of its own: the tree itself, seen as its
// commands see the owner of files, protected paths not covered.
Failure Broker::OpenTree(const wire::SessionSpec& spec, Descriptor& handle) {
  if (root_) return MapOwner(spec, spec.workspace_host, Stage::kWorkspace, handle);
  handle = Descriptor(open(spec.workspace_host.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return handle.valid() ? Failure{} : Failure{Stage::kWorkspace, errno, spec.workspace_host};
}

Failure Broker::Filter(const wire::SessionSpec& spec, const std::vector<sock_filter>*& filter) {
  // Memory in a memfd belongs to no process; without a control group nothing would bound it.
  const bool memfd = spec.use_cgroups && !cgroups_.memory.empty();
  auto& kept = filters_[{spec.host_network, spec.unix_sockets, spec.allow_debugging, memfd}];
  filter = &kept;
  if (!kept.empty()) return {};
  return BuildFilter({.host_network = spec.host_network,
                      .unix_sockets = spec.unix_sockets,
                      .allow_debugging = spec.allow_debugging,
                      .allow_memfd = memfd},
                     kept);
}

Failure Broker::CloneSession(Session& session, const std::vector<sock_filter>& filter) {
  const wire::SessionSpec& spec = session.spec;
  session.work = "s" + std::to_string(getpid()) + "-" + std::to_string(session.id);
  SessionStart start = {.spec = spec,
                        .work = session.work,
                        .id = session.id,
                        .broker_is_root = root_,
                        .outside_uid = geteuid(),
                        .outside_gid = getegid(),
                        .landlock_abi = spec.use_landlock ? landlock_abi_ : 0,
                        .filter = filter};
  if (!MakeChannel(session.channel, start.channel)) return {Stage::kDescriptors, errno, "session channel"};
  if (root_) {
    if (Failure f = OpenMounts(spec, start); !f.ok()) return f;
  }
  int pidfd = -1;
  session.pid = CloneInto(NamespaceFlags(spec), &pidfd);
  if (session.pid < 0) return {Stage::kClone, errno, "session"};
  if (session.pid == 0) RunSession(std::move(start));
  session.pidfd = Descriptor(pidfd);
  NeverBlock(session.channel);
  if (root_ && (!WriteIdMaps(session.pid, kInsideId, kRootModeHostId, kInsideId, kRootModeHostId) ||
                !Send(session.channel.get(), MessageType::kGo, session.id, ""))) {
    const int error = errno;
    SignalKill(session.pidfd);
    waitid(P_PIDFD, static_cast<id_t>(pidfd), nullptr, WEXITED);
    return {Stage::kIdMap, error, "session"};
  }
  return {};
}

// What is written to is seen through a map of its owner, which only root can make; everybody else's session
// runs as the owner already.
Failure Broker::OpenMounts(const wire::SessionSpec& spec, SessionStart& start) {
  if (Failure f = MapOwner(spec, spec.workspace_host, Stage::kWorkspace, start.workspace); !f.ok()) return f;
  if (spec.overlay) {
    if (Failure f = MapOwner(spec, spec.layer, Stage::kOverlay, start.layer); !f.ok()) return f;
  }
  for (const wire::MountEntry& entry : spec.mounts) {
    if (!OpenedByBroker(entry)) continue;
    if (Failure f = OpenExtra(spec, entry, start.extra.emplace_back()); !f.ok()) return f;
  }
  return {};
}

Failure Broker::OpenExtra(const wire::SessionSpec& spec, const wire::MountEntry& entry, Descriptor& mount) {
  Descriptor place;
  if (Failure f = OpenPath(spec, entry.host, 0, Stage::kSources, place); !f.ok()) {
    const bool absent = f.error == ENOENT || f.error == ENOTDIR;
    return absent && !entry.required ? Failure{} : f;
  }
  if (entry.kind == wire::MountKind::kReadWrite)
    return id_mapper_.Map(place, entry.host, Stage::kSources, mount);
  mount = CloneOpen(place.get());
  return mount.valid() ? Failure{} : Failure{Stage::kSources, errno, entry.host};
}

Failure Broker::OpenPath(const wire::SessionSpec& spec, const std::string& path, int flags, Stage stage,
                         Descriptor& place) {
  Descriptor left;
  place = OpenInTime(path.c_str(), flags, static_cast<int>(spec.setup_ms), left);
  const int error = errno;
  if (left.valid()) monitors_.push_back(std::move(left));
  if (place.valid()) return {};
  return error == ETIMEDOUT ? Failure{Stage::kDeadline, 0, path} : Failure{stage, error, path};
}

Failure Broker::MapOwner(const wire::SessionSpec& spec, const std::string& path, Stage stage,
                         Descriptor& mount) {
  Descriptor place;
  if (Failure f = OpenPath(spec, path, O_DIRECTORY, stage, place); !f.ok()) return f;
  return id_mapper_.Map(place, path, stage, mount);
}

void Broker::CloseSession(uint64_t id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) {
    Tell(MessageType::kSessionClosed, id, "");
    return;
  }
  Session& session = found->second;
  session.close_asked = true;
  session.state = SessionState::kClosing;
  for (auto& [job_id, job] : jobs_) {
    if (job.session == id && job.end.cause == EndCause::kNone) job.end.cause = EndCause::kSession;
  }
  SignalKill(session.pidfd);
  if (session.spec.backend == wire::Backend::kNamespaces) return;
  for (auto& [job_id, job] : jobs_) {
    if (job.session == id) Kill(job, EndCause::kSession, true);
  }
  EndSession(session);
}

void Broker::StartJob(Message& message) {
  wire::JobSpec spec;
  if (!wire::Decode(message.body, spec) || jobs_.contains(message.id)) {
    runtime_gone_ = true;
    return;
  }
  const auto fail = [&](Stage stage, int error, const char* detail) {
    Tell(MessageType::kJobFailed, message.id, wire::Encode(Failure{stage, error, detail}));
  };
  const auto session = sessions_.find(spec.session);
  if (session == sessions_.end() || session->second.state != SessionState::kOpen) {
    return fail(Stage::kGone, 0, "the session has ended");
  }
  Job job;
  Descriptor far;
  if (!MakeChannel(job.channel, far) || !TellSender(job.channel.get())) {
    return fail(Stage::kDescriptors, errno, "job channel");
  }
  NeverBlock(job.channel);
  for (const Descriptor& fd : message.descriptors) {
    // Else a script that writes to /dev/stderr would not be allowed to open what it already has.
    if (root_) [[maybe_unused]]
      const int ignored = fchown(fd.get(), kRootModeHostId, kRootModeHostId);
  }
  const Failure failure = session->second.spec.backend == wire::Backend::kNamespaces
                              ? LaunchInSession(session->second, message, far)
                              : LaunchBubblewrap(session->second, message, spec, std::move(far), job);
  if (!failure.ok()) return fail(failure.stage, failure.error, failure.detail.c_str());
  job.id = message.id;
  job.session = spec.session;
  job.limits = spec.limits;
  job.began_ns = MonotonicNs();
  job.deadline_ns = job.began_ns + kJobSetupNs;
  job.free_at_start = MeasureFreeSpace(session->second.disk->file_system().c_str());
  if (jobs_.empty()) next_tick_ns_ = job.began_ns + kTickNs;
  jobs_.emplace(job.id, std::move(job));
}

Failure Broker::LaunchInSession(Session& session, Message& message, const Descriptor& far) {
  std::vector<int> fds = {far.get()};
  for (const Descriptor& fd : message.descriptors) fds.push_back(fd.get());
  if (Send(session.channel.get(), MessageType::kStartJob, message.id, message.body, fds)) return {};
  return {Stage::kProtocol, errno, "session"};
}

Failure Broker::LaunchBubblewrap(Session& session, Message& message, const wire::JobSpec& spec,
                                 Descriptor far, Job& job) {
  BubblewrapStart start = {.spec = session.spec,
                           .job = spec,
                           .id = message.id,
                           .standard = std::move(message.descriptors),
                           .broker_is_root = root_};
  if (root_) {
    Failure f = MapOwner(session.spec, session.spec.workspace_host, Stage::kWorkspace, start.workspace);
    if (!f.ok()) return f;
  }
  // They wait in the socket until process 1 of the job is there to read them.
  if (!Send(job.channel.get(), MessageType::kOpenSession, message.id, wire::Encode(session.spec)) ||
      !Send(job.channel.get(), MessageType::kStartJob, message.id, message.body)) {
    return {Stage::kProtocol, errno, "job"};
  }
  start.channel = std::move(far);
  int pidfd = -1;
  const pid_t pid = CloneInto(0, &pidfd);
  if (pid < 0) return {Stage::kClone, errno, "bubblewrap"};
  if (pid == 0) RunBubblewrap(std::move(start));
  job.monitor = Descriptor(pidfd);
  return {};
}

void Broker::KillJob(Message& message) {
  wire::KillRequest request;
  if (!wire::Decode(message.body, request)) {
    runtime_gone_ = true;
    return;
  }
  if (const auto found = jobs_.find(message.id); found != jobs_.end()) {
    Kill(found->second, request.cause, request.at_once);
  }
}

// --- sessions ---------------------------------------------------------------------------------------

void Broker::HandleSession(Session& session) {
  Message message;
  while (Receive(session.channel.get(), false, message) == ReceiveResult::kMessage) {
    if (message.type == MessageType::kSessionOpened && session.state == SessionState::kOpening) {
      SessionOpened(session, message);
    } else if (message.type == MessageType::kSessionFailed && session.failure.ok()) {
      if (!wire::Decode(message.body, session.failure)) session.failure = {Stage::kProtocol, 0, "session"};
    }
  }
  if (IsReadable(session.janitor)) {
    waitid(P_PIDFD, static_cast<id_t>(session.janitor.get()), nullptr, WEXITED);
    session.janitor.Reset();
  }
  if (IsReadable(session.pidfd)) ReapSession(session);
}

void Broker::SessionOpened(Session& session, Message& message) {
  wire::SessionReady ready;
  if (!wire::Decode(message.body, ready) || message.descriptors.size() != 1)
    return FailSession(session, {Stage::kProtocol, 0, "session"});
  SessionReady(session, std::move(ready), std::move(message.descriptors[0]));
  if (session.spec.overlay) CleanLayer(session);
}

void Broker::SessionReady(Session& session, wire::SessionReady ready, Descriptor handle) {
  ready.host_uid = root_ ? kRootModeHostId : geteuid();
  ready.host_gid = root_ ? kRootModeHostId : getegid();
  ready.layers |= wire::kLayerDiskWatchdog | wire::kLayerCpuWatchdog | wire::kLayerProcessRlimit;
  const bool groups = session.spec.use_cgroups;
  ready.layers |= groups && !cgroups_.memory.empty() ? wire::kLayerMemoryCgroup : wire::kLayerMemoryWatchdog;
  if (groups && !cgroups_.pids.empty()) ready.layers |= wire::kLayerPidsCgroup;
  session.ready = ready;
  session.state = SessionState::kOpen;
  Tell(MessageType::kSessionOpened, session.id, wire::Encode(ready), std::move(handle));
}

// Removes what overlayfs left beside the layer in earlier sessions, in a process of its own: removing a
// directory can take milliseconds. It ends with the session, so that nobody is at the layer once that is
// closed.
void Broker::CleanLayer(Session& session) {
  int pidfd = -1;
  const pid_t pid = CloneInto(0, &pidfd);
  if (pid == 0) {
    CloseFrom(0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    RemoveTree(session.spec.layer + "/work", session.work);
    _exit(0);
  }
  if (pid > 0) session.janitor = Descriptor(pidfd);
}

void Broker::FailSession(Session& session, Failure failure) {
  if (session.failure.ok()) session.failure = std::move(failure);
  SignalKill(session.pidfd);
}

void Broker::ReapSession(Session& session) {
  waitid(P_PIDFD, static_cast<id_t>(session.pidfd.get()), nullptr, WEXITED | WNOHANG);
  if (session.janitor.valid()) {
    SignalKill(session.janitor);
    waitid(P_PIDFD, static_cast<id_t>(session.janitor.get()), nullptr, WEXITED);
  }
  EndSession(session);
}

void Broker::EndSession(Session& session) {
  const uint64_t id = session.id;
  if (session.state == SessionState::kOpening) {
    const Failure gone = {Stage::kGone, 0, "session-init ended"};
    Tell(MessageType::kSessionFailed, id, wire::Encode(session.failure.ok() ? gone : session.failure));
  }
  // Its jobs lived in its pid namespace: none of them is left.
  std::vector<uint64_t> jobs;
  for (auto& [job_id, job] : jobs_) {
    if (job.session == id) jobs.push_back(job_id);
  }
  for (const uint64_t job_id : jobs) {
    Job& job = jobs_.at(job_id);
    if (job.end.cause == EndCause::kNone) job.end.cause = EndCause::kSession;
    FinishJob(job, false);
  }
  if (session.state != SessionState::kOpening) Tell(MessageType::kSessionClosed, id, "");
  sessions_.erase(id);
}

// --- jobs -------------------------------------------------------------------------------------------

void Broker::HandleJob(Job& job) {
  Message message;
  ReceiveResult result = ReceiveResult::kEmpty;
  while (job.channel.valid() &&
         (result = Receive(job.channel.get(), false, message)) == ReceiveResult::kMessage) {
    switch (message.type) {
      case MessageType::kJobReady:
        JobReady(job, message);
        break;
      case MessageType::kJobStarted:
        if (job.state == JobState::kPreparing) {
          job.state = JobState::kRunning;
          job.deadline_ns = job.limits.wall_ms == 0
                                ? 0
                                : job.began_ns + static_cast<int64_t>(job.limits.wall_ms) * kNsPerMs;
        }
        Tell(MessageType::kJobStarted, job.id, wire::Encode(wire::JobReady{job.end.layers}),
             std::move(job.terminal));
        break;
      case MessageType::kJobFailed: {
        Failure failure;
        if (!wire::Decode(message.body, failure)) failure = {Stage::kProtocol, 0, "job"};
        FailJob(job, failure);
        break;
      }
      case MessageType::kJobStopped:
        job.end.stopped = true;
        break;
      case MessageType::kJobExited: {
        wire::JobExit exit;
        if (!wire::Decode(message.body, exit)) break;
        job.end.has_status = true;
        job.end.wait_status = exit.wait_status;
        job.end.cpu_us = exit.cpu_us;
        job.peak_resident_bytes = std::max(job.peak_resident_bytes, exit.peak_rss_bytes);
        job.end.wall_us = static_cast<uint64_t>(MonotonicNs() - job.began_ns) / 1000;
        job.state = JobState::kKilled;
        job.deadline_ns = MonotonicNs() + kDeathNs;
        break;
      }
      default:
        FailJob(job, {Stage::kProtocol, 0, "job"});
    }
  }
  if (result == ReceiveResult::kClosed || result == ReceiveResult::kBad) {
    job.channel.Reset();
    if (job.state == JobState::kStarting) {
      const Failure bubblewrap = {Stage::kClone, 0, "bubblewrap ended before the job began"};
      FailJob(job, job.monitor.valid() ? bubblewrap : Failure{Stage::kGone, 0, "job-init ended"});
      return FinishJob(job, false);
    }
  }
  if (IsReadable(job.pidfd)) FinishJob(job, false);
}

// The first of the two messages: process 1 exists and waits. Now it can be put into its groups.
void Broker::JobReady(Job& job, Message& message) {
  if (job.state != JobState::kStarting) {
    wire::JobReady ready;
    if (wire::Decode(message.body, ready)) job.end.layers |= ready.layers;
    return;
  }
  job.pid = message.sender;
  if (job.pid > 0) job.pidfd = OpenPidfd(job.pid);
  pollfd channel = {job.channel.get(), POLLIN, 0};
  if (!job.pidfd.valid() || (poll(&channel, 1, 0) > 0 && (channel.revents & POLLHUP) != 0)) {
    job.pidfd.Reset();  // it may be another process already
    return FailJob(job, {Stage::kGone, 0, "job-init ended"});
  }
  if (!message.descriptors.empty()) job.terminal = std::move(message.descriptors[0]);
  const Session& session = sessions_.at(job.session);
  job.state = JobState::kPreparing;
  job.end.layers = session.ready.layers & ~(wire::kLayerMemoryCgroup | wire::kLayerPidsCgroup);
  std::vector<Descriptor> doors;
  if (session.spec.use_cgroups) {
    job.cgroups =
        CgroupSet::Make(cgroups_, std::to_string(job.id), job.limits.memory_bytes, job.limits.processes);
    if (!job.cgroups.OpenDoors(doors)) return FailJob(job, {Stage::kCgroup, errno, "opening a group"});
  }
  if (job.cgroups.limits_memory()) job.end.layers |= wire::kLayerMemoryCgroup;
  if (job.cgroups.limits_processes()) job.end.layers |= wire::kLayerPidsCgroup;
  const std::string go = wire::Encode(wire::JobReady{job.end.layers});
  std::vector<int> fds;
  for (const Descriptor& door : doors) fds.push_back(door.get());
  if (!Send(job.channel.get(), MessageType::kGo, job.id, go, fds))
    FailJob(job, {Stage::kProtocol, errno, "job"});
}

void Broker::FailJob(Job& job, const Failure& failure) {
  if (!job.failed) Tell(MessageType::kJobFailed, job.id, wire::Encode(failure));
  job.failed = true;
  SignalKill(job.pidfd);
  if (job.state != JobState::kStarting) job.state = JobState::kKilled;
  job.deadline_ns = MonotonicNs() + kDeathNs;
}

void Broker::FinishJob(Job& job, bool unkillable) {
  if (!job.failed) {
    const CgroupUsage usage = job.cgroups.Usage();
    wire::JobEnd& end = job.end;
    end.cpu_us = std::max(end.cpu_us, usage.cpu_us);
    end.peak_memory_bytes = std::max(job.peak_resident_bytes, usage.memory_peak_bytes);
    end.process_limit_reached = end.process_limit_reached || usage.fork_failures > 0;
    if (end.cause == EndCause::kNone && usage.oom_kills > 0) end.cause = EndCause::kMemory;
    if (end.wall_us == 0) end.wall_us = static_cast<uint64_t>(MonotonicNs() - job.began_ns) / 1000;
    end.unkillable = unkillable;
    Tell(MessageType::kJobEnded, job.id, wire::Encode(end));
  }
  if (job.monitor.valid()) monitors_.push_back(std::move(job.monitor));
  if (!job.cgroups.Remove()) old_groups_.push_back(std::move(job.cgroups));
  const uint64_t id = job.id;
  if (unkillable) unkillable_.push_back(std::move(job));
  jobs_.erase(id);
}

void Broker::Kill(Job& job, EndCause cause, bool at_once) {
  if (job.state == JobState::kKilled) return;
  if (job.end.cause == EndCause::kNone) job.end.cause = cause;
  if (!at_once && job.state == JobState::kRunning &&
      Send(job.channel.get(), MessageType::kTerminate, job.id, "")) {
    job.state = JobState::kTerminating;
    job.deadline_ns = MonotonicNs() + static_cast<int64_t>(job.limits.kill_grace_ms) * kNsPerMs;
    return;
  }
  if (job.state == JobState::kTerminating && !at_once) return;
  job.state = JobState::kKilled;
  job.deadline_ns = MonotonicNs() + kDeathNs;
  if (job.pidfd.valid()) {
    SignalKill(job.pidfd);
  } else {
    job.channel.Reset();  // process 1 is not known yet; it ends when it finds nobody to talk to
    FailJob(job, {Stage::kDeadline, 0, "the job did not come up"});
  }
}

void Broker::CheckTimes(int64_t now_ns) {
  for (auto& [id, session] : sessions_) {
    if (session.state != SessionState::kOpening || now_ns < session.deadline_ns || !session.failure.ok())
      continue;
    // A file system that does not answer can hold the process beyond SIGKILL; the runtime is told now.
    const Failure late = {Stage::kDeadline, 0, "the session did not come up"};
    Tell(MessageType::kSessionFailed, session.id, wire::Encode(late));
    FailSession(session, late);
    session.state = SessionState::kClosing;
  }
  std::vector<uint64_t> due;
  for (auto& [id, job] : jobs_) {
    if (job.deadline_ns != 0 && now_ns >= job.deadline_ns) due.push_back(id);
  }
  for (const uint64_t id : due) {
    Job& job = jobs_.at(id);
    switch (job.state) {
      case JobState::kStarting:
      case JobState::kPreparing:
        FailJob(job, {Stage::kDeadline, 0, "the job did not come up"});
        job.channel.Reset();
        if (!job.pidfd.valid()) FinishJob(job, false);
        break;
      case JobState::kRunning:
        Kill(job, EndCause::kWall, false);
        break;
      case JobState::kTerminating:
        Kill(job, job.end.cause, true);
        break;
      case JobState::kKilled:
        FinishJob(job, true);
        break;
    }
  }
}

void Broker::CheckUsage(int64_t) {
  for (auto& [id, job] : jobs_) {
    if (job.state != JobState::kRunning && job.state != JobState::kTerminating) continue;
    const wire::LimitSpec& limits = job.limits;
    const CgroupUsage groups = job.cgroups.Usage();
    uint64_t cpu_us = groups.cpu_us;
    if (groups.oom_kills > 0) Kill(job, EndCause::kMemory, true);
    if (groups.fork_failures > 0) job.end.process_limit_reached = true;
    if (!job.cgroups.limits_memory() || !job.cgroups.counts_cpu() || !job.cgroups.limits_processes()) {
      const ProcessUsage tree = MeasureTree(job.pid, kTreeMax);
      cpu_us = std::max(cpu_us, tree.cpu_us);
      job.peak_resident_bytes = std::max(job.peak_resident_bytes, tree.resident_bytes);
      // Process 1 of the job is not the command's.
      if (limits.processes != 0 && tree.processes > limits.processes) job.end.process_limit_reached = true;
      if (!job.cgroups.limits_memory() && limits.memory_bytes != 0 &&
          tree.resident_bytes > limits.memory_bytes &&
          MeasureTreeMemoryExactly(job.pid, kTreeMax) > limits.memory_bytes) {
        Kill(job, EndCause::kMemory, true);
      }
    }
    job.end.cpu_us = std::max(job.end.cpu_us, cpu_us);
    if (limits.cpu_ms != 0 && cpu_us > limits.cpu_ms * 1000) Kill(job, EndCause::kCpu, false);
  }
}

void Broker::CheckDisk(int64_t now_ns) {
  for (auto& [session_id, session] : sessions_) {
    uint64_t bytes_limit = 0, inodes_limit = 0;
    std::vector<Job*> running;
    for (auto& [id, job] : jobs_) {
      if (job.session != session_id || job.state != JobState::kRunning) continue;
      running.push_back(&job);
      const auto lower = [](uint64_t a, uint64_t b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); };
      bytes_limit = lower(bytes_limit, job.limits.disk_bytes);
      inodes_limit = lower(inodes_limit, job.limits.disk_inodes);
    }
    if (running.empty()) continue;
    session.disk->Tick(now_ns, bytes_limit, inodes_limit);
    for (Job* job : running) CheckDiskOf(*job, *session.disk);
  }
}

// Who makes room in a layer that is too large must not be stopped: only a job under which it grew is.
void Broker::CheckDiskOf(Job& job, const DiskMeter& disk) {
  constexpr uint64_t kSlackBytes = 1 << 20;
  constexpr uint64_t kSlackInodes = 64;
  if (!disk.MeasuredSince(job.began_ns)) return;
  if (!job.disk_before_known) {
    job.disk_before_known = true;
    job.disk_bytes_before = disk.BytesAt(job.free_at_start);
    job.disk_inodes_before = disk.InodesAt(job.free_at_start);
  }
  const auto over = [](uint64_t value, uint64_t limit) { return limit != 0 && value > limit; };
  if (disk.bytes() > job.disk_bytes_before + kSlackBytes &&
      (over(disk.bytes(), job.limits.disk_bytes) || disk.nearly_full())) {
    Kill(job, EndCause::kDisk, true);
  } else if (disk.inodes() > job.disk_inodes_before + kSlackInodes &&
             (over(disk.inodes(), job.limits.disk_inodes) || disk.nearly_full())) {
    Kill(job, EndCause::kInodes, true);
  }
}

// The last line: whatever eats the machine's memory in ways that are counted for no process, the largest job
// goes before the machine does.
void Broker::CheckMachineMemory() {
  constexpr uint64_t kAvailableMin = 192 << 20;
  if (jobs_.empty() || MachineMemoryAvailable() >= kAvailableMin) return;
  Job* largest = nullptr;
  uint64_t most = 0;
  for (auto& [id, job] : jobs_) {
    if (job.pid == 0 || job.state == JobState::kKilled) continue;
    const uint64_t bytes = MeasureTree(job.pid, kTreeMax).resident_bytes;
    if (largest == nullptr || bytes > most) {
      largest = &job;
      most = bytes;
    }
  }
  if (largest != nullptr) Kill(*largest, EndCause::kMachineMemory, true);
}

}  // namespace holdfast::sandbox
