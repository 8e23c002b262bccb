#include "model/chat/schema.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace holdfast::model {
namespace {

constexpr int kMaxSchemaDepth = 200;  // of schemas within schemas, references included
constexpr uint8_t kUnsatisfiable = 255;

SchemaNode AnyNode() { return {.kinds = kAnyKind}; }

uint8_t KindOfName(std::string_view type) {
  constexpr std::pair<std::string_view, uint8_t> kKinds[] = {
      {"string", kStringKind}, {"integer", kIntegerKind}, {"number", kNumberKind}, {"boolean", kBoolKind},
      {"null", kNullKind},     {"object", kObjectKind},   {"array", kArrayKind}};
  for (const auto& [name, kind] : kKinds) {
    if (name == type) return kind;
  }
  return 0;
}

// The kinds that `type` permits; absent or not understood: what the other keywords suggest.
uint8_t KindsOf(const Json& schema) {
  const Json* type = schema.Find("type");
  uint8_t kinds = 0;
  if (type != nullptr && type->is_string()) kinds = KindOfName(type->text());
  if (type != nullptr && type->is_array()) {
    for (const Json& each : type->items()) kinds |= KindOfName(each.text());
  }
  if (kinds != 0) return kinds;
  if (schema.Find("properties") != nullptr) return kObjectKind;
  if (schema.Find("items") != nullptr) return kArrayKind;
  return kAnyKind;
}

uint8_t KindOfValue(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      return kNullKind;
    case Json::Kind::kBool:
      return kBoolKind;
    case Json::Kind::kInt:
      return kIntegerKind;
    case Json::Kind::kFloat:
      return kNumberKind;
    case Json::Kind::kString:
      return kStringKind;
    case Json::Kind::kArray:
      return kArrayKind;
    case Json::Kind::kObject:
      return kObjectKind;
  }
  return 0;
}

std::vector<std::string> Literals(const SchemaNode& node) {
  std::vector<std::string> literals;
  for (uint32_t i = 0; i < node.literals.size(); ++i) literals.push_back(node.literals[i]);
  return literals;
}

// Makes the first byte of a value tell whether it is a literal or of a kind: literals that a kind covers go,
// and beside the others true, false and null are literals too.
void Separate(SchemaNode* node) {
  if (node->literals.empty()) return;
  std::vector<std::string> kept;
  for (const std::string& literal : Literals(*node)) {
    const auto value = Json::Parse(literal);
    const uint8_t kind = value.ok() ? KindOfValue(*value) : 0;
    const bool is_number = (kind & (kIntegerKind | kNumberKind)) != 0;
    if (is_number && (node->kinds & (kIntegerKind | kNumberKind)) != 0) {
      node->kinds |= kind;
    } else if ((node->kinds & kind) == 0) {
      kept.push_back(literal);
    }
  }
  if (!kept.empty()) {
    if ((node->kinds & kBoolKind) != 0) kept.insert(kept.end(), {"false", "true"});
    if ((node->kinds & kNullKind) != 0) kept.emplace_back("null");
    node->kinds &= static_cast<uint8_t>(~(kBoolKind | kNullKind));
  }
  node->literals = LiteralSet(std::move(kept));
}

// Either of two. Two different forms of object, or of array, become any object, any array.
SchemaNode Union(SchemaNode a, const SchemaNode& b) {
  std::vector<std::string> literals = Literals(a);
  for (std::string& literal : Literals(b)) literals.push_back(std::move(literal));
  const uint8_t both = a.kinds & b.kinds;
  SchemaNode result = (a.kinds & kObjectKind) != 0 ? a : b;
  if ((both & kObjectKind) != 0) result = SchemaNode();
  result.items = (both & kArrayKind) != 0 ? kAnyNode : (a.kinds & kArrayKind) != 0 ? a.items : b.items;
  result.kinds = a.kinds | b.kinds;
  result.literals = LiteralSet(std::move(literals));
  Separate(&result);
  return result;
}

bool IsTagName(std::string_view name) {
  constexpr size_t kLongest = 256;
  return !name.empty() && name.size() <= kLongest && std::none_of(name.begin(), name.end(), [](char c) {
    return c == '"' || c == '<' || static_cast<uint8_t>(c) < 0x20;
  });
}

}  // namespace

