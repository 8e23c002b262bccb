#include "sandbox/broker/job_init.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "sandbox/broker/channel.h"
#include "sandbox/broker/filter.h"
#include "sandbox/broker/kernel.h"
#include "sandbox/broker/landlock.h"
#include "sandbox/broker/privileges.h"
#include "sandbox/broker/session_root.h"

namespace holdfast::sandbox {
namespace {

using wire::Failure;
using wire::MessageType;
using wire::Stage;

constexpr int kChannel = 3;  // after the standard three

[[noreturn]] void FailJob(int channel, uint64_t id, const Failure& failure) {
  Send(channel, MessageType::kJobFailed, id, wire::Encode(failure));
  _exit(1);
}

struct Terminal {
  Descriptor master;
  Descriptor slave;
};

Failure OpenTerminal(const wire::JobSpec& spec, Terminal& terminal) {
  terminal.master = Descriptor(open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal.master.valid()) return {Stage::kTerminal, errno, "ptmx"};
  const int unlocked = 0;
  if (ioctl(terminal.master.get(), TIOCSPTLCK, &unlocked) != 0) return {Stage::kTerminal, errno, "unlock"};
  terminal.slave = Descriptor(ioctl(terminal.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal.slave.valid()) return {Stage::kTerminal, errno, "peer"};
  const winsize size = {.ws_row = spec.rows, .ws_col = spec.columns, .ws_xpixel = 0, .ws_ypixel = 0};
  if (ioctl(terminal.slave.get(), TIOCSWINSZ, &size) != 0) return {Stage::kTerminal, errno, "size"};
  return {};
}

// Sets a limit of the command, not above what this process may have.
void Limit(__rlimit_resource resource, uint64_t soft, uint64_t hard) {
  rlimit limit;
  if (getrlimit(resource, &limit) != 0) return;
  limit.rlim_max = hard < limit.rlim_max ? hard : limit.rlim_max;
  limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
  setrlimit(resource, &limit);
}

void SetLimits(const wire::LimitSpec& limits) {
  Limit(RLIMIT_CORE, 0, 0);
  Limit(RLIMIT_RTPRIO, 0, 0);
  Limit(RLIMIT_NICE, 0, 0);
  Limit(RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
  Limit(RLIMIT_MSGQUEUE, 819'200, 819'200);
  if (limits.processes != 0) Limit(RLIMIT_NPROC, limits.processes, limits.processes);
  if (limits.open_files != 0) Limit(RLIMIT_NOFILE, limits.open_files, limits.open_files);
  if (limits.file_bytes != 0) Limit(RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes);
  const uint64_t cpu_s = (limits.cpu_ms + 999) / 1000;
  if (limits.cpu_ms != 0) Limit(RLIMIT_CPU, cpu_s, cpu_s + 1);
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string_view Variable(const std::vector<std::string>& environment, std::string_view name) {
  for (const std::string& entry : environment) {
    if (entry.size() > name.size() && entry[name.size()] == '=' && entry.starts_with(name)) {
      return std::string_view(entry).substr(name.size() + 1);
    }
  }
  return {};
}

// Replaces this process by the command; returns errno. A name without a slash is looked up in PATH, as a
// shell would: what cannot be run is passed over, and remembered.
int Execute(wire::JobSpec& spec) {
  const std::vector<char*> argv = Pointers(spec.argv);
  const std::vector<char*> environment = Pointers(spec.environment);
  const std::string& program = spec.argv[0];
  if (program.empty()) return ENOENT;
  if (program.find('/') != std::string::npos) {
    execve(program.c_str(), argv.data(), environment.data());
    return errno;
  }
  std::string_view path = Variable(spec.environment, "PATH");
  int error = ENOENT;
  while (!path.empty()) {
    const size_t colon = path.find(':');
    const std::string candidate = std::string(path.substr(0, colon)) + "/" + program;
    path = colon == std::string_view::npos ? std::string_view() : path.substr(colon + 1);
    if (candidate[0] != '/') continue;  // the current directory is not a place to look for programs
    execve(candidate.c_str(), argv.data(), environment.data());
    if (errno == EACCES) error = EACCES;
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) return errno;
  }
  return error;
}

// In the child: becomes the command. `report` gets stage and errno when it cannot.
[[noreturn]] void BecomeCommand(wire::JobSpec& spec, int terminal, int report) {
  const auto fail = [&](Stage stage, int error) {
    const int32_t words[2] = {static_cast<int32_t>(stage), error};
    [[maybe_unused]] const ssize_t n = write(report, words, sizeof(words));
    _exit(127);
  };
  setsid();
  if (spec.terminal) {
    if (ioctl(terminal, TIOCSCTTY, 0) != 0) fail(Stage::kTerminal, errno);
    for (int fd = 0; fd <= 2; ++fd) dup2(terminal, fd);
  }
  ResetSignals();
  umask(022);
  if (chdir(spec.directory.c_str()) != 0) fail(Stage::kDirectory, errno);
  SetLimits(spec.limits);
  fail(Stage::kExec, Execute(spec));
  _exit(127);
}

class JobInit {
 public:
  explicit JobInit(JobStart& start) : start_(start) {}

  [[noreturn]] void Run() {
    ResetSignals();  // session-init ignores SIGCHLD; here it is needed
    TakeDescriptors();
    Terminal terminal;
    if (!start_.in_bubblewrap) Check(BuildJobView());
    uint32_t layers = wire::kLayerJobPidNamespace | wire::kLayerPrivateProc;
    if (start_.spec.terminal) {
      Check(OpenTerminal(start_.spec, terminal));
      Announce(0, terminal.master.get());
      terminal.master.Reset();
    } else {
      Announce(0, -1);
    }
    layers |= AwaitGo();
    DropAll(layers);
    RefuseMissing(layers);
    Send(kChannel, MessageType::kJobReady, start_.id, wire::Encode(wire::JobReady{layers}));
    StartCommand(terminal.slave.valid() ? terminal.slave.get() : -1);
    terminal.slave.Reset();
    for (int fd = 0; fd <= 2; ++fd) close(fd);
    Supervise();
  }

 private:
  void Check(const Failure& failure) {
    if (!failure.ok()) FailJob(kChannel, start_.id, failure);
  }

  // Leaves 0, 1, 2 for the command, 3 for the channel, and nothing else.
  void TakeDescriptors() {
    const int channel = fcntl(start_.channel.get(), F_DUPFD_CLOEXEC, 16);
    int standard[3] = {-1, -1, -1};
    for (size_t i = 0; i < start_.standard.size() && i < 3; ++i) {
      standard[i] = fcntl(start_.standard[i].get(), F_DUPFD_CLOEXEC, 16);
    }
    start_.standard.clear();
    start_.channel.Release();
    dup3(channel, kChannel, O_CLOEXEC);
    for (int i = 0; i < 3; ++i) {
      if (standard[i] >= 0) dup2(standard[i], i);  // else it stays /dev/null, as in session-init
    }
    CloseFrom(kChannel + 1);
  }

  void Announce(uint32_t layers, int master) {
    std::vector<int> fds;
    if (master >= 0) fds.push_back(master);
    Send(kChannel, MessageType::kJobReady, start_.id, wire::Encode(wire::JobReady{layers}), fds);
  }

  // Returns the layers of the session and of the groups.
  uint32_t AwaitGo() {
    Message message;
    if (Receive(kChannel, true, message) != ReceiveResult::kMessage || message.type != MessageType::kGo)
      _exit(1);
    for (const Descriptor& door : message.descriptors) {
      if (write(door.get(), "0", 1) != 1)
        FailJob(kChannel, start_.id, {Stage::kCgroup, errno, "entering a group"});
    }
    wire::JobReady groups;
    if (!wire::Decode(message.body, groups)) _exit(1);
    // The rlimit counts for the whole session, its process 1 and this one included; where the kernel counts
    // for the job alone it only bounds what several jobs take together.
    wire::LimitSpec& limits = start_.spec.limits;
    const bool counted = (groups.layers & wire::kLayerPidsCgroup) != 0;
    if (limits.processes != 0) limits.processes = counted ? 4 * limits.processes + 64 : limits.processes + 2;
    return groups.layers;
  }

  // The last moment at which nothing has been run.
  void RefuseMissing(uint32_t layers) {
    const uint32_t missing = start_.session.required_layers & ~layers;
    if (missing == 0) return;
    char text[64];
    std::snprintf(text, sizeof(text), "required layers are missing, mask %x", missing);
    Check({Stage::kVerify, 0, text});
  }

  void DropAll(uint32_t& layers) {
    Check(DropPrivileges(!start_.in_bubblewrap, layers));
    if (start_.landlock_abi > 0) {
      Check(RestrictWrites(start_.landlock_abi, WritablePaths(start_.session), start_.session.host_network,
                           layers));
    }
    Check(InstallFilter(start_.filter, layers));
  }

  void StartCommand(int terminal) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) FailJob(kChannel, start_.id, {Stage::kExec, errno, "pipe"});
    BlockChildSignal();
    leader_ = fork();
    if (leader_ < 0) FailJob(kChannel, start_.id, {Stage::kClone, errno, "command"});
    if (leader_ == 0) BecomeCommand(start_.spec, terminal, report[1]);
    close(report[1]);
    int32_t words[2] = {0, 0};
    ssize_t n;
    do {
      n = read(report[0], words, sizeof(words));
    } while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n == static_cast<ssize_t>(sizeof(words))) {
      FailJob(kChannel, start_.id, {static_cast<Stage>(words[0]), words[1], start_.spec.argv[0]});
    }
    Send(kChannel, MessageType::kJobStarted, start_.id, "");
  }

