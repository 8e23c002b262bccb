#include "cli/config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "CLI/CLI.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::cli {
namespace {

using ::testing::HasSubstr;

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    for (const ConfigKey& key : ConfigKeys()) unsetenv(std::string(key.variable).c_str());
  }
  void TearDown() override {
    unsetenv("HOLDFAST_LOG_LEVEL");
    unsetenv("HOLDFAST_THREADS");
    std::filesystem::remove_all(directory_);
  }
  ConfigPlaces Write(const std::string& user, const std::string& project) {
    const ConfigPlaces places{.user_file = directory_ + "/user.toml",
                              .project_file = directory_ + "/project.toml"};
    std::ofstream(places.user_file) << user;
    std::ofstream(places.project_file) << project;
    return places;
  }
  std::string Refused(const std::string& user, const std::string& project = "") {
    const auto config = Config::Load(Write(user, project));
    EXPECT_TRUE(absl::IsInvalidArgument(config.status())) << user << project;
    return base::Message(config.status());
  }

  std::string directory_ = testing::TempDir() + "/holdfast-config-XXXXXX";
};

TEST_F(ConfigTest, FilesAreReadWithTheirTablesCommentsAndTypes) {
  const auto config = Config::Load(Write(R"(
# mine
model = "/models/a # b"   # a comment
threads = 7
[ log ]
level = 'warning'
json = true
)",
                                         "goal.tokens = 12\n"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->Find("model")->text, "/models/a # b");
  EXPECT_EQ(config->Find("threads")->text, "7");
  EXPECT_EQ(config->Find("log.level")->text, "warning");
  EXPECT_THAT(config->Find("log.level")->origin, HasSubstr("user.toml:6"));
  EXPECT_EQ(config->Find("log.json")->text, "true");
  EXPECT_THAT(config->Find("goal.tokens")->origin, HasSubstr("project.toml:1"));
  EXPECT_FALSE(config->Find("notify").has_value());
}

TEST_F(ConfigTest, TheEnvironmentGoesBeforeTheProjectAndTheProjectBeforeTheUser) {
  const ConfigPlaces places =
      Write("goal.tokens = 1\ngoal.calls = 1\nlog.level = \"error\"\n", "goal.calls = 2\n");
  setenv("HOLDFAST_LOG_LEVEL", "debug", 1);
  const auto config = Config::Load(places);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->Find("goal.tokens")->text, "1");
  EXPECT_EQ(config->Find("goal.calls")->text, "2");
  EXPECT_EQ(config->Find("log.level")->text, "debug");
  EXPECT_EQ(config->Find("log.level")->origin, "HOLDFAST_LOG_LEVEL");
}

TEST_F(ConfigTest, FlagsGoBeforeAll) {
  const auto config = Config::Load(Write("threads = 3\nmodel = \"m\"\nlog.json = true\n", ""));
  ASSERT_TRUE(config.ok()) << config.status();
  for (const bool flag : {false, true}) {
    CLI::App app;
    int threads = 0;
    std::string model;
    bool json = false;
    app.add_option("--threads", threads);
    app.add_option("--model", model)->required();
    app.add_flag("--log-json", json);
    ASSERT_TRUE(config->ApplyTo(app).ok());
    app.parse(flag ? "--threads 9" : "");
    EXPECT_EQ(threads, flag ? 9 : 3);
    EXPECT_EQ(model, "m");
    EXPECT_TRUE(json);
  }
}

TEST_F(ConfigTest, AValueThatAnOptionRefusesIsSaidWithItsPlace) {
  const auto config = Config::Load(Write("connections = -1\n", ""));
  ASSERT_TRUE(config.ok()) << config.status();
  CLI::App app;
  int connections = 0;
  app.add_option("--connections", connections)->check(CLI::Range(1, 10));
  const base::Status refused = config->ApplyTo(app);
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(base::Message(refused), HasSubstr("user.toml:1"));
}

TEST_F(ConfigTest, UnknownKeysWrongTypesAndWhatIsNoTomlAreErrorsWithFileAndLine) {
  for (const char* line :
       {"modle = \"x\"", "model = 3", "model = x", "model = \"x", "model = \"x\" y", "model", "= 3", "[log",
        "[] x", "threads = \"3\"", "threads = 3.5", "threads = true", "log.json = 1", "model = \"\\q\"",
        "model = \"a\"\nmodel = \"b\"", "[log]\nfile = \"a\"\n[log]\nfile = \"b\"", "[log]\nmodel = \"a\""}) {
    EXPECT_THAT(Refused(std::string("\n") + line + "\n"), ::testing::ContainsRegex("user.toml:[2345]: "))
        << line;
  }
  EXPECT_THAT(Refused("modle = \"x\""), HasSubstr("`modle`"));
}

TEST_F(ConfigTest, AVariableOfTheWrongTypeIsRefused) {
  setenv("HOLDFAST_THREADS", "many", 1);
  EXPECT_THAT(Refused(""), HasSubstr("HOLDFAST_THREADS"));
}

TEST_F(ConfigTest, AProjectNamesNoProgramPathOrAddress) {
  int allowed = 0;
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string value = key.type == ConfigType::kString    ? "\"x\""
                              : key.type == ConfigType::kInteger ? "1"
                                                                 : "true";
    const std::string line = std::string(key.name) + " = " + value + "\n";
    EXPECT_TRUE(Config::Load(Write(line, "")).ok()) << line;
    if (key.project) {
      EXPECT_TRUE(key.name.starts_with("goal.")) << "look whether a stranger may set it: " << key.name;
      EXPECT_TRUE(Config::Load(Write("", line)).ok()) << line;
      ++allowed;
    } else {
      EXPECT_THAT(Refused("", line), HasSubstr("a project may not set")) << line;
    }
  }
  EXPECT_EQ(allowed, 4);
}

TEST_F(ConfigTest, EveryKeyIsDescribed) {
  std::ifstream file(HOLDFAST_SOURCE_DIR "/docs/configuration.md");
  const std::string page((std::istreambuf_iterator<char>(file)), {});
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_THAT(page, HasSubstr("| `" + std::string(key.name) + "` | `" + std::string(key.flag) + "`"));
    EXPECT_THAT(page,
                HasSubstr("| `" + std::string(key.variable) + "` | " + (key.project ? "*project*" : "")));
  }
}

}  // namespace
}  // namespace holdfast::cli
