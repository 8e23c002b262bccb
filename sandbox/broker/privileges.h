// Giving up privileges for good, and proving it.
#pragma once

#include <cstdint>

#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

// Gives up every capability: bounding and ambient sets empty, securebits locked, permitted, effective and
// inheritable sets empty, no_new_privs. Afterwards reads all of it back; adds the layers proven to `layers`.
wire::Failure DropPrivileges(uint32_t& layers);

}  // namespace holdfast::sandbox
