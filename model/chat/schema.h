// Tool schemas, compiled for the automaton that constrains a call (model/chat/automaton.h).
//
// Enforced of JSON schema: type, enum, const, properties, required, items, additionalProperties (of objects
// without properties), anyOf and oneOf (as the union of their kinds), local $ref. Where a schema says more
// (allOf, pattern, ranges, two object forms in a union), what is compiled permits more; the tool's own check
// has the last word. An object with properties permits no others.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/json.h"
#include "model/text/literal_set.h"

namespace holdfast::model {

inline constexpr size_t kMaxMembers = 128;  // of an object, and parameters of a tool
inline constexpr uint8_t kMaxJsonDepth = 16;

using MemberSet = std::bitset<kMaxMembers>;

// The kinds of JSON value, as bits.
inline constexpr uint8_t kStringKind = 1, kIntegerKind = 2, kNumberKind = 4, kBoolKind = 8, kNullKind = 16,
                         kObjectKind = 32, kArrayKind = 64;
inline constexpr uint8_t kAnyKind =
    kStringKind | kNumberKind | kBoolKind | kNullKind | kObjectKind | kArrayKind;

using NodeId = uint32_t;
inline constexpr NodeId kAnyNode = 0;

// What one value may be: any value of `kinds`, or one of `literals`. The first byte tells which.
struct SchemaNode {
  uint8_t kinds = 0;
  LiteralSet literals;          // JSON text
  LiteralSet keys;              // named members: names as JSON, without the quotes; empty: any name
  std::vector<NodeId> members;  // parallel to `keys`
  MemberSet required;
  NodeId member_values = kAnyNode;  // of an object without named members
  NodeId items = kAnyNode;
  // The least number of nested brackets: of any permitted value, and of a permitted object.
  uint8_t min_depth = 0;
  uint8_t object_depth = 1;
};

struct ToolParameter {
  bool takes_text = false;  // string="true"
  LiteralSet texts;         // the texts permitted; empty: any
  bool takes_json = false;  // string="false"
  NodeId json = kAnyNode;   // never a string: that would be string="true"
};

struct ToolSpec {
  LiteralSet names;  // of the parameters
  std::vector<ToolParameter> parameters;
  MemberSet required;
};

// Immutable after Make; safe from any thread.
class ToolSet {
 public:
  // `tools` is a list of {"function": {"name", "parameters"}}, as in a message. InvalidArgument, naming the
  // tool, for what is not, for a name that cannot stand in a tag, for more than kMaxMembers members of an
  // object, and for a schema that no value within kMaxJsonDepth satisfies.
  static base::StatusOr<ToolSet> Make(const Json& tools);

  const LiteralSet& names() const { return names_; }
  const ToolSpec& tool(uint32_t i) const { return tools_[i]; }  // by the index of its name
  const SchemaNode& node(NodeId id) const { return nodes_[id]; }

 private:
  friend class SchemaCompiler;

  LiteralSet names_;
  std::vector<ToolSpec> tools_;
  std::vector<SchemaNode> nodes_;
};

}  // namespace holdfast::model
