// An exported session from anywhere. The input is read as it is, and once more with the checksum at its end
// put right, so that more than the checksum is tried. What is read to the end is written again in the same
// bytes.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/coding.h"
#include "sessions/session_export.h"

namespace holdfast::sessions {
namespace {

base::Status Rewrite(std::span<const std::byte> file, std::string& out) {
  size_t at = 0;
  HF_ASSIGN_OR_RETURN(const auto reader,
                      ExportReader::Open([&](std::span<std::byte> to) -> base::StatusOr<size_t> {
                        const size_t count = std::min(to.size(), file.size() - at);
                        std::copy_n(file.begin() + static_cast<ptrdiff_t>(at), count, to.begin());
                        at += count;
                        return count;
                      }));
  ExportWriter writer(
      [&out](std::span<const std::byte> bytes) {
        out += base::AsText(bytes);
        return base::Status();
      },
      reader->header());
  std::vector<std::byte> part(1000);
  for (;;) {
    HF_ASSIGN_OR_RETURN(const auto object, reader->NextObject());
    if (!object.has_value()) break;
    HF_RETURN_IF_ERROR(writer.BeginObject(object->digest, object->size));
    for (size_t got = 1; got > 0;) {
      HF_ASSIGN_OR_RETURN(got, reader->ReadObject(part));
      HF_RETURN_IF_ERROR(writer.AddBytes(std::span(part).first(got)));
    }
  }
  for (;;) {
    HF_ASSIGN_OR_RETURN(const std::vector<Event> events, reader->NextEvents(300));
    if (events.empty()) return writer.Finish();
    for (const Event& event : events) HF_RETURN_IF_ERROR(writer.AddEvent(event));
  }
}

void Try(std::span<const std::byte> file) {
  std::string out;
  const base::Status status = Rewrite(file, out);
  if (status.ok()) {
    HF_CHECK(out == base::AsText(file));
  } else {
    HF_CHECK(absl::IsDataLoss(status) || absl::IsFailedPrecondition(status));
  }
}

}  // namespace
}  // namespace holdfast::sessions

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast;
  std::vector<std::byte> file(size);
  std::copy_n(reinterpret_cast<const std::byte*>(data), size, file.begin());
  sessions::Try(file);
  if (size < 32) return 0;
  const base::Sha256Digest digest = base::Sha256Of(std::span(file).first(size - 32));
  std::copy(digest.begin(), digest.end(), file.end() - 32);
  sessions::Try(file);
  return 0;
}
