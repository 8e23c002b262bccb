// Giving up privileges for good, and proving it.
#pragma once

#include <cstdint>

#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

// Gives up every capability: bounding and ambient sets empty, securebits locked, permitted, effective and
// inheritable sets empty, no_new_privs. Afterwards reads all of it back; adds the layers proven to `layers`.
// Who has no capabilities any more cannot lock securebits: `lock_securebits` false leaves them.
wire::Failure DropPrivileges(bool lock_securebits, uint32_t& layers);

}  // namespace holdfast::sandbox
