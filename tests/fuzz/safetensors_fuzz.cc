// A safetensors file from anywhere: an error, or tensors that cover the data exactly.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto file = holdfast::model::Safetensors::Parse(bytes, "input");
  if (!file.ok()) return 0;
  size_t covered = 0;
  for (const auto& [name, view] : file->tensors()) {
    auto want = static_cast<size_t>(holdfast::model::DTypeBytes(view.dtype));
    for (const int64_t dim : view.shape) want *= static_cast<size_t>(dim);
    HF_CHECK(view.data.size() == want);
    HF_CHECK(want == 0 ||
             (view.data.data() >= bytes.data() && view.data.data() + want <= bytes.data() + bytes.size()));
    HF_CHECK(file->Find(name) == &view);
    covered += want;
  }
  HF_CHECK(covered + 8 <= size);
  return 0;
}
