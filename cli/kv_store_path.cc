#include "cli/kv_store_path.h"

#include "CLI/CLI.hpp"
#include "cli/data_directory.h"

namespace holdfast::cli {
void AddKvStoreOption(CLI::App& app, std::string& directory) {
  directory = DefaultDataDirectory() + "/kv";
  app.add_option("--store", directory, "Directory of the KV store")
      ->envname("HOLDFAST_KV_STORE")
      ->capture_default_str();
}

}  // namespace holdfast::cli
