#include "cli/data_directory.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "CLI/CLI.hpp"
#include "base/errno.h"
#include "base/file.h"

namespace holdfast::cli {

std::string DefaultDataDirectory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string xdg = variable("XDG_DATA_HOME"); !xdg.empty()) return xdg + "/holdfast";
  return variable("HOME") + "/.local/share/holdfast";
}

void AddDataOption(CLI::App& app, std::string& directory) {
  directory = DefaultDataDirectory();
  app.add_option("--data", directory, "Data directory: everything that is kept")
      ->envname("HOLDFAST_DATA")
      ->capture_default_str();
}

base::StatusOr<std::string> FromRoot(const std::string& path) {
  if (path.starts_with('/')) return path;
  std::array<char, PATH_MAX> here;
  if (getcwd(here.data(), here.size()) == nullptr) return base::ErrnoStatus(errno, "the working directory");
  return std::string(here.data()) + "/" + path;
}

base::StatusOr<std::string> ExistingDirectory(const std::string& path) {
  const auto stat = base::RealFileSystem().Stat(path);
  HF_RETURN_IF_ERROR(stat.status());
  if (stat->kind != base::FileKind::kDirectory) return base::InvalidArgument(path + " is no directory");
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return base::ErrnoStatus(errno, path);
  std::string absolute = resolved;
  std::free(resolved);
  return absolute;
}

}  // namespace holdfast::cli
