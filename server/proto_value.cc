#include "server/proto_value.h"

#include <algorithm>

#include "agent/bounded_text.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "server/grpc_status.h"
#include "tools/text/utf8.h"

namespace holdfast::server {
namespace {

constexpr std::string_view kSessions = "sessions/";
constexpr size_t kSessionIdBytesMax = 63;

// Of protobuf: the years 1 to 9999, and 10,000 years either way.
constexpr int64_t kUtcSecondsMin = -62'135'596'800;
constexpr int64_t kUtcSecondsMax = 253'402'300'799;
constexpr int64_t kDurationSecondsMax = 315'576'000'000;
constexpr int32_t kNanosMax = 999'999'999;

bool IsLetterOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// Whole seconds below a time, also one before 1970.
int64_t FloorSeconds(int64_t ms) { return ms / 1000 - (ms % 1000 < 0 ? 1 : 0); }

}  // namespace

base::Status FieldError(std::string_view field, std::string_view what) {
  return WithField(base::InvalidArgument(std::string(field) + ": " + std::string(what)), field);
}

std::string SessionName(std::string_view id) { return std::string(kSessions) + std::string(id); }

base::StatusOr<std::string> SessionIdOf(std::string_view name, std::string_view field) {
  if (!name.starts_with(kSessions)) return FieldError(field, "is to be sessions/ID");
  const std::string_view id = name.substr(kSessions.size());
  HF_RETURN_IF_ERROR(CheckSessionId(id, field));
  return std::string(id);
}

base::Status CheckSessionId(std::string_view id, std::string_view field) {
  const bool plain = std::all_of(id.begin(), id.end(), [](char c) { return IsLetterOrDigit(c) || c == '-'; });
  if (plain && !id.empty() && id.size() <= kSessionIdBytesMax && IsLetterOrDigit(id.front()) &&
      IsLetterOrDigit(id.back())) {
    return {};
  }
  return FieldError(field, "an id is 1 to 63 of [a-z0-9-] between letters and digits");
}

std::string ValidText(std::string_view bytes, size_t bytes_max) {
  if (tools::IsUtf8(bytes)) return agent::BoundedText(bytes, bytes_max);
  return agent::BoundedText(tools::RepairUtf8(bytes), bytes_max);
}

std::string ValidBeginning(std::string_view bytes, size_t bytes_max, bool* cut) {
  *cut = bytes.size() > bytes_max;
  // The cut may go through a character: its bytes then are not worth a mark.
  std::string_view beginning = bytes.substr(0, bytes_max);
  while (*cut && !beginning.empty() && (static_cast<uint8_t>(bytes[beginning.size()]) & 0xC0) == 0x80) {
    beginning.remove_suffix(1);
  }
  if (tools::IsUtf8(beginning)) return std::string(beginning);
  std::string valid = tools::RepairUtf8(beginning);
  if (valid.size() <= bytes_max) return valid;
  bool again = false;  // a mark is longer than what it stands for
  *cut = true;
  return ValidBeginning(std::string_view(valid), bytes_max, &again);
}

void SetTime(int64_t utc_ms, google::protobuf::Timestamp* time) {
  const int64_t seconds = FloorSeconds(utc_ms);
  time->set_seconds(std::clamp(seconds, kUtcSecondsMin, kUtcSecondsMax));
  time->set_nanos(static_cast<int32_t>((utc_ms - seconds * 1000) * 1'000'000));
}

void SetDuration(int64_t ms, google::protobuf::Duration* duration) {
  const int64_t seconds = ms / 1000;
  const bool fits = seconds >= -kDurationSecondsMax && seconds <= kDurationSecondsMax;
  duration->set_seconds(std::clamp(seconds, -kDurationSecondsMax, kDurationSecondsMax));
  duration->set_nanos(fits ? static_cast<int32_t>(ms % 1000 * 1'000'000) : 0);
}

base::StatusOr<int64_t> DurationMs(const google::protobuf::Duration& duration, int64_t ms_min, int64_t ms_max,
                                   std::string_view field) {
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  const bool one_sign = (seconds >= 0 && nanos >= 0) || (seconds <= 0 && nanos <= 0);
  if (!one_sign || nanos < -kNanosMax || nanos > kNanosMax || seconds < -kDurationSecondsMax ||
      seconds > kDurationSecondsMax) {
    return FieldError(field, "is no duration");
  }
  const int64_t ms = seconds * 1000 + nanos / 1'000'000;
  if (ms < ms_min || ms > ms_max) {
    return FieldError(
        field, "is to be " + std::to_string(ms_min) + " ms to " + std::to_string(ms_max / 1000) + " s");
  }
  return ms;
}

}  // namespace holdfast::server