// Compiles the tools one by one; holds what is shared between them.
class SchemaCompiler {
 public:
  explicit SchemaCompiler(ToolSet* out) : out_(*out) { out_.nodes_.push_back(AnyNode()); }

  base::Status AddTool(const Json& function, ToolSpec* spec) {
    references_.clear();
    const Json* parameters = function.Find("parameters");
    if (parameters == nullptr || !parameters->is_object()) return {};
    root_ = parameters;
    HF_ASSIGN_OR_RETURN(const SchemaNode node, Content(*parameters, 0));
    if (node.keys.empty()) return {};
    HF_RETURN_IF_ERROR(NameParameters(*parameters, node, spec));
    for (const NodeId member : node.members) spec->parameters.push_back(Parameter(member));
    return {};
  }

  // Settles the depths, which references can make circular, by going over all until nothing changes.
  base::Status MeasureDepths() {
    for (SchemaNode& node : out_.nodes_) node.min_depth = node.object_depth = kUnsatisfiable;
    for (bool changed = true; changed;) {
      changed = false;
      for (SchemaNode& node : out_.nodes_) changed = Measure(&node) || changed;
    }
    for (uint32_t i = 0; i < out_.tools_.size(); ++i) {
      for (const ToolParameter& parameter : out_.tools_[i].parameters) {
        if (parameter.takes_json && out_.nodes_[parameter.json].min_depth > kMaxJsonDepth) {
          return base::InvalidArgument("tool '" + out_.names_[i] + "': no value within " +
                                       std::to_string(kMaxJsonDepth) +
                                       " levels satisfies a parameter's schema");
        }
      }
    }
    return {};
  }

 private:
  // Parameter names stand raw in a tag; the compiled names are those of JSON.
  static base::Status NameParameters(const Json& schema, const SchemaNode& node, ToolSpec* spec) {
    std::vector<std::string> names;
    for (uint32_t i = 0; i < node.keys.size(); ++i) {
      const std::string name = Json::Parse("\"" + node.keys[i] + "\"").value_or(schema).text();
      if (!IsTagName(name))
        return base::InvalidArgument("parameter name " + JsonQuote(name) + " cannot stand in a tag");
      names.push_back(name);
    }
    // Names that need no escape sort alike in both forms; a backslash is the exception.
    if (!std::is_sorted(names.begin(), names.end()))
      return base::InvalidArgument("parameter names with backslashes");
    spec->names = LiteralSet(std::move(names));
    spec->required = node.required;
    return {};
  }

  ToolParameter Parameter(NodeId member) {
    SchemaNode node = out_.nodes_[member];
    ToolParameter parameter = {.takes_text = (node.kinds & kStringKind) != 0};
    std::vector<std::string> texts, others;
    for (const std::string& literal : Literals(node)) {
      if (literal[0] == '"') {
        texts.push_back(Json::Parse(literal).value_or(Json()).text());
      } else {
        others.push_back(literal);
      }
    }
    if (!texts.empty()) {
      parameter.takes_text = true;
      // A text with '<' could run into the tag that ends it: then any text is permitted.
      const bool is_safe = std::none_of(texts.begin(), texts.end(), [](const std::string& text) {
        return text.find('<') != std::string::npos;
      });
      if (is_safe) parameter.texts = LiteralSet(std::move(texts));
    }
    node.kinds &= static_cast<uint8_t>(~kStringKind);
    node.literals = LiteralSet(std::move(others));
    parameter.takes_json = node.kinds != 0 || !node.literals.empty();
    parameter.json = static_cast<NodeId>(out_.nodes_.size());
    out_.nodes_.push_back(std::move(node));
    return parameter;
  }

  base::StatusOr<NodeId> Add(const Json& schema, int depth) {
    if (const Json* reference = schema.Find("$ref"); reference != nullptr) return Refer(*reference, depth);
    const auto id = static_cast<NodeId>(out_.nodes_.size());
    out_.nodes_.push_back(AnyNode());
    HF_ASSIGN_OR_RETURN(SchemaNode node, Build(schema, depth));
    out_.nodes_[id] = std::move(node);
    return id;
  }

