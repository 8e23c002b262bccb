#include "tools/command_line.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::tools {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

// A hole is shown as ‹›.
std::string Shown(const OpenText& text) {
  std::string shown;
  for (const char16_t unit : text)
    shown += unit == kHole ? std::string("‹›") : std::string(1, static_cast<char>(unit));
  return shown;
}

std::vector<std::string> Commands(std::string_view line) {
  const CommandLine apart = TakeApart(line);
  std::vector<std::string> shown;
  for (const SimpleCommand& command : apart.commands) shown.push_back(Shown(command.text));
  if (!apart.certain) shown.push_back("? " + apart.doubt);
  return shown;
}

// Everything that a rule that forbids is compared with.
std::vector<std::string> AllForms(std::string_view line) {
  std::vector<std::string> shown;
  for (const SimpleCommand& command : TakeApart(line).commands) {
    shown.push_back(Shown(command.text));
    for (const OpenText& form : command.also) shown.push_back(Shown(form));
  }
  return shown;
}

bool Certain(std::string_view line) { return TakeApart(line).certain; }

TEST(CommandLineTest, ListsPipesAndGroupsFallApart) {
  EXPECT_THAT(Commands("git status"), ElementsAre("git status"));
  EXPECT_THAT(Commands("  git   status  "), ElementsAre("git status"));
  EXPECT_THAT(Commands("a && b || c; d & e | f |& g\nh"),
              ElementsAre("a", "b", "c", "d", "e", "f", "g", "h"));
  EXPECT_THAT(Commands("(cd x; make) && { ls; }"), ElementsAre("cd x", "make", "ls"));
  EXPECT_THAT(Commands("! grep -q x f"), ElementsAre("grep -q x f"));
  EXPECT_THAT(Commands("a \\\n  b"), ElementsAre("a b"));
  EXPECT_THAT(Commands("a # ; rm x"), ElementsAre("a"));
  EXPECT_THAT(Commands("a#b"), ElementsAre("'a#b'"));
  EXPECT_THAT(Commands("# nothing"), IsEmpty());
  EXPECT_THAT(Commands(""), IsEmpty());
}

TEST(CommandLineTest, GrammarIsSkippedAndWhatItRunsIsSeen) {
  EXPECT_THAT(Commands("if test -f x; then make; elif true; then a; else b; fi"),
              ElementsAre("test -f x", "make", "true", "a", "b"));
  EXPECT_THAT(Commands("for f in *.cc \"$x\"; do wc -l \"$f\"; done > out"),
              ElementsAre("wc -l ‹›", "> out"));
  EXPECT_THAT(Commands("while read l; do echo; done < in"), ElementsAre("read l", "echo", "< in"));
  EXPECT_THAT(Commands("time -p rm x"), ElementsAre("time -p rm x"));  // after a pipe it is a program
  EXPECT_THAT(Commands("a | time [[ b && rm x ]]"), ElementsAre("a", "time '[[' b", "rm x ']]'"));
  EXPECT_THAT(Commands("[[ -f a && ( b < c || ! d ) ]] && make"), ElementsAre("make"));
  EXPECT_THAT(Commands("for f in $(rm a); do b; done"), ElementsAre("rm a", "b"));
  EXPECT_THAT(Commands("echo if then"), ElementsAre("echo if then"));
}

TEST(CommandLineTest, QuotesAreUndoneAndPutInOneForm) {
  EXPECT_THAT(Commands("git commit -m \"a b; rm x\""), ElementsAre("git commit -m 'a b; rm x'"));
  EXPECT_THAT(Commands("r''m \"x\""), ElementsAre("rm x"));
  EXPECT_THAT(Commands("\\rm x"), ElementsAre("rm x"));
  EXPECT_THAT(Commands("\\A=1 rm"), ElementsAre("'A=1' rm"));  // no assignment
  EXPECT_THAT(Commands("'git status'"), ElementsAre("'git status'"));
  EXPECT_THAT(Commands("echo 'it'\\''s'"), ElementsAre("echo 'it'\\''s'"));
  EXPECT_THAT(Commands("echo \"\" ''"), ElementsAre("echo '' ''"));
  EXPECT_THAT(Commands("A='x y' B= make"), ElementsAre("A='x y' B= make"));
  EXPECT_THAT(Commands("echo \"a\\\"b\\x\""), ElementsAre("echo 'a\"b\\x'"));
}

