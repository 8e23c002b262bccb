#include "server/log.h"

#include <sys/stat.h>

#include <cstdio>
#include <ctime>
#include <string>

#include "base/file.h"
#include "model/json.h"
#include "spdlog/logger.h"
#include "spdlog/sinks/rotating_file_sink.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace holdfast::server {
namespace {

constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error"};
constexpr spdlog::level::level_enum kSpdlogLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                       spdlog::level::warn, spdlog::level::err};

std::string TimeText(int64_t utc_ms) {
  const std::time_t seconds = utc_ms / 1000;
  std::tm parts = {};
  gmtime_r(&seconds, &parts);
  char text[40];
  const size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof(text) - length, ".%03dZ", static_cast<int>(utc_ms % 1000));
  return text;
}

// As one word, so that a line has no second reading: what a value says cannot look like a field or a line.
std::string Word(const std::string& value) {
  const bool plain = !value.empty() && value.find_first_of(" \"=\\") == std::string::npos &&
                     value.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:;/@%+-#()[]") ==
                         std::string::npos;
  return plain ? value : model::JsonQuote(value);
}

}  // namespace

base::StatusOr<LogLevel> ParseLogLevel(std::string_view word) {
  for (size_t i = 0; i < std::size(kLevels); ++i) {
    if (word == kLevels[i]) return static_cast<LogLevel>(i);
  }
  return base::InvalidArgument("`" + std::string(word) + "`: want debug, info, warning or error");
}

base::StatusOr<std::unique_ptr<Log>> Log::Open(const LogOptions& options, base::Clock& clock) {
  spdlog::sink_ptr sink;
  if (options.file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();  // shared: as spdlog wants it
  } else {
    HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(base::ParentDirectory(options.file)));
    spdlog::file_event_handlers handlers;
    handlers.after_open = [](const spdlog::filename_t&, std::FILE* file) { fchmod(fileno(file), 0600); };
    try {
      // shared: as spdlog wants it
      sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
          options.file, options.file_bytes_max, options.files_max, /*rotate_on_open=*/false, handlers);
    } catch (const spdlog::spdlog_ex& error) {
      return base::FailedPrecondition(options.file + ": " + error.what());
    }
  }
  auto logger = std::make_unique<spdlog::logger>("holdfast", std::move(sink));
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::info);
  logger->set_error_handler([](const std::string&) {});  // a full disk is told by others
  return std::unique_ptr<Log>(new Log(options, clock, std::move(logger)));
}

Log::Log(const LogOptions& options, base::Clock& clock, std::unique_ptr<spdlog::logger> logger)
    : level_(options.level), json_(options.json), clock_(clock), logger_(std::move(logger)) {}

Log::~Log() { logger_->flush(); }

void Log::Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (!Wants(level)) return;
  const size_t index = static_cast<size_t>(level);
  const std::string time = TimeText(clock_.UtcNow().ns / base::kNsPerMs);
  std::string line;
  if (json_) {
    model::Json object = model::Json::Object();
    object.Set("time", model::Json::String(time));
    object.Set("level", model::Json::String(std::string(kLevels[index])));
    object.Set("event", model::Json::String(std::string(event)));
    for (const auto& [name, value] : fields) object.Set(std::string(name), model::Json::String(value));
    line = object.Dump();
  } else {
    line = time + " " + std::string(kLevels[index]) + " " + std::string(event);
    for (const auto& [name, value] : fields) line += " " + std::string(name) + "=" + Word(value);
  }
  logger_->log(kSpdlogLevels[index], spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace holdfast::server
