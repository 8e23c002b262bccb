#include "sandbox/command.h"

#include <string>

#include "gmock/gmock.h"

namespace holdfast::sandbox {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CommandTest, ShellCommandIsBash) {
  EXPECT_THAT(ShellCommand("a; b").argv, ElementsAre("bash", "-c", "a; b"));
  EXPECT_TRUE(Validate(ShellCommand("")).ok());
}

TEST(CommandTest, WhatNoSystemCallTakesIsRefused) {
  EXPECT_THAT(base::Message(Validate(Command())), HasSubstr("no program"));
  EXPECT_FALSE(Validate({.argv = {""}}).ok());
  EXPECT_THAT(base::Message(Validate({.argv = {std::string("a\0b", 3)}})), HasSubstr("NUL"));
  EXPECT_THAT(base::Message(Validate({.argv = {"x"}, .directory = "relative"})), HasSubstr("not absolute"));
  EXPECT_THAT(base::Message(Validate({.argv = {"x"}, .environment = {{"A=B", ""}}})),
              HasSubstr("cannot be a variable"));
  EXPECT_THAT(base::Message(Validate({.argv = {"x"}, .environment = {{"", "v"}}})),
              HasSubstr("cannot be a variable"));
  EXPECT_THAT(base::Message(Validate({.argv = {"x", std::string(3 << 20, 'y')}})), HasSubstr("2 MiB"));
}

}  // namespace
}  // namespace holdfast::sandbox
