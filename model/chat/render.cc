// Messages to a prompt. Two passes, as in the official encoder: first the messages are normalised (tool
// results and neighbouring user messages become one user turn; results are put in call order; old reasoning
// is dropped), then each is written.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "model/chat.h"
#include "model/chat/format.h"
#include "model/chat/prompt.h"

namespace holdfast::model {
namespace {

// One part of a user turn.
struct Block {
  bool is_result = false;
  std::string call_id;  // of a result
  std::string text;
};

// A message after the first pass. `source` is the message it was made of, or the first of them.
struct Turn {
  const Json* source = nullptr;
  size_t index = 0;  // of `source`
  std::string role;
  std::vector<Block> blocks;  // role user: its parts, in order
  const Json* task = nullptr;
};

base::Status Error(const Turn& turn, std::string_view what) {
  return base::InvalidArgument("message " + std::to_string(turn.index) + " (" + turn.role +
                               "): " + std::string(what));
}

// A member that is there and not null.
const Json* Given(const Json& message, std::string_view key) {
  const Json* value = message.Find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool IsSet(const Json& message, std::string_view key) {
  const Json* value = message.Find(key);
  return value != nullptr && value->Truthy();
}

// Text that is empty when it is absent or null.
base::StatusOr<std::string> TextOrEmpty(const Turn& turn, std::string_view key) {
  const Json* value = Given(*turn.source, key);
  if (value == nullptr) return std::string();
  if (!value->is_string()) return Error(turn, std::string(key) + " must be text");
  return value->text();
}

// ---- First pass -------------------------------------------------------------------------------------------

// The text of a tool result: text as it is, a list by its parts, null as Python prints it.
base::StatusOr<std::string> ResultText(const Turn& turn) {
  const Json* content = turn.source->Find("content");
  if (content == nullptr) return std::string();
  if (content->is_null()) return std::string("None");
  if (content->is_string()) return content->text();
  if (!content->is_array()) return Error(turn, "content must be text or a list of parts");
  std::string text;
  for (const Json& part : content->items()) {
    if (&part != &content->items().front()) text += "\n\n";
    const Json* type = part.Find("type");
    if (type != nullptr && type->is_string() && type->text() == "text") {
      const Json* part_text = part.Find("text");
      if (part_text != nullptr && !part_text->is_string()) return Error(turn, "a part's text must be text");
      if (part_text != nullptr) text += part_text->text();
    } else if (!part.is_object()) {
      return Error(turn, "a part of content must be an object");
    } else {
      text += "[Unsupported " + (type == nullptr || !type->is_string() ? "None" : type->text()) + "]";
    }
  }
  return text;
}

base::StatusOr<Block> ResultBlock(const Turn& turn) {
  HF_ASSIGN_OR_RETURN(std::string text, ResultText(turn));
  const Json* id = turn.source->Find("tool_call_id");
  return Block{.is_result = true,
               .call_id = id != nullptr && id->is_string() ? id->text() : "",
               .text = std::move(text)};
}

base::StatusOr<Block> UserBlock(const Turn& turn) {
  const Json* content = turn.source->Find("content");
  if (content == nullptr) return Block{};
  if (!content->is_string()) return Error(turn, "content must be text");
  return Block{.text = content->text()};
}

// Tool messages, and user messages after a user turn, join that turn.
base::StatusOr<std::vector<Turn>> Merge(const Json& messages) {
  if (!messages.is_array()) return base::InvalidArgument("messages must be an array");
  std::vector<Turn> turns;
  for (size_t i = 0; i < messages.items().size(); ++i) {
    const Json& message = messages.items()[i];
    const Json* role = message.Find("role");
    Turn turn = {.source = &message, .index = i, .role = "?"};
    if (role == nullptr || !role->is_string()) return Error(turn, "has no role");
    turn.role = role->text();
    const bool is_tool = turn.role == "tool";
    if (!is_tool && turn.role != "user") {
      turn.task = Given(message, "task");
      turns.push_back(std::move(turn));
      continue;
    }
    HF_ASSIGN_OR_RETURN(Block block, is_tool ? ResultBlock(turn) : UserBlock(turn));
    Turn* last = turns.empty() || turns.back().role != "user" ? nullptr : &turns.back();
    if (last == nullptr || (!is_tool && last->task != nullptr)) {
      turn.task = is_tool ? nullptr : Given(message, "task");
      turn.role = "user";
      turns.push_back(std::move(turn));
      last = &turns.back();
    }
    last->blocks.push_back(std::move(block));
  }
  return turns;
}

// The place of each call id in an assistant message.
absl::flat_hash_map<std::string, size_t> CallOrder(const Json& tool_calls) {
  absl::flat_hash_map<std::string, size_t> order;
  for (size_t i = 0; i < tool_calls.items().size(); ++i) {
    const Json& call = tool_calls.items()[i];
    const Json* id = call.Find("id");
    if (id == nullptr || !id->Truthy()) {
      const Json* function = call.Find("function");
      id = function == nullptr ? nullptr : function->Find("id");
    }
    if (id != nullptr && id->is_string() && id->Truthy()) order[id->text()] = i;
  }
  return order;
}

// Puts the results of a turn in the order of their calls; other blocks stay where they are.
void SortResults(const absl::flat_hash_map<std::string, size_t>& order, std::vector<Block>* blocks) {
  std::vector<Block> results;
  for (const Block& block : *blocks) {
    if (block.is_result) results.push_back(block);
  }
  const auto place = [&](const Block& block) {
    const auto found = order.find(block.call_id);
    return found == order.end() ? 0 : found->second;
  };
  std::stable_sort(results.begin(), results.end(),
                   [&](const Block& a, const Block& b) { return place(a) < place(b); });
  size_t next = 0;
  for (Block& block : *blocks) {
    if (block.is_result) block = std::move(results[next++]);
  }
}

void SortAllResults(std::vector<Turn>* turns) {
  absl::flat_hash_map<std::string, size_t> order;
  for (Turn& turn : *turns) {
    const Json* calls = Given(*turn.source, "tool_calls");
    if (turn.role == "assistant" && calls != nullptr && calls->Truthy()) {
      order = CallOrder(*calls);
    } else if (turn.role == "user" && !order.empty()) {
      SortResults(order, &turn.blocks);
    }
  }
}

// The index of the last turn of role user or developer; -1 without one.
std::ptrdiff_t LastUser(const std::vector<Turn>& turns) {
  for (auto i = static_cast<std::ptrdiff_t>(turns.size()) - 1; i >= 0; --i) {
    if (turns[i].role == "user" || turns[i].role == "developer") return i;
  }
  return -1;
}

// Before the last user turn, turns of internal roles go; reasoning is left out when it is written.
std::vector<Turn> DropThinking(std::vector<Turn> turns) {
  constexpr std::string_view kKept[] = {"user", "system", "tool", "latest_reminder", "direct_search_results"};
  const std::ptrdiff_t last_user = LastUser(turns);
  std::vector<Turn> kept;
  for (size_t i = 0; i < turns.size(); ++i) {
    Turn& turn = turns[i];
    const bool is_old = static_cast<std::ptrdiff_t>(i) < last_user;
    if (!is_old || turn.role == "assistant" ||
        std::count(std::begin(kKept), std::end(kKept), turn.role) > 0) {
      kept.push_back(std::move(turn));
    }
  }
  return kept;
}

// ---- Second pass ------------------------------------------------------------------------------------------

class Renderer {
 public:
  Renderer(std::vector<Turn> turns, const RenderOptions& options, bool drops_thinking)
      : turns_(std::move(turns)),
        options_(options),
        format_(FormatOf(options.version)),
        drops_thinking_(drops_thinking),
        last_user_(LastUser(turns_)),
        out_(format_) {}

  base::StatusOr<Prompt> Run() {
    HF_ASSIGN_OR_RETURN(const std::string_view effort, EffortText());
    if (options_.add_bos) out_.Control(format_.bos);
    if (IsThinking() && !turns_.empty()) out_.Ours(effort);
    for (size_t i = 0; i < turns_.size(); ++i) {
      HF_RETURN_IF_ERROR(Body(i));
      HF_RETURN_IF_ERROR(Header(i));
    }
    return std::move(out_);
  }

 private:
  bool IsThinking() const { return options_.mode == ThinkingMode::kThinking; }

  base::StatusOr<std::string_view> EffortText() const {
    const std::string_view wanted =
        options_.effort.empty() ? format_.default_effort : std::string_view(options_.effort);
    for (const auto& [effort, text] : format_.efforts) {
      if (effort == wanted) return text;
    }
    return base::InvalidArgument("reasoning effort '" + std::string(wanted) + "' is not known");
  }

  base::Status Body(size_t i) {
    const Turn& turn = turns_[i];
    if (turn.role == "system") return System(turn);
    if (turn.role == "developer") return Developer(turn);
    if (turn.role == "user") return User(turn);
    if (turn.role == "latest_reminder") return Reminder(turn);
    if (turn.role == "assistant") return Assistant(i);
    return Error(turn, "this role cannot be rendered");
  }

  base::Status System(const Turn& turn) {
    HF_ASSIGN_OR_RETURN(const std::string content, TextOrEmpty(turn, "content"));
    out_.Theirs(content);
    return ToolsAndResponseFormat(turn);
  }

  base::Status Developer(const Turn& turn) {
    HF_ASSIGN_OR_RETURN(const std::string content, TextOrEmpty(turn, "content"));
    if (content.empty()) return Error(turn, "content must not be empty");
    out_.Control(format_.user);
    out_.Theirs(content);
    return ToolsAndResponseFormat(turn);
  }

  base::Status User(const Turn& turn) {
    out_.Control(format_.user);
    for (size_t i = 0; i < turn.blocks.size(); ++i) {
      const Block& block = turn.blocks[i];
      if (i > 0) out_.Ours("\n\n");
      if (block.is_result) out_.Ours("<tool_result>");
      out_.Theirs(block.text);
      if (block.is_result) out_.Ours("</tool_result>");
    }
    return {};
  }

  base::Status Reminder(const Turn& turn) {
    const Json* content = Given(*turn.source, "content");
    if (content != nullptr && !content->is_string()) return Error(turn, "content must be text");
    out_.Control(format_.latest_reminder);
    out_.Theirs(content == nullptr ? "None" : content->text());
    return {};
  }

  base::Status ToolsAndResponseFormat(const Turn& turn) {
    if (IsSet(*turn.source, "tools")) HF_RETURN_IF_ERROR(Tools(turn, *turn.source->Find("tools")));
    if (IsSet(*turn.source, "response_format")) {
      out_.Ours("\n\n");
      out_.Ours(format_.response_format_head);
      out_.Theirs(turn.source->Find("response_format")->Dump());
    }
    return {};
  }

  base::Status Tools(const Turn& turn, const Json& tools) {
    if (!tools.is_array()) return Error(turn, "tools must be a list");
    out_.Ours("\n\n");
    out_.Ours(format_.tools_head);
    for (size_t i = 0; i < tools.items().size(); ++i) {
      const Json* function = tools.items()[i].Find("function");
      if (function == nullptr) return Error(turn, "tool " + std::to_string(i) + " has no function");
      if (i > 0) out_.Ours("\n");
      out_.Theirs(function->Dump());
    }
    out_.Ours(format_.tools_tail);
    return {};
  }

  base::Status Assistant(size_t i) {
    const Turn& turn = turns_[i];
    const bool is_after_task = i > 0 && turns_[i - 1].task != nullptr;
    const bool keeps_reasoning = !drops_thinking_ || static_cast<std::ptrdiff_t>(i) > last_user_;
    if (IsThinking() && !is_after_task && keeps_reasoning) {
      HF_ASSIGN_OR_RETURN(const std::string reasoning, TextOrEmpty(turn, "reasoning_content"));
      out_.Theirs(reasoning);
      out_.Control(format_.end_think);
    }
    HF_ASSIGN_OR_RETURN(const std::string content, TextOrEmpty(turn, "content"));
    out_.Theirs(content);
    if (IsSet(*turn.source, "tool_calls"))
      HF_RETURN_IF_ERROR(ToolCalls(turn, *turn.source->Find("tool_calls")));
    if (!IsSet(*turn.source, "wo_eos")) out_.Control(format_.eos);
    return {};
  }

  void OpenTag(std::string_view name) {
    out_.Ours("<");
    out_.Control(format_.dsml);
    out_.Ours(name);
  }
  void CloseTag(std::string_view name) {
    out_.Ours("</");
    out_.Control(format_.dsml);
    out_.Ours(name);
    out_.Ours(">");
  }

  base::Status ToolCalls(const Turn& turn, const Json& calls) {
    if (!calls.is_array()) return Error(turn, "tool_calls must be a list");
    out_.Ours("\n\n");
    OpenTag(format_.block);
    out_.Ours(">\n");
    for (size_t i = 0; i < calls.items().size(); ++i) {
      const base::Status status = ToolCall(calls.items()[i]);
      if (!status.ok()) return Error(turn, "call " + std::to_string(i) + ": " + base::Message(status));
      out_.Ours("\n");
    }
    CloseTag(format_.block);
    return {};
  }

  base::Status ToolCall(const Json& call) {
    const Json* function = call.Find("function");
    const Json* name = function == nullptr ? nullptr : function->Find("name");
    const Json* arguments = function == nullptr ? nullptr : function->Find("arguments");
    if (name == nullptr || !name->is_string()) return base::InvalidArgument("has no function name");
    if (arguments == nullptr) return base::InvalidArgument("has no arguments");
    OpenTag(format_.invoke);
    out_.Ours(" name=\"");
    out_.Theirs(name->text());
    out_.Ours("\">\n");
    HF_RETURN_IF_ERROR(Arguments(*arguments));
    out_.Ours("\n");
    CloseTag(format_.invoke);
    return {};
  }

  // What is not the text of a JSON object becomes one parameter, `arguments`.
  base::Status Arguments(const Json& arguments) {
    if (!arguments.is_string()) {
      Parameter("arguments", arguments);
      return {};
    }
    const base::StatusOr<Json> parsed = Json::Parse(arguments.text());
    if (!parsed.ok()) {
      Parameter("arguments", arguments);
      return {};
    }
    if (!parsed->is_object()) return base::InvalidArgument("arguments are JSON, but not an object");
    for (size_t i = 0; i < parsed->keys().size(); ++i) {
      if (i > 0) out_.Ours("\n");
      Parameter(parsed->keys()[i], parsed->items()[i]);
    }
    return {};
  }

  void Parameter(std::string_view name, const Json& value) {
    OpenTag(format_.parameter);
    out_.Ours(" name=\"");
    out_.Theirs(name);
    out_.Ours(value.is_string() ? "\" string=\"true\">" : "\" string=\"false\">");
    out_.Theirs(value.is_string() ? value.text() : value.Dump());
    CloseTag(format_.parameter);
  }

  // What opens the assistant's turn after message `i`, or the token of a quick instruction in its place.
  base::Status Header(size_t i) {
    const Turn& turn = turns_[i];
    const std::string_view next = i + 1 < turns_.size() ? std::string_view(turns_[i + 1].role) : "assistant";
    if (next != "assistant" && next != "latest_reminder") return {};
    if (turn.task != nullptr) return Task(turn);
    if (turn.role != "user" && turn.role != "developer") return {};
    const bool is_kept = !drops_thinking_ || static_cast<std::ptrdiff_t>(i) >= last_user_;
    out_.Control(format_.assistant);
    out_.Control(IsThinking() && is_kept ? format_.think : format_.end_think);
    return {};
  }

  base::Status Task(const Turn& turn) {
    for (const auto& [task, token] : format_.tasks) {
      if (!turn.task->is_string() || turn.task->text() != task) continue;
      if (task == "action") {
        out_.Control(format_.assistant);
        out_.Control(IsThinking() ? format_.think : format_.end_think);
      }
      out_.Control(token);
      return {};
    }
    return Error(turn, "unknown task " + turn.task->Dump());
  }

  const std::vector<Turn> turns_;
  const RenderOptions& options_;
  const ChatFormat& format_;
  const bool drops_thinking_;
  const std::ptrdiff_t last_user_;
  Prompt out_;
};

base::StatusOr<Prompt> Render(const Json& messages, const RenderOptions& options) {
  HF_ASSIGN_OR_RETURN(std::vector<Turn> turns, Merge(messages));
  SortAllResults(&turns);
  const bool has_tools = std::any_of(turns.begin(), turns.end(), [](const Turn& turn) {
    return turn.role != "user" && IsSet(*turn.source, "tools");
  });
  const bool drops_thinking = options.drop_thinking && !has_tools;
  if (drops_thinking && options.mode == ThinkingMode::kThinking) turns = DropThinking(std::move(turns));
  return Renderer(std::move(turns), options, drops_thinking).Run();
}

}  // namespace

base::StatusOr<std::string> RenderText(const Json& messages, const RenderOptions& options) {
  HF_ASSIGN_OR_RETURN(const Prompt prompt, Render(messages, options));
  return prompt.ToText();
}

base::StatusOr<std::vector<int32_t>> RenderIds(const Json& messages, const RenderOptions& options,
                                               const Tokenizer& tokenizer) {
  HF_ASSIGN_OR_RETURN(const Prompt prompt, Render(messages, options));
  return prompt.ToIds(tokenizer);
}

}  // namespace holdfast::model
