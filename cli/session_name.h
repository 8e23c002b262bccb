// Which session is meant.
#pragma once

#include <string>

#include "base/status.h"
#include "server/client.h"

namespace holdfast::cli {

// The resource name of the session with the id `given` or a beginning of it that no other has; when nothing
// is given, of the last updated one on the repository that the working directory is in, or of the only one
// that there is. NotFound and InvalidArgument say what to do.
base::StatusOr<std::string> SessionName(server::Client& client, const std::string& given);

// The root of the git repository around the working directory, else that directory itself.
base::StatusOr<std::string> RepositoryHere();

// A request id nobody has used.
std::string NewRequestId();

}  // namespace holdfast::cli