  // The node of "#/a/b"; what it refers to is compiled once. While that goes on the node stands as "any".
  base::StatusOr<NodeId> Refer(const Json& reference, int depth) {
    if (const auto known = references_.find(reference.text()); known != references_.end())
      return known->second;
    const Json* target = Resolve(reference.text());
    if (target == nullptr) return kAnyNode;
    const auto id = static_cast<NodeId>(out_.nodes_.size());
    out_.nodes_.push_back(AnyNode());
    references_[reference.text()] = id;
    HF_ASSIGN_OR_RETURN(SchemaNode node, Content(*target, depth + 1));
    out_.nodes_[id] = std::move(node);
    return id;
  }

  const Json* Resolve(std::string_view pointer) const {
    if (!pointer.starts_with("#")) return nullptr;
    pointer.remove_prefix(1);
    const Json* at = root_;
    while (at != nullptr && !pointer.empty()) {
      if (pointer[0] != '/') return nullptr;
      pointer.remove_prefix(1);
      const size_t end = std::min(pointer.find('/'), pointer.size());
      at = at->Find(pointer.substr(0, end));
      pointer.remove_prefix(end);
    }
    return at;
  }

  base::StatusOr<SchemaNode> Content(const Json& schema, int depth) {
    if (schema.Find("$ref") == nullptr) return Build(schema, depth);
    HF_ASSIGN_OR_RETURN(const NodeId id, Add(schema, depth));
    return out_.nodes_[id];
  }

  base::StatusOr<SchemaNode> Build(const Json& schema, int depth) {
    if (depth > kMaxSchemaDepth) return base::InvalidArgument("schemas nested too deeply");
    for (const char* key : {"anyOf", "oneOf"}) {
      const Json* choices = schema.Find(key);
      if (choices != nullptr && choices->is_array() && choices->Truthy()) return Choice(*choices, depth);
    }
    if (const Json* all = schema.Find("allOf"); all != nullptr) {
      if (all->items().size() == 1) return Content(all->items()[0], depth + 1);
      return AnyNode();
    }
    if (const std::optional<SchemaNode> literal = Enumeration(schema)) return *literal;
    SchemaNode node = {.kinds = KindsOf(schema)};
    if ((node.kinds & kObjectKind) != 0) HF_RETURN_IF_ERROR(Members(schema, depth, &node));
    if (const Json* items = schema.Find("items"); (node.kinds & kArrayKind) != 0 && items != nullptr) {
      HF_ASSIGN_OR_RETURN(node.items, Add(*items, depth + 1));
    }
    return node;
  }

  base::StatusOr<SchemaNode> Choice(const Json& choices, int depth) {
    std::optional<SchemaNode> node;
    for (const Json& choice : choices.items()) {
      HF_ASSIGN_OR_RETURN(SchemaNode each, Content(choice, depth + 1));
      node = node ? Union(*std::move(node), each) : std::move(each);
    }
    return *std::move(node);
  }

  static std::optional<SchemaNode> Enumeration(const Json& schema) {
    const Json* values = schema.Find("enum");
    const Json* constant = schema.Find("const");
    std::vector<std::string> literals;
    const auto add = [&](const Json& value) {
      if (value.kind() != Json::Kind::kFloat || std::isfinite(value.number()))
        literals.push_back(value.Dump());
    };
    if (constant != nullptr) {
      add(*constant);
    } else if (values != nullptr) {
      for (const Json& value : values->items()) add(value);
    }
    if (literals.empty()) return std::nullopt;
    return SchemaNode{.literals = LiteralSet(std::move(literals))};
  }

