// Opening what may lie on a file system that does not answer.
#pragma once

#include "sandbox/broker/descriptor.h"

namespace holdfast::sandbox {

// Opens `path` as a place in the file system (O_PATH | flags), following links. What the kernel knows already
// costs one call; else a child looks it up and is given up after `timeout_ms`, for a network file system that
// is gone holds whoever walks into it. Invalid with errno set, ETIMEDOUT for that. `left` then is the child,
// killed, to be waited for once the file system lets go of it.
Descriptor OpenInTime(const char* path, int flags, int timeout_ms, Descriptor& left);

}  // namespace holdfast::sandbox