TEST(CommandLineTest, ExpansionsAreHolesAndWhatTheyRunIsSeen) {
  EXPECT_THAT(Commands("ls $x ${y:-a} \"$@\" *.cc ~/x"), ElementsAre("ls ‹› ‹› ‹› ‹›.cc ‹›/x"));
  EXPECT_THAT(Commands("echo $(rm x)"), ElementsAre("rm x", "echo ‹›"));
  EXPECT_THAT(Commands("echo `rm x`"), ElementsAre("rm x", "echo ‹›"));
  EXPECT_THAT(Commands("echo `a \\`rm x\\``"), ElementsAre("rm x", "a ‹›", "echo ‹›"));
  EXPECT_THAT(Commands("echo \"a $(rm \"$(b)\")\""), ElementsAre("b", "rm ‹›", "echo 'a ‹›'"));
  EXPECT_THAT(Commands("diff <(a x) <(b)"), ElementsAre("a x", "b", "diff ‹› ‹›"));
  EXPECT_THAT(Commands("echo ${x:-$(rm y)}"), ElementsAre("rm y", "echo ‹›"));
  EXPECT_THAT(Commands("echo $((1 + $(rm y) * (2)))"), ElementsAre("rm y", "echo ‹›"));
  EXPECT_THAT(Commands("rm -r{f,v} x"), ElementsAre("rm ‹› x"));
  EXPECT_THAT(Commands("find . -name {} x"), ElementsAre("find . -name '{}' x"));
  EXPECT_THAT(Commands("echo '$(rm x)' \\$y"), ElementsAre("echo '$(rm x)' '$y'"));
}

TEST(CommandLineTest, RedirectionsAreCommandsOfTheirOwn) {
  EXPECT_THAT(Commands("git log > x"), ElementsAre("> x", "git log"));
  EXPECT_THAT(Commands("a >>x 2>y <z &>w &>>v >|u"),
              ElementsAre(">> x", "> y", "< z", "> w", ">> v", "> u", "a"));
  EXPECT_THAT(Commands("a 2>&1 >/dev/null 2>&- <&3 < /dev/null"), ElementsAre("a"));
  EXPECT_THAT(Commands("a >& f"), ElementsAre("> f", "a"));
  // Behind a redirection nothing is a word of the grammar.
  EXPECT_THAT(Commands(">x [[ ; rm -rf y ; ]]"), ElementsAre("> x", "'[['", "rm -rf y", "']]'"));
  EXPECT_THAT(Commands("> \"$x\""), ElementsAre("> ‹›"));
  EXPECT_THAT(Commands("a <<< \"$(b)\""), ElementsAre("b", "a"));
}

TEST(CommandLineTest, HereDocumentsAreTextOrExpanded) {
  EXPECT_THAT(Commands("cat <<'E' > f\nrm x; $(rm y)\nE\nls"), ElementsAre("> f", "cat", "ls"));
  EXPECT_THAT(Commands("cat <<E\n$(rm y) \" ' `b`\nE\nls"), ElementsAre("cat", "rm y", "b", "ls"));
  EXPECT_THAT(Commands("cat <<-E\n\tx\n\tE\nls"), ElementsAre("cat", "ls"));
  EXPECT_THAT(Commands("cat <<A <<B\nx\nA\ny\nB\nls"), ElementsAre("cat", "ls"));
  EXPECT_FALSE(Certain("cat <<E\nx"));
  EXPECT_FALSE(Certain("cat <<E"));
  EXPECT_FALSE(Certain("cat <<E\nx\\\nE\nrm x\nE\n"));   // joined: the first E ends nothing
  EXPECT_FALSE(Certain("cat <<E $(\necho\n)\nx\nE\n"));  // whose line break begins the document?
  EXPECT_FALSE(Certain("cat <<E; for x\nin a\nE\ndo b; done"));
}

