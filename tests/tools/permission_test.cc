#include "tools/permission.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr CallTraits kOutside = {};  // effectful, not confined
constexpr CallTraits kConfined = {.contained = true, .confined = true};
constexpr CallTraits kReads = {.effect = Effect::kReadOnly};

PermissionPolicy Policy(std::string_view json) {
  auto policy = PermissionPolicy::Parse(json);
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? *std::move(policy) : PermissionPolicy();
}

Subject Command(std::string text) { return {.kind = Subject::Kind::kCommand, .texts = {std::move(text)}}; }
Subject Paths(std::vector<std::string> paths) {
  return {.kind = Subject::Kind::kPath, .texts = std::move(paths)};
}

Permission Bash(const PermissionPolicy& policy, std::string command, const CallTraits& traits = kOutside) {
  return policy.Judge("bash", Command(std::move(command)), traits).permission;
}

TEST(PermissionTest, WithoutRulesReachDecides) {
  const PermissionPolicy policy;
  EXPECT_EQ(policy.Judge("bash", Command("rm -rf /"), kConfined).permission, Permission::kAllow);
  EXPECT_EQ(policy.Judge("bash", Command("ls"), kOutside).permission, Permission::kAsk);
  EXPECT_EQ(policy.Judge("read", Paths({"a"}), kReads).permission, Permission::kAllow);
  EXPECT_EQ(Policy(R"({"default": "ask"})").Judge("bash", Command("ls"), kConfined).permission,
            Permission::kAsk);
  EXPECT_EQ(Policy(R"({"default": "deny"})").Judge("read", Paths({"a"}), kReads).permission,
            Permission::kDeny);
}

TEST(PermissionTest, AllowingGitStatusAllowsNothingElse) {
  const auto policy = Policy(R"({"rules": [
      {"permission": "allow", "tool": "bash", "command": "git status *", "matches": ["git status", "git status -s"],
       "no_matches": ["git stash", "git status; rm x"]}]})");
  EXPECT_EQ(Bash(policy, "git status"), Permission::kAllow);
  EXPECT_EQ(Bash(policy, "git status && git status -s 2>/dev/null"), Permission::kAllow);
  for (const char* command : {"git status; rm -rf x",
                              "git status && rm x",
                              "git status | tee x",
                              "git status > x",
                              "git status $(rm x)",
                              "git status `rm x`",
                              "git status\nrm x",
                              "git status & rm x",
                              "(git status; rm x)",
                              "PATH=. git status",
                              "git status <(rm x)",
                              "git status; eval rm",
                              "\"git status\"",
                              "git status \"`rm x`\"",
                              "$x; git status",
                              "alias git=rm; git status",
                              "git() { rm x; }; git status",
                              "bash -c 'git status; rm x'",
                              "if rm x; then git status; fi",
                              "./git status",
                              "git status; (",
                              "cat <<E\n$(rm x)\nE\ngit status"}) {
    EXPECT_NE(Bash(policy, command), Permission::kAllow) << command;
  }
}

TEST(PermissionTest, EachPartMayBeAllowedByAnotherRule) {
  const auto policy = Policy(R"({"rules": [
      {"permission": "allow", "tool": "bash", "command": "make *", "matches": ["make"]},
      {"permission": "allow", "tool": "bash", "command": "> build/*", "matches": ["> build/log"]}]})");
  EXPECT_EQ(Bash(policy, "make all > build/log"), Permission::kAllow);
  EXPECT_EQ(Bash(policy, "make all > log"), Permission::kAsk);
  EXPECT_EQ(Bash(policy, "make $(make x)"), Permission::kAllow);
}

