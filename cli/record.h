// The record of sessions through the daemon that has it.
#pragma once

#include <string>

#include "base/status.h"
#include "server/client.h"

namespace holdfast::cli {

// Each prints what came of it. `given`: as SessionName wants it.
base::Status AuditThroughDaemon(server::Client& client, const std::string& given, bool json);

// Into `path`.part, which becomes `path` when it is whole and durable; FailedPrecondition when that is there.
base::Status ExportThroughDaemon(server::Client& client, const std::string& given, const std::string& path,
                                 bool markdown);

// `as`: its id here; empty: the one it had.
base::Status ImportThroughDaemon(server::Client& client, const std::string& path, const std::string& as,
                                 bool json);

}  // namespace holdfast::cli
