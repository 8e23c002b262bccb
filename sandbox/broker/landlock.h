// Landlock: a second wall about the file system, which no mount can move.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

// The kernel's version of the interface; 0 where there is none.
int LandlockAbi();

// From now on this process and all it starts may write beneath `writable` only, read and run everything they
// can see, and (where `scope_abstract` and the kernel knows it) reach no abstract socket outside. Needs
// no_new_privs. Paths that do not exist are skipped.
wire::Failure RestrictWrites(int abi, const std::vector<std::string>& writable, bool scope_abstract,
                             uint32_t& layers);

}  // namespace holdfast::sandbox
