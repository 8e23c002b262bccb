#include "sandbox/broker/session_init.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "sandbox/broker/channel.h"
#include "sandbox/broker/job_init.h"
#include "sandbox/broker/kernel.h"
#include "sandbox/broker/session_root.h"

namespace holdfast::sandbox {
namespace {

using wire::Failure;
using wire::MessageType;
using wire::Stage;

constexpr int kChannel = 3;

class SessionInit {
 public:
  explicit SessionInit(SessionStart& start) : start_(start) {}

  [[noreturn]] void Run() {
    TakeDescriptors();
    Check(MapIds());
    DieWithBroker();
    Check(PrepareNamespaces());
    Descriptor handle;
    Check(BuildSessionRoot(start_, layers_, handle));
    start_.workspace.Reset();
    start_.layer.Reset();
    start_.extra.clear();
    AddNamespaceLayers();
    const wire::SessionReady ready = {
        .layers = layers_, .landlock_abi = static_cast<uint32_t>(start_.landlock_abi), .notes = notes_};
    if (!Send(kChannel, MessageType::kSessionOpened, start_.id, wire::Encode(ready), {handle.get()}))
      _exit(1);
    handle.Reset();
    Serve();
  }

 private:
  void Check(const Failure& failure) {
    if (failure.ok()) return;
    Send(kChannel, MessageType::kSessionFailed, start_.id, wire::Encode(failure));
    _exit(1);
  }

  // Keeps the channel and the two mounts the broker made; whatever else the broker has open is not for here.
  void TakeDescriptors() {
    std::vector<Descriptor*> kept = {&start_.channel, &start_.workspace, &start_.layer};
    for (Descriptor& mount : start_.extra) kept.push_back(&mount);
    const int above = kChannel + static_cast<int>(kept.size());
    for (Descriptor* fd : kept) {
      if (fd->valid()) *fd = Descriptor(fcntl(fd->get(), F_DUPFD_CLOEXEC, above + fd->get()));
    }
    for (int fd = 0; fd < kChannel; ++fd) close(fd);
    // 0, 1 and 2 stay taken, so that no mount lands where a job looks for its output.
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < kChannel; ++fd) {
      if (null != fd) dup2(null, fd);
    }
    int next = kChannel;
    for (Descriptor* fd : kept) {
      if (fd->valid()) *fd = Descriptor(dup3(fd->get(), next, O_CLOEXEC));
      ++next;
    }
    start_.channel.Release();  // from here on it is kChannel
    CloseFrom(above);
  }

  // An ordinary user maps itself; for root the broker does it, since nobody else may map another id.
  Failure MapIds() {
    if (!start_.broker_is_root) {
      prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // else these files belong to root
      char map[64];
      const auto line = [&](unsigned outside) {
        std::snprintf(map, sizeof(map), "%u %u 1\n", kInsideId, outside);
        return std::string_view(map);
      };
      if (!WriteText("/proc/self/setgroups", "deny")) return {Stage::kIdMap, errno, "setgroups"};
      if (!WriteText("/proc/self/uid_map", line(outside_uid_))) return {Stage::kIdMap, errno, "uid_map"};
      if (!WriteText("/proc/self/gid_map", line(outside_gid_))) return {Stage::kIdMap, errno, "gid_map"};
    } else {
      Message message;
      if (Receive(kChannel, true, message) != ReceiveResult::kMessage || message.type != MessageType::kGo)
        _exit(1);
      if (setresgid(kInsideId, kInsideId, kInsideId) != 0) return {Stage::kCredentials, errno, "setresgid"};
      if (setresuid(kInsideId, kInsideId, kInsideId) != 0) return {Stage::kCredentials, errno, "setresuid"};
    }
    if (getuid() != kInsideId || getgid() != kInsideId) return {Stage::kVerify, 0, "ids"};
    return {};
  }

  // Changing ids clears the wish to die with the parent, so it comes after. The parent may be gone by then.
  void DieWithBroker() {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pollfd channel = {kChannel, POLLIN, 0};
    if (poll(&channel, 1, 0) > 0 && (channel.revents & (POLLHUP | POLLERR)) != 0) _exit(1);
  }

  Failure PrepareNamespaces() {
    prctl(PR_SET_NAME, "session-init", 0, 0, 0);
    // Of a process with too much memory the jobs are the first to go, never the runtime.
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    WriteText("/proc/self/oom_score_adj", "1000");
    if (WriteText("/proc/sys/user/max_user_namespaces", "0")) layers_ |= wire::kLayerNoNestedUserNamespaces;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    // The host user's keys are not inherited. Where the kernel has no keys there is nothing to leave.
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr, 0, 0, 0) < 0 && errno != ENOSYS) {
      return {Stage::kCredentials, errno, "session keyring"};
    }
    if (sethostname("sandbox", 7) != 0) return {Stage::kRoot, errno, "hostname"};
    return start_.spec.host_network ? Failure{} : RaiseLoopback();
  }

  static Failure RaiseLoopback() {
    const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request = {};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (!socket.valid() || ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
      return {Stage::kLoopback, errno, ""};
    return {};
  }

  void AddNamespaceLayers() {
    layers_ |= wire::kLayerUserNamespace | wire::kLayerMountNamespace | wire::kLayerPidNamespace |
               wire::kLayerIpcNamespace | wire::kLayerUtsNamespace | wire::kLayerCgroupNamespace |
               wire::kLayerNonZeroUid;
    if (!start_.spec.host_network) layers_ |= wire::kLayerNetNamespace;
  }

  [[noreturn]] void Serve() {
    // Job processes are collected by the kernel: what became of them is told over their own channels.
    struct sigaction ignore = {};
    ignore.sa_handler = SIG_IGN;
    ignore.sa_flags = SA_NOCLDWAIT;
    sigaction(SIGCHLD, &ignore, nullptr);
    while (true) {
      Message message;
      if (Receive(kChannel, true, message) != ReceiveResult::kMessage) _exit(0);
      if (message.type != MessageType::kStartJob || message.descriptors.empty()) _exit(1);
      StartJob(message);
    }
  }

  void StartJob(Message& message) {
    const pid_t pid = CloneInto(CLONE_NEWPID | CLONE_NEWNS, nullptr);
    if (pid > 0) return;
    Descriptor channel = std::move(message.descriptors[0]);
    if (pid < 0) {
      const Failure failure = {Stage::kClone, errno, "job"};
      Send(channel.get(), MessageType::kJobFailed, message.id, wire::Encode(failure));
      return;
    }
    JobStart job = {.session = start_.spec,
                    .id = message.id,
                    .channel = std::move(channel),
                    .landlock_abi = start_.landlock_abi,
                    .filter = start_.filter};
    for (size_t i = 1; i < message.descriptors.size(); ++i) {
      job.standard.push_back(std::move(message.descriptors[i]));
    }
    if (!wire::Decode(message.body, job.spec)) _exit(1);
    RunJob(std::move(job));
  }

  SessionStart& start_;
  const unsigned outside_uid_ = start_.outside_uid;
  const unsigned outside_gid_ = start_.outside_gid;
  uint32_t layers_ = 0;
  std::string notes_;
};

}  // namespace

void RunSession(SessionStart start) { SessionInit(start).Run(); }

}  // namespace holdfast::sandbox
