#include "cli/kv_store_path.h"

#include <cstdlib>

#include "CLI/CLI.hpp"

namespace holdfast::cli {
namespace {

std::string DefaultDirectory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string xdg = variable("XDG_DATA_HOME"); !xdg.empty()) return xdg + "/holdfast/kv";
  return variable("HOME") + "/.local/share/holdfast/kv";
}

}  // namespace

void AddKvStoreOption(CLI::App& app, std::string& directory) {
  directory = DefaultDirectory();
  app.add_option("--store", directory, "Directory of the KV store")
      ->envname("HOLDFAST_KV_STORE")
      ->capture_default_str();
}

}  // namespace holdfast::cli
