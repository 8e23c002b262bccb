// Sessions as clients see them (proto/holdfast/v1/session.proto), and what clients ask of them, checked.
// What a client gave wrongly is an InvalidArgument that names the field.
//
// Threads: any.
#pragma once

#include <string>
#include <string_view>

#include "agent/agent_event.h"
#include "agent/session_manager.h"
#include "base/status.h"
#include "holdfast/v1/session.pb.h"
#include "sessions/session_store.h"

namespace holdfast::server {

inline constexpr size_t kGoalTextBytesMax = size_t{64} << 10;
inline constexpr size_t kLastTextBytesMax = size_t{64} << 10;
inline constexpr int kGoalChecksMax = 32;
inline constexpr size_t kCheckCommandBytesMax = size_t{16} << 10;
inline constexpr size_t kPathBytesMax = 4096;

// --- To clients.

v1::Session::State StateToProto(sessions::SessionState state);
v1::WaitReason WaitToProto(sessions::WaitFor wait);
v1::Goal::State GoalStateToProto(agent::GoalState state);
void PlanItemToProto(const agent::PlanItem& item, v1::PlanItem* out);
// What was asked for: text, checks, bounds.
void GoalToProto(const agent::GoalSet& goal, v1::Goal* out);

// What a list has of a session; without an etag. `out` is empty.
void RowToProto(const sessions::SessionRow& row, v1::Session* out);
// All of it. `out` is empty.
void StatusToProto(const agent::SessionStatus& status, v1::Session* out);

// An error of the manager or the store with a reason for programs: SESSION_NOT_FOUND, SESSION_EXISTS.
base::Status WithReasonOf(base::Status status);

// Nothing is to be done before a person says something, or ever.
bool Rests(const sessions::SessionRow& row);

// --- From clients.

// `field`: the path of the message in its request, "goal".
base::StatusOr<agent::GoalSet> GoalFromProto(const v1::Goal& goal, std::string_view field);
// What is absent is as in `now`.
base::StatusOr<agent::Budgets> BudgetsFromProto(const v1::Budgets& budgets, const agent::Budgets& now,
                                                std::string_view field);
// Whether it makes sense in itself: paths absolute, enums known, output-only fields not set.
base::Status CheckSpec(const v1::SessionSpec& spec, std::string_view field);
// "overlay", "snapshot" or "direct", of a spec that has been checked.
std::string WorkspaceModeOf(const v1::SessionSpec& spec);

}  // namespace holdfast::server
