#include "agent/window_text.h"

#include <algorithm>
#include <limits>
#include <span>
#include <string_view>

#include "agent/bounded_text.h"
#include "agent/goal_rules.h"

namespace holdfast::agent {
namespace {

constexpr size_t kItemBytesMax = 512;         // of one item of a plan
constexpr size_t kCheckBytesMax = 4 << 10;    // of one check of a goal
constexpr size_t kChecksBytesMax = 16 << 10;  // of all
constexpr std::string_view kItemMark = "- ";

// `count` things in words: "1 note", "2 notes".
std::string Counted(size_t count, std::string_view what) {
  return std::to_string(count) + " " + std::string(what) + (count == 1 ? "" : "s");
}

std::string LineOf(const PlanItem& item) {
  std::string text = BoundedText(item.text, kItemBytesMax);
  std::replace(text.begin(), text.end(), '\n', ' ');
  const std::string state = item.state == "active" ? "(active) " : "";
  return std::string(kItemMark) + state + text + "\n";
}

// As many lines from the front as go into `bytes_max`, and how many do not.
std::string FirstLines(std::span<const std::string> lines, size_t bytes_max, std::string_view what) {
  std::string text;
  size_t shown = 0;
  while (shown < lines.size() && text.size() + lines[shown].size() <= bytes_max) text += lines[shown++];
  const size_t rest = lines.size() - shown;
  return rest == 0 ? text : text + "(" + Counted(rest, what) + " more)\n";
}

// The same from the back, in their order.
std::string LastLines(std::span<const std::string> lines, size_t bytes_max, std::string_view what) {
  size_t first = lines.size();
  size_t bytes = 0;
  while (first > 0 && bytes + lines[first - 1].size() <= bytes_max) bytes += lines[--first].size();
  std::string text = first == 0 ? "" : "(" + Counted(first, what) + " before these)\n";
  for (const std::string& line : lines.subspan(first)) text += line;
  return text;
}

std::vector<std::string> OpenItems(const AgentFacts& facts) {
  std::vector<std::string> lines;
  for (const PlanItem& item : facts.plan()) {
    if (item.state != "done" && item.state != "dropped") lines.push_back(LineOf(item));
  }
  return lines;
}

std::vector<std::string> FinishedItems(const AgentFacts& facts) {
  std::vector<std::string> lines;
  for (const PlanItem& item : facts.plan()) {
    if (item.state == "done") lines.push_back(LineOf(item));
  }
  return lines;
}

std::vector<std::string> NotesOf(const AgentFacts& facts) {
  std::vector<std::string> lines;
  for (const Note& note : facts.notes()) {
    // The newest goes in whatever its size.
    lines.push_back("Note " + std::to_string(lines.size() + 1) + ":\n" +
                    BoundedText(note.text, kNotesBytesMax - 64) + "\n");
  }
  return lines;
}

// What a later window carries over, beside the goal.
std::string CarriedText(const AgentFacts& facts) {
  std::string text =
      "This goes on from an earlier window. What was said and done in it is no longer shown, but for the "
      "last turns where they follow.\n";
  if (facts.goal().has_value() && !HasOpenGoal(facts)) {
    text += "\nThe goal has come to its end: " + std::string(GoalStateName(facts.goal_state())) + ".\n";
  }
  if (const auto open = OpenItems(facts); !open.empty()) {
    text += "\nThe plan:\n" + FirstLines(open, kPlanBytesMax, "open item");
  }
  if (const auto finished = FinishedItems(facts); !finished.empty()) {
    text += "\nFinished, not to be done again:\n" + LastLines(finished, kPlanBytesMax, "finished item");
  }
  if (const auto notes = NotesOf(facts); !notes.empty()) {
    text += "\nYour notes, the newest last:\n" + LastLines(notes, kNotesBytesMax, "note");
  }
  if (HasTool(facts, "recall")) {
    text +=
        "\nEverything earlier can be looked up: recall finds it by words, and shows an event whole by its "
        "number.\n";
  }
  return text;
}

// Down to two digits that count.
int64_t Rounded(int64_t value) {
  int64_t unit = 1;
  while (value / unit >= 100) unit *= 10;
  return value / unit * unit;
}

// "- about 8100000 tokens"; nothing without a bound.
std::string Left(int64_t bound, int64_t used, std::string_view what) {
  if (bound == std::numeric_limits<int64_t>::max()) return "";
  return "- about " + std::to_string(Rounded(std::max<int64_t>(bound - used, 0))) + " " + std::string(what) +
         "\n";
}

}  // namespace

std::string GoalText(const AgentFacts& facts) {
  if (!facts.goal().has_value()) return "";
  const GoalSet& goal = *facts.goal();
  const std::string told = BoundedText(goal.text, kGoalBytesMax);
  if (!HasTool(facts, "goal")) return told;
  std::string text = "Your goal:\n" + told + (told.ends_with('\n') ? "" : "\n");
  if (goal.checks.empty()) {
    return text + "\nWhen it is done, or when you cannot go on, say so with the goal tool.\n";
  }
  std::vector<std::string> lines;
  for (const GoalCheck& check : goal.checks)
    lines.push_back("$ " + BoundedText(check.command, kCheckBytesMax) + "\n");
  return text +
         "\nIt is reached when this passes, in the root of the workspace. It is run for you on a copy "
         "whenever you end a turn:\n" +
         FirstLines(lines, kChecksBytesMax, "check");
}

std::vector<std::string> OpeningTexts(const AgentFacts& facts, uint32_t epoch) {
  std::vector<std::string> texts;
  if (facts.profile().has_value() && !facts.profile()->instructions.empty()) {
    texts.push_back(BoundedText(facts.profile()->instructions, kInstructionsBytesMax));
  }
  if (facts.goal().has_value()) texts.push_back(GoalText(facts));
  if (epoch > 0) texts.push_back(CarriedText(facts));
  return texts;
}

std::string ReminderText(const AgentFacts& facts) {
  if (!facts.goal().has_value()) return "";
  std::string text = "Reminder. " + BoundedText(GoalText(facts), kReminderGoalBytesMax);
  if (!text.ends_with('\n')) text += '\n';
  if (const auto open = OpenItems(facts); !open.empty()) {
    text += "\nOpen items of the plan:\n" + FirstLines(open, kReminderGoalBytesMax, "open item");
  }
  const std::string left = Left(facts.budgets().tokens, facts.used().tokens, "tokens") +
                           Left(facts.budgets().calls, facts.used().calls, "calls");
  if (!left.empty()) text += "\nWhat is left for it:\n" + left;
  return text;
}

}  // namespace holdfast::agent
