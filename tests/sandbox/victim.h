// A stand-in for the runtime, to be killed.
#pragma once

namespace holdfast::sandbox {

// Opens a session in the directory `scratch` (overlay or direct), starts commands whose children leave in
// every way, prints "ready PID_OF_BROKER" and waits to be killed.
int RunVictim(const char* scratch, const char* mode);

}  // namespace holdfast::sandbox
