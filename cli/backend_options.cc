#include "cli/backend_options.h"

#include "CLI/CLI.hpp"
#include "base/process.h"
#include "model/engine.h"

namespace holdfast::cli {

void AddBackendOptions(CLI::App& command, BackendChoice& choice) {
  command
      .add_option("--precision", choice.precision,
                  "native: weights as stored, the KV cache as the model was trained for, fast;\n"
                  "reference: float32 throughout, scalar code, very slow, for checks")
      ->capture_default_str()
      ->check(CLI::IsMember({"native", "reference"}));
  command
      .add_option(
          "--kv", choice.kv,
          "What the reference keeps in the KV cache. f32 (default): float32; stored: values rounded\n"
          "as the model's own quantiser does, rotated dimensions untouched; packed: the very bytes of\n"
          "the KV store. native is always packed")
      ->check(CLI::IsMember({"f32", "stored", "packed"}));
  command.add_option("--threads", choice.threads, "Threads (default: one for each physical core)")
      ->check(CLI::Range(0, 1024));
}

base::StatusOr<std::unique_ptr<model::Backend>> MakeBackend(const BackendChoice& choice) {
  if (choice.precision == "native") {
    if (!choice.kv.empty()) {
      return base::InvalidArgument("--kv " + choice.kv +
                                   " with --precision native: native always keeps the bytes of the KV store; "
                                   "leave --kv out, or use --precision reference");
    }
    return model::MakeCpuBackend({.threads = choice.threads});
  }
  const auto mode = choice.kv == "packed"   ? model::KvMode::kStored
                    : choice.kv == "stored" ? model::KvMode::kQuantised
                                            : model::KvMode::kF32;
  const int threads = choice.threads > 0 ? choice.threads : base::PhysicalCoreCount();
  return model::MakeReferenceBackend({.kv_mode = mode, .threads = threads});
}

}  // namespace holdfast::cli
