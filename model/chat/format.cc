#include "model/chat/format.h"

#include <array>

namespace holdfast::model {
namespace {

constexpr std::string_view kMaximumEffort =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the "
    "root "
    "cause, rigorously stress-testing your logic against all potential paths, edge cases, and adversarial "
    "scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, considered "
    "alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n";

constexpr std::string_view kBeyondMaximumEffort =
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively "
    "decompose the problem into its most fundamental components, trace every causal chain to its root, and "
    "resolve the underlying cause rather than any surface symptom.\n"
    "Do not stop reasoning until you have independently verified the solution from multiple angles and are "
    "certain that no assumption remains unchecked and no error remains undiscovered.\n\n";

constexpr std::string_view kToolsHead =
    "## Tools\n\n"
    "You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "
    "\"<｜DSML｜tool_calls>\" block like the following:\n\n"
    "<｜DSML｜tool_calls>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME2\">\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "</｜DSML｜tool_calls>\n\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types (numbers, "
    "booleans, arrays, objects), pass the value in JSON format and set `string=\"false\"`.\n\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside "
    "<think>...</think> BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n"
    "### Available Tool Schemas\n\n";

constexpr std::string_view kToolsTail =
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n";

constexpr std::array<TaskToken, 6> kTasks = {{
    {"action", "<｜action｜>"},
    {"query", "<｜query｜>"},
    {"authority", "<｜authority｜>"},
    {"domain", "<｜domain｜>"},
    {"title", "<｜title｜>"},
    {"read_url", "<｜read_url｜>"},
}};

constexpr std::array<EffortText, 3> kPreviewEfforts = {{{"", ""}, {"high", ""}, {"max", kMaximumEffort}}};
constexpr std::array<EffortText, 3> k0731Efforts = {
    {{"low", ""}, {"high", kMaximumEffort}, {"max", kBeyondMaximumEffort}}};

constexpr ChatFormat Make(std::span<const EffortText> efforts, std::string_view default_effort) {
  return {.bos = "<｜begin▁of▁sentence｜>",
          .eos = "<｜end▁of▁sentence｜>",
          .user = "<｜User｜>",
          .assistant = "<｜Assistant｜>",
          .think = "<think>",
          .end_think = "</think>",
          .dsml = "｜DSML｜",
          .latest_reminder = "<｜latest_reminder｜>",
          .tasks = kTasks,
          .block = "tool_calls",
          .invoke = "invoke",
          .parameter = "parameter",
          .efforts = efforts,
          .default_effort = default_effort,
          .tools_head = kToolsHead,
          .tools_tail = kToolsTail,
          .response_format_head =
              "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"};
}

constexpr ChatFormat kPreview = Make(kPreviewEfforts, "");
constexpr ChatFormat k0731 = Make(k0731Efforts, "low");

}  // namespace

const ChatFormat& FormatOf(ChatVersion version) {
  return version == ChatVersion::kV4Preview ? kPreview : k0731;
}

}  // namespace holdfast::model
