#include "tools/mcp/catalogue.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "sandbox/output.h"
#include "tools/schema.h"

namespace holdfast::tools::mcp {
namespace {

using base::InvalidArgument;
using OrderedJson = nlohmann::ordered_json;

constexpr size_t kPageBytesMax = 8 << 20;
// Of an object: what constrained decoding takes, and more than enough to keep ordered objects cheap.
constexpr size_t kMembersMax = 128;
constexpr size_t kPageMembersMax = 512;
constexpr size_t kNameBytesMax = 128;
constexpr size_t kListedMax = 10'000;
constexpr int kFormat = 1;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.';
}

bool IsToolName(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::all_of(name.begin(), name.end(), IsNameCharacter);
}

// A parameter's name stands raw in the markup of a call.
bool IsParameterName(std::string_view name) {
  const auto is_good = [](char c) { return IsNameCharacter(c) || c == '$' || c == '@'; };
  return !name.empty() && name.size() <= kNameBytesMax && std::all_of(name.begin(), name.end(), is_good);
}

bool IsProse(std::string_view key) { return key == "description" || key == "title" || key == "$comment"; }

// As json.dumps(value, ensure_ascii=False) writes it. The depth of what a server sent is bounded.
void Dump(const OrderedJson& value, std::string& out) {
  if (value.is_object()) {
    out += '{';
    for (auto it = value.begin(); it != value.end(); ++it) {
      if (it != value.begin()) out += ", ";
      out += OrderedJson(it.key()).dump() + ": ";
      Dump(it.value(), out);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    for (size_t i = 0; i < value.size(); ++i) {
      if (i > 0) out += ", ";
      Dump(value[i], out);
    }
    out += ']';
  } else {
    out += value.dump();
  }
}

const OrderedJson* Find(const OrderedJson& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

// Makes prose safe to show, and refuses what cannot be shown or followed. `key` is what `value` stands at.
base::Status Clean(std::string_view key, OrderedJson& value) {
  if (value.is_string()) {
    std::string& text = value.get_ref<std::string&>();
    std::string safe = sandbox::MakeSafe(text);
    if (IsProse(key)) {
      text = std::move(safe);
    } else if (safe != text) {
      return InvalidArgument("its schema holds control characters");
    } else if (key == "$ref" && !text.starts_with('#')) {
      return InvalidArgument("its schema refers to another document");
    }
  } else if (value.is_array()) {
    if (key == "required" && value.size() > kMembersMax)
      return InvalidArgument("it requires too many members");
    for (OrderedJson& each : value) HF_RETURN_IF_ERROR(Clean(key, each));
  } else if (value.is_object()) {
    if (value.size() > kMembersMax) {
      return InvalidArgument("an object of its schema has more than " + std::to_string(kMembersMax) +
                             " members");
    }
    for (auto it = value.begin(); it != value.end(); ++it) {
      if (sandbox::MakeSafe(it.key()) != it.key()) {
        return InvalidArgument("its schema holds control characters");
      }
      HF_RETURN_IF_ERROR(Clean(it.key(), it.value()));
    }
  }
  return absl::OkStatus();
}

base::StatusOr<OrderedJson> Parameters(const OrderedJson& tool) {
  const OrderedJson* given = Find(tool, "inputSchema");
  if (given == nullptr || !given->is_object()) return InvalidArgument("it has no inputSchema");
  OrderedJson schema = {{"type", "object"}};
  for (auto it = given->begin(); it != given->end(); ++it) {
    if (it.key() == "$schema") {
      const std::string dialect = it.value().is_string() ? it.value().get<std::string>() : "";
      if (dialect.find("//json-schema.org/") == std::string::npos) {
        return InvalidArgument("its schema is of an unknown dialect");
      }
      continue;  // the dialects agree in what is enforced
    }
    schema[it.key()] = it.value();
  }
  if (schema["type"] != "object") return InvalidArgument("its inputSchema is not of an object");
  if (const OrderedJson* properties = Find(schema, "properties")) {
    if (!properties->is_object()) return InvalidArgument("its properties are no object");
    for (auto it = properties->begin(); it != properties->end(); ++it) {
      if (!IsParameterName(it.key())) return InvalidArgument("a parameter's name cannot be used");
    }
  }
  HF_RETURN_IF_ERROR(Clean("", schema));
  return schema;
}

bool Hint(const OrderedJson& tool, const char* name) {
  const OrderedJson* annotations = Find(tool, "annotations");
  const OrderedJson* hint = annotations == nullptr ? nullptr : Find(*annotations, name);
  return hint != nullptr && hint->is_boolean() && hint->get<bool>();
}

base::StatusOr<CatalogueTool> ReadTool(const McpServerConfig& config, const std::string& name,
                                       const OrderedJson& tool) {
  if (FunctionName(config.name, name).size() > kNameBytesMax) return InvalidArgument("its name is too long");
  OrderedJson function = {{"name", FunctionName(config.name, name)}};
  const OrderedJson* description = Find(tool, "description");
  function["description"] = description != nullptr && description->is_string()
                                ? sandbox::MakeSafe(description->get_ref<const std::string&>())
                                : "";
  HF_ASSIGN_OR_RETURN(function["parameters"], Parameters(tool));
  CatalogueTool made = {
      .name = name, .read_only = Hint(tool, "readOnlyHint"), .idempotent = Hint(tool, "idempotentHint")};
  Dump(function, made.function);
  if (made.function.size() > config.bounds.tool_bytes_max) {
    return InvalidArgument("its schema line has " + std::to_string(made.function.size()) +
                           " bytes, more than " + std::to_string(config.bounds.tool_bytes_max));
  }
  HF_RETURN_IF_ERROR(Schema::Make(made.function).status());
  return made;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

base::StatusOr<CatalogueTool> DecodeTool(std::string_view server, const Json& entry) {
  CatalogueTool tool = {.name = std::string(TextAt(entry, "name")),
                        .function = std::string(TextAt(entry, "function"))};
  const Json& read_only = ValueAt(entry, "read_only");
  const Json& idempotent = ValueAt(entry, "idempotent");
  if (!IsToolName(tool.name) || !read_only.is_boolean() || !idempotent.is_boolean()) {
    return InvalidArgument("catalogue: a tool without a name or its hints");
  }
  tool.read_only = read_only.get<bool>();
  tool.idempotent = idempotent.get<bool>();
  const Json function = Json::parse(tool.function, nullptr, false);
  if (TextAt(function, "name") != FunctionName(server, tool.name)) {
    return InvalidArgument("catalogue: the schema line of `" + tool.name + "` is of another tool");
  }
  return tool;
}

}  // namespace

std::string FunctionName(std::string_view server, std::string_view tool) {
  return std::string(server) + "__" + std::string(tool);
}

std::string EncodeCatalogue(std::string_view server, const Catalogue& catalogue) {
  OrderedJson tools = OrderedJson::array();
  for (const CatalogueTool& tool : catalogue.tools) {
    tools.push_back({{"name", tool.name},
                     {"function", tool.function},
                     {"read_only", tool.read_only},
                     {"idempotent", tool.idempotent}});
  }
  return OrderedJson({{"format", kFormat}, {"server", server}, {"tools", tools}}).dump();
}

base::StatusOr<Catalogue> DecodeCatalogue(std::string_view server, std::string_view text) {
  const Json object = Json::parse(text, nullptr, false);
  if (!object.is_object() || ValueAt(object, "format") != kFormat) {
    return InvalidArgument("catalogue: not one of a known format");
  }
  if (TextAt(object, "server") != server) {
    return InvalidArgument("catalogue: of another server than `" + std::string(server) + "`");
  }
  const Json& tools = ValueAt(object, "tools");
  if (!tools.is_array()) return InvalidArgument("catalogue: without tools");
  Catalogue catalogue;
  for (const Json& entry : tools) {
    HF_ASSIGN_OR_RETURN(CatalogueTool tool, DecodeTool(server, entry));
    if (!catalogue.tools.empty() && catalogue.tools.back().name >= tool.name) {
      return InvalidArgument("catalogue: tools out of order");
    }
    catalogue.tools.push_back(std::move(tool));
  }
  return catalogue;
}

std::string DescribeDifference(const Catalogue& before, const Catalogue& now) {
  std::map<std::string, const CatalogueTool*> old;
  for (const CatalogueTool& tool : before.tools) old[tool.name] = &tool;
  std::vector<std::string> added, gone, changed;
  for (const CatalogueTool& tool : now.tools) {
    const auto found = old.find(tool.name);
    if (found == old.end()) {
      added.push_back(tool.name);
    } else {
      if (!(*found->second == tool)) changed.push_back(tool.name);
      old.erase(found);
    }
  }
  for (const auto& [name, tool] : old) gone.push_back(name);
  std::string text;
  const auto add = [&](std::string_view what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    text += (text.empty() ? "" : "; ") + std::string(what) + ": " + Joined(names);
  };
  add("new", added);
  add("gone", gone);
  add("changed", changed);
  return text;
}

base::StatusOr<std::string> CatalogueBuilder::AddPage(std::string_view line) {
  if (line.size() > kPageBytesMax) return InvalidArgument("lists its tools in too large a page");
  if (ShapeOf(line).members_max > kPageMembersMax) {
    return InvalidArgument("lists its tools with too many members in an object");
  }
  const OrderedJson message = OrderedJson::parse(line, nullptr, false);
  const OrderedJson* result = Find(message, "result");
  const OrderedJson* tools = result == nullptr ? nullptr : Find(*result, "tools");
  if (tools == nullptr || !tools->is_array()) return InvalidArgument("answered tools/list without tools");
  for (const OrderedJson& tool : *tools) {
    if (++listed_ > kListedMax) return InvalidArgument("lists more tools than can be looked at");
    const OrderedJson* given = Find(tool, "name");
    const std::string name = given != nullptr && given->is_string() ? given->get<std::string>() : "";
    if (!IsToolName(name)) {
      unnamed_.push_back("tool " + std::to_string(listed_) + " of the list: its name cannot be used");
      continue;
    }
    base::StatusOr<CatalogueTool> read = ReadTool(config_, name, tool);
    const auto [place, is_new] = tools_.emplace(name, std::move(read));
    if (!is_new) place->second = InvalidArgument("the list has it twice");
  }
  const OrderedJson* cursor = Find(*result, "nextCursor");
  if (cursor == nullptr || cursor->is_null()) return std::string();
  if (!cursor->is_string()) return InvalidArgument("gave a cursor that is no string");
  return cursor->get<std::string>();
}

Catalogue CatalogueBuilder::Finish(std::vector<std::string>* left_out) {
  Catalogue catalogue;
  *left_out = std::move(unnamed_);
  const auto leave_out = [&](const std::string& name, std::string_view why) {
    left_out->push_back("`" + name + "`: " + std::string(why));
  };
  std::optional<std::vector<std::string>> wanted = config_.tools;
  size_t bytes = 0;
  for (auto& [name, tool] : tools_) {
    if (wanted.has_value()) {
      const auto place = std::find(wanted->begin(), wanted->end(), name);
      if (place == wanted->end()) continue;
      wanted->erase(place);
    }
    if (!tool.ok()) {
      leave_out(name, base::Message(tool.status()));
    } else if (catalogue.tools.size() >= config_.bounds.tools_max) {
      leave_out(name, "more than " + std::to_string(config_.bounds.tools_max) + " tools");
    } else if (bytes + tool->function.size() > config_.bounds.catalogue_bytes_max) {
      leave_out(name, "the schema lines together are too long");
    } else {
      bytes += tool->function.size();
      catalogue.tools.push_back(*std::move(tool));
    }
  }
  if (wanted.has_value()) {
    for (const std::string& name : *wanted) leave_out(name, "the server has no such tool");
  }
  return catalogue;
}

}  // namespace holdfast::tools::mcp
