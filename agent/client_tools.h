// The tools of a session that its clients run, between the session's record (ProfileSet::client_tools) and
// tools/client_tool.h.
//
// Pure functions, safe from any thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "base/status.h"
#include "tools/registry.h"

namespace holdfast::agent {

// Whether a session can be made with them. InvalidArgument, naming the tool, for what
// tools::CheckClientTools refuses, and for an effect that is none. `taken_ids`: the tools of this program.
base::Status CheckClientTools(const ProfileSet& profile, std::span<const std::string> taken_ids);

// Their schema lines, which stand in the prompt behind those of the other tools. InvalidArgument for a
// profile that CheckClientTools refuses.
base::StatusOr<std::vector<std::string>> ClientToolLines(const ProfileSet& profile);

// Adds them to the registry of a session.
base::Status AddClientTools(const ProfileSet& profile, tools::Registry& registry);

// The ids of all tools of the session, in the order of the prompt: "bash@2", ..., "page@client".
std::vector<std::string> ToolIds(const ProfileSet& profile);

}  // namespace holdfast::agent