  void BlockChildSignal() {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, nullptr);
    signals_ = Descriptor(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  }

  [[noreturn]] void Supervise() {
    pollfd polled[] = {{signals_.get(), POLLIN, 0}, {kChannel, POLLIN, 0}};
    while (true) {
      Reap();
      if (poll(polled, 2, -1) < 0 && errno != EINTR) _exit(1);
      if (polled[1].revents != 0) HandleMessage();
      signalfd_siginfo info;
      while (read(signals_.get(), &info, sizeof(info)) > 0) {
      }
    }
  }

  void HandleMessage() {
    Message message;
    const ReceiveResult result = Receive(kChannel, false, message);
    if (result == ReceiveResult::kEmpty) return;
    if (result != ReceiveResult::kMessage) _exit(1);  // the broker is gone: so is this job
    if (message.type == MessageType::kTerminate) {
      // To the session of the leader, then awake, so that a stopped one sees it.
      kill(-leader_, SIGTERM);
      kill(-leader_, SIGCONT);
    }
  }

  // Waits for whoever ended, orphans included. When the leader has, the job has.
  void Reap() {
    int status = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
      if (pid != leader_) continue;
      if (WIFSTOPPED(status)) {
        Send(kChannel, MessageType::kJobStopped, start_.id, "");
        continue;
      }
      Finish(status);
    }
  }

  [[noreturn]] void Finish(int status) {
    rusage usage = {};
    getrusage(RUSAGE_CHILDREN, &usage);
    const auto us = [](const timeval& t) {
      return static_cast<uint64_t>(t.tv_sec) * 1'000'000 + static_cast<uint64_t>(t.tv_usec);
    };
    const wire::JobExit exit = {.wait_status = status,
                                .cpu_us = us(usage.ru_utime) + us(usage.ru_stime),
                                .peak_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024};
    Send(kChannel, MessageType::kJobExited, start_.id, wire::Encode(exit));
    _exit(0);
  }

  JobStart& start_;
  pid_t leader_ = -1;
  Descriptor signals_;
};

}  // namespace

void RunJob(JobStart start) {
  prctl(PR_SET_NAME, "job-init", 0, 0, 0);
  JobInit(start).Run();
}

}  // namespace holdfast::sandbox
