// An owned file descriptor; of base/ only the header, since the broker links nothing of it.
#pragma once

#include "base/descriptor.h"

namespace holdfast::sandbox {

using base::Descriptor;

}  // namespace holdfast::sandbox
