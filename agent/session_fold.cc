#include "agent/session_fold.h"

#include <utility>
#include <variant>

#include "agent/call_record.h"

namespace holdfast::agent {

void SessionFold::Reset() {
  live_ = false;
  agent_ = {};
  versions_ = std::make_unique<tools::FileVersions>();
  created_ = {};
  numerics_.clear();
  display_name_.clear();
  last_said_seq_ = last_agent_seq_ = 0;
  turn_finished_ = applied_ = start_checked_ = false;
  signals_.clear();
}

void SessionFold::Apply(const sessions::Event& event) {
  agent_.Apply(event);
  if (const auto* created = std::get_if<sessions::SessionCreated>(&event.body)) {
    created_ = *created;
  } else if (const auto* run = std::get_if<sessions::TokenRun>(&event.body)) {
    turn_finished_ = false;
    if (run->sampling.has_value()) numerics_ = run->sampling->numerics;
  } else if (std::holds_alternative<sessions::TurnFinished>(event.body)) {
    turn_finished_ = true;
  } else if (const auto* outcome = std::get_if<sessions::CallOutcome>(&event.body)) {
    // What cannot be read is not known: an edit asks for a fresh read then.
    if (const auto observed = ObservedIn(outcome->record); observed.ok()) versions_->Apply(*observed);
  } else if (const auto* input = std::get_if<sessions::InputReceived>(&event.body)) {
    if (input->kind == sessions::InputKind::kSignal) signals_.insert(input->text);
    if (input->kind == sessions::InputKind::kMessage || input->kind == sessions::InputKind::kSteer) {
      last_said_seq_ = event.seq;
    }
  } else if (const auto* agent = std::get_if<sessions::AgentEvent>(&event.body)) {
    last_agent_seq_ = event.seq;
    TakeAgent(*agent);
  }
  if (live_ && on_live_) on_live_(event);
}

void SessionFold::TakeAgent(const sessions::AgentEvent& event) {
  const auto body = Decode(event);
  if (!body.ok() || !body->has_value()) return;
  if (std::holds_alternative<GoalSet>(**body)) {
    applied_ = start_checked_ = false;
  } else if (const auto* applied = std::get_if<Applied>(&**body)) {
    applied_ = applied_ || !applied->partly;
  } else if (const auto* ran = std::get_if<CheckRan>(&**body)) {
    if (ran->when == "start") start_checked_ = true;
  } else if (const auto* named = std::get_if<DisplayNameSet>(&**body)) {
    display_name_ = named->name;
  } else if (std::holds_alternative<WaitSet>(**body)) {
    signals_.clear();
  }
}

}  // namespace holdfast::agent
