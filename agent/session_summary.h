// What a list says of a session without opening it: a line of JSON in its row (SessionRow::summary), written
// by whoever works on it, some moments behind its log.
#pragma once

#include <string>
#include <string_view>

#include "agent/session_fold.h"

namespace holdfast::agent {

struct SessionSummary {
  std::string display_name;
  std::string goal;        // its text, cut, on one line; empty: there is none
  std::string goal_state;  // as GoalStateName; empty: there is none
  std::string goal_reason;

  bool operator==(const SessionSummary&) const = default;
};

SessionSummary SummaryOf(const SessionFold& fold);

// At most sessions::kSummaryBytesMax; empty when all is. Texts are cut further when that is too much.
std::string EncodeSummary(const SessionSummary& summary);

// What is no such line is an empty summary.
SessionSummary DecodeSummary(std::string_view text);

}  // namespace holdfast::agent
