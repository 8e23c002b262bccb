// Patches from anywhere: a problem with its line, or files whose changes apply or misfit, and never a byte of
// the file lost that no change names. The input is a file, a NUL byte, and a patch.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "tools/text/patch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::tools;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = std::min(input.find('\0'), input.size());
  const std::string_view file = input.substr(0, nul);
  const std::string_view text = input.substr(std::min(nul + 1, input.size()));
  const PatchParse parse = ParsePatch(text, 16);
  HF_CHECK(parse.files.empty() != parse.problems.empty());
  HF_CHECK(parse.files.size() <= 16);
  for (const PatchFile& each : parse.files) {
    const PatchedText patched = ApplyChanges(file, each.changes);
    HF_CHECK(patched.fits || !patched.misfit.wanted.empty() || patched.misfit.places.size() > 1);
    if (!patched.fits) continue;
    size_t dropped = 0, added = 0;
    for (const PatchChange& change : each.changes) {
      for (const PatchLine& line : change.lines) {
        dropped += line.kind == PatchLine::Kind::kOld ? 1 : 0;
        added += line.kind == PatchLine::Kind::kNew ? 1 : 0;
      }
    }
    const auto lines = [](std::string_view of) {
      return static_cast<size_t>(std::count(of.begin(), of.end(), '\n')) +
             (of.empty() || of.ends_with('\n') ? 0 : 1);
    };
    // A byte order mark alone is no line.
    const auto body = [](std::string_view of) { return of.starts_with("\xEF\xBB\xBF") ? of.substr(3) : of; };
    HF_CHECK(lines(body(patched.text)) + dropped == lines(body(file)) + added);
    if (each.changes.empty()) HF_CHECK(patched.text == file);
  }
  return 0;
}
