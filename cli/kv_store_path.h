// Where the KV store is, and the option that says so.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace holdfast::cli {

// Adds --store DIR to `app`. Default: HOLDFAST_KV_STORE, else holdfast/kv under XDG_DATA_HOME or
// ~/.local/share.
void AddKvStoreOption(CLI::App& app, std::string& directory);

}  // namespace holdfast::cli
