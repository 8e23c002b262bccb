// The probe's side inside: a command that tries to get out and tells what came of it.
#pragma once

namespace holdfast::sandbox {

// Prints a line for each attempt, "what must hold TAB 0 or 1 TAB what came of it". Returns the exit code.
int RunProbeGuest(bool network_off);

}  // namespace holdfast::sandbox
