#include "tools/mcp/call_result.h"

#include <algorithm>
#include <utility>

namespace holdfast::tools::mcp {
namespace {

constexpr size_t kNamedBytesMax = 200;   // of a type, a URI, a name
constexpr size_t kErrorBytesMax = 4096;  // of an error's message

std::string Server(std::string_view server) { return "the MCP server `" + std::string(server) + "`"; }

// A short text of the server's, on one line.
std::string Named(std::string_view text) {
  std::string named = sandbox::MakeSafe(text.substr(0, kNamedBytesMax));
  std::replace(named.begin(), named.end(), '\n', ' ');
  if (text.size() > kNamedBytesMax) named += "...";
  return named;
}

// The bytes that base64 text stands for, about.
std::string SizeOf(std::string_view base64) {
  while (!base64.empty() && base64.back() == '=') base64.remove_suffix(1);
  return std::to_string(base64.size() * 3 / 4) + " bytes";
}

std::string NotShown(std::string_view what, const Json& holder, std::string_view data_key) {
  std::string text = "[" + std::string(what);
  if (const std::string_view uri = TextAt(holder, "uri"); !uri.empty()) text += " " + Named(uri);
  if (const std::string_view type = TextAt(holder, "mimeType"); !type.empty()) text += ", " + Named(type);
  return text + ", " + SizeOf(TextAt(holder, data_key)) + ", not shown]";
}

std::string ResourceText(const Json& resource) {
  if (ValueAt(resource, "blob").is_string()) return NotShown("resource", resource, "blob");
  return "[resource " + Named(TextAt(resource, "uri")) + "]\n" + sandbox::MakeSafe(TextAt(resource, "text"));
}

std::string LinkText(const Json& link) {
  std::string text = "[link " + Named(TextAt(link, "uri"));
  if (const std::string_view name = TextAt(link, "name"); !name.empty()) text += " " + Named(name);
  if (const std::string_view about = TextAt(link, "description"); !about.empty()) text += ": " + Named(about);
  return text + "]";
}

std::string BlockText(const Json& block) {
  const std::string_view type = TextAt(block, "type");
  if (type == "text") return sandbox::MakeSafe(TextAt(block, "text"));
  if (type == "image" || type == "audio") return NotShown(type, block, "data");
  if (type == "resource") return ResourceText(ValueAt(block, "resource"));
  if (type == "resource_link") return LinkText(block);
  return "[content of the unknown type `" + Named(type) + "`, not shown]";
}

void AddLines(std::string& text, const std::string& more) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  text += more;
}

// Whether one of the texts is the same value as JSON, as servers are asked to give it beside.
bool IsSaidInText(const Json& structured, const Json& content) {
  return std::any_of(content.begin(), content.end(), [&](const Json& block) {
    const std::string_view text = TextAt(block, "text");
    const Shape shape = ShapeOf(text);
    return TextAt(block, "type") == "text" && shape.depth <= kMessageDepthMax &&
           shape.values <= kMessageValuesMax && Json::parse(text, nullptr, false) == structured;
  });
}

std::string WantedInput(const Json& result) {
  std::vector<std::string> methods;
  const Json& requests = ValueAt(result, "inputRequests");
  if (requests.is_object()) {
    for (const Json& request : requests) methods.push_back(Named(TextAt(request, "method")));
  }
  std::sort(methods.begin(), methods.end());
  methods.erase(std::unique(methods.begin(), methods.end()), methods.end());
  std::string text;
  for (const std::string& method : methods) text += (text.empty() ? " (" : ", ") + method;
  return text.empty() ? text : text + ")";
}

std::string_view ResultType(const Json& result) {
  const Json& type = ValueAt(result, "resultType");
  if (type.is_null()) return "complete";
  return TextAt(result, "resultType");
}

}  // namespace

