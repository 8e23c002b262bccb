#include "tools/schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/text/json_text.h"
#include "tools/text/nearest.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using NodeId = uint32_t;

// Kinds of value, a bit each. A whole number is both.
constexpr uint8_t kString = 1, kInteger = 2, kNumber = 4, kBoolean = 8, kNull = 16, kObject = 32, kArray = 64,
                  kAny = 127;
constexpr std::pair<std::string_view, uint8_t> kKinds[] = {
    {"string", kString}, {"integer", kInteger}, {"number", kNumber}, {"boolean", kBoolean},
    {"null", kNull},     {"object", kObject},   {"array", kArray}};

constexpr size_t kNameBytesMax = 128;
constexpr size_t kEnumMax = 1024;
constexpr size_t kStepsMax = 200'000;  // of one Check
constexpr size_t kQuotedBytesMax = 100;
constexpr double kWholeMax =
    9007199254740992.0;  // 2^53: beyond it a double says nothing about the last digit

struct Node {
  uint8_t kinds = kAny;
  bool has_enum = false;
  std::vector<std::string> values;  // of enum or const, canonical, sorted
  std::optional<double> minimum, maximum;
  bool above_minimum = false, below_maximum = false;  // the bound itself is not permitted
  uint64_t length_min = 0, length_max = UINT64_MAX;   // code points
  uint64_t items_min = 0, items_max = UINT64_MAX;
  std::map<std::string, NodeId, std::less<>> properties;
  std::vector<std::string> names;     // of the properties, sorted
  std::vector<std::string> required;  // in the schema's order
  bool others_permitted = true;
  std::optional<NodeId> others;
  std::optional<NodeId> items;
  std::vector<NodeId> any_of;
};

base::Status Bad(std::string_view where, std::string_view what) {
  return base::InvalidArgument("schema: " + std::string(where.empty() ? "/" : where) + ": " +
                               std::string(what));
}

bool IsFunctionName(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
}

class Compiler {
 public:
  Compiler(const json& root, std::vector<Node>& nodes) : root_(root), nodes_(nodes) {}

  base::StatusOr<NodeId> Compile(const json& schema, const std::string& where, size_t depth) {
    if (depth > Schema::kDepthMax) return Bad(where, "nested too deeply");
    if (nodes_.size() >= Schema::kNodesMax) return Bad(where, "too many parts");
    if (schema.is_object() && schema.contains("$ref")) return Reference(schema["$ref"], where, depth);
    const NodeId id = static_cast<NodeId>(nodes_.size());
    nodes_.emplace_back();
    HF_RETURN_IF_ERROR(Fill(schema, where, depth, id));
    return id;
  }

 private:
  // Each target is compiled once, so that a schema may contain itself.
  base::StatusOr<NodeId> Reference(const json& ref, const std::string& where, size_t depth) {
    if (!ref.is_string()) return Bad(where, "$ref is no string");
    const std::string target = ref.get<std::string>();
    if (!target.starts_with('#')) return Bad(where, "$ref leads out of the schema");
    if (const auto it = references_.find(target); it != references_.end()) return it->second;
    const json* found = Resolve(target.substr(1));
    if (found == nullptr) return Bad(where, "$ref leads nowhere");
    if (found->is_object() && found->contains("$ref")) return Bad(where, "$ref to a $ref");
    if (nodes_.size() >= Schema::kNodesMax) return Bad(where, "too many parts");
    const NodeId id = static_cast<NodeId>(nodes_.size());
    nodes_.emplace_back();
    references_.emplace(target, id);
    HF_RETURN_IF_ERROR(Fill(*found, where, depth + 1, id));
    return id;
  }

  const json* Resolve(const std::string& pointer) const {
    try {
      const json::json_pointer at(pointer);
      return root_.contains(at) ? &root_.at(at) : nullptr;
    } catch (const json::exception&) {
      return nullptr;
    }
  }

