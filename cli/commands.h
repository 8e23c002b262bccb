// The subcommands of `holdfast`, one registration function each, in the file of the same name.
// A registration function adds its subcommand, options and help to `parent`; `result` outlives the parse,
// and the subcommand leaves its outcome there when it runs.
#pragma once

#include "base/status.h"

namespace CLI {
class App;
}

namespace holdfast::cli {}  // namespace holdfast::cli
