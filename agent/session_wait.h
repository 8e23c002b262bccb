// What a waiting session waits for, and when that is over.
//
// Threads: control lane.
// Source: DESIGN section 6: due times are UTC plus a remaining duration, and a timer fires when either says
// so.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "agent/agent_event.h"
#include "agent/session_files.h"
#include "agent/session_fold.h"
#include "base/clock.h"
#include "base/executor.h"
#include "sessions/session_log.h"

namespace holdfast::agent {

inline constexpr std::string_view kContinueTimer = "continue";  // between turns that changed nothing

// The wait of a state for a wait of the model's.
sessions::WaitFor KindOf(const WaitSet& wait);

// For people: "process b1 or 30 s".
std::string DescribeWait(const WaitSet& wait);

// For the model, of WaitEnded::why.
std::string WaitOverText(const std::string& why);

// A message or a steer is untold.
bool IsSpokenTo(const sessions::SessionLog& log);

// When timers are due, and when to look at what tells nobody.
class WaitWatch {
 public:
  // Why the wait is over, as far as the log and the clocks know: "input", "signal", "time"; empty: it is not.
  std::string Over(const sessions::SessionLog& log, const SessionFold& fold, base::Clock& clock);

  // When to ask again; none: when something is said. At most a minute ahead while there is a timer, since the
  // wall clock may be set.
  std::optional<base::MonotonicTime> NextLook(const sessions::SessionFacts& facts, base::Clock& clock) const;

  bool TimeToLook(base::Clock& clock) const;
  void Looked(base::Clock& clock) { looked_ns_ = clock.MonotonicNow().ns; }

 private:
  std::map<std::string, int64_t> seen_ns_;  // timers, when this process first saw them
  std::optional<int64_t> looked_ns_;
};

// A word that changes when the file does: kind, size, time of change and inode; "none" when there is none.
// `done` on the control lane.
void StateOfFile(SessionFiles& files, base::Executor& executor, const std::string& path,
                 std::function<void(std::string)> done);

// Whether any background command of the session runs; whether this one does.
bool HasRunning(SessionFiles& files);
bool IsRunningIn(SessionFiles& files, const std::string& process);

}  // namespace holdfast::agent
