#include "sandbox/broker/open_in_time.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "sandbox/broker/channel.h"
#include "sandbox/broker/kernel.h"
#include "sandbox/broker/pidfd.h"

namespace holdfast::sandbox {
namespace {

// The child: sends what it opened, or the errno as the message's id.
[[noreturn]] void LookUp(const char* path, int flags, int channel) {
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  // Held up here, it must not keep anybody's channel open.
  dup2(channel, 0);
  CloseFrom(1);
  const Descriptor found(open(path, O_PATH | O_CLOEXEC | flags));
  const uint64_t error = found.valid() ? 0 : static_cast<uint64_t>(errno);
  std::vector<int> fds;
  if (found.valid()) fds.push_back(found.get());
  Send(0, wire::MessageType::kGo, error, "", fds);
  _exit(0);
}

}  // namespace

Descriptor OpenInTime(const char* path, int flags, int timeout_ms, Descriptor& left) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(O_PATH | O_CLOEXEC | flags);
  how.resolve = RESOLVE_CACHED;
  Descriptor known(static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how))));
  if (known.valid() || (errno != EAGAIN && errno != EINVAL)) return known;
  Descriptor near, far;
  if (!MakeChannel(near, far)) return Descriptor();
  int pidfd = -1;
  const pid_t pid = CloneInto(0, &pidfd);
  if (pid < 0) return Descriptor();
  if (pid == 0) LookUp(path, flags, far.get());
  Descriptor child(pidfd);
  far.Reset();
  pollfd answer = {near.get(), POLLIN, 0};
  Message message;
  if (poll(&answer, 1, timeout_ms) <= 0) {
    SendSignal(child, SIGKILL);
    left = std::move(child);
    errno = ETIMEDOUT;
    return Descriptor();
  }
  const bool answered = Receive(near.get(), false, message) == ReceiveResult::kMessage;
  waitid(P_PIDFD, static_cast<id_t>(pidfd), nullptr, WEXITED);
  if (answered && !message.descriptors.empty()) return std::move(message.descriptors[0]);
  errno = answered && message.id != 0 ? static_cast<int>(message.id) : EIO;
  return Descriptor();
}

}  // namespace holdfast::sandbox
