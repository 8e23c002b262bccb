// The fixed texts of the chat format, as data: all that differs between versions stands here.
#pragma once

#include <span>
#include <string_view>

#include "model/chat.h"

namespace holdfast::model {

struct EffortText {
  std::string_view effort;
  std::string_view text;  // stands right after BOS in thinking mode
};

struct TaskToken {
  std::string_view task;
  std::string_view token;
};

struct ChatFormat {
  // Control tokens.
  std::string_view bos, eos, user, assistant, think, end_think, dsml, latest_reminder;
  std::span<const TaskToken> tasks;
  // Names inside the tags, with what stands between the control token and the name.
  std::string_view block, invoke, parameter;
  // Fixed texts.
  std::span<const EffortText> efforts;
  std::string_view default_effort;
  std::string_view tools_head, tools_tail;
  std::string_view response_format_head;
};

const ChatFormat& FormatOf(ChatVersion version);

}  // namespace holdfast::model
