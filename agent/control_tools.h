// The tools by which the model steers its own session: plan, goal, wait, note and recall. They touch nothing
// but the session's record: what they change is handed to the loop, which commits it with the outcome of the
// call, so a call that has no outcome has changed nothing and is run again.
//
// Schemas and texts are data: tools/data/{plan,goal,wait,note,recall}@1.json.
// Threads: control lane, as tools/tool.h says.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/agent_event.h"
#include "agent/agent_facts.h"
#include "base/status.h"
#include "sessions/event.h"
#include "tools/registry.h"

namespace holdfast::agent {

// One hit of a search in the history.
struct RecallHit {
  uint64_t seq = 0;
  std::string kind;         // as agent/history_index.h lists them: "user", "said", "call", "result", ...
  std::string excerpt;      // one line of valid UTF-8 around what was found
  bool cut_before = false;  // the text has more before the excerpt,
  bool cut_after = false;   // or behind it
};

// What the control tools need of a session. All on the control lane; outlives every call.
class ControlHost {
 public:
  virtual ~ControlHost() = default;
  virtual const AgentFacts& facts() const = 0;
  virtual int64_t NowUtcMs() const = 0;
  // The id of the call that is running, "c17"; these tools run alone but for recall.
  virtual std::string call() const = 0;
  // To be committed with the outcome of the call that is running.
  virtual void Change(sessions::EventBody body) = 0;
  // What Change was given and is not in facts() yet, in order.
  virtual std::span<const sessions::EventBody> pending() const = 0;
  // Full-text search over everything that was ever said in the session, best first.
  virtual void Search(std::string query, size_t count,
                      std::function<void(base::StatusOr<std::vector<RecallHit>>)> done) = 0;
  // The text of one event that Search may find, whole, byte for byte as the model saw it or wrote it.
  // NotFound for any other.
  virtual void Fetch(uint64_t seq, std::function<void(base::StatusOr<std::string>)> done) = 0;
  // The id of a background command that runs; for wait.
  virtual bool IsRunning(const std::string& process) const = 0;
};

// The timer of a wait with a bound in time.
inline constexpr std::string_view kWaitTimer = "wait";

// "plan@1", ...: the five, in the order of a prompt.
std::vector<std::string> ControlToolIds();

// Whether calls of the tool `id` only steer the session: what they change is an event of its own.
bool IsControlTool(std::string_view id);

// Adds the five to a registry. The host outlives it.
base::Status AddControlTools(tools::Registry& registry, ControlHost& host);

}  // namespace holdfast::agent
