// A config.json from anywhere: an error, or a configuration that survives being written and read again and
// that the KV layout can take.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/config.h"
#include "model/kv_layout.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::model;
  const auto config = ParseConfig(std::string_view(reinterpret_cast<const char*>(data), size), "input");
  if (!config.ok()) return 0;
  const KvLayout layout = MakeKvLayout(*config, KvMode::kStored);
  HF_CHECK(layout.block_bytes() >= 0 && layout.block_tokens % 128 == 0);
  for (const Plane& plane : layout.planes) HF_CHECK(plane.entries_per_block >= 1 && plane.entry_bytes > 0);
  HF_CHECK(TailBytes(*config, KvMode::kStored) > 0);
  if (config->draft == DraftKind::kDspark) return 0;  // is not written
  const std::string text = FormatConfig(*config);
  const auto again = ParseConfig(text, "written");
  HF_CHECK(again.ok());
  HF_CHECK(FormatConfig(*again) == text);
  return 0;
}
