// Every tool that is built into the program, in all versions that can still be called; not those of servers
// and clients, nor those that steer a session (agent/control_tools.h).
#pragma once

#include "base/status.h"
#include "tools/registry.h"

namespace holdfast::tools {

base::Status AddBuiltInTools(Registry& registry);

}  // namespace holdfast::tools
