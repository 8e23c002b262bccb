// The tools that search: grep@2 and glob@1, with ripgrep.
#pragma once

#include "base/status.h"
#include "tools/registry.h"

namespace holdfast::tools {

// Adds them. Their contexts need a session; with files, a path that is not there is told without a search.
base::Status AddSearchTools(Registry& registry);

}  // namespace holdfast::tools
