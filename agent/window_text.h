// The texts by which a window opens, and the reminder within one. By rule from the facts alone: the same
// facts give the same bytes, and nothing stands in them that differs between two runs on the same tree (no
// times, no ids but event numbers). The text of the goal is the same in every epoch.
//
// Threads: any, one at a time for one set of facts. Everything is bounded; what is left out is said.
// Source: DESIGN section 6 (window); the page of failures, F4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "agent/agent_facts.h"

namespace holdfast::agent {

inline constexpr size_t kInstructionsBytesMax = 160 << 10;  // AGENTS.md, in a window
inline constexpr size_t kGoalBytesMax = 64 << 10;           // the goal; its checks, 16 KiB more
inline constexpr size_t kPlanBytesMax = 16 << 10;           // open items; as much again for finished ones
inline constexpr size_t kNotesBytesMax = 16 << 10;          // the newest notes
inline constexpr size_t kReminderGoalBytesMax = 4 << 10;    // of the goal, and of the plan, in a reminder

// Text that the window of `epoch` begins with, in this order: the instructions of the tree; the goal; from
// epoch 1 on what is to be carried over: plan, finished items, notes, and how to recall the rest. Without a
// goal and instructions epoch 0 has none; later epochs always have at least one.
//
// Models without the goal tool are given the goal as it was set, and no word about checks.
std::vector<std::string> OpeningTexts(const AgentFacts& facts, uint32_t epoch);

// How the goal is told: in an opening, or as a message when it is set in the middle of a conversation. Empty
// without a goal.
std::string GoalText(const AgentFacts& facts);

// Goal, open items of the plan, and what is left of tokens and calls in round numbers (not of time, which is
// another in each run). Empty without a goal.
std::string ReminderText(const AgentFacts& facts);

}  // namespace holdfast::agent
