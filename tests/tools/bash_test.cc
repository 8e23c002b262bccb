#include <algorithm>
#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "base/hash.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/tool_session.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

ToolResult Bash(ToolSession& session, const std::string& command) {
  return session.Call("bash@2", {{"command", command}});
}

TEST(BashTest, OutputAndErrorComeInTheOrderTheyWereWritten) {
  ToolSession session;
  const ToolResult result = Bash(session, "echo a; echo b >&2; printf c");
  EXPECT_EQ(result.text, "a\nb\nc\nexit 0\n");
  EXPECT_EQ(result.status, ToolStatus::kOk);
}

TEST(BashTest, FailureIsToldByItsCode) {
  ToolSession session;
  const ToolResult result = Bash(session, "exit 3");
  EXPECT_EQ(result.text, "exit 3\n");
  EXPECT_EQ(result.status, ToolStatus::kFailed);
  EXPECT_EQ(Bash(session, "kill -SEGV $$").text, "killed by signal 11 (SIGSEGV, segmentation fault)\n");
}

TEST(BashTest, EachCallStartsInTheRootOfTheWorkspace) {
  ToolSession session;
  session.Write("sub/file", "x");
  EXPECT_EQ(Bash(session, "cd sub && ls && export A=1").text, "file\nexit 0\n");
  EXPECT_EQ(Bash(session, "pwd; ls; echo \"[$A]\"").text, "/workspace\nsub\n[]\nexit 0\n");
}

TEST(BashTest, ChangesStayForLaterCallsAndTheTreeUnderneathDoesNotSeeThem) {
  ToolSession session;
  session.Write("a", "old\n");
  Bash(session, "echo new > a");
  EXPECT_EQ(Bash(session, "cat a").text, "new\nexit 0\n");
  EXPECT_EQ(base::RealFileSystem().ReadFile(session.tree() + "/a", 100).value(), "old\n");
}

TEST(BashTest, InputIsEmpty) {
  ToolSession session;
  EXPECT_EQ(Bash(session, "cat; echo done").text, "done\nexit 0\n");
}

TEST(BashTest, TimeoutSaysHowLongItWasAndKeepsWhatWasPrinted) {
  ToolSession session;
  const ToolResult result = session.Call("bash@2", {{"command", "echo begun; sleep 100"}, {"timeout", 300}});
  EXPECT_EQ(result.text, "begun\ntimed out after 300 ms; it was ended with all that it had started\n");
  EXPECT_EQ(result.status, ToolStatus::kTimeout);
}