TEST(PermissionTest, DenyingRmReachesBehindItsDisguises) {
  const auto policy = Policy(R"({"rules": [
      {"permission": "allow", "tool": "bash"},
      {"permission": "deny", "tool": "bash", "command": "rm *", "matches": ["rm -rf x", "rm"], "no_matches": ["rmdir x"]}]})");
  for (const char* command : {"rm x",
                              "ls; rm x",
                              "/bin/rm x",
                              "\\rm x",
                              "r'm' x",
                              "A=1 rm x",
                              "env rm x",
                              "sudo -n rm x",
                              "ls | xargs rm -f",
                              "find . -exec rm {} +",
                              "bash -c 'rm x'",
                              "eval rm x",
                              "echo $(rm x)",
                              "if rm x; then ls; fi",
                              "time -p rm x",
                              "nohup nice -n 3 rm x",
                              "$(echo rm) x",
                              "X=rm; $X y",
                              "echo rm | sh",
                              "trap 'rm x' EXIT",
                              "cat <<E\n`rm x`\nE",
                              "timeout 3 bash -c 'ls && rm x'",
                              "! rm x",
                              "{ rm x; }",
                              "r{m,} x",
                              "command rm x",
                              "f() { rm x; }; f"}) {
    EXPECT_EQ(Bash(policy, command), Permission::kDeny) << command;
  }
  for (const char* command :
       {"ls", "echo rm x", "git rm-branch x", "grep 'rm x' f", "rmdir x", "cat <<'E'\nrm x\nE"}) {
    EXPECT_EQ(Bash(policy, command), Permission::kAllow) << command;
  }
  EXPECT_THAT(policy.Judge("bash", Command("ls; rm x"), kOutside).reason,
              HasSubstr("rule 2: deny bash \"rm *\""));
  EXPECT_THAT(policy.Judge("bash", Command("$x"), kOutside).reason,
              AllOf(HasSubstr("rule 2"), HasSubstr("a command named by an expansion")));
}

TEST(PermissionTest, TheStrictestRuleWinsWhereverItStands) {
  const auto policy = Policy(R"({"rules": [
      {"permission": "deny", "tool": "write", "path": "secrets/**", "matches": ["secrets/a"]},
      {"permission": "ask", "tool": "*", "path": "**/*.pem", "matches": ["x/a.pem"]},
      {"permission": "allow", "tool": "write", "path": "**", "matches": ["a"]}]})");
  const auto judge = [&](std::vector<std::string> paths) {
    return policy.Judge("write", Paths(std::move(paths)), kOutside).permission;
  };
  EXPECT_EQ(judge({"a"}), Permission::kAllow);
  EXPECT_EQ(judge({"a", "b.pem"}), Permission::kAsk);
  EXPECT_EQ(judge({"secrets/b.pem"}), Permission::kDeny);
  EXPECT_EQ(policy.Judge("read", Paths({"b.pem"}), kReads).permission, Permission::kAsk);
}

TEST(PermissionTest, UncertainLinesAreAllowedByRulesForTheWholeToolOnly) {
  const auto some =
      Policy(R"({"rules": [{"permission": "allow", "tool": "bash", "command": "*", "matches": ["ls"]}]})");
  EXPECT_EQ(Bash(some, "ls; make"), Permission::kAllow);
  EXPECT_EQ(Bash(some, "case x in y) ls;; esac"), Permission::kAsk);
  const auto all = Policy(R"({"rules": [{"permission": "allow", "tool": "bash"}]})");
  EXPECT_EQ(Bash(all, "case x in y) ls;; esac"), Permission::kAllow);
}

TEST(PermissionTest, ARuleWhoseExampleDoesNotHoldIsRefusedByName) {
  const auto fail = [](std::string_view json) {
    return std::string(PermissionPolicy::Parse(json).status().message());
  };
  EXPECT_THAT(
      fail(
          R"({"rules": [{"permission": "allow", "tool": "bash", "command": "git *", "matches": ["git x", "gitk"]}]})"),
      AllOf(HasSubstr("rule 1"), HasSubstr("gitk")));
  EXPECT_THAT(
      fail(R"({"rules": [{"permission": "deny", "tool": "bash", "command": "rm *", "matches": ["rm x"],
                                  "no_matches": ["sudo rm x"]}]})"),
      HasSubstr("sudo rm x"));
  EXPECT_THAT(fail(R"({"rules": [{"permission": "deny", "tool": "bash", "command": "rm *"}]})"),
              HasSubstr("no example"));
  EXPECT_THAT(fail(R"({"rules": [{"permission": "deny", "tool": "bash", "matches": ["x"]}]})"),
              HasSubstr("nothing to match"));
  EXPECT_THAT(fail(R"({"rules": [{"permission": "deny", "tool": ""}]})"), HasSubstr("tool"));
  EXPECT_THAT(fail(R"({"rules": [{"permission": "never", "tool": "x"}]})"), HasSubstr("permission"));
  EXPECT_THAT(fail(R"({"rules": [{"permission": "deny", "tool": "x", "comand": "y"}]})"),
              HasSubstr("comand"));
  EXPECT_THAT(
      fail(
          R"({"rules": [{"permission": "deny", "tool": "x", "command": "y", "path": "z", "matches": ["y"]}]})"),
      HasSubstr("two subjects"));
  EXPECT_THAT(fail(R"({"rules": {}})"), HasSubstr("no list"));
  EXPECT_THAT(fail(R"({"defualt": "ask"})"), HasSubstr("defualt"));
  EXPECT_THAT(fail(R"({"default": "perhaps"})"), HasSubstr("default"));
  EXPECT_THAT(fail("{"), HasSubstr("not JSON"));
  EXPECT_FALSE(
      PermissionPolicy::Make(std::vector<PermissionRule>(PermissionPolicy::kRulesMax + 1, {.tool = "x"}))
          .ok());
}

