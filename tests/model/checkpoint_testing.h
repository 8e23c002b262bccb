// A small synthesised checkpoint on a simulated disk, to be damaged by tests.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "model/synth.h"
#include "model/weights.h"
#include "nlohmann/json.hpp"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::model {

// One shard unless `max_shard_bytes` says otherwise. Changes take effect with Save (header and data) or at
// once (files).
class DamagedCheckpoint {
 public:
  explicit DamagedCheckpoint(const SynthSize& size = {.layers = 3, .experts = 4, .vocab = 64});

  static constexpr std::string_view kShard = "ckpt/model-00001-of-00001.safetensors";

  base::StatusOr<std::unique_ptr<Checkpoint>> Open() { return Checkpoint::Open(fs, "ckpt"); }
  // The message of Open's error; "no error" when it opens.
  std::string OpenError();

  // The bytes of a tensor, to be changed; then Save.
  std::span<std::byte> Data(const std::string& tensor);
  // Another name for a tensor, in the shard and in the index.
  void Rename(const std::string& tensor, const std::string& name);
  void Save();
  void WriteFile(const std::string& path, std::string_view text);
  std::string ReadFile(const std::string& path);
  void EditConfig(const std::string& field, const nlohmann::json& value);

  test::SimClock clock;
  test::SimFileSystem fs{clock};
  nlohmann::json header;  // of the shard
  std::string data;       // what follows the header
};

}  // namespace holdfast::model
