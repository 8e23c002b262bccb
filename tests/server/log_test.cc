#include "server/log.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/json.h"
#include "tests/server/socket_testing.h"
#include "tests/support/sim_clock.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

class LogTest : public ::testing::Test {
 protected:
  std::string Written(const LogOptions& options, const std::string& value) {
    LogOptions to = options;
    to.file = file_;
    auto log = Log::Open(to, clock_);
    EXPECT_TRUE(log.ok()) << log.status();
    (*log)->Write(LogLevel::kInfo, "state", {{"session", "fix"}, {"reason", value}});
    log->reset();
    std::stringstream text;
    text << std::ifstream(file_).rdbuf();
    return text.str();
  }

  const std::string file_ = ShortDirectory() + "/logs/holdfast.log";
  test::SimClock clock_;
};

TEST_F(LogTest, ALineIsTimeLevelEventAndFields) {
  EXPECT_THAT(
      Written({}, "BUDGET_TOKENS"),
      ::testing::MatchesRegex("[0-9-]+T[0-9:]+\\.[0-9]+Z info state session=fix reason=BUDGET_TOKENS\n"));
}

TEST_F(LogTest, AValueCannotLookLikeAFieldOrALine) {
  const std::string text = Written({}, "x\nlevel=error \"y\"");
  EXPECT_THAT(text, HasSubstr(R"(reason="x\nlevel=error \"y\"")"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST_F(LogTest, JsonIsOneObjectALine) {
  const std::string text = Written({.json = true}, "a \"b\"\n");
  ASSERT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  const auto line = model::Json::Parse(text);
  ASSERT_TRUE(line.ok()) << text;
  EXPECT_EQ(line->Find("event")->text(), "state");
  EXPECT_EQ(line->Find("reason")->text(), "a \"b\"\n");
}

TEST_F(LogTest, WhatIsBelowTheLevelIsNotWritten) {
  EXPECT_EQ(Written({.level = LogLevel::kWarning}, "x"), "");
}

TEST_F(LogTest, TheFileIsRotatedAndForItsOwnerAlone) {
  const mode_t before = umask(0);
  for (int i = 0; i < 20; ++i) Written({.file_bytes_max = 200, .files_max = 2}, std::string(60, 'x'));
  umask(before);
  const std::string stem = file_.substr(0, file_.size() - 4);
  for (const std::string& name : {file_, stem + ".1.log", stem + ".2.log"}) {
    struct stat found = {};
    ASSERT_EQ(stat(name.c_str(), &found), 0) << name;
    EXPECT_EQ(found.st_mode & 0777, 0600u);
    EXPECT_LE(found.st_size, 200);
  }
  EXPECT_NE(access((stem + ".3.log").c_str(), F_OK), 0);
}

}  // namespace
}  // namespace holdfast::server
