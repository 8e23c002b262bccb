// Sessions and their events in words, for people; and as JSON, for programs.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace google::protobuf {
class Message;
}

namespace holdfast::v1 {
class DiffSessionResponse;
class Goal;
class Session;
class SessionEvent;
}  // namespace holdfast::v1

namespace holdfast::cli {

// Prints the JSON mapping of a message (docs/cli.md), in a line of standard output.
void PrintJson(const google::protobuf::Message& message);

// "fix-tests" of "sessions/fix-tests".
std::string IdOf(const std::string& name);

// "RUNNING", "WAITING (APPROVAL)", "PAUSED".
std::string StateText(const v1::Session& session);
// "SUCCEEDED", "PAUSED (BUDGET_CALLS)"; empty: no goal.
std::string GoalText(const v1::Session& session);

// It does nothing until somebody does something.
bool AtRest(const v1::Session& session);
// A person must answer it.
bool NeedsPerson(const v1::Session& session);

// "2026-01-31 12:00:00", UTC.
std::string TimeText(int64_t utc_seconds);

// "SAMPLED", "CALL_STARTED": the kind of an event.
std::string KindText(const v1::SessionEvent& event);
// What people are told of an event, without a newline at its end; empty: nothing. Of several lines when
// `whole`.
std::string EventText(const v1::SessionEvent& event, bool whole);

// "3 files, +12 -4", then a line a path.
std::string DiffStat(const v1::DiffSessionResponse& diff);

}  // namespace holdfast::cli
