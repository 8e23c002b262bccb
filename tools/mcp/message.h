// One message of JSON-RPC 2.0 as MCP uses it: read from a line that a server wrote, written as a line for it.
//
// What a server writes is hostile input. A line is looked over before it is parsed: nesting and the number of
// values are bounded, so that parsing, printing and freeing are cheap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "nlohmann/json.hpp"

namespace holdfast::tools::mcp {

using Json = nlohmann::json;

inline constexpr size_t kMessageDepthMax = 64;
inline constexpr size_t kMessageValuesMax = 1 << 19;  // each costs some 50 bytes, however short it is

// Codes of errors. The last three are what a server of the modern era answers, and nobody else.
inline constexpr int64_t kMethodNotFound = -32601;
inline constexpr int64_t kInvalidParams = -32602;
inline constexpr int64_t kHeaderMismatch = -32020;
inline constexpr int64_t kMissingClientCapability = -32021;
inline constexpr int64_t kUnsupportedProtocolVersion = -32022;

enum class MessageKind {
  kResult,        // of a request of ours
  kError,         // the same
  kRequest,       // the server asks for something
  kNotification,  // the server tells something
};

struct Message {
  MessageKind kind = MessageKind::kNotification;
  Json id;  // of an answer: what the request had, or null when the server could not say; of a request: any
  std::string method;  // of requests and notifications
  Json body;           // the result; the error, an object; or the parameters, an object or null

  // Of an answer: the number that the request had. Nothing for an id that none of our requests has.
  std::optional<int64_t> RequestId() const;
};

// InvalidArgument, saying what is wrong in a few words that hold nothing of the line, for what is not one
// message: malformed JSON or UTF-8, a batch, values nested deeper than kMessageDepthMax or more of them than
// kMessageValuesMax.
base::StatusOr<Message> ParseMessage(std::string_view line);

// How deep brackets nest, how many values there are at most, and the most members of an object: bounds the
// cost of a value without parsing it. Text that is not JSON gives some numbers.
struct Shape {
  size_t depth = 0;
  size_t values = 0;
  size_t members_max = 0;
};
Shape ShapeOf(std::string_view text);

// Lines to send, the newline included.
std::string RequestLine(int64_t id, std::string_view method, const Json& params);
std::string NotificationLine(std::string_view method, const Json& params);  // null: none
std::string ResultLine(const Json& id, const Json& result);
std::string ErrorLine(const Json& id, int64_t code, std::string_view message);

// The string at `key` of an object; empty for anything else.
std::string_view TextAt(const Json& object, std::string_view key);
// The value at `key` of an object; null when it is not there.
const Json& ValueAt(const Json& object, std::string_view key);

}  // namespace holdfast::tools::mcp
