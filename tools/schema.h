// The schema of a tool's arguments: what is checked before a call, with errors that the model can act on.
//
// Enforced: type (one or several), properties, required, additionalProperties, items, enum, const, minimum,
// maximum, minLength, maxLength, minItems, maxItems, anyOf and oneOf (at least one fits), local $ref. An
// object with properties takes no others unless additionalProperties says so: a misspelt name is a mistake,
// and constrained decoding permits no others either. What else a schema says (pattern, format, allOf, not) is
// let through: a server checks its own arguments, and a regular expression of somebody else's is not run
// here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "nlohmann/json_fwd.hpp"

namespace holdfast::tools {

// Immutable after Make; safe from any thread.
class Schema {
 public:
  static constexpr size_t kBytesMax = 256 * 1024;  // of a schema as text
  static constexpr size_t kNodesMax = 4096;
  static constexpr size_t kDepthMax = 32;  // of schemas within schemas, and of arguments
  static constexpr size_t kProblemsMax = 8;

  // `function` is a schema line ({"name", "parameters"}). InvalidArgument, saying where, for what is no
  // schema of an object or goes beyond the bounds.
  static base::StatusOr<Schema> Make(std::string_view function);

  Schema(Schema&&) noexcept;
  Schema& operator=(Schema&&) noexcept;
  ~Schema();

  // What is wrong with the arguments, one line each, at most kProblemsMax: `missing parameter "old"`,
  // `unknown parameter "old_str", did you mean "old_string"?`, `"limit" must be an integer, not a string`.
  // Empty: they fit. Costs no more than the size of the arguments times the alternatives of the schema.
  std::vector<std::string> Check(const nlohmann::json& arguments) const;

  const std::string& name() const;  // of the function
  const std::vector<std::string>& parameters() const;

 private:
  struct Nodes;
  explicit Schema(std::unique_ptr<Nodes> nodes);
  std::unique_ptr<Nodes> nodes_;
};

}  // namespace holdfast::tools