ToolResult ReadCallResult(std::string_view server, const Json& result) {
  const Json& content = ValueAt(result, "content");
  const Json& structured = ValueAt(result, "structuredContent");
  const bool has_structure = result.is_object() && result.contains("structuredContent");
  const std::string_view type = ResultType(result);
  if (type == "input_required") {
    return Failed(Server(server) + " asks for input that it cannot be given here" + WantedInput(result) +
                  "; the call was not completed");
  }
  if (!result.is_object() || type != "complete" ||
      !(content.is_array() || (content.is_null() && has_structure))) {
    return Failed(Server(server) + " gave an answer that is no result; what the call did is not known");
  }
  std::string text;
  for (const Json& block : content) AddLines(text, BlockText(block));
  if (has_structure && !IsSaidInText(structured, content)) {
    AddLines(text, sandbox::MakeSafe(structured.dump(-1, ' ', false, Json::error_handler_t::replace)));
  }
  if (text.empty()) text = "[no content]";
  const Json& is_error = ValueAt(result, "isError");
  const bool failed = is_error.is_boolean() && is_error.get<bool>();
  return failed ? Failed(std::move(text)) : Succeeded(std::move(text));
}

std::optional<std::string> RetryState(const Json& result) {
  const Json& state = ValueAt(result, "requestState");
  const Json& requests = ValueAt(result, "inputRequests");
  if (ResultType(result) != "input_required" || !state.is_string()) return std::nullopt;
  if (!requests.is_null() && !(requests.is_object() && requests.empty())) return std::nullopt;
  return state.get<std::string>();
}

ToolResult ReadCallError(std::string_view server, const Answer& answer) {
  std::string text = Server(server) + " refused the call: error " + std::to_string(answer.code) + ": " +
                     sandbox::MakeSafe(std::string_view(answer.message).substr(0, kErrorBytesMax));
  return Failed(std::move(text));
}

ToolResult NoAnswer(std::string_view server, std::string_view why, Progress progress) {
  const std::string what = Server(server) + " " + std::string(why);
  switch (progress) {
    case Progress::kNotSent:
      return Unavailable(server, why);
    case Progress::kHarmless:
      return Failed(what + " before it answered the call, which may be repeated");
    case Progress::kSent:
      break;
  }
  return {.status = ToolStatus::kUnknown,
          .text = what + " before it answered the call; whether the call had an effect is not known"};
}

ToolResult PastDeadline(std::string_view server, Progress progress) {
  const std::string what = Server(server) + " did not answer in time";
  switch (progress) {
    case Progress::kNotSent:
      return {.status = ToolStatus::kTimeout,
              .text = Server(server) + " was not ready in time; the call was not made"};
    case Progress::kHarmless:
      return {.status = ToolStatus::kTimeout, .text = what + "; the call may be repeated"};
    case Progress::kSent:
      break;
  }
  return {.status = ToolStatus::kUnknown,
          .text = what + "; it was told to stop, and whether the call had an effect is not known"};
}

ToolResult Cancelled(std::string_view server, Progress progress) {
  switch (progress) {
    case Progress::kNotSent:
      return {.status = ToolStatus::kCancelled, .text = "cancelled; the call was not made"};
    case Progress::kHarmless:
      return {.status = ToolStatus::kCancelled, .text = "cancelled; the call may be repeated"};
    case Progress::kSent:
      break;
  }
  return {.status = ToolStatus::kUnknown,
          .text = "cancelled; " + Server(server) +
                  " was told to stop, and whether the call had an effect is not known"};
}

ToolResult Unavailable(std::string_view server, std::string_view why) {
  return {.status = ToolStatus::kUnavailable,
          .text = Server(server) + " " + std::string(why) + "; the call was not made"};
}

void Redact(const std::vector<sandbox::Secret>& secrets, std::string& text) {
  for (const sandbox::Secret& secret : secrets) {
    size_t at = text.find(secret.value);
    if (at == std::string::npos) continue;
    std::string clean;
    size_t plain = 0;
    for (; at != std::string::npos; at = text.find(secret.value, plain)) {
      clean.append(text, plain, at - plain);
      clean += "\xC2\xABredacted:" + secret.name + "\xC2\xBB";
      plain = at + secret.value.size();
    }
    clean.append(text, plain);
    text = std::move(clean);
  }
}

}  // namespace holdfast::tools::mcp
