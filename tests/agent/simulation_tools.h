// Tools of the simulated sessions. Each names its session by ToolContext::inside, works in two tasks between
// which it can be killed, and can be cancelled.
//
//   append  a line to a file of the layer: contained, run again after a crash. Fails for a line that begins
//           with "c", and changes nothing then
//   send    the same, and the world outside sees it: not contained, never run again
//   mark    sets a mark outside, as often as one likes: idempotent
//   look    says how many files there are: reads only
//   wait    never answers: ends at its deadline, in virtual time; reads only
#pragma once

#include "agent/session_files.h"
#include "tests/agent/simulation_machine.h"
#include "tools/registry.h"

namespace holdfast::agent::simulation {

// Adds all of them; `machine` outlives the registry.
void AddTools(Machine& machine, tools::Registry& registry);

}  // namespace holdfast::agent::simulation