TEST(PermissionTest, TheHashKnowsRulesAndTheirOrderButNotTheirExamples) {
  const auto hash = [](std::string_view json) { return Policy(json).hash(); };
  const std::string_view one =
      R"({"rules": [{"permission": "deny", "tool": "a"}, {"permission": "ask", "tool": "b"}]})";
  EXPECT_EQ(hash(one), hash(one));
  EXPECT_NE(hash(one),
            hash(R"({"rules": [{"permission": "ask", "tool": "b"}, {"permission": "deny", "tool": "a"}]})"));
  EXPECT_NE(hash(R"({})"), hash(R"({"default": "ask"})"));
  EXPECT_EQ(PermissionPolicy().hash(), hash("{}"));
  EXPECT_EQ(hash(R"({"rules": [{"permission": "deny", "tool": "a", "text": "x*", "matches": ["x"]}]})"),
            hash(R"({"rules": [{"permission": "deny", "tool": "a", "text": "x*", "matches": ["xy"]}]})"));
}

TEST(ApprovalBookTest, AGrantIsForOneActionAndUsedOnce) {
  ApprovalBook book;
  const ActionHash a = {std::byte{1}}, b = {std::byte{2}};
  EXPECT_FALSE(book.Use(a));
  ASSERT_TRUE(book.Grant(a).ok());
  EXPECT_FALSE(book.Use(b));
  EXPECT_TRUE(book.Holds(a));
  EXPECT_TRUE(book.Use(a));
  EXPECT_FALSE(book.Use(a));
  ASSERT_TRUE(book.Grant(a).ok());
  ASSERT_TRUE(book.Grant(a).ok());
  ASSERT_TRUE(book.Grant(b).ok());
  ApprovalBook after_restart;
  ASSERT_TRUE(after_restart.Import(book.Export()).ok());
  EXPECT_EQ(after_restart.Export(), book.Export());
  EXPECT_TRUE(after_restart.Use(a));
  EXPECT_TRUE(after_restart.Use(a));
  EXPECT_FALSE(after_restart.Use(a));
  after_restart.Revoke(b);
  EXPECT_FALSE(after_restart.Holds(b));
}

TEST(ApprovalBookTest, BoundsAndBadEntriesAreRefused) {
  ApprovalBook book;
  ActionHash action = {};
  for (size_t i = 0; i < ApprovalBook::kEntriesMax; ++i) {
    action[0] = static_cast<std::byte>(i);
    action[1] = static_cast<std::byte>(i >> 8);
    ASSERT_TRUE(book.Grant(action).ok());
  }
  action[2] = std::byte{1};
  EXPECT_EQ(book.Grant(action).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(ApprovalBook().Import({{.action = action, .granted = 0}}).ok());
  EXPECT_FALSE(
      ApprovalBook().Import({{.action = action, .granted = 1}, {.action = action, .granted = 1}}).ok());
  EXPECT_FALSE(ApprovalBook().Import(std::vector<ApprovalBook::Entry>(ApprovalBook::kEntriesMax + 1)).ok());
}

}  // namespace
}  // namespace holdfast::tools