  base::Status Members(const Json& schema, int depth, SchemaNode* node) {
    const Json* properties = schema.Find("properties");
    const Json* required = schema.Find("required");
    std::vector<std::pair<std::string, NodeId>> members;
    if ((properties != nullptr && properties->keys().size() > kMaxMembers) ||
        (required != nullptr && required->items().size() > kMaxMembers)) {
      return TooManyMembers();
    }
    for (size_t i = 0; properties != nullptr && i < properties->keys().size(); ++i) {
      HF_ASSIGN_OR_RETURN(const NodeId id, Add(properties->items()[i], depth + 1));
      members.emplace_back(EscapedKey(properties->keys()[i]), id);
    }
    if (members.empty()) return FreeMembers(schema, depth, node);
    std::vector<std::string> must;
    if (required != nullptr && required->is_array()) {
      for (const Json& name : required->items()) must.push_back(EscapedKey(name.text()));
    }
    for (const std::string& name : must) {  // required, but not described
      if (properties->Find(Json::Parse("\"" + name + "\"").value_or(Json()).text()) == nullptr) {
        members.emplace_back(name, kAnyNode);
      }
    }
    std::sort(members.begin(), members.end());
    members.erase(std::unique(members.begin(), members.end()), members.end());
    if (members.size() > kMaxMembers) return TooManyMembers();
    std::vector<std::string> keys;
    for (const auto& [name, id] : members) {
      node->required[keys.size()] = std::count(must.begin(), must.end(), name) > 0;
      keys.push_back(name);
      node->members.push_back(id);
    }
    node->keys = LiteralSet(std::move(keys));
    return {};
  }

  base::Status FreeMembers(const Json& schema, int depth, SchemaNode* node) {
    const Json* values = schema.Find("additionalProperties");
    if (values == nullptr || !values->is_object()) return {};
    HF_ASSIGN_OR_RETURN(node->member_values, Add(*values, depth + 1));
    return {};
  }

  static base::Status TooManyMembers() {
    return base::InvalidArgument("an object of more than " + std::to_string(kMaxMembers) + " members");
  }

  static std::string EscapedKey(std::string_view name) {
    const std::string quoted = JsonQuote(name);
    return quoted.substr(1, quoted.size() - 2);
  }

  bool Measure(SchemaNode* node) const {
    uint8_t object = 1;
    for (size_t i = 0; i < node->members.size(); ++i) {
      if (!node->required[i]) continue;
      const int deep = out_.nodes_[node->members[i]].min_depth + 1;
      object = static_cast<uint8_t>(std::clamp<int>(deep, object, kUnsatisfiable));
    }
    constexpr uint8_t kFlat = kStringKind | kIntegerKind | kNumberKind | kBoolKind | kNullKind;
    uint8_t least = kUnsatisfiable;
    if ((node->kinds & kObjectKind) != 0) least = object;
    if ((node->kinds & kArrayKind) != 0) least = 1;
    if ((node->kinds & kFlat) != 0 || !node->literals.empty()) least = 0;
    const bool changed = least != node->min_depth || object != node->object_depth;
    node->min_depth = least;
    node->object_depth = object;
    return changed;
  }

  ToolSet& out_;
  const Json* root_ = nullptr;                           // the schema that references are relative to
  absl::flat_hash_map<std::string, NodeId> references_;  // of the present tool
};

base::StatusOr<ToolSet> ToolSet::Make(const Json& tools) {
  ToolSet set;
  std::vector<std::pair<std::string, const Json*>> functions;
  for (const Json& tool : tools.items()) {
    const Json* function = tool.Find("function");
    const Json* name = function == nullptr ? nullptr : function->Find("name");
    if (name == nullptr || !IsTagName(name->text())) {
      return base::InvalidArgument("tool " + std::to_string(functions.size()) +
                                   ": has no usable function name");
    }
    functions.emplace_back(name->text(), function);
  }
  std::sort(functions.begin(), functions.end());
  SchemaCompiler compiler(&set);
  std::vector<std::string> names;
  for (const auto& [name, function] : functions) {
    if (!names.empty() && names.back() == name)
      return base::InvalidArgument("tool '" + name + "' occurs twice");
    names.push_back(name);
    const base::Status status = compiler.AddTool(*function, &set.tools_.emplace_back());
    if (!status.ok()) return base::Annotate(status, "tool '" + name + "'");
  }
  set.names_ = LiteralSet(std::move(names));
  HF_RETURN_IF_ERROR(compiler.MeasureDepths());
  return set;
}

}  // namespace holdfast::model
