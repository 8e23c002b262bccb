// The outcome of a call as it goes on record, and back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "sessions/event.h"
#include "tools/tool.h"

namespace holdfast::agent {

// Without the workspace's manifest.
sessions::CallOutcome OutcomeOf(const std::string& call, const tools::ToolResult& result);

// What the call had seen of files, from CallOutcome::record. DataLoss for what OutcomeOf cannot have written.
base::StatusOr<std::vector<tools::FileVersion>> ObservedIn(std::string_view record);

}  // namespace holdfast::agent