  base::Status Fill(const json& schema, const std::string& where, size_t depth, NodeId id) {
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) nodes_[id].kinds = 0;
      return absl::OkStatus();
    }
    if (!schema.is_object()) return Bad(where, "no object");
    Node node;
    HF_RETURN_IF_ERROR(Kinds(schema, where, &node));
    HF_RETURN_IF_ERROR(Values(schema, where, &node));
    HF_RETURN_IF_ERROR(Bounds(schema, where, &node));
    HF_RETURN_IF_ERROR(Members(schema, where, depth, &node));
    HF_RETURN_IF_ERROR(Parts(schema, where, depth, &node));
    nodes_[id] = std::move(node);
    return absl::OkStatus();
  }

  static base::Status Kinds(const json& schema, const std::string& where, Node* node) {
    const auto type = schema.find("type");
    if (type == schema.end()) return absl::OkStatus();
    node->kinds = 0;
    for (const json& each : type->is_array() ? *type : json::array({*type})) {
      const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds), [&](const auto& k) {
        return each.is_string() && each.get_ref<const std::string&>() == k.first;
      });
      if (kind == std::end(kKinds)) return Bad(where, "unknown type");
      node->kinds |= kind->second;
    }
    if ((node->kinds & kNumber) != 0) node->kinds |= kInteger;
    return absl::OkStatus();
  }

  static base::Status Values(const json& schema, const std::string& where, Node* node) {
    json values = json::array();
    if (schema.contains("const")) values.push_back(schema["const"]);
    if (schema.contains("enum")) values = schema["enum"];
    if (!values.is_array() || values.size() > kEnumMax) return Bad(where, "enum is no list, or too long");
    node->has_enum = schema.contains("const") || schema.contains("enum");
    for (const json& value : values) node->values.push_back(CanonicalJson(value));
    std::sort(node->values.begin(), node->values.end());
    return absl::OkStatus();
  }

  static base::Status Bounds(const json& schema, const std::string& where, Node* node) {
    const auto number = [&](const char* name, std::optional<double>* out) {
      if (!schema.contains(name)) return true;
      if (schema[name].is_number()) *out = schema[name].get<double>();
      return schema[name].is_number();
    };
    const auto count = [&](const char* name, uint64_t* out) {
      if (!schema.contains(name)) return true;
      const bool fits = schema[name].is_number() && schema[name].get<double>() >= 0 &&
                        schema[name].get<double>() <= kWholeMax;
      if (fits) *out = static_cast<uint64_t>(schema[name].get<double>());
      return fits;
    };
    std::optional<double> above, below;
    const bool good = number("minimum", &node->minimum) && number("maximum", &node->maximum) &&
                      number("exclusiveMinimum", &above) && number("exclusiveMaximum", &below) &&
                      count("minLength", &node->length_min) && count("maxLength", &node->length_max) &&
                      count("minItems", &node->items_min) && count("maxItems", &node->items_max);
    if (!good) return Bad(where, "a bound that is no number");
    if (above && (!node->minimum || *above >= *node->minimum)) {
      node->minimum = above;
      node->above_minimum = true;
    }
    if (below && (!node->maximum || *below <= *node->maximum)) {
      node->maximum = below;
      node->below_maximum = true;
    }
    return absl::OkStatus();
  }

  base::Status Members(const json& schema, const std::string& where, size_t depth, Node* node) {
    if (schema.contains("properties")) {
      if (!schema["properties"].is_object()) return Bad(where, "properties is no object");
      for (const auto& [name, value] : schema["properties"].items()) {
        HF_ASSIGN_OR_RETURN(const NodeId id, Compile(value, where + "/properties/" + name, depth + 1));
        node->properties.emplace(name, id);
        node->names.push_back(name);
      }
    }
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) return Bad(where, "required is no list");
      for (const json& name : schema["required"]) {
        if (!name.is_string()) return Bad(where, "required holds what is no string");
        node->required.push_back(name.get<std::string>());
      }
    }
    node->others_permitted = node->properties.empty();
    if (!schema.contains("additionalProperties")) return absl::OkStatus();
    const json& others = schema["additionalProperties"];
    node->others_permitted = !others.is_boolean() || others.get<bool>();
    if (others.is_boolean()) return absl::OkStatus();
    HF_ASSIGN_OR_RETURN(node->others, Compile(others, where + "/additionalProperties", depth + 1));
    return absl::OkStatus();
  }

  base::Status Parts(const json& schema, const std::string& where, size_t depth, Node* node) {
    if (schema.contains("items")) {
      HF_ASSIGN_OR_RETURN(node->items, Compile(schema["items"], where + "/items", depth + 1));
    }
    for (const char* name : {"anyOf", "oneOf"}) {
      if (!schema.contains(name)) continue;
      if (!schema[name].is_array() || schema[name].empty())
        return Bad(where, std::string(name) + " is no list");
      if (!node->any_of.empty()) return Bad(where, "both anyOf and oneOf");
      for (const json& each : schema[name]) {
        HF_ASSIGN_OR_RETURN(const NodeId id, Compile(each, where + "/" + name, depth + 1));
        node->any_of.push_back(id);
      }
    }
    return absl::OkStatus();
  }

  const json& root_;
  std::vector<Node>& nodes_;
  std::map<std::string, NodeId> references_;
};

uint8_t KindOf(const json& value) {
  switch (value.type()) {
    case json::value_t::string:
      return kString;
    case json::value_t::number_integer:
      return kInteger;
    case json::value_t::number_unsigned:
      return value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX) ? kInteger : kNumber;
    case json::value_t::number_float: {
      const double number = value.get<double>();
      return std::floor(number) == number && std::abs(number) <= kWholeMax ? kInteger : kNumber;
    }
    case json::value_t::boolean:
      return kBoolean;
    case json::value_t::null:
      return kNull;
    case json::value_t::object:
      return kObject;
    case json::value_t::array:
      return kArray;
    default:
      return 0;
  }
}

