#include "sandbox/broker/bubblewrap.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "sandbox/broker/channel.h"
#include "sandbox/broker/filter.h"
#include "sandbox/broker/id_map.h"
#include "sandbox/broker/job_init.h"
#include "sandbox/broker/kernel.h"
#include "sandbox/broker/landlock.h"
#include "sandbox/broker/mounts.h"
#include "sandbox/broker/session_init.h"

namespace holdfast::sandbox {
namespace {

using wire::Failure;
using wire::MessageType;
using wire::MountKind;
using wire::Stage;

constexpr int kChannel = 3;
constexpr char kSelf[] = "/run/holdfast-sandbox";
constexpr char kStage[] = "/mnt";  // where an id-mapped workspace is put for bwrap to find

using Words = std::vector<std::string>;

void Add(Words& words, std::initializer_list<std::string> more) { words.insert(words.end(), more); }

void AddMounts(const wire::SessionSpec& spec, Words& words) {
  for (const wire::MountEntry& entry : spec.mounts) {
    struct stat stat;
    const bool link =
        entry.kind == MountKind::kReadOnly && lstat(entry.host.c_str(), &stat) == 0 && S_ISLNK(stat.st_mode);
    if (link) {
      char target[4096];
      const ssize_t n = readlink(entry.host.c_str(), target, sizeof(target));
      if (n > 0) Add(words, {"--symlink", std::string(target, static_cast<size_t>(n)), entry.inside});
    } else if (entry.kind == MountKind::kReadWrite) {
      Add(words, {entry.required ? "--bind" : "--bind-try", entry.host, entry.inside});
    } else if (entry.kind != MountKind::kMask) {
      Add(words, {entry.required ? "--ro-bind" : "--ro-bind-try", entry.host, entry.inside});
    }
  }
}

// Protected paths of the workspace: only those there are, since bwrap would make the others on the host.
void AddProtected(const wire::SessionSpec& spec, const std::string& workspace, Words& words) {
  for (const wire::MountEntry& entry : spec.mounts) {
    if (entry.kind != MountKind::kMask) continue;
    const std::string host = workspace + "/" + entry.host;
    struct stat stat;
    if (lstat(host.c_str(), &stat) == 0 && !S_ISLNK(stat.st_mode))
      Add(words, {"--ro-bind", host, entry.inside});
  }
}

Words CommandLine(const wire::SessionSpec& spec, const std::string& workspace, const std::string& self) {
  Words words = {kBubblewrapProgram,
                 "--unshare-all",
                 "--unshare-user",
                 "--uid",
                 std::to_string(kInsideId),
                 "--gid",
                 std::to_string(kInsideId),
                 "--disable-userns",
                 "--die-with-parent",
                 "--as-pid-1",
                 "--hostname",
                 "sandbox",
                 "--cap-drop",
                 "ALL",
                 "--clearenv"};
  if (spec.host_network) Add(words, {"--share-net"});
  const auto tmpfs = [&](uint64_t bytes, const char* path) {
    Add(words, {"--size", std::to_string(bytes), "--tmpfs", path});
  };
  Add(words, {"--dev", "/dev", "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"});
  tmpfs(spec.shm_bytes, "/dev/shm");
  tmpfs(spec.tmp_bytes, "/tmp");
  tmpfs(spec.tmp_bytes, "/var/tmp");
  tmpfs(spec.home_bytes, kHome);
  AddMounts(spec, words);
  Add(words, {"--bind", workspace, spec.workspace_inside});
  AddProtected(spec, workspace, words);
  Add(words,
      {"--ro-bind", self, kSelf, "--remount-ro", "/dev", "--remount-ro", "/", "--", kSelf, "bubblewrap-job"});
  return words;
}

// Root becomes the user that sessions run as; the workspace it could not write to is put where bwrap finds
// it, in a mount namespace of this process.
Failure BecomeSessionUser(const BubblewrapStart& start) {
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return {Stage::kClone, errno, "bubblewrap"};
  }
  if (!AttachAt(start.workspace.get(), kStage)) return {Stage::kWorkspace, errno, kStage};
  if (setgroups(0, nullptr) != 0 || setresgid(kRootModeHostId, kRootModeHostId, kRootModeHostId) != 0 ||
      setresuid(kRootModeHostId, kRootModeHostId, kRootModeHostId) != 0) {
    return {Stage::kCredentials, errno, "bubblewrap"};
  }
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  return {};
}

void TakeDescriptors(BubblewrapStart& start) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int standard[3];
  for (size_t i = 0; i < 3; ++i) {
    standard[i] = fcntl(i < start.standard.size() ? start.standard[i].get() : null, F_DUPFD_CLOEXEC, 64);
  }
  const int channel = fcntl(start.channel.get(), F_DUPFD_CLOEXEC, 64);
  for (Descriptor& fd : start.standard) fd.Release();
  start.channel.Release();
  for (int i = 0; i < 3; ++i) dup2(standard[i], i);
  dup2(channel, kChannel);  // inherited on purpose: bwrap leaves it open, and process 1 needs it
  CloseFrom(kChannel + 1);
}

