// Schemas of somebody else's tools, and arguments for them: an error, or a check that ends with few and short
// problems. The input is a schema line, a NUL byte, and arguments.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "nlohmann/json.hpp"
#include "tools/schema.h"
#include "tools/text/json_text.h"
#include "tools/text/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::tools;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = std::min(input.find('\0'), input.size());
  const auto schema = Schema::Make(input.substr(0, nul));
  if (!schema.ok()) return 0;
  const auto arguments = ParseJson(input.substr(std::min(nul + 1, input.size())), 1 << 16, Schema::kDepthMax);
  if (!arguments.ok()) return 0;
  const auto problems = schema->Check(*arguments);
  HF_CHECK(problems.size() <= Schema::kProblemsMax);
  for (const std::string& problem : problems) HF_CHECK(!problem.empty() && IsUtf8(problem));
  // Canonical text is a fixed point.
  const std::string text = CanonicalJson(*arguments);
  const auto again = ParseJson(text, 1 << 20, Schema::kDepthMax);
  HF_CHECK(again.ok() && CanonicalJson(*again) == text);
  return 0;
}
