#include "tools/mcp/message.h"

#include <algorithm>
#include <array>
#include <utility>

namespace holdfast::tools::mcp {
namespace {

using base::InvalidArgument;

bool IsId(const Json& id) { return id.is_string() || id.is_number(); }

base::StatusOr<Message> AsCall(Json& object) {
  Message message;
  Json& method = object["method"];
  if (!method.is_string()) return InvalidArgument("the method is not a string");
  message.method = method.get<std::string>();
  const auto id = object.find("id");
  if (id != object.end()) {
    if (!IsId(*id)) return InvalidArgument("a request whose id is neither a string nor a number");
    message.kind = MessageKind::kRequest;
    message.id = std::move(*id);
  }
  if (const auto params = object.find("params"); params != object.end()) {
    if (!params->is_object() && !params->is_array() && !params->is_null()) {
      return InvalidArgument("parameters that are no object");
    }
    message.body = std::move(*params);
  }
  return message;
}

base::StatusOr<Message> AsAnswer(Json& object) {
  Message message;
  const auto result = object.find("result");
  const auto error = object.find("error");
  if ((result == object.end()) == (error == object.end())) {
    return InvalidArgument("neither a request, a notification, a result nor an error");
  }
  if (result != object.end()) {
    message.kind = MessageKind::kResult;
    message.body = std::move(*result);
  } else {
    if (!error->is_object() || !ValueAt(*error, "code").is_number_integer()) {
      return InvalidArgument("an error without a code");
    }
    message.kind = MessageKind::kError;
    message.body = std::move(*error);
  }
  if (const auto id = object.find("id"); id != object.end()) message.id = std::move(*id);
  return message;
}

std::string Line(const Json& message) {
  return message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Shape ShapeOf(std::string_view text) {
  Shape shape;
  std::array<size_t, kMessageDepthMax + 1> colons = {};  // of the open brackets; deeper ones share the last
  size_t depth = 0;
  bool in_string = false;
  const auto level = [&]() -> size_t& { return colons[std::min(depth, colons.size() - 1)]; };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        break;
      case '{':
      case '[':
        shape.depth = std::max(shape.depth, ++depth);
        ++shape.values;
        level() = 0;
        break;
      case '}':
      case ']':
        if (depth > 0) --depth;
        break;
      case ',':
        ++shape.values;
        break;
      case ':':
        shape.members_max = std::max(shape.members_max, ++level());
        break;
      default:
        break;
    }
  }
  return shape;
}

std::optional<int64_t> Message::RequestId() const {
  if (!id.is_number_integer()) return std::nullopt;
  if (id.is_number_unsigned() && id.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return id.get<int64_t>();
}

base::StatusOr<Message> ParseMessage(std::string_view line) {
  const size_t start = line.find_first_not_of(" \t\r");
  if (start == std::string_view::npos) return InvalidArgument("an empty line");
  if (line[start] == '[') return InvalidArgument("a batch");
  if (line[start] != '{') return InvalidArgument("not a JSON object");
  const Shape shape = ShapeOf(line);
  if (shape.depth > kMessageDepthMax) return InvalidArgument("nested too deeply");
  if (shape.values > kMessageValuesMax) return InvalidArgument("too many values");
  Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded() || !object.is_object()) return InvalidArgument("malformed JSON");
  if (TextAt(object, "jsonrpc") != "2.0") return InvalidArgument("not JSON-RPC 2.0");
  return object.contains("method") ? AsCall(object) : AsAnswer(object);
}

std::string RequestLine(int64_t id, std::string_view method, const Json& params) {
  return Line({{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", params}});
}

std::string NotificationLine(std::string_view method, const Json& params) {
  Json message = {{"jsonrpc", "2.0"}, {"method", method}};
  if (!params.is_null()) message["params"] = params;
  return Line(message);
}

std::string ResultLine(const Json& id, const Json& result) {
  return Line({{"jsonrpc", "2.0"}, {"id", id}, {"result", result}});
}

std::string ErrorLine(const Json& id, int64_t code, std::string_view message) {
  return Line({{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", code}, {"message", message}}}});
}

std::string_view TextAt(const Json& object, std::string_view key) {
  const Json& value = ValueAt(object, key);
  return value.is_string() ? std::string_view(value.get_ref<const std::string&>()) : std::string_view();
}

const Json& ValueAt(const Json& object, std::string_view key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

}  // namespace holdfast::tools::mcp
