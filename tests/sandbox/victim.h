// A stand-in for the runtime: to be killed, or to lack something.
#pragma once

namespace holdfast::sandbox {

// Opens a session in the directory `scratch` (overlay or direct), starts commands whose children leave in
// every way, prints "ready PID_OF_BROKER" and waits to be killed.
int RunVictim(const char* scratch, const char* mode);

inline constexpr long kNoUserNamespaces = -2;   // in a user namespace where the sysctl is 0
inline constexpr long kOnlyContainerRoot = -3;  // in a user namespace that has nobody but the caller

// In the policy a path on a file system that never answers: as a system root, a mount, the workspace.
inline constexpr long kHungRoot = -4;
inline constexpr long kHungMount = -5;
inline constexpr long kHungWorkspace = -6;

// Runs `touch canary` with system call `number` (-1: none) answering `error` in this process and all it
// makes. Prints "ran: OUTCOME" with the layers in force, or "refused: STATUS".
int RunWithout(const char* scratch, const char* mode, long number, int error);

}  // namespace holdfast::sandbox
