// Starting the broker.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/status.h"
#include "sandbox/broker/descriptor.h"

namespace holdfast::sandbox {

// The broker's program: `wanted`, or where it is installed. NotFound naming the places looked at.
base::StatusOr<std::string> FindBroker(const std::string& wanted);

// Starts it with an empty environment, default signals, nothing open but /dev/null and the channel, in a
// session of its own (so that Ctrl-C at the user's terminal is not for it). FailedPrecondition when it cannot
// be run.
base::StatusOr<pid_t> SpawnBroker(const std::string& path, const Descriptor& channel);

}  // namespace holdfast::sandbox
