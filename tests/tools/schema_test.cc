#include "tools/schema.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Schema Make(const std::string& parameters) {
  auto schema = Schema::Make(R"({"name": "t", "parameters": )" + parameters + "}");
  EXPECT_TRUE(schema.ok()) << schema.status() << " " << parameters;
  return *std::move(schema);
}

// Of one parameter "x".
std::vector<std::string> CheckX(const std::string& schema, const std::string& value) {
  return Make(R"({"type": "object", "properties": {"x": )" + schema + "}}")
      .Check(json::parse(R"({"x": )" + value + "}"));
}

constexpr char kEdit[] =
    R"({"type": "object", "properties": {"path": {"type": "string"}, "old": {"type": "string"},
    "new": {"type": "string"}, "all": {"type": "boolean"}}, "required": ["path", "old", "new"]})";

TEST(SchemaTest, MistakesAreToldSoThatTheyCanBeMended) {
  const Schema schema = Make(kEdit);
  EXPECT_THAT(schema.Check(json::parse(R"({"path": "a", "old": "b", "new": "c"})")), IsEmpty());
  EXPECT_THAT(
      schema.Check(json::parse(R"({"path": "a", "old_string": "b", "new": "c"})")),
      ElementsAre("missing parameter \"old\"", "unknown parameter \"old_string\", did you mean \"old\"?"));
  EXPECT_THAT(
      schema.Check(json::parse(R"({"file_path": "a", "old": 3, "new": "c", "zzz": 1})")),
      ElementsAre("missing parameter \"path\"", "unknown parameter \"file_path\", did you mean \"path\"?",
                  "\"old\" must be a string, not an integer", "unknown parameter \"zzz\""));
  EXPECT_THAT(schema.Check(json::parse("[]")), ElementsAre("the arguments: must be an object, not an array"));
  EXPECT_EQ(schema.name(), "t");
  EXPECT_THAT(schema.parameters(), ElementsAre("all", "new", "old", "path"));
}

TEST(SchemaTest, KindsAreChecked) {
  EXPECT_THAT(CheckX(R"({"type": "integer"})", "3"), IsEmpty());
  EXPECT_THAT(CheckX(R"({"type": "integer"})", "3.0"), IsEmpty());
  EXPECT_THAT(CheckX(R"({"type": "number"})", "3"), IsEmpty());
  EXPECT_THAT(CheckX(R"({"type": "integer"})", "3.5"), ElementsAre("\"x\" must be an integer, not a number"));
  EXPECT_THAT(CheckX(R"({"type": "integer"})", "1e30"),
              ElementsAre("\"x\" must be an integer, not a number"));
  EXPECT_THAT(CheckX(R"({"type": "integer"})", "18446744073709551615"),
              ElementsAre("\"x\" must be an integer, not a number"));
  EXPECT_THAT(CheckX(R"({"type": "integer"})", "\"20\""),
              ElementsAre("\"x\" must be an integer, not the string \"20\""));
  EXPECT_THAT(CheckX(R"({"type": ["string", "null"]})", "true"),
              ElementsAre("\"x\" must be a string or null, not a boolean"));
  EXPECT_THAT(CheckX("true", "[1]"), IsEmpty());
  EXPECT_THAT(CheckX("false", "1"), ElementsAre("\"x\" must be absent, not an integer"));
  EXPECT_THAT(CheckX("{}", "null"), IsEmpty());
}

TEST(SchemaTest, BoundsAreChecked) {
  const std::string range = R"({"type": "integer", "minimum": 1, "exclusiveMaximum": 5})";
  EXPECT_THAT(CheckX(range, "1"), IsEmpty());
  EXPECT_THAT(CheckX(range, "0"), ElementsAre("\"x\" must be at least 1"));
  EXPECT_THAT(CheckX(range, "5"), ElementsAre("\"x\" must be below 5"));
  const std::string length = R"({"type": "string", "minLength": 1, "maxLength": 2})";
  EXPECT_THAT(CheckX(length, "\"äö\""), IsEmpty());
  EXPECT_THAT(CheckX(length, "\"\""), ElementsAre("\"x\" must not be empty"));
  EXPECT_THAT(CheckX(length, "\"abc\""), ElementsAre("\"x\" must have at most 2 characters"));
  const std::string items = R"({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}})";
  EXPECT_THAT(CheckX(items, R"(["a"])"), IsEmpty());
  EXPECT_THAT(CheckX(items, "[]"), ElementsAre("\"x\" must have at least 1 items"));
  EXPECT_THAT(CheckX(items, R"(["a", 2])"), ElementsAre("\"x[1]\" must be a string, not an integer"));
  EXPECT_THAT(CheckX(R"({"enum": ["a", 2]})", "\"b\""),
              ElementsAre("\"x\" must be one of \"a\", 2, not \"b\""));
  EXPECT_THAT(CheckX(R"({"const": "a"})", "\"a\""), IsEmpty());
}

