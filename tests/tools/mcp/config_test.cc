// ParseMcpConfig and what comes of it.
#include <map>
#include <string>

#include "gmock/gmock.h"
#include "tools/mcp.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

base::StatusOr<std::vector<McpServerConfig>> Parse(std::string_view json) {
  const std::map<std::string, std::string> variables = {{"TOKEN", "sesame-open"}, {"EMPTY", ""}};
  return ParseMcpConfig(json, [variables](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

std::string WhyNot(const std::string& json) {
  const auto configs = Parse(json);
  EXPECT_FALSE(configs.ok()) << json;
  if (configs.ok()) return "";
  EXPECT_EQ(configs.status().code(), absl::StatusCode::kInvalidArgument);
  return base::Message(configs.status());
}

// Why a server with these fields beside its command is refused.
std::string WhyNotWith(const std::string& fields) {
  return WhyNot(R"({"mcpServers":{"x":{"command":"c",)" + fields + "}}}");
}
std::string WhyNotOwn(const std::string& fields) { return WhyNotWith(R"("holdfast":{)" + fields + "}"); }

TEST(ConfigTest, ConfigurationOfOtherProgramsIsTakenAsItIs) {
  const auto configs = Parse(R"({"mcpServers": {
    "files": {"command": "npx", "args": ["-y", "@x/files", "/data"], "env": {"A": "1"}},
    "Git":   {"type": "stdio", "command": "uvx", "args": ["mcp-git"], "cwd": "/workspace", "disabled": false},
    "off":   {"command": "x", "disabled": true}}})");
  ASSERT_TRUE(configs.ok()) << configs.status();
  ASSERT_THAT(*configs, SizeIs(2));
  EXPECT_EQ((*configs)[0].name, "Git");
  EXPECT_EQ((*configs)[0].directory, "/workspace");
  const McpServerConfig& files = (*configs)[1];
  EXPECT_EQ(files.name, "files");
  EXPECT_THAT(files.argv, ElementsAre("npx", "-y", "@x/files", "/data"));
  EXPECT_THAT(files.environment, ElementsAre(Pair("A", "1")));
  EXPECT_EQ(files.network, sandbox::Network::kOff);
  EXPECT_FALSE(files.trust_annotations);
  EXPECT_THAT(files.mounts, IsEmpty());
  EXPECT_EQ(files.limits.wall_ms, 0u);
  EXPECT_EQ(files.limits.cpu_ms, 0u);
}

TEST(ConfigTest, OwnFieldsStandBeside) {
  const auto configs = Parse(R"({"mcpServers": {"x": {"command": "c", "holdfast": {
    "network": "host", "trust_annotations": true, "era": "legacy", "tools": ["a", "b"],
    "mounts": [{"host": "/data", "inside": "/data", "access": "write", "required": false}, {"host": "/src"}],
    "limits": {"memory_bytes": 1073741824, "processes": 64},
    "timeouts": {"call_ms": 1000, "shutdown_ms": 100}}}}})");
  ASSERT_TRUE(configs.ok()) << configs.status();
  const McpServerConfig& config = configs->at(0);
  EXPECT_EQ(config.network, sandbox::Network::kHost);
  EXPECT_TRUE(config.trust_annotations);
  EXPECT_EQ(config.era, McpEra::kLegacy);
  EXPECT_THAT(*config.tools, ElementsAre("a", "b"));
  ASSERT_THAT(config.mounts, SizeIs(2));
  EXPECT_EQ(config.mounts[0].inside, "/data");
  EXPECT_EQ(config.mounts[0].access, sandbox::Access::kReadWrite);
  EXPECT_FALSE(config.mounts[0].required);
  EXPECT_EQ(config.mounts[1].access, sandbox::Access::kReadOnly);
  EXPECT_EQ(config.limits.memory_bytes, 1'073'741'824u);
  EXPECT_EQ(config.limits.processes, 64u);
  EXPECT_EQ(config.timeouts.call_ms, 1'000);
  EXPECT_EQ(config.timeouts.probe_ms, McpTimeouts().probe_ms);
}

TEST(ConfigTest, VariablesAreReplaced) {
  const auto configs = Parse(
      R"({"mcpServers":{"x":{"command":"c","args":["--t=${TOKEN}!","$5","${EMPTY}"],"env":{"K":"${TOKEN}"}}}})");
  ASSERT_TRUE(configs.ok()) << configs.status();
  EXPECT_THAT(configs->at(0).argv, ElementsAre("c", "--t=sesame-open!", "$5", ""));
  EXPECT_THAT(configs->at(0).environment, ElementsAre(Pair("K", "sesame-open")));
  EXPECT_THAT(WhyNotWith(R"("env":{"K":"${GONE}"})"),
              HasSubstr("MCP server `x`: `env` needs the variable `GONE`, which is not set"));
  EXPECT_THAT(WhyNotWith(R"("args":["${TOKEN"])"), HasSubstr("`${` without `}`"));
}

TEST(ConfigTest, WhatIsNotUnderstoodIsRefusedByName) {
  EXPECT_THAT(WhyNot("{"), HasSubstr("malformed JSON"));
  EXPECT_THAT(WhyNot(std::string(100, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(WhyNot("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(WhyNot("{}"), HasSubstr("`mcpServers` must be an object"));
  EXPECT_THAT(WhyNot(R"({"servers":{}})"), HasSubstr("`servers` is not a known field (known: mcpServers)"));
  EXPECT_THAT(WhyNot(R"({"mcpServers":{"x":{}}})"), HasSubstr("MCP server `x`: `command` is missing"));
  EXPECT_THAT(WhyNot(R"({"mcpServers":{"x":{"command":7}}})"), HasSubstr("`command` must be a string"));
  EXPECT_THAT(WhyNot(R"({"mcpServers":{"x":{"command":""}}})"), HasSubstr("`command` is empty"));
  EXPECT_THAT(WhyNot(R"({"mcpServers":{"x":{"url":"https://x"}}})"), HasSubstr("over HTTP"));
  EXPECT_THAT(WhyNotWith(R"("type":"http")"), HasSubstr("`type` must be \"stdio\""));
  EXPECT_THAT(WhyNotWith(R"("arg":[])"), HasSubstr("`arg` is not a known field (known: command, args"));
  EXPECT_THAT(WhyNotWith(R"("args":"x")"), HasSubstr("`args` must be a list of strings"));
  EXPECT_THAT(WhyNotWith(R"("args":[1])"), HasSubstr("`args` must be a list of strings"));
  EXPECT_THAT(WhyNotWith(R"("env":[])"), HasSubstr("`env` must be an object of strings"));
  EXPECT_THAT(WhyNotWith(R"("env":{"A":1})"), HasSubstr("`env` must be an object of strings"));
  EXPECT_THAT(WhyNotWith(R"("env":{"A=B":"1"})"), HasSubstr("cannot be a variable"));
  EXPECT_THAT(WhyNotWith(R"("disabled":"no")"), HasSubstr("`disabled` must be true or false"));
  EXPECT_THAT(WhyNotWith(R"("cwd":"relative")"), HasSubstr("relative"));
}

TEST(ConfigTest, OwnFieldsAreCheckedToo) {
  EXPECT_THAT(WhyNotOwn(R"("net":"off")"), HasSubstr("`holdfast`: `net` is not a known field"));
  EXPECT_THAT(WhyNotOwn(R"("network":"on")"), HasSubstr("`network` must be \"off\" or \"host\""));
  EXPECT_THAT(WhyNotOwn(R"("era":"2026")"), HasSubstr("`era` must be"));
  EXPECT_THAT(WhyNotOwn(R"("mounts":{})"), HasSubstr("`mounts` must be a list"));
  EXPECT_THAT(WhyNotOwn(R"("mounts":[{"host":"/a","access":"rw"}])"),
              HasSubstr("`mounts` 1: `access` must be"));
  EXPECT_THAT(WhyNotOwn(R"("mounts":[{"host":"a"}])"), HasSubstr("`a` is not absolute"));
  EXPECT_THAT(WhyNotOwn(R"("mounts":[{"host":"/"}])"), HasSubstr("would share everything"));
  EXPECT_THAT(WhyNotOwn(R"("mounts":[{"host":"/a","inside":"/workspace/a"}])"),
              HasSubstr("lies in the workspace"));
  EXPECT_THAT(WhyNotOwn(R"("limits":{"memory_bytes":1})"), HasSubstr("limits: memory_bytes is 1"));
  EXPECT_THAT(WhyNotOwn(R"("limits":{"wall_ms":1})"), HasSubstr("`wall_ms` is not a known field"));
  EXPECT_THAT(WhyNotOwn(R"("limits":{"processes":-1})"), HasSubstr("`processes` must be a whole number"));
  EXPECT_THAT(WhyNotOwn(R"("timeouts":{"call_ms":1.5})"), HasSubstr("`call_ms` must be a whole number"));
  EXPECT_THAT(WhyNotOwn(R"("timeouts":{"call_ms":0})"), HasSubstr("call_ms is 0, must be 1 to"));
  EXPECT_THAT(WhyNotOwn(R"("timeouts":{"probe_ms":40000})"), HasSubstr("probe_ms is more than startup_ms"));
  EXPECT_THAT(WhyNotOwn(R"("tools":["a","a"])"), HasSubstr("`tools` has a name twice"));
}

TEST(ConfigTest, NamesKeepToolsOfTwoServersApart) {
  for (const char* bad : {"", "a b", "a__b", "a_", "a/b", "\xC3\xA9", "abcdefghijklmnopqrstuvwxyz1234567"}) {
    EXPECT_THAT(WhyNot(std::string(R"({"mcpServers":{")") + bad + R"(":{"command":"c"}}})"),
                HasSubstr("the name must be"))
        << bad;
  }
  for (const char* good : {"a", "a_b", "_a", "a-", "A9", "abcdefghijklmnopqrstuvwxyz123456"}) {
    EXPECT_TRUE(Parse(std::string(R"({"mcpServers":{")") + good + R"(":{"command":"c"}}})").ok()) << good;
  }
}

TEST(ConfigTest, PolicyHasWhatTheOperatorGaveAndNothingElse) {
  const auto configs = Parse(R"({"mcpServers":{"x":{"command":"c","env":{"API_KEY":"${TOKEN}"},
    "holdfast":{"mounts":[{"host":"/data"}]}}}})");
  ASSERT_TRUE(configs.ok()) << configs.status();
  const sandbox::Policy policy = McpPolicy(configs->at(0), "/state/x");
  EXPECT_EQ(policy.network, sandbox::Network::kOff);
  EXPECT_EQ(policy.workspace.mode, sandbox::WorkspaceMode::kOverlay);
  EXPECT_EQ(policy.workspace.host, "/state/x/tree");
  EXPECT_EQ(policy.workspace.layer, "/state/x/layer");
  EXPECT_THAT(policy.mounts, SizeIs(1));
  EXPECT_THAT(policy.pass_environment, IsEmpty());
  EXPECT_THAT(policy.set_environment, ElementsAre(Pair("API_KEY", "sesame-open")));
  EXPECT_EQ(policy.required_layers, sandbox::kRequiredLayers);
  const auto secrets = McpSecrets(configs->at(0));
  ASSERT_THAT(secrets, SizeIs(1));
  EXPECT_EQ(secrets[0].name, "API_KEY");
  EXPECT_EQ(secrets[0].value, "sesame-open");
}

TEST(ConfigTest, BoundsThatDoNotFitAreRefused) {
  McpServerConfig config = {.name = "x", .argv = {"c"}};
  EXPECT_TRUE(Validate(config).ok());
  config.bounds.waiting_bytes_max = config.bounds.message_bytes_max - 1;
  EXPECT_FALSE(Validate(config).ok());
  config.bounds = {};
  config.bounds.backoff_ms_max = config.bounds.backoff_ms_min - 1;
  EXPECT_FALSE(Validate(config).ok());
}

}  // namespace
}  // namespace holdfast::tools
