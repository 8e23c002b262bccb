// What the program ends with. docs/cli.md lists the numbers.
#pragma once

#include <string_view>

#include "base/status.h"

namespace holdfast::cli {

enum class Exit {
  kReached = 0,      // done what was asked for
  kError = 1,        // it could not be done
  kUsage = 2,        // the command line makes no sense
  kNotReached = 3,   // the goal was not reached, or is paused
  kNeedsPerson = 4,  // an answer is waited for
  kLeft = 130,       // Ctrl-C; the work goes on
};

// An error that ends the program with `exit`. An empty message: all has been said.
base::Status ExitWith(Exit exit, std::string_view message = {});

// Of an error of ExitWith what it was made with, of others kError.
Exit ExitOf(const base::Status& status);

}  // namespace holdfast::cli
