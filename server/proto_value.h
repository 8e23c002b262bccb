// Small values between the domain and the API: names, texts, times. What a client gave wrongly is an
// InvalidArgument that names the field.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace google::protobuf {
class Duration;
class Timestamp;
}  // namespace google::protobuf

namespace holdfast::server {

inline constexpr size_t kRequestIdBytesMax = 128;

// InvalidArgument `field: what`, with the field in its details.
base::Status FieldError(std::string_view field, std::string_view what);

// "sessions/ID", and the ID of one. Whether there is such a session is for the store to say.
std::string SessionName(std::string_view id);
base::StatusOr<std::string> SessionIdOf(std::string_view name, std::string_view field = "name");
// 1 to 63 of [a-z0-9-] between letters and digits.
base::Status CheckSessionId(std::string_view id, std::string_view field);

// A proto `string` must be UTF-8: what is not becomes U+FFFD. Beyond `bytes_max`, at least 128, the middle
// is left out and a mark says so.
std::string ValidText(std::string_view bytes, size_t bytes_max);
// The beginning alone, in at most `bytes_max` bytes; `cut` says whether that is less than all.
std::string ValidBeginning(std::string_view bytes, size_t bytes_max, bool* cut);

// Times and durations that protobuf cannot say become the nearest that it can.
void SetTime(int64_t utc_ms, google::protobuf::Timestamp* time);
void SetDuration(int64_t ms, google::protobuf::Duration* duration);

// In ms, rounded down. InvalidArgument outside of [ms_min, ms_max], and for what is no duration.
base::StatusOr<int64_t> DurationMs(const google::protobuf::Duration& duration, int64_t ms_min, int64_t ms_max,
                                   std::string_view field);

}  // namespace holdfast::server
