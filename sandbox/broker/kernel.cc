#include "sandbox/broker/kernel.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

namespace holdfast::sandbox {

pid_t CloneInto(uint64_t namespaces, int* pidfd) {
  clone_args args = {};
  args.flags = namespaces | (pidfd != nullptr ? uint64_t{CLONE_PIDFD} : 0);
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = SIGCHLD;
  return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
}

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

bool WriteText(const char* path, std::string_view text) {
  const Descriptor file(open(path, O_WRONLY | O_CLOEXEC));
  return file.valid() && write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

bool ReadText(const char* path, std::string& text, size_t bytes_max) {
  text.clear();
  const Descriptor file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return false;
  char buffer[4096];
  while (text.size() < bytes_max) {
    const ssize_t n = read(file.get(), buffer, sizeof(buffer));
    if (n < 0) return false;
    if (n == 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  return true;
}

void ResetSignals() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action = {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void CloseFrom(int first) { close_range(static_cast<unsigned>(first), ~0u, 0); }

}  // namespace holdfast::sandbox
