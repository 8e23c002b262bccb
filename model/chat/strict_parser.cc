// The official parser of completion text, step for step, with its quirks: a text that ends right after a
// piece of syntax inside the tool block parses with the calls so far, and where it uses Python's `$` one
// newline more is taken.
#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/chat.h"
#include "model/chat/format.h"
#include "model/text/utf8.h"

namespace holdfast::model {
namespace {

base::Status Error(std::string_view what, std::string_view found) {
  constexpr size_t kShown = 80;
  found = found.substr(0, kShown);
  found = found.substr(0, ValidUtf8Prefix(found));
  return base::InvalidArgument(std::string(what) + ": " + JsonQuote(found));
}

// Takes `suffix` and at most one newline after it off the end of `text`.
bool TakeEnd(std::string_view suffix, std::string_view* text) {
  for (const size_t newline : {size_t{0}, size_t{1}}) {
    std::string_view rest = *text;
    if (newline > 0) {
      if (!rest.ends_with("\n")) return false;
      rest.remove_suffix(1);
    }
    if (rest.ends_with(suffix)) {
      *text = rest.substr(0, rest.size() - suffix.size());
      return true;
    }
  }
  return false;
}

bool TakeStart(std::string_view prefix, std::string_view* text) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// Python's str.isspace characters, in UTF-8.
std::string_view SkipUnicodeSpace(std::string_view text) {
  constexpr std::string_view kSpaces[] = {
      "\t",           "\n",           "\v",           "\f",           "\r",
      "\x1c",         "\x1d",         "\x1e",         "\x1f",         " ",
      "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
      "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
      "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
      "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};
  for (bool more = true; more;) {
    more = false;
    for (const std::string_view space : kSpaces) more = TakeStart(space, &text) || more;
  }
  return text;
}

struct Parameter {
  std::string_view name;
  std::string_view value;
  bool is_string = false;
};

class StrictParser {
 public:
  StrictParser(std::string_view text, ThinkingMode mode)
      : format_(FormatOf(ChatVersion::kV4Preview)), text_(text), mode_(mode) {}

  base::StatusOr<Json> Run() {
    const std::string block_start = "\n\n" + open_ + std::string(format_.block);
    std::string_view reasoning;
    if (mode_ == ThinkingMode::kThinking) {
      const Stop stop = ReadUntil({format_.end_think, block_start});
      if (stop.index != 0) return base::InvalidArgument("the reasoning does not end in </think>");
      reasoning = stop.before;
    }
    const Stop stop = ReadUntil({format_.eos, block_start});
    if (stop.index < 0) return base::InvalidArgument("there is no end-of-sentence token");
    if (stop.index == 1) {
      HF_RETURN_IF_ERROR(Calls());
      const Stop end = ReadUntil({format_.eos});
      if (!end.before.empty()) return Error("text after the tool calls", end.before);
    }
    if (at_ != text_.size()) return Error("text after the end", text_.substr(at_));
    for (const std::string_view token :
         {format_.bos, format_.eos, format_.think, format_.end_think, format_.dsml}) {
      if (stop.before.find(token) != std::string_view::npos ||
          reasoning.find(token) != std::string_view::npos) {
        return base::InvalidArgument("control token " + std::string(token) + " in the text");
      }
    }
    Json message = Json::Object();
    message.Set("role", Json::String("assistant"));
    message.Set("content", Json::String(stop.before));
    message.Set("reasoning_content", Json::String(reasoning));
    message.Set("tool_calls", std::move(calls_));
    return message;
  }

 private:
  struct Stop {
    int index = -1;  // which of the stops was found first; -1: none, all text was read
    std::string_view before;
  };

  // Reads up to and over the first of `stops` that comes.
  Stop ReadUntil(std::initializer_list<std::string_view> stops) {
    const size_t start = at_;
    for (; at_ < text_.size(); ++at_) {
      int index = 0;
      for (const std::string_view stop : stops) {
        if (text_.substr(at_).starts_with(stop)) {
          const Stop found = {index, text_.substr(start, at_ - start)};
          at_ += stop.size();
          return found;
        }
        ++index;
      }
    }
    return {-1, text_.substr(start)};
  }

  base::Status Calls() {
    const std::string invoke = open_ + std::string(format_.invoke);
    const std::string block_end = close_ + std::string(format_.block) + ">";
    while (at_ < text_.size()) {
      const Stop stop = ReadUntil({invoke, block_end});
      if (stop.before != ">\n")
        return Error("tool call format: expected '>' and a newline, found", stop.before);
      if (stop.index == 1) return {};
      if (stop.index < 0) return base::InvalidArgument("tool call format: a tag is missing");
      HF_RETURN_IF_ERROR(Call());
    }
    return {};
  }

  base::Status Call() {
    const std::string parameter = open_ + std::string(format_.parameter);
    const std::string invoke_end = close_ + std::string(format_.invoke);
    Stop stop = ReadUntil({parameter, invoke_end});
    std::string_view name = SkipUnicodeSpace(stop.before);
    if (!TakeStart("name=\"", &name) || !TakeEnd("\">\n", &name)) {
      return Error("tool name format", stop.before);
    }
    std::vector<Parameter> parameters;
    while (stop.index == 0) {
      HF_RETURN_IF_ERROR(ReadParameter(&parameters));
      stop = ReadUntil({parameter, invoke_end});
      if (stop.before != ">\n")
        return Error("parameter format: expected '>' and a newline, found", stop.before);
    }
    AddCall(name, parameters);
    return {};
  }

  base::Status ReadParameter(std::vector<Parameter>* parameters) {
    const Stop stop = ReadUntil({"/" + std::string(format_.dsml) + std::string(format_.parameter)});
    std::string_view rest = stop.before;
    if (!TakeStart(" name=\"", &rest) || !TakeEnd("<", &rest)) return Error("parameter format", stop.before);
    constexpr std::string_view kTrue = "\" string=\"true\">", kFalse = "\" string=\"false\">";
    const size_t name_end = std::min(rest.find(kTrue), rest.find(kFalse));
    if (name_end == std::string_view::npos) return Error("parameter format", stop.before);
    Parameter read = {.name = rest.substr(0, name_end)};
    rest.remove_prefix(name_end);
    read.is_string = TakeStart(kTrue, &rest);
    if (!read.is_string) TakeStart(kFalse, &rest);
    read.value = rest;
    for (const Parameter& other : *parameters) {
      if (other.name == read.name) return Error("duplicate parameter", read.name);
    }
    parameters->push_back(read);
    return {};
  }

  // Values that are not strings go into the arguments as they stand.
  void AddCall(std::string_view name, const std::vector<Parameter>& parameters) {
    std::string arguments = "{";
    for (const Parameter& parameter : parameters) {
      if (arguments.size() > 1) arguments += ", ";
      arguments += JsonQuote(parameter.name) + ": ";
      arguments += parameter.is_string ? JsonQuote(parameter.value) : std::string(parameter.value);
    }
    arguments += "}";
    Json function = Json::Object();
    function.Set("name", Json::String(name));
    function.Set("arguments", Json::String(arguments));
    Json call = Json::Object();
    call.Set("type", Json::String("function"));
    call.Set("function", std::move(function));
    calls_.Append(std::move(call));
  }

  const ChatFormat& format_;
  const std::string_view text_;
  const ThinkingMode mode_;
  const std::string open_ = "<" + std::string(format_.dsml);
  const std::string close_ = "</" + std::string(format_.dsml);
  size_t at_ = 0;
  Json calls_ = Json::Array();
};

}  // namespace

base::StatusOr<Json> ParseCompletionText(std::string_view text, ThinkingMode mode) {
  return StrictParser(text, mode).Run();
}

}  // namespace holdfast::model