[[noreturn]] void Fail(uint64_t id, const Failure& failure) {
  Send(kChannel, MessageType::kJobFailed, id, wire::Encode(failure));
  _exit(1);
}

}  // namespace

void RunBubblewrap(BubblewrapStart start) {
  ResetSignals();
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // else who makes the user namespace may not write its maps
  char self[4096];
  const ssize_t n = readlink("/proc/self/exe", self, sizeof(self));
  Failure failure;
  if (start.broker_is_root) failure = BecomeSessionUser(start);
  TakeDescriptors(start);
  if (!failure.ok()) Fail(start.id, failure);
  const std::string workspace = start.broker_is_root ? std::string(kStage) : start.spec.workspace_host;
  Words words = CommandLine(start.spec, workspace, std::string(self, n > 0 ? static_cast<size_t>(n) : 0));
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  char* environment[] = {nullptr};
  execve(kBubblewrapProgram, argv.data(), environment);
  Fail(start.id, {Stage::kClone, errno, kBubblewrapProgram});
}

void RunBubblewrapJob() {
  ResetSignals();
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  Message session_message, job_message;
  wire::SessionSpec session;
  if (Receive(kChannel, true, session_message) != ReceiveResult::kMessage ||
      !wire::Decode(session_message.body, session) ||
      Receive(kChannel, true, job_message) != ReceiveResult::kMessage) {
    _exit(1);
  }
  std::vector<sock_filter> filter;
  const Failure built = BuildFilter({.host_network = session.host_network,
                                     .unix_sockets = session.unix_sockets,
                                     .allow_debugging = session.allow_debugging,
                                     .allow_memfd = false},
                                    filter);
  if (!built.ok()) Fail(job_message.id, built);
  JobStart job = {.session = session,
                  .id = job_message.id,
                  .channel = Descriptor(kChannel),
                  .landlock_abi = session.use_landlock ? LandlockAbi() : 0,
                  .filter = filter,
                  .in_bubblewrap = true};
  for (int fd = 0; fd < kChannel; ++fd) job.standard.emplace_back(fd);
  if (!wire::Decode(job_message.body, job.spec)) _exit(1);
  RunJob(std::move(job));
}

uint32_t BubblewrapLayers(const wire::SessionSpec& spec) {
  uint32_t layers = wire::kLayerUserNamespace | wire::kLayerMountNamespace | wire::kLayerPidNamespace |
                    wire::kLayerIpcNamespace | wire::kLayerUtsNamespace | wire::kLayerCgroupNamespace |
                    wire::kLayerNonZeroUid | wire::kLayerMinimalRoot | wire::kLayerNoNestedUserNamespaces;
  if (!spec.host_network) layers |= wire::kLayerNetNamespace;
  return layers;
}

}  // namespace holdfast::sandbox