TEST(BashTest, LimitIsToldInPlainWords) {
  ToolSession session(
      {.limits = {.wall_ms = 60'000, .memory_bytes = 96 * sandbox::kMiB, .kill_grace_ms = 100}});
  const ToolResult result = Bash(session, "head -c 1000M /dev/zero | tail -c 900M > /dev/null");
  // The shell may get to say that its child was killed, before it is ended too.
  EXPECT_THAT(result.text, testing::EndsWith("ended: it went beyond the limit on memory, 96 MiB\n"));
  EXPECT_EQ(result.status, ToolStatus::kFailed);
}

TEST(BashTest, LongOutputKeepsHeadAndTailExactlyAndAllOfItAsABlob) {
  ToolSession session;
  const ToolResult result = Bash(session, "seq 1 20000");
  std::string whole;
  for (int i = 1; i <= 20000; ++i) whole += std::to_string(i) + "\n";
  ASSERT_EQ(result.blobs.size(), 1u);
  EXPECT_EQ(result.blobs[0].bytes, whole.size());
  EXPECT_EQ(result.blobs[0].id, base::Sha256Of(std::as_bytes(std::span(whole))));
  EXPECT_EQ(session.blobs().Read(result.blobs[0].id, 1 << 20).value(), whole);

  const size_t mark = result.text.find("[... ");
  ASSERT_NE(mark, std::string::npos);
  const size_t mark_end = result.text.find("]\n", mark) + 2;
  const std::string tail = result.text.substr(mark_end, result.text.size() - mark_end - strlen("exit 0\n"));
  // The head may have been given a newline of its own.
  std::string head = result.text.substr(0, mark);
  if (!whole.starts_with(head)) head.pop_back();
  ASSERT_TRUE(whole.starts_with(head));
  ASSERT_TRUE(whole.ends_with(tail));
  const std::string omitted = whole.substr(head.size(), whole.size() - head.size() - tail.size());
  EXPECT_EQ(result.text.substr(mark, mark_end - mark),
            "[... " + std::to_string(omitted.size()) + " bytes, " +
                std::to_string(std::count(omitted.begin(), omitted.end(), '\n')) +
                " lines omitted; full: " + base::ToHex(result.blobs[0].id) + "]\n");
  EXPECT_LE(result.text.size(), 32 * 1024u);
}

TEST(BashTest, BinaryOutputIsSafeAndBounded) {
  ToolSession session;
  const ToolResult result = Bash(session, "head -c 1000000 /dev/zero | tr '\\0' '\\377'; printf '\\033[31m'");
  EXPECT_LE(result.text.size(), 32 * 1024u);
  EXPECT_THAT(result.text, HasSubstr("bytes, 0 lines omitted; full: "));
  EXPECT_EQ(result.text.find('\x1b'), std::string::npos);
}

TEST(BashTest, WhatCannotBeStartedIsTold) {
  ToolSession session;
  EXPECT_THAT(Bash(session, std::string(140'000, 'x')).text,
              StartsWith("not started: the command is longer"));
  EXPECT_EQ(Bash(session, std::string("a\0b", 3)).text, "not started: the command holds a NUL byte\n");
}

TEST(BashTest, TerminalIsOneOnRequest) {
  ToolSession session;
  EXPECT_EQ(session.Call("bash@2", {{"command", "test -t 1 && stty size"}, {"tty", true}}).text,
            "24 80\nexit 0\n");
  EXPECT_EQ(Bash(session, "test -t 1").text, "exit 1\n");
}

TEST(BashTest, CancelEndsTheCommandAndKeepsWhatItPrinted) {
  ToolSession session;
  std::promise<ToolResult> ended;
  auto running = session.Begin("bash@2", {{"command", "echo one; touch begun; sleep 100"}},
                               [&](ToolResult result) { ended.set_value(std::move(result)); });
  // Until it has begun: seen by another command.
  Bash(session, "until test -e begun; do sleep 0.01; done");
  session.OnControl([&] { running->Cancel(); });
  const ToolResult result = ended.get_future().get();
  EXPECT_EQ(result.text, "one\nkilled\n");
  EXPECT_EQ(result.status, ToolStatus::kCancelled);
  EXPECT_FALSE(running->Harmless());
}

TEST(BashTest, WithoutASandboxItIsUnavailable) {
  ToolSession session;
  ToolResult result;
  session.OnControl([&] {
    ToolContext context = session.Context();
    context.session = nullptr;
    session.registry().Find("bash@2")->tool->Start(context, {{"command", "true"}},
                                                   [&](ToolResult r) { result = std::move(r); });
  });
  EXPECT_EQ(result.status, ToolStatus::kUnavailable);
}

TEST(BashTest, TraitsSayWhatACallCanTouch) {
  ToolSession session;
  session.Open();
  Tool& bash = *session.registry().Find("bash@2")->tool;
  EXPECT_TRUE(bash.Traits(session.Context(), {{"command", "x"}}).contained);
  EXPECT_FALSE(bash.Traits(session.Context(), {{"command", "x"}, {"run_in_background", true}}).contained);
  EXPECT_TRUE(bash.Traits(session.Context(), {{"command", "x"}, {"run_in_background", true}}).confined);
  session.Call("bash@2", {{"command", "sleep 100"}, {"run_in_background", true}});
  EXPECT_FALSE(bash.Traits(session.Context(), {{"command", "x"}}).contained);

  ToolSession direct({.mode = sandbox::WorkspaceMode::kDirect});
  direct.Open();
  EXPECT_FALSE(bash.Traits(direct.Context(), {{"command", "x"}}).confined);
}

TEST(BackgroundTest, RunsOnBesideOtherCallsAndIsLookedAt) {
  ToolSession session;
  EXPECT_EQ(session
                .Call("bash@2", {{"command", "echo up; until test -e go; do sleep 0.01; done; echo over"},
                                 {"run_in_background", true}})
                .text,
            "b1 runs in the background\n");
  EXPECT_EQ(Bash(session, "touch go").text, "exit 0\n");
  std::string text;
  while (text.find("exit") == std::string::npos) {
    text += session.Call("bash_output@1", {{"id", "b1"}, {"wait", 5000}}).text;
  }
  EXPECT_THAT(text, HasSubstr("up\n"));
  EXPECT_THAT(text, HasSubstr("over\n"));
  EXPECT_THAT(text, HasSubstr("exit 0\n"));
  EXPECT_EQ(session.Call("bash_output@1", {{"id", "b1"}}).text, "no new output\nexit 0\n");
}

TEST(BackgroundTest, InputIsAnsweredAndItsEndIsSeen) {
  ToolSession session;
  session.Call("bash@2", {{"command", "while read line; do echo \"<$line>\"; done; echo end"},
                          {"run_in_background", true}});
  const ToolResult closed =
      session.Call("bash_input@1", {{"id", "b1"}, {"text", "hello\n"}, {"close", true}, {"wait", 20'000}});
  EXPECT_EQ(closed.text, "<hello>\nend\nexit 0\n");
  EXPECT_THAT(session.Call("bash_input@1", {{"id", "b1"}, {"text", "x"}}).text,
              StartsWith("not written: b1 has ended"));
}

TEST(BackgroundTest, TerminalTakesControlC) {
  ToolSession session;
  session.Call("bash@2",
               {{"command", "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"},
                {"run_in_background", true},
                {"tty", true}});
  std::string text;
  while (text.find("ready") == std::string::npos) {
    text += session.Call("bash_output@1", {{"id", "b1"}, {"wait", 20}}).text;
  }
  EXPECT_TRUE(session.jobs().Resize("b1", {.rows = 50, .columns = 132}).ok());
  EXPECT_THAT(session.Call("bash_input@1", {{"id", "b1"}, {"text", "\x03"}, {"wait", 20'000}}).text,
              HasSubstr("caught\nexit 7\n"));
  EXPECT_FALSE(session.jobs().Resize("b1", {}).ok());
}

TEST(BackgroundTest, KillEndsItAndAllThatItStarted) {
  ToolSession session;
  session.Call("bash@2", {{"command", "setsid sleep 1000 & echo on; wait"}, {"run_in_background", true}});
  while (session.Call("bash_output@1", {{"id", "b1"}, {"wait", 20}}).text.find("on") == std::string::npos) {
  }
  EXPECT_EQ(session.Call("bash_kill@1", {{"id", "b1"}}).text, "no new output\nkilled\n");
  EXPECT_EQ(session.Call("bash_kill@1", {{"id", "b1"}}).text, "no new output\nkilled\n");
  EXPECT_EQ(session.jobs().running(), 0u);
}

TEST(BackgroundTest, UnknownIdsNameTheKnown) {
  ToolSession session;
  EXPECT_EQ(session.Call("bash_output@1", {{"id", "b1"}}).text,
            "there is no b1; nothing is in the background\n");
  session.Call("bash@2", {{"command", "true"}, {"run_in_background", true}});
  for (const char* id : {"b2", "b01", "1", "", "b", "b99999999999999999999"}) {
    EXPECT_EQ(session.Call("bash_kill@1", {{"id", id}}).text,
              "there is no " + std::string(id) + "; in the background: b1\n");
  }
}

TEST(BackgroundTest, NumberIsBounded) {
  ToolSession session({.background = {.running_max = 2, .ended_max = 1}});
  for (int i = 0; i < 2; ++i) {
    session.Call("bash@2", {{"command", "sleep 1000"}, {"run_in_background", true}});
  }
  EXPECT_EQ(session.Call("bash@2", {{"command", "sleep 1"}, {"run_in_background", true}}).text,
            "not started: 2 commands run in the background already: b1, b2\n");
  session.Call("bash_kill@1", {{"id", "b1"}});
  session.Call("bash_kill@1", {{"id", "b2"}});
  // The end that is longest ago is forgotten.
  EXPECT_THAT(session.Call("bash_output@1", {{"id", "b1"}}).text, StartsWith("there is no b1"));
  EXPECT_EQ(session.Call("bash@2", {{"command", "true"}, {"run_in_background", true}}).text,
            "b3 runs in the background\n");
}

TEST(BackgroundTest, TimeToLiveEndsIt) {
  ToolSession session({.background = {.ttl_ms = 200}});
  session.Call("bash@2", {{"command", "sleep 1000"}, {"run_in_background", true}});
  EXPECT_EQ(session.Call("bash_output@1", {{"id", "b1"}, {"wait", 60'000}}).text,
            "no new output\nended: it went beyond the limit on wall time, 200 ms\n");
}

TEST(BackgroundTest, RingIsBoundedAndSaysWhatItDropped) {
  ToolSession session({.background = {.ring_bytes = 1000}});
  session.Call("bash@2", {{"command", "seq 1 10000; echo last"}, {"run_in_background", true}});
  // All of it is written before it ends.
  std::promise<void> ended;
  session.jobs().WhenEnded("b1", [&] { ended.set_value(); });
  ended.get_future().wait();
  const std::string text = session.Call("bash_output@1", {{"id", "b1"}}).text;
  EXPECT_THAT(text, StartsWith("[... 47899 bytes before this were dropped]\n"));
  EXPECT_THAT(text, HasSubstr("10000\nlast\nexit 0\n"));
}

TEST(BackgroundTest, LongOutputIsHandedOutInPieces) {
  ToolSession session;
  session.Call("bash@2", {{"command", "seq 1 10000"}, {"run_in_background", true}});
  std::promise<void> ended;
  session.jobs().WhenEnded("b1", [&] { ended.set_value(); });
  ended.get_future().wait();
  const std::string first = session.Call("bash_output@1", {{"id", "b1"}}).text;
  EXPECT_THAT(first, HasSubstr("[more of it waits: ask again]\n"));
  EXPECT_THAT(session.Call("bash_output@1", {{"id", "b1"}}).text, HasSubstr("9999\n10000\nexit 0\n"));
}

TEST(BackgroundTest, FilterKeepsLinesThatHoldTheText) {
  ToolSession session;
  session.Call("bash@2", {{"command", "seq 1 30"}, {"run_in_background", true}});
  EXPECT_EQ(session.Call("bash_output@1", {{"id", "b1"}, {"filter", "2"}, {"wait", 20'000}}).text,
            "2\n12\n20\n21\n22\n23\n24\n25\n26\n27\n28\n29\nexit 0\n");
}

TEST(BackgroundTest, WhatRanBeforeARestartIsLostAndSaidSo) {
  std::vector<BackgroundInfo> before;
  {
    ToolSession session;
    session.Call("bash@2", {{"command", "sleep 1000"}, {"run_in_background", true}});
    before = session.jobs().List();
  }
  ASSERT_EQ(before, (std::vector<BackgroundInfo>{
                        {.id = "b1", .command = "sleep 1000", .state = BackgroundInfo::State::kRunning}}));
  ToolSession session;
  ASSERT_TRUE(session.jobs().Restore(before).ok());
  EXPECT_EQ(session.Call("bash_output@1", {{"id", "b1"}}).text,
            "no new output\nb1 is lost: it ended when the session was interrupted\n");
  EXPECT_THAT(session.Call("bash_input@1", {{"id", "b1"}, {"text", "x"}}).text, StartsWith("not written"));
  EXPECT_EQ(session.Call("bash@2", {{"command", "true"}, {"run_in_background", true}}).text,
            "b2 runs in the background\n");
}

TEST(BackgroundTest, RestoreRefusesWhatIsNoList) {
  using Infos = std::vector<BackgroundInfo>;
  EXPECT_FALSE(BackgroundJobs().Restore(Infos{{.id = "x1"}}).ok());
  EXPECT_FALSE(BackgroundJobs().Restore(Infos{{.id = "b2"}, {.id = "b1"}}).ok());
  EXPECT_TRUE(BackgroundJobs().Restore(Infos{}).ok());
}

TEST(BackgroundTest, EndsWithItsSession) {
  ToolSession session;
  session.Call("bash@2", {{"command", "sleep 1000"}, {"run_in_background", true}});
  std::promise<void> ended;
  session.jobs().WhenEnded("b1", [&] { ended.set_value(); });
  session.Close();
  ended.get_future().wait();
  EXPECT_EQ(session.jobs().running(), 0u);
}

TEST(BackgroundTest, CancelledWaitLeavesTheOutputForTheNextLook) {
  ToolSession session;
  session.Call("bash@2", {{"command", "echo hello; sleep 1000"}, {"run_in_background", true}});
  std::promise<ToolResult> ended;
  auto running = session.Begin("bash_output@1", {{"id", "b1"}, {"wait", 60'000}},
                               [&](ToolResult result) { ended.set_value(std::move(result)); });
  session.OnControl([&] { running->Cancel(); });
  EXPECT_EQ(ended.get_future().get().status, ToolStatus::kCancelled);
  EXPECT_TRUE(running->Harmless());
  std::string text;
  while (text.find("hello") == std::string::npos) {
    text += session.Call("bash_output@1", {{"id", "b1"}, {"wait", 20}}).text;
  }
}

}  // namespace
}  // namespace holdfast::tools
