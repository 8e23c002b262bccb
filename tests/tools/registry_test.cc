#include "tools/registry.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/fake_tool.h"
#include "tools/file_tools.h"
#include "tools/tool_data.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SpecTool final : public Tool {
 public:
  explicit SpecTool(ToolSpec spec) : spec_(std::move(spec)) {}
  const ToolSpec& spec() const override { return spec_; }
  CallTraits Traits(const ToolContext&, const nlohmann::json&) const override { return {}; }
  Subject SubjectOf(const ToolContext&, const nlohmann::json&) const override { return {}; }
  std::unique_ptr<RunningCall> Start(const ToolContext&, const nlohmann::json&, Done) override {
    return nullptr;
  }

 private:
  ToolSpec spec_;
};

base::Status Add(Registry& registry, const std::string& name, int version, const std::string& function) {
  return registry.Add(
      std::make_unique<SpecTool>(ToolSpec{.name = name, .version = version, .function = function}));
}

TEST(RegistryTest, ASessionHasItsToolsInTheOrderOfItsPrompt) {
  Registry registry;
  ASSERT_TRUE(Add(registry, "b", 1, R"({"name": "b"})").ok());
  ASSERT_TRUE(Add(registry, "a", 1, R"({"name": "a"})").ok());
  ASSERT_TRUE(Add(registry, "a", 2, R"({"name": "a", "description": "newer"})").ok());
  EXPECT_THAT(registry.ids(), ElementsAre("a@1", "a@2", "b@1"));
  const auto set = registry.Select(std::vector<std::string>{"b@1", "a@2"});
  ASSERT_TRUE(set.ok());
  EXPECT_THAT(set->ids(), ElementsAre("b@1", "a@2"));
  EXPECT_THAT(set->function_lines(),
              ElementsAre(R"({"name": "b"})", R"({"name": "a", "description": "newer"})"));
  EXPECT_EQ(set->Find("a")->tool->spec().version, 2);
  EXPECT_EQ(set->Find("c"), nullptr);
}

TEST(RegistryTest, AMissingVersionAndTwoOfOneNameAreRefused) {
  Registry registry;
  ASSERT_TRUE(Add(registry, "a", 1, R"({"name": "a"})").ok());
  ASSERT_TRUE(Add(registry, "a", 2, R"({"name": "a"})").ok());
  const auto missing = registry.Select(std::vector<std::string>{"a@3"});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("a@3"));
  EXPECT_FALSE(registry.Select(std::vector<std::string>{"a@1", "a@2"}).ok());
}

TEST(RegistryTest, ToolsThatCannotBeUsedAreRefused) {
  Registry registry;
  ASSERT_TRUE(Add(registry, "a", 1, R"({"name": "a"})").ok());
  EXPECT_EQ(Add(registry, "a", 1, R"({"name": "a"})").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_FALSE(Add(registry, "b", 1, R"({"name": "a"})").ok());
  EXPECT_FALSE(Add(registry, "b", 0, R"({"name": "b"})").ok());
  EXPECT_FALSE(Add(registry, "b", 1, "{\"name\":\n\"b\"}").ok());
  EXPECT_FALSE(Add(registry, "b c", 1, R"({"name": "b c"})").ok());
  EXPECT_FALSE(Add(registry, "b", 1, R"({"name": "b", "parameters": {"type": "string"}})").ok());
}

TEST(RegistryTest, TheFileToolsHaveTheSchemasOfTheirFiles) {
  Registry registry;
  ASSERT_TRUE(AddFileTools(registry).ok());
  EXPECT_THAT(registry.ids(), ElementsAre("apply_patch@1", "edit@2", "read@2", "write@1"));
  for (const std::string& id : registry.ids()) {
    EXPECT_EQ(registry.Find(id)->tool->spec().function, ToolData::Load(id)->spec().function);
  }
}

}  // namespace
}  // namespace holdfast::tools
