// All that the agent computes from the log of one session, beside the facts of the store.
//
// Threads: as sessions::EventFold.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "agent/agent_facts.h"
#include "sessions/event.h"
#include "sessions/session_log.h"
#include "tools/file_versions.h"

namespace holdfast::agent {

class SessionFold final : public sessions::EventFold {
 public:
  // `on_live` is told each event that becomes durable after Live; may be empty.
  explicit SessionFold(std::function<void(const sessions::Event&)> on_live) : on_live_(std::move(on_live)) {}

  void Reset() override;
  void Apply(const sessions::Event& event) override;

  // What was on record has been read: what comes now is news, until a Reset. Control lane.
  void Live() { live_ = true; }

  const AgentFacts& agent() const { return agent_; }
  // What the calls of the session had last seen of each file.
  const tools::FileVersions& versions() const { return *versions_; }
  // Of the first event, and of the run that was sampled last; empty: none was.
  const sessions::SessionCreated& created() const { return created_; }
  const std::string& numerics() const { return numerics_; }

  // The model has ended its turn, and nothing was fed or sampled since.
  bool turn_finished() const { return turn_finished_; }
  // What people call the session; may be empty.
  const std::string& display_name() const { return display_name_; }
  // The events of what a person said last, and of the agent's last event; 0: there is none.
  uint64_t last_said_seq() const { return last_said_seq_; }
  uint64_t last_agent_seq() const { return last_agent_seq_; }
  // The goal's changes were taken over, after it was set.
  bool applied() const { return applied_; }
  // The checks of the goal have been run before its work began.
  bool start_checked() const { return start_checked_; }
  // Has come since the wait began.
  bool HasSignal(const std::string& name) const { return signals_.contains(name); }

 private:
  void TakeAgent(const sessions::AgentEvent& event);

  const std::function<void(const sessions::Event&)> on_live_;
  bool live_ = false;
  AgentFacts agent_;
  std::unique_ptr<tools::FileVersions> versions_ = std::make_unique<tools::FileVersions>();
  sessions::SessionCreated created_;
  std::string numerics_;
  std::string display_name_;
  uint64_t last_said_seq_ = 0;
  uint64_t last_agent_seq_ = 0;
  bool turn_finished_ = false;
  bool applied_ = false;
  bool start_checked_ = false;
  std::set<std::string> signals_;
};

}  // namespace holdfast::agent
