// The options that say how a command computes: --precision, --kv, --threads.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "model/backend.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

struct BackendChoice {
  std::string precision = "native";
  std::string kv;   // empty: what the precision implies
  int threads = 0;  // 0: one for each physical core
};

// Adds the options to `command`; `choice` outlives the parse.
void AddBackendOptions(CLI::App& command, BackendChoice& choice);

// InvalidArgument when precision and KV mode do not go together.
base::StatusOr<std::unique_ptr<model::Backend>> MakeBackend(const BackendChoice& choice);

}  // namespace holdfast::cli
