// What the daemon does, for those who run it: one line an event, as text or as JSON, to stderr or to a file
// that is rotated. At info and above no line has words of users or models in it - no prompts, arguments,
// outputs, paths of their files -, only names, states, codes and numbers.
//
//   log.Write(LogLevel::kInfo, "state", {{"session", id}, {"state", "PAUSED"}, {"reason", "BUDGET_TOKENS"}});
//   2026-03-01T12:00:00.123Z info state session=fix-tests state=PAUSED reason=BUDGET_TOKENS
//   {"time":"2026-03-01T12:00:00.123Z","level":"info","event":"state","session":"fix-tests",...}
//
// Threads: safe.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/status.h"

namespace spdlog {
class logger;
}

namespace holdfast::server {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning", "error"; InvalidArgument for another word.
base::StatusOr<LogLevel> ParseLogLevel(std::string_view word);

struct LogOptions {
  std::string file;  // empty: stderr
  LogLevel level = LogLevel::kInfo;
  bool json = false;
  uint64_t file_bytes_max = uint64_t{16} << 20;  // then holdfast.log becomes holdfast.1.log, and so on
  size_t files_max = 5;                          // beside the one that is written
};

using LogField = std::pair<std::string_view, std::string>;

class Log {
 public:
  // What opening the file answers. Its directory is made.
  static base::StatusOr<std::unique_ptr<Log>> Open(const LogOptions& options,
                                                   base::Clock& clock = base::RealClock());
  ~Log();

  // `event` and the names of fields are literals: lower-case words. A line that cannot be written is lost.
  void Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});
  bool Wants(LogLevel level) const { return level >= level_; }

 private:
  Log(const LogOptions& options, base::Clock& clock, std::unique_ptr<spdlog::logger> logger);

  const LogLevel level_;
  const bool json_;
  base::Clock& clock_;
  const std::unique_ptr<spdlog::logger> logger_;
};

}  // namespace holdfast::server
