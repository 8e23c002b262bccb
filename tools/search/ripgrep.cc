#include "tools/search/ripgrep.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/coding.h"

namespace holdfast::tools {
namespace {

using sandbox::Ending;
using sandbox::LimitKind;

constexpr size_t kPathBytesMax = 64 * 1024;  // of a record; longer is no path of Linux
constexpr size_t kMessageBytesMax = 1024;    // of one line
constexpr size_t kMessageTextMax = 4096;
constexpr int kTrouble = 2;  // ripgrep's exit code for errors, with or without hits

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }

uint64_t NumberIn(std::string_view digits) {
  uint64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return number;
}

// The messages are shared with the job, which may outlive the call.
RipgrepEnd EndOf(const sandbox::Outcome& outcome, std::shared_ptr<MessageCollector> messages) {
  using Kind = RipgrepEnd::Kind;
  RipgrepEnd end{.messages = std::move(messages)};
  switch (outcome.ending) {
    case Ending::kExited:
      end.trouble = outcome.exit_code >= kTrouble;
      break;
    case Ending::kLimit:
      end.kind = outcome.limit == LimitKind::kWallTime ? Kind::kTimeout : Kind::kStopped;
      end.reason = sandbox::Describe(outcome);
      break;
    case Ending::kKilled:
      end.kind = Kind::kCancelled;
      break;
    case Ending::kSignalled:
    case Ending::kSessionEnd:
      end.kind = Kind::kStopped;
      end.reason = "ripgrep: " + sandbox::Describe(outcome);
      break;
    case Ending::kNotStarted:
      end.kind = outcome.start_error.ends_with("not found") ? Kind::kMissing : Kind::kStopped;
      end.reason = outcome.start_error;
      break;
  }
  return end;
}

}  // namespace

std::vector<std::string> RipgrepArguments() {
  return {"rg",          "--no-config",        "--color=never",        "--no-require-git",
          "--hidden",    "--no-ignore-global", "--no-ignore-messages", "--no-mmap",
          "--null",      "--with-filename",    "--glob=!.git",         "--glob=!.hg",
          "--glob=!.svn"};
}

PathCollector::PathCollector(Records records, Bounds bounds, Filter filter)
    : records_(records), bounds_(bounds), filter_(std::move(filter)) {}

base::Status PathCollector::Append(std::span<const std::byte> bytes) {
  std::string_view text = base::AsText(bytes);
  while (!text.empty()) {
    const char end = in_number_ ? '\n' : '\0';
    const size_t at = text.find(end);
    std::string& field = in_number_ ? number_ : path_;
    const std::string_view part = text.substr(0, at);
    field += part.substr(0, kPathBytesMax - std::min(kPathBytesMax, field.size()));
    if (at == std::string_view::npos) break;
    text.remove_prefix(at + 1);
    if (in_number_ || records_ == Records::kPaths) {
      Add(std::exchange(path_, {}), NumberIn(number_));
      number_.clear();
      in_number_ = false;
    } else {
      in_number_ = true;
    }
  }
  return absl::OkStatus();
}

void PathCollector::Add(std::string path, uint64_t count) {
  path = WithoutDot(path);
  if (filter_ && !filter_(path)) return;
  ++files_;
  hits_ += count;
  kept_bytes_ += path.size();
  kept_.insert({.path = std::move(path), .count = count});
  while (kept_.size() > bounds_.files_max || (kept_bytes_ > bounds_.bytes_max && !kept_.empty())) {
    const auto last = std::prev(kept_.end());
    kept_bytes_ -= last->path.size();
    kept_.erase(last);
  }
}

base::Status LineCollector::Append(std::span<const std::byte> bytes) {
  for (const char c : base::AsText(bytes)) Take(c);
  return absl::OkStatus();
}

void LineCollector::Take(char c) {
  switch (part_) {
    case Part::kPath:
      if (c == '\0') {
        line_.path = WithoutDot(line_.path);
        part_ = Part::kNumber;
      } else if (line_.path.size() < kPathBytesMax) {
        line_.path += c;
      }
      return;
    case Part::kNumber:
      if (c >= '0' && c <= '9') {
        line_.line = line_.line * 10 + static_cast<uint64_t>(c - '0');
      } else {
        line_.context = c == '-';
        part_ = Part::kText;
      }
      return;
    case Part::kText:
      TakeText(c);
      return;
  }
}

void LineCollector::TakeText(char c) {
  if (c == '\n') {
    if (lines_.size() < bounds_.lines_max) {
      lines_.push_back(std::move(line_));
    } else {
      ++dropped_;
    }
    line_ = {};
    part_ = Part::kPath;
  } else if (line_.text.size() < bounds_.text_bytes_max) {
    if (!(bounds_.trim && line_.text.empty() && IsBlank(c))) line_.text += c;
  } else {
    ++line_.left_bytes;
    line_.left_blank = line_.left_blank && IsBlank(c);
  }
}

base::Status MessageCollector::Append(std::span<const std::byte> bytes) {
  for (const char c : base::AsText(bytes)) {
    if (text_.size() < kMessageTextMax) text_ += c;
    if (c == '\n') {
      EndLine();
    } else if (line_.size() < kMessageBytesMax) {
      line_ += c;
    }
  }
  return absl::OkStatus();
}

base::StatusOr<std::string> MessageCollector::Finish(const base::Sha256Digest&, uint64_t) {
  if (!line_.empty()) EndLine();
  return std::string();
}

void MessageCollector::EndLine() {
  if (count_ == 0 || line_ < first_) first_ = line_;
  ++count_;
  line_.clear();
}

void RunRipgrep(CommandCall& call, RipgrepRun run, RipgrepEnded ended) {
  // Shared with the job.
  auto messages = std::make_shared<MessageCollector>();
  sandbox::Command command;
  command.argv = std::move(run.arguments);
  command.directory = std::move(run.directory);
  command.error_stream = sandbox::ErrorStream::kSeparate;
  const sandbox::OutputOptions everything{
      .head_bytes = 0, .tail_bytes = 0, .ring_bytes = 0, .spill_bytes_max = UINT64_MAX};
  call.Run(
      {.command = std::move(command),
       .limits = LimitsFor(*call.context().session, run.wall_ms),
       .output = everything,
       .sink = std::move(run.output),
       .error_sink = messages},
      [messages, ended = std::move(ended)](CommandCall& c, base::StatusOr<sandbox::Outcome> outcome) mutable {
        if (outcome.ok()) return ended(c, EndOf(*outcome, messages));
        const auto kind =
            absl::IsCancelled(outcome.status()) ? RipgrepEnd::Kind::kCancelled : RipgrepEnd::Kind::kSandbox;
        ended(c, {.kind = kind, .status = outcome.status(), .messages = messages});
      });
}

std::string_view WithoutDot(std::string_view path) { return path.starts_with("./") ? path.substr(2) : path; }

}  // namespace holdfast::tools
