#include "tools/mcp/catalogue.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CatalogueTest : public testing::Test {
 protected:
  CatalogueTest() {
    config_.name = "s";
    config_.argv = {"x"};
  }

  static std::string Page(const std::string& tools, const std::string& rest = "") {
    return R"({"jsonrpc":"2.0","id":1,"result":{"tools":[)" + tools + "]" + rest + "}}";
  }

  // The catalogue of one page.
  Catalogue Take(const std::string& tools) {
    CatalogueBuilder builder(config_);
    const auto next = builder.AddPage(Page(tools));
    EXPECT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(next.value_or("?"), "");
    left_out_.clear();
    return builder.Finish(&left_out_);
  }

  // Why a tool with this inputSchema is left out; empty when it is not.
  std::string WhyNot(const std::string& schema) {
    const Catalogue catalogue = Take(R"({"name":"t","inputSchema":)" + schema + "}");
    EXPECT_EQ(catalogue.tools.size() + left_out_.size(), 1u);
    return left_out_.empty() ? "" : left_out_[0];
  }

  McpServerConfig config_;
  std::vector<std::string> left_out_;
};

std::vector<std::string> Names(const Catalogue& catalogue) {
  std::vector<std::string> names;
  for (const CatalogueTool& tool : catalogue.tools) names.push_back(tool.name);
  return names;
}

TEST_F(CatalogueTest, FunctionLineKeepsTheOrderOfMembersAndHasThePrefixedName) {
  const Catalogue catalogue = Take(
      R"({"title":"T","name":"get.x","description":"Gets\u001b[1m x","outputSchema":{"type":"object"},
          "inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object",
          "properties":{"z":{"type":"string"},"a":{"type":"integer","minimum":1}},"required":["z"]},
          "annotations":{"readOnlyHint":true,"destructiveHint":false}})");
  ASSERT_EQ(catalogue.tools.size(), 1u);
  const CatalogueTool& tool = catalogue.tools[0];
  EXPECT_EQ(tool.function,
            R"({"name": "s__get.x", "description": "Gets x", "parameters": {"type": "object", "properties": )"
            R"({"z": {"type": "string"}, "a": {"type": "integer", "minimum": 1}}, "required": ["z"]}})");
  EXPECT_TRUE(tool.read_only);
  EXPECT_FALSE(tool.idempotent);
}

TEST_F(CatalogueTest, OrderIsByNameWhateverTheServersOrder) {
  EXPECT_THAT(
      Names(Take(
          R"({"name":"b","inputSchema":{}},{"name":"a","inputSchema":{}},{"name":"B","inputSchema":{}})")),
      ElementsAre("B", "a", "b"));
}

TEST_F(CatalogueTest, ToolsThatCannotBeOfferedAreLeftOutAloneAndNamed) {
  EXPECT_THAT(
      Names(Take(R"({"name":"ok","inputSchema":{"type":"object"}},{"name":"bad","inputSchema":null})")),
      ElementsAre("ok"));
  EXPECT_THAT(left_out_, ElementsAre("`bad`: it has no inputSchema"));
  EXPECT_THAT(Names(Take(R"({"name":"with space","inputSchema":{}},{"inputSchema":{}},7)")), IsEmpty());
  EXPECT_EQ(left_out_.size(), 3u);
  EXPECT_THAT(left_out_[1], HasSubstr("tool 2 of the list: its name cannot be used"));
}

TEST_F(CatalogueTest, NameThatIsThereTwiceIsRefusedBothTimes) {
  EXPECT_THAT(
      Names(Take(
          R"({"name":"a","inputSchema":{}},{"name":"b","inputSchema":{}},{"name":"a","inputSchema":{}})")),
      ElementsAre("b"));
  EXPECT_THAT(left_out_, ElementsAre("`a`: the list has it twice"));
}

TEST_F(CatalogueTest, SchemasThatCannotBeFollowedAreRefused) {
  EXPECT_EQ(WhyNot("{}"), "");
  EXPECT_THAT(WhyNot(R"({"type":"array"})"), HasSubstr("not of an object"));
  EXPECT_THAT(WhyNot(R"({"$schema":"urn:other"})"), HasSubstr("unknown dialect"));
  EXPECT_THAT(WhyNot(R"({"properties":{"a":{"$ref":"https://example.com/x"}}})"),
              HasSubstr("another document"));
  EXPECT_EQ(WhyNot(R"({"properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"string"}}})"), "");
  EXPECT_THAT(WhyNot(R"({"properties":{"a\"b":{}}})"), HasSubstr("parameter's name"));
  EXPECT_THAT(WhyNot(R"({"properties":{"a":{"enum":["x\u202ey"]}}})"), HasSubstr("control characters"));
  EXPECT_THAT(WhyNot(R"({"properties":[]})"), HasSubstr("no object"));
  std::string many = R"({"properties":{)";
  for (int i = 0; i < 129; ++i) many += (i == 0 ? "\"p" : ",\"p") + std::to_string(i) + "\":{}";
  EXPECT_THAT(WhyNot(many + "}}"), HasSubstr("more than 128 members"));
}

