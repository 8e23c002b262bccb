// The tools by which the model steers its own session: plan, goal, wait, note and recall. They touch nothing
// but the session's record: what they change is handed to the loop, which commits it with the outcome of the
// call, so a call that has no outcome has changed nothing and is run again.
//
// Schemas and texts are data: tools/data/{plan,goal,wait,note,recall}@1.json.
// Threads: control lane, as tools/tool.h says.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
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
  std::string kind;  // "note", "user", "call", "result", "said"
  std::string excerpt;
};

// What the control tools need of a session. All on the control lane; outlives every call.
class ControlHost {
 public:
  virtual ~ControlHost() = default;
  virtual const AgentFacts& facts() const = 0;
  virtual int64_t NowUtcMs() const = 0;
  // To be committed with the outcome of the call that is running.
  virtual void Change(sessions::EventBody body) = 0;
  // Full-text search over everything that was ever said in the session, best first.
  virtual void Search(std::string query, size_t count,
                      std::function<void(base::StatusOr<std::vector<RecallHit>>)> done) = 0;
  // The text of one event, whole, byte for byte as the model saw it or wrote it.
  virtual void Fetch(uint64_t seq, std::function<void(base::StatusOr<std::string>)> done) = 0;
  // The id of a background command that runs; for wait.
  virtual bool IsRunning(const std::string& process) const = 0;
};

// Adds the five to a registry. The host outlives it.
base::Status AddControlTools(tools::Registry& registry, ControlHost& host);

}  // namespace holdfast::agent
