// A tool of a server, as the dispatcher calls it.
#pragma once

#include <memory>
#include <vector>

#include "tools/mcp/server.h"
#include "tools/tool.h"

namespace holdfast::tools::mcp {

// In order of their names; none before the catalogue is known. They hold the server weakly: once it is gone
// their calls are kUnavailable.
//
// A call is taken for effectful and for reaching beyond the session, whatever the server says of its tools,
// unless the operator trusts what it says: then its read-only and idempotent ones are.
std::vector<std::unique_ptr<Tool>> MakeTools(const ServerRef& server);

}  // namespace holdfast::tools::mcp