TEST_F(CatalogueTest, BoundsLeaveOutWhatIsBeyondThem) {
  config_.bounds.tools_max = 2;
  EXPECT_THAT(
      Names(Take(
          R"({"name":"c","inputSchema":{}},{"name":"a","inputSchema":{}},{"name":"b","inputSchema":{}})")),
      ElementsAre("a", "b"));
  EXPECT_THAT(left_out_, ElementsAre("`c`: more than 2 tools"));
  config_.bounds.tool_bytes_max = 200;
  EXPECT_THAT(WhyNot(R"({"description":")" + std::string(200, 'x') + "\"}"), HasSubstr("more than 200"));
  config_.bounds.tool_bytes_max = 64 << 10;
  config_.bounds.catalogue_bytes_max = 100;
  EXPECT_THAT(Names(Take(R"({"name":"a","inputSchema":{}},{"name":"b","inputSchema":{}})")),
              ElementsAre("a"));
  EXPECT_THAT(left_out_, ElementsAre(HasSubstr("together are too long")));
}

TEST_F(CatalogueTest, OnlyWantedToolsAreOffered) {
  config_.tools = {"b", "gone"};
  EXPECT_THAT(Names(Take(R"({"name":"a","inputSchema":{}},{"name":"b","inputSchema":{}})")),
              ElementsAre("b"));
  EXPECT_THAT(left_out_, ElementsAre("`gone`: the server has no such tool"));
}

TEST_F(CatalogueTest, CursorLeadsToTheNextPage) {
  CatalogueBuilder builder(config_);
  const auto next = builder.AddPage(Page(R"({"name":"a","inputSchema":{}})", R"(,"nextCursor":"c1")"));
  EXPECT_EQ(next.value_or(""), "c1");
  EXPECT_EQ(builder.AddPage(Page(R"({"name":"b","inputSchema":{}})", R"(,"nextCursor":null)")).value_or("x"),
            "");
  EXPECT_THAT(Names(builder.Finish(&left_out_)), ElementsAre("a", "b"));
}

TEST_F(CatalogueTest, WhatIsNoPageIsRefused) {
  CatalogueBuilder builder(config_);
  EXPECT_FALSE(builder.AddPage(R"({"jsonrpc":"2.0","id":1,"result":{}})").ok());
  EXPECT_FALSE(builder.AddPage(R"({"jsonrpc":"2.0","id":1,"result":{"tools":{}}})").ok());
  EXPECT_FALSE(builder.AddPage(Page("", R"(,"nextCursor":7)")).ok());
  std::string wide = R"({"name":"a","inputSchema":{"properties":{)";
  for (int i = 0; i < 600; ++i) wide += (i == 0 ? "\"p" : ",\"p") + std::to_string(i) + "\":{}";
  EXPECT_FALSE(builder.AddPage(Page(wide + "}}}")).ok());
}

TEST_F(CatalogueTest, TextReadsBackAsTheSame) {
  const Catalogue catalogue = Take(
      R"({"name":"b","inputSchema":{},"annotations":{"idempotentHint":true}},{"name":"a","inputSchema":{}})");
  const std::string text = EncodeCatalogue("s", catalogue);
  const auto read = DecodeCatalogue("s", text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, catalogue);
  EXPECT_EQ(EncodeCatalogue("s", *read), text);
}

TEST_F(CatalogueTest, TextOfAnotherServerOrDamagedIsRefused) {
  const std::string text = EncodeCatalogue("s", Take(R"({"name":"a","inputSchema":{}})"));
  EXPECT_FALSE(DecodeCatalogue("other", text).ok());
  EXPECT_FALSE(DecodeCatalogue("s", "").ok());
  EXPECT_FALSE(DecodeCatalogue("s", "{}").ok());
  EXPECT_FALSE(DecodeCatalogue("s", text.substr(0, text.size() - 1)).ok());
  EXPECT_FALSE(DecodeCatalogue("s", R"({"format":2,"server":"s","tools":[]})").ok());
  for (const uint64_t seed : test::TestSeeds(500)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string damaged = text;
    damaged[random.Below(damaged.size())] = static_cast<char>(random.Below(256));
    const auto read = DecodeCatalogue("s", damaged);
    EXPECT_TRUE(!read.ok() || read->tools.size() == 1);
  }
}

TEST_F(CatalogueTest, DifferenceNamesWhatIsNewGoneAndChanged) {
  const Catalogue before = {{{.name = "a", .function = "1"}, {.name = "b", .function = "1"}, {.name = "c"}}};
  const Catalogue now = {{{.name = "b", .function = "2"}, {.name = "c"}, {.name = "d"}, {.name = "e"}}};
  EXPECT_EQ(DescribeDifference(before, now), "new: d, e; gone: a; changed: b");
  EXPECT_EQ(DescribeDifference(now, now), "");
}

}  // namespace
}  // namespace holdfast::tools::mcp