TEST(CommandLineTest, WhatCannotBeToldIsUncertain) {
  for (const char* line : {"$x y",
                           "$(echo rm) x",
                           "`a`",
                           "{rm,x}",
                           "r* x",
                           "$'rm' x",
                           "f() { rm x; }",
                           "function f { rm x; }",
                           "case x in y) rm;; esac",
                           "select x in a; do rm; done",
                           "a=(1 2)",
                           "coproc rm",
                           "((x++))",
                           "alias ls=rm",
                           "eval $x",
                           "trap \"$x\" EXIT",
                           "bash -c \"$x\"",
                           "bash",
                           "echo x | sh",
                           "sh -s",
                           "bash -O extglob x",
                           "source <(a)",
                           ". /dev/stdin",
                           "bash /dev/stdin",
                           "echo \"",
                           "echo '",
                           "(ls",
                           "ls)",
                           "a &&& (",
                           "echo ${x@P}",
                           "echo ${ rm x; }",
                           "echo \"${x:-'}\"; rm y #'}\"",
                           "echo $[1]",
                           "test 'a[$(rm x)]' -eq 1",
                           "[[ 'a[$(rm x)]' -eq 1 ]]",
                           "printf -v 'a[$(rm x)]' y",
                           "[[ a ; rm x ]]",
                           "hash -p /bin/rm ls",
                           "echo $((x)",
                           "echo $((a; rm x))",
                           "exec {fd}>x"}) {
    EXPECT_FALSE(Certain(line)) << line << "\n" << ::testing::PrintToString(Commands(line));
  }
  EXPECT_FALSE(Certain(std::string("a\0b", 3)));
}

TEST(CommandLineTest, TextsHandedToAShellAreTakenApart) {
  EXPECT_THAT(Commands("bash -c 'rm x; ls'"), ElementsAre("bash -c 'rm x; ls'", "rm x", "ls"));
  EXPECT_THAT(Commands("/bin/sh -ec 'rm x'"), ElementsAre("/bin/sh -ec 'rm x'", "rm x"));
  EXPECT_THAT(Commands("eval 'rm x' y"), ElementsAre("eval 'rm x' y", "rm x y"));
  EXPECT_THAT(Commands("trap 'rm x' EXIT"), ElementsAre("trap 'rm x' EXIT", "rm x"));
  EXPECT_THAT(Commands("env A=1 bash -c 'rm x'"), Contains("rm x"));
  EXPECT_THAT(Commands("bash build.sh x"), ElementsAre("bash build.sh x"));
  EXPECT_FALSE(Certain("bash -c 'bash -c \"$y\"'"));
}

TEST(CommandLineTest, ProgramsThatRunOthersHaveMoreForms) {
  EXPECT_THAT(AllForms("/usr/bin/rm -rf x"), Contains("rm -rf x"));
  EXPECT_THAT(AllForms("FOO=1 rm x"), Contains("rm x"));
  EXPECT_THAT(AllForms("sudo -u me rm x"), Contains("rm x ‹›"));
  EXPECT_THAT(AllForms("find . -name x -exec /bin/rm {} ;"), Contains("rm {} ‹›"));
  EXPECT_THAT(AllForms("ls | xargs rm"), Contains("rm ‹›"));
  EXPECT_THAT(AllForms("echo rm x"), Not(Contains("rm x ‹›")));
}

TEST(CommandLineTest, BoundsHold) {
  EXPECT_FALSE(Certain(std::string(CommandLine::kBytesMax + 1, 'a')));
  EXPECT_FALSE(Certain(std::string(1000, '(') + "a" + std::string(1000, ')')));
  std::string deep, arithmetic, commands, words = "xargs", braces = "a ";
  for (int i = 0; i < 30'000; ++i) {
    deep += "$(";
    arithmetic += "$((";
    commands += "a;";
    words += " b";
    braces += "{";
  }
  EXPECT_FALSE(Certain(deep));
  EXPECT_FALSE(Certain(arithmetic));
  EXPECT_FALSE(Certain(commands));
  EXPECT_FALSE(Certain(words));
  EXPECT_TRUE(Certain(braces));
}

}  // namespace
}  // namespace holdfast::tools
