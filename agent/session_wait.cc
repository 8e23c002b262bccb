#include "agent/session_wait.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "agent/client_calls.h"
#include "tools/background_jobs.h"
#include "workspace/tree.h"

namespace holdfast::agent {
namespace {

constexpr int64_t kLookNs = 1'000'000'000;       // between looks at files and processes
constexpr int64_t kClockNsMax = 60'000'000'000;  // between looks at the wall clock

int64_t UtcMs(base::Clock& clock) { return clock.UtcNow().ns / base::kNsPerMs; }

}  // namespace

bool IsSpokenTo(const sessions::SessionLog& log) {
  for (const uint64_t seq : log.facts().untold()) {
    const auto event = log.ReadUntold(seq);
    const auto* input = event.ok() ? std::get_if<sessions::InputReceived>(&event->body) : nullptr;
    if (input != nullptr &&
        (input->kind == sessions::InputKind::kMessage || input->kind == sessions::InputKind::kSteer)) {
      return true;
    }
  }
  return false;
}

sessions::WaitFor KindOf(const WaitSet& wait) {
  if (!wait.process.empty()) return sessions::WaitFor::kProcess;
  if (!wait.file.empty()) return sessions::WaitFor::kFile;
  return wait.until_utc_ms != 0 ? sessions::WaitFor::kTimer : sessions::WaitFor::kInput;
}

std::string DescribeWait(const WaitSet& wait) {
  std::string text;
  const auto add = [&text](const std::string& what) { text += (text.empty() ? "" : " or ") + what; };
  if (!wait.process.empty()) add("the end of " + wait.process);
  if (!wait.file.empty()) add("a change of " + wait.file);
  if (!wait.signal.empty()) add("signal " + wait.signal);
  if (wait.until_utc_ms != 0) add("time");
  return text;
}

std::string WaitOverText(const std::string& why) {
  if (why == "time") return "The wait is over: the time has passed.\n";
  if (why == "process") return "The wait is over: the process has ended.\n";
  if (why == "file") return "The wait is over: the file has changed.\n";
  if (why == "signal") return "The wait is over: the signal has come.\n";
  if (why == "input") return "The wait was ended by a message.\n";
  if (why == "lost") return "The wait is over: the process is lost, and nobody can say how it ended.\n";
  return "The wait was cancelled.\n";
}

std::string WaitWatch::Over(const sessions::SessionLog& log, const SessionFold& fold, base::Clock& clock) {
  if (IsSpokenTo(log)) return "input";
  const std::optional<WaitSet>& wait = fold.agent().wait();
  if (wait.has_value() && !wait->signal.empty() && fold.HasSignal(wait->signal)) return "signal";
  const int64_t now_ns = clock.MonotonicNow().ns;
  for (const auto& [name, timer] : log.facts().timers()) {
    const int64_t seen_ns = seen_ns_.emplace(name, now_ns).first->second;
    if (UtcMs(clock) >= timer.due_utc_ms || now_ns - seen_ns >= timer.remaining_ms * base::kNsPerMs) {
      return "time";
    }
  }
  return {};
}

std::optional<base::MonotonicTime> WaitWatch::NextLook(const sessions::SessionFacts& facts,
                                                       base::Clock& clock) const {
  const int64_t now_ns = clock.MonotonicNow().ns;
  std::optional<int64_t> next_ns;
  const auto by = [&next_ns](int64_t ns) { next_ns = std::min(next_ns.value_or(ns), ns); };
  for (const auto& [name, timer] : facts.timers()) {
    const auto seen = seen_ns_.find(name);
    by(now_ns + kClockNsMax);
    by((seen == seen_ns_.end() ? now_ns : seen->second) + timer.remaining_ms * base::kNsPerMs);
    by(now_ns + std::max<int64_t>(timer.due_utc_ms - UtcMs(clock), 0) * base::kNsPerMs);
  }
  if (const auto deadline = FirstClientDeadline(facts);
      facts.wait() == sessions::WaitFor::kClient && deadline) {
    by(now_ns + kClockNsMax);
    by(now_ns + std::max<int64_t>(*deadline - UtcMs(clock), 0) * base::kNsPerMs);
  }
  if (facts.wait() == sessions::WaitFor::kProcess || facts.wait() == sessions::WaitFor::kFile) {
    by(looked_ns_.value_or(now_ns) + kLookNs);
    by(now_ns + kLookNs);
  }
  if (!next_ns.has_value()) return std::nullopt;
  return base::MonotonicTime{std::max(*next_ns, now_ns + 1)};
}

bool WaitWatch::TimeToLook(base::Clock& clock) const {
  return !looked_ns_.has_value() || clock.MonotonicNow().ns - *looked_ns_ >= kLookNs;
}

void StateOfFile(SessionFiles& files, base::Executor& executor, const std::string& path,
                 std::function<void(std::string)> done) {
  // The context keeps alive what it names.
  executor.PostResult(
      base::Lane::kTools, [&executor, context = files.context(), path, done = std::move(done)] {
        std::string state = "none";
        if (context.files != nullptr) {
          if (const auto stat = context.files->Stat(path); stat.ok()) {
            state = std::to_string(static_cast<int>(stat->kind)) + " " + std::to_string(stat->size_bytes) +
                    " " + std::to_string(stat->mtime_ns) + " " + std::to_string(stat->inode);
          }
        }
        executor.PostResult(base::Lane::kControl, [done, state] { done(state); });
      });
}

bool HasRunning(SessionFiles& files) {
  const tools::BackgroundJobs* jobs = files.context().jobs;
  return jobs != nullptr && jobs->running() > 0;
}

bool IsRunningIn(SessionFiles& files, const std::string& process) {
  const tools::BackgroundJobs* jobs = files.context().jobs;
  if (jobs == nullptr) return false;
  const std::vector<tools::BackgroundInfo> list = jobs->List();
  return std::any_of(list.begin(), list.end(), [&process](const tools::BackgroundInfo& job) {
    return job.id == process && job.state == tools::BackgroundInfo::State::kRunning;
  });
}

}  // namespace holdfast::agent
