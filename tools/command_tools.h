// The tools that run commands: bash@2, and for what runs in the background bash_output@1, bash_input@1,
// bash_kill@1.
#pragma once

#include "base/status.h"
#include "tools/registry.h"

namespace holdfast::tools {

// Adds them. Their contexts need a session; without BackgroundJobs nothing runs in the background, and
// without a blob store the middle of a long output is lost, and said to be.
base::Status AddCommandTools(Registry& registry);

}  // namespace holdfast::tools
