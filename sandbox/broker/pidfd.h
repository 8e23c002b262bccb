// Descriptors of processes. (The C library's header of Debian 12 lacks its extern "C".)
#pragma once

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "sandbox/broker/descriptor.h"

namespace holdfast::sandbox {

// Close-on-exec; invalid with errno set. Readable once the process has ended.
inline Descriptor OpenPidfd(pid_t pid) {
  return Descriptor(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

inline bool SendSignal(const Descriptor& pidfd, int signal) {
  return syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
}

}  // namespace holdfast::sandbox
