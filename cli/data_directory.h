// Where everything that is kept lies, and paths as a daemon needs them.
#pragma once

#include <string>

#include "base/status.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

// holdfast under XDG_DATA_HOME, else under ~/.local/share.
std::string DefaultDataDirectory();

// Adds --data DIR (HOLDFAST_DATA) to `app`.
void AddDataOption(CLI::App& app, std::string& directory);

// The same path from the root, of a file that need not exist; links stay.
base::StatusOr<std::string> FromRoot(const std::string& path);

// An existing directory from the root, links resolved. NotFound when there is none.
base::StatusOr<std::string> ExistingDirectory(const std::string& path);

}  // namespace holdfast::cli
