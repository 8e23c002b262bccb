// The tools of the shipped model: grep@1, read@1, edit@1, bash@1. Their schemas and results are fixed to the
// byte (tools/data/README.md), since it has learnt them by heart; model/nano/standin.py is a second writing
// of them, and tests/tools/nano_standin_test.cc compares the two.
#pragma once

#include "base/status.h"
#include "tools/registry.h"

namespace holdfast::tools {

// Adds them. Their contexts need a session (grep, bash) and files (grep, read, edit).
base::Status AddNanoTools(Registry& registry);

}  // namespace holdfast::tools
