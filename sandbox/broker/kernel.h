// System calls that the C library of Debian 12 does not wrap, and small helpers about processes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "sandbox/broker/descriptor.h"

namespace holdfast::sandbox {

// As fork, into new namespaces; `pidfd` (may be null) gets a descriptor of the child. Exit signal is SIGCHLD.
// -1 with errno set.
pid_t CloneInto(uint64_t namespaces, int* pidfd);

// Nanoseconds of CLOCK_MONOTONIC.
int64_t MonotonicNs();

// Writes `text` to an existing file in one call. False with errno set.
bool WriteText(const char* path, std::string_view text);

// Reads at most `bytes_max` of a file, from /proc or a control group say. False with errno set.
bool ReadText(const char* path, std::string& text, size_t bytes_max = 65'536);

// Gives up this process's default: signals to their defaults, none blocked.
void ResetSignals();

// Closes every descriptor from `first` on.
void CloseFrom(int first);

}  // namespace holdfast::sandbox