std::string KindNames(uint8_t kinds) {
  if ((kinds & kNumber) != 0) kinds &= static_cast<uint8_t>(~kInteger);
  std::vector<std::string> names;
  for (const auto& [name, bit] : kKinds) {
    if ((kinds & bit) == 0) continue;
    if (bit == kNull) {
      names.emplace_back("null");
    } else {
      const bool vowel = name[0] == 'i' || name[0] == 'o' || name[0] == 'a';
      names.push_back((vowel ? "an " : "a ") + std::string(name));
    }
  }
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
  }
  return text.empty() ? "absent" : text;
}

// Never cuts a character in two.
std::string Shortened(std::string_view text) {
  if (text.size() <= kQuotedBytesMax) return std::string(text);
  size_t end = kQuotedBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

std::string Quoted(std::string_view text) { return CanonicalJson(Shortened(text)); }

std::string NumberText(double number) {
  return CanonicalJson(std::floor(number) == number && std::abs(number) <= kWholeMax
                           ? json(static_cast<int64_t>(number))
                           : json(number));
}

uint64_t CodePoints(std::string_view text) {
  return static_cast<uint64_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

class Checker {
 public:
  explicit Checker(const std::vector<Node>& nodes) : nodes_(nodes) {}

  // True when the value fits; else says why, as far as there is room. `path` is empty for the arguments.
  bool Check(NodeId id, const json& value, const std::string& path, size_t depth) {
    if (depth > 2 * Schema::kDepthMax || ++steps_ > kStepsMax) {
      return No(path, "is too complicated to be checked");
    }
    const Node& node = nodes_[id];
    const uint8_t kind = KindOf(value);
    if ((node.kinds & kind) == 0) return WrongKind(node.kinds, value, path);
    bool fits = CheckValue(node, value, path) && CheckBounds(node, kind, value, path);
    if (kind == kObject) fits = CheckMembers(node, value, path, depth) && fits;
    if (kind == kArray) fits = CheckItems(node, value, path, depth) && fits;
    return CheckAlternatives(node, value, path, depth) && fits;
  }

  std::vector<std::string> problems;

 private:
  bool Say(std::string problem) {
    if (problems.size() < Schema::kProblemsMax) problems.push_back(std::move(problem));
    return false;
  }
  bool No(const std::string& path, const std::string& what) {
    return Say(path.empty() ? "the arguments: " + what : Quoted(path) + " " + what);
  }

  bool WrongKind(uint8_t kinds, const json& value, const std::string& path) {
    const std::string is =
        value.is_string() ? "the string " + Quoted(value.get<std::string>()) : KindNames(KindOf(value));
    return No(path, "must be " + KindNames(kinds) + ", not " + is);
  }

  bool CheckValue(const Node& node, const json& value, const std::string& path) {
    if (!node.has_enum) return true;
    const std::string text = CanonicalJson(value);
    if (std::binary_search(node.values.begin(), node.values.end(), text)) return true;
    std::string list;
    for (const std::string& each : node.values) {
      if (list.size() > 4 * kQuotedBytesMax) {
        list += ", ...";
        break;
      }
      list += (list.empty() ? "" : ", ") + Shortened(each);
    }
    return No(path, "must be one of " + list + ", not " + Shortened(text));
  }

  bool CheckBounds(const Node& node, uint8_t kind, const json& value, const std::string& path) {
    if (kind == kString && (node.length_min > 0 || node.length_max != UINT64_MAX)) {
      const uint64_t length = CodePoints(value.get_ref<const std::string&>());
      if (length < node.length_min)
        return No(path, length == 0
                            ? "must not be empty"
                            : "must have at least " + std::to_string(node.length_min) + " characters");
      if (length > node.length_max)
        return No(path, "must have at most " + std::to_string(node.length_max) + " characters");
    }
    if (kind == kArray) {
      if (value.size() < node.items_min)
        return No(path, "must have at least " + std::to_string(node.items_min) + " items");
      if (value.size() > node.items_max)
        return No(path, "must have at most " + std::to_string(node.items_max) + " items");
    }
    if (kind != kInteger && kind != kNumber) return true;
    const double number = value.get<double>();
    if (node.minimum && (number < *node.minimum || (node.above_minimum && number == *node.minimum))) {
      return No(path, std::string(node.above_minimum ? "must be above " : "must be at least ") +
                          NumberText(*node.minimum));
    }
    if (node.maximum && (number > *node.maximum || (node.below_maximum && number == *node.maximum))) {
      return No(path, std::string(node.below_maximum ? "must be below " : "must be at most ") +
                          NumberText(*node.maximum));
    }
    return true;
  }

  bool CheckMembers(const Node& node, const json& value, const std::string& path, size_t depth) {
    const std::string in = path.empty() ? "" : " in " + Quoted(path);
    bool fits = true;
    for (const std::string& name : node.required) {
      if (!value.contains(name)) fits = Say("missing parameter " + Quoted(name) + in);
    }
    for (const auto& [name, member] : value.items()) {
      const std::string member_path = path.empty() ? name : path + "." + name;
      const auto property = node.properties.find(name);
      if (property != node.properties.end()) {
        fits = Check(property->second, member, member_path, depth + 1) && fits;
      } else if (!node.others_permitted) {
        fits = Unknown(node, name, value, in);
      } else if (node.others) {
        fits = Check(*node.others, member, member_path, depth + 1) && fits;
      }
      if (problems.size() >= Schema::kProblemsMax) break;
    }
    return fits;
  }

  // A misspelt parameter is likely one of those that are missing.
  bool Unknown(const Node& node, const std::string& name, const json& value, const std::string& in) {
    std::vector<std::string> absent;
    for (const std::string& each : node.names) {
      if (!value.contains(each)) absent.push_back(each);
    }
    const std::string_view near = Nearest(name, absent);
    return Say("unknown parameter " + Quoted(name) + in +
               (near.empty() ? "" : ", did you mean " + Quoted(near) + "?"));
  }

  bool CheckItems(const Node& node, const json& value, const std::string& path, size_t depth) {
    if (!node.items) return true;
    bool fits = true;
    for (size_t i = 0; i < value.size() && problems.size() < Schema::kProblemsMax; ++i) {
      fits = Check(*node.items, value[i], path + "[" + std::to_string(i) + "]", depth + 1) && fits;
    }
    return fits;
  }

  bool CheckAlternatives(const Node& node, const json& value, const std::string& path, size_t depth) {
    if (node.any_of.empty()) return true;
    const size_t kept = problems.size();
    uint8_t kinds = 0;
    for (const NodeId id : node.any_of) {
      kinds |= nodes_[id].kinds;
      const bool fits = Check(id, value, path, depth + 1);
      if (fits || steps_ > kStepsMax) {
        if (fits) problems.resize(std::min(kept, problems.size()));
        return fits;
      }
      // The reasons of one alternative alone are worth telling; of several they only confuse.
      if (node.any_of.size() > 1) problems.resize(std::min(kept, problems.size()));
    }
    if (node.any_of.size() == 1) return false;
    if ((kinds & KindOf(value)) == 0) return WrongKind(kinds, value, path);
    return No(path, "fits none of the permitted forms");
  }

  const std::vector<Node>& nodes_;
  size_t steps_ = 0;
};

}  // namespace

struct Schema::Nodes {
  std::string name;
  std::vector<Node> nodes;  // the first is the arguments'
};

Schema::Schema(std::unique_ptr<Nodes> nodes) : nodes_(std::move(nodes)) {}
Schema::Schema(Schema&&) noexcept = default;
Schema& Schema::operator=(Schema&&) noexcept = default;
Schema::~Schema() = default;

base::StatusOr<Schema> Schema::Make(std::string_view function) {
  HF_ASSIGN_OR_RETURN(const json line, ParseJson(function, kBytesMax, 4 * kDepthMax));
  auto nodes = std::make_unique<Nodes>();
  const auto name = line.is_object() ? line.find("name") : line.end();
  if (!line.is_object() || name == line.end() || !name->is_string())
    return Bad("", "a function without a name");
  nodes->name = name->get<std::string>();
  if (!IsFunctionName(nodes->name)) {
    return Bad("", "a name is 1 to 128 letters, digits, `_`, `.` or `-`");
  }
  const json none = {{"type", "object"}};
  const json& parameters = line.contains("parameters") ? line["parameters"] : none;
  Compiler compiler(parameters, nodes->nodes);
  HF_ASSIGN_OR_RETURN(const NodeId root, compiler.Compile(parameters, "", 0));
  if (root != 0 || (nodes->nodes[0].kinds & kObject) == 0) return Bad("", "the parameters are no object");
  nodes->nodes[0].kinds = kObject;
  return Schema(std::move(nodes));
}

std::vector<std::string> Schema::Check(const json& arguments) const {
  Checker checker(nodes_->nodes);
  if (!checker.Check(0, arguments, "", 0) && checker.problems.empty())
    checker.problems.push_back("do not fit");
  return std::move(checker.problems);
}

const std::string& Schema::name() const { return nodes_->name; }
const std::vector<std::string>& Schema::parameters() const { return nodes_->nodes[0].names; }

}  // namespace holdfast::tools
