// What the model reads of a call: the server's answer as text, and the texts that stand where there is none.
//
// Text is shown as it is, made safe; what cannot be shown is named, with its kind and size. Nothing here
// depends on the time or on how often the server was started.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/output.h"
#include "tools/mcp/message.h"
#include "tools/mcp/peer.h"
#include "tools/tool.h"

namespace holdfast::tools::mcp {

// Of the `result` of tools/call. A result that is malformed, or that asks for input, is kFailed.
ToolResult ReadCallResult(std::string_view server, const Json& result);

// The state to be given back with the same call at once, when the server asks for that and for nothing else.
std::optional<std::string> RetryState(const Json& result);

// Of an error that the server answered with: kFailed.
ToolResult ReadCallError(std::string_view server, const Answer& answer);

// How far a call had come that got no answer.
enum class Progress {
  kNotSent,   // the server never saw it
  kHarmless,  // the server had it, but it only reads, or may be repeated
  kSent,      // the server had it
};

// Of calls without an answer. `why` goes on from "the MCP server `x` ".
ToolResult NoAnswer(std::string_view server, std::string_view why, Progress progress);
ToolResult PastDeadline(std::string_view server, Progress progress);
ToolResult Cancelled(std::string_view server, Progress progress);
// Of calls that are refused here.
ToolResult Unavailable(std::string_view server, std::string_view why);

// Every occurrence of a secret becomes «redacted:NAME».
void Redact(const std::vector<sandbox::Secret>& secrets, std::string& text);

}  // namespace holdfast::tools::mcp