TEST(SchemaTest, NestedObjectsAndAlternatives) {
  const std::string nested =
      R"({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})";
  EXPECT_THAT(CheckX(nested, R"({"b": 1})"),
              ElementsAre("missing parameter \"a\" in \"x\"",
                          "unknown parameter \"b\" in \"x\", did you mean \"a\"?"));
  EXPECT_THAT(CheckX(R"({"type": "object", "additionalProperties": {"type": "integer"}})", R"({"k": "v"})"),
              ElementsAre("\"x.k\" must be an integer, not the string \"v\""));
  EXPECT_THAT(
      CheckX(R"({"type": "object", "properties": {"a": {}}, "additionalProperties": true})", R"({"b": 1})"),
      IsEmpty());
  const std::string either = R"({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 3}]})";
  EXPECT_THAT(CheckX(either, "\"a\""), IsEmpty());
  EXPECT_THAT(CheckX(either, "4"), IsEmpty());
  EXPECT_THAT(CheckX(either, "1"), ElementsAre("\"x\" fits none of the permitted forms"));
  EXPECT_THAT(CheckX(either, "null"), ElementsAre("\"x\" must be a string or an integer, not null"));
}

TEST(SchemaTest, ReferencesStayInsideAndMayBeRecursive) {
  const Schema tree =
      Make(R"({"type": "object", "properties": {"t": {"$ref": "#/$defs/node"}}, "$defs": {"node":
      {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}})");
  EXPECT_THAT(tree.Check(json::parse(R"({"t": {"kids": [{"kids": []}, {}]}})")), IsEmpty());
  EXPECT_THAT(tree.Check(json::parse(R"({"t": {"kids": [{"kids": [3]}]}})")),
              ElementsAre("\"t.kids[0].kids[0]\" must be an object, not an integer"));
  for (const char* ref : {"http://x/y", "#/nowhere", "#bad", ""}) {
    EXPECT_FALSE(Schema::Make(R"({"name": "t", "parameters": {"properties": {"x": {"$ref": ")" +
                              std::string(ref) + R"("}}}})")
                     .ok())
        << ref;
  }
}

TEST(SchemaTest, HostileSchemasAreRefusedOrBounded) {
  const auto error = [](const std::string& parameters) {
    return std::string(Schema::Make(R"({"name": "t", "parameters": )" + parameters + "}").status().message());
  };
  std::string deep = "{}", wide = R"({"properties": {)", many = R"({"properties": {"x": {"anyOf": [{})";
  for (int i = 0; i < 60; ++i) deep = R"({"items": )" + deep + "}";
  EXPECT_THAT(error(R"({"properties": {"x": )" + deep + "}}"), HasSubstr("deep"));
  for (int i = 0; i < 5000; ++i) many += ", {}";
  EXPECT_THAT(error(many + "]}}}"), HasSubstr("too many parts"));
  EXPECT_THAT(error(R"({"type": "string"})"), HasSubstr("no object"));
  EXPECT_THAT(error(R"({"type": "thing"})"), HasSubstr("unknown type"));
  EXPECT_THAT(error(R"({"required": [3]})"), HasSubstr("required"));
  EXPECT_THAT(error(R"({"properties": {"x": {"minimum": "a"}}})"), HasSubstr("bound"));
  EXPECT_FALSE(Schema::Make("{").ok());
  EXPECT_FALSE(Schema::Make(R"({"name": "a b"})").ok());
  EXPECT_FALSE(Schema::Make(R"({"name": "a\u001b[2J"})").ok());
  EXPECT_FALSE(Schema::Make(std::string(Schema::kBytesMax + 1, ' ')).ok());
  EXPECT_TRUE(Schema::Make(R"({"name": "none"})").ok());
}

// Each level takes four times the work of the one below: without a bound this would not end.
TEST(SchemaTest, AlternativesThatMultiplyEndWithAnAnswer) {
  std::string definitions = R"("d0": {"type": "string"})";
  for (int i = 1; i < 14; ++i) {
    const std::string ref = R"({"$ref": "#/$defs/d)" + std::to_string(i - 1) + "\"}";
    definitions +=
        ", \"d" + std::to_string(i) + R"(": {"anyOf": [)" + ref + ", " + ref + ", " + ref + ", " + ref + "]}";
  }
  auto schema = Schema::Make(
      R"({"name": "t", "parameters": {"properties": {"x": {"$ref": "#/$defs/d13"}}, "$defs": {)" +
      definitions + "}}}");
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_FALSE(schema->Check(json::parse(R"({"x": 3})")).empty());
  const Schema loop = Make(
      R"({"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}})");
  EXPECT_THAT(loop.Check(json::parse(R"({"x": 1})")), ElementsAre(HasSubstr("too complicated")));
}

TEST(SchemaTest, ProblemsAreFewAndShort) {
  json arguments;
  for (int i = 0; i < 100; ++i) arguments["unknown" + std::to_string(i) + std::string(1000, 'x')] = 1;
  const auto problems = Make(kEdit).Check(arguments);
  EXPECT_EQ(problems.size(), Schema::kProblemsMax);
  for (const std::string& problem : problems) EXPECT_LT(problem.size(), 200u);
}

}  // namespace
}  // namespace holdfast::tools
