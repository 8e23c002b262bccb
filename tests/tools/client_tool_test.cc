#include "tools/client_tool.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tools/permission.h"
#include "tools/registry.h"

namespace holdfast::tools {
namespace {

using ::testing::HasSubstr;

constexpr char kParameters[] =
    R"({"type": "object", "properties": {"to": {"type": "string"}, "at": {"type": "integer"}}, "required": ["to"]})";

ClientToolSpec Page() {
  return {.name = "page", .description = "Calls a person.", .parameters = kParameters};
}

std::string WhyNot(const std::vector<ClientToolSpec>& specs) {
  const base::Status status = CheckClientTools(specs, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return base::Message(status);
}

TEST(ClientToolTest, TheSchemaLineIsWhatTheClientSaidInItsOrder) {
  const auto tool = MakeClientTool(Page());
  ASSERT_TRUE(tool.ok()) << tool.status();
  EXPECT_EQ((*tool)->spec().id(), "page@client");
  EXPECT_EQ((*tool)->spec().function,
            R"({"name":"page","description":"Calls a person.","parameters":{"type":"object",)"
            R"("properties":{"to":{"type":"string"},"at":{"type":"integer"}},"required":["to"]}})");
}

TEST(ClientToolTest, WithoutParametersItTakesNone) {
  ClientToolSpec spec = Page();
  spec.parameters.clear();
  auto tool = MakeClientTool(spec);
  ASSERT_TRUE(tool.ok()) << tool.status();
  Registry registry;
  ASSERT_TRUE(registry.Add(*std::move(tool)).ok());
  const Schema& schema = registry.Find("page@client")->schema;
  EXPECT_TRUE(schema.Check(nlohmann::json::object()).empty());
  EXPECT_FALSE(schema.Check({{"to", "x"}}).empty());
}

TEST(ClientToolTest, ItsCallsAreAClientsAndAllowedUnlessARuleSaysOtherwise) {
  ClientToolSpec spec = Page();
  spec.effect = Effect::kIdempotent;
  spec.timeout_ms = 5;
  const auto tool = MakeClientTool(spec);
  ASSERT_TRUE(tool.ok());
  const CallTraits traits = (*tool)->Traits({}, {});
  EXPECT_TRUE(traits.by_client);
  EXPECT_FALSE(traits.contained);
  EXPECT_FALSE(traits.confined);
  EXPECT_EQ(traits.effect, Effect::kIdempotent);
  EXPECT_EQ(traits.timeout_ms, 5);
  const Subject subject = (*tool)->SubjectOf({}, {{"to", "ops"}});
  EXPECT_EQ(PermissionPolicy().Judge("page", subject, traits).permission, Permission::kAllow);
  const auto asks = PermissionPolicy::Parse(
      R"({"rules": [{"permission": "ask", "tool": "page", "text": "*ops*", "matches": ["ops"]}]})");
  ASSERT_TRUE(asks.ok()) << asks.status();
  EXPECT_EQ(asks->Judge("page", subject, traits).permission, Permission::kAsk);
  const auto denies = PermissionPolicy::Parse(R"({"default": "deny", "rules": []})");
  ASSERT_TRUE(denies.ok()) << denies.status();
  EXPECT_EQ(denies->Judge("page", subject, traits).permission, Permission::kDeny);
}

TEST(ClientToolTest, WhatCannotBeUsedIsRefusedWithTheReason) {
  ClientToolSpec spec = Page();
  spec.name = "two words";
  EXPECT_THAT(WhyNot({spec}), HasSubstr("letters, digits"));
  spec.name = "";
  EXPECT_THAT(WhyNot({spec}), HasSubstr("letters, digits"));
  spec.name = "a.b";
  EXPECT_THAT(WhyNot({spec}), HasSubstr("letters, digits"));
  spec.name = std::string(65, 'a');
  EXPECT_THAT(WhyNot({spec}), HasSubstr("65 bytes; at most 64"));
  spec = Page();
  spec.parameters = "{";
  EXPECT_THAT(WhyNot({spec}), HasSubstr("client tool \"page\": its parameters are"));
  spec.parameters = R"({"type": "string"})";
  EXPECT_THAT(WhyNot({spec}), HasSubstr("no object"));
  spec = Page();
  spec.description = "\xff";
  EXPECT_THAT(WhyNot({spec}), HasSubstr("not UTF-8"));
  spec.description = std::string(9000, 'x');
  EXPECT_THAT(WhyNot({spec}), HasSubstr("9000 bytes"));
  spec = Page();
  spec.parameters += std::string(16 * 1024, ' ');
  EXPECT_THAT(WhyNot({spec}), HasSubstr("at most 16384"));
  spec = Page();
  spec.timeout_ms = 0;
  EXPECT_THAT(WhyNot({spec}), HasSubstr("a timeout of 0 ms"));
  spec.timeout_ms = 86'400'001;
  EXPECT_THAT(WhyNot({spec}), HasSubstr("1 to 86400000"));
}

TEST(ClientToolTest, ANameThatIsTakenIsRefusedInEveryVersion) {
  EXPECT_THAT(WhyNot({Page(), Page()}), HasSubstr("another tool has this name"));
  const std::vector<std::string> taken = {"page@7", "pager@1"};
  EXPECT_EQ(CheckClientTools(std::vector{Page()}, taken).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(CheckClientTools(std::vector{Page()}, std::span(taken).last(1)).ok());
}

TEST(ClientToolTest, TheirNumberAndTheirBytesAreBounded) {
  std::vector<ClientToolSpec> many;
  for (int i = 0; i < 65; ++i) {
    many.push_back(Page());
    many.back().name += std::to_string(i);
  }
  EXPECT_THAT(WhyNot(many), HasSubstr("65 client tools; at most 64"));
  many.pop_back();
  EXPECT_TRUE(CheckClientTools(many, {}).ok());
  for (ClientToolSpec& spec : many) spec.description = std::string(8 * 1024, 'x');
  EXPECT_THAT(WhyNot(many), HasSubstr("the schema lines of all client tools have"));
}

}  // namespace
}  // namespace holdfast::tools
