#include "tools/mcp/server.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"
#include "tests/tools/mcp/scripted_server.h"
#include "tools/mcp/mcp_tool.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kMs = base::kNsPerMs;

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    config_.name = "s";
    config_.argv = {"x"};
    world_.BeModern({PlainTool("a"), PlainTool("b")});
  }

  ServerCore& Core() {
    if (core_ == nullptr) {
      core_ = ServerCore::Make(
          config_,
          ServerCore::World{.executor = world_.executor,
                            .clock = world_.clock,
                            .transport = world_.Factory(),
                            .observer = [this](const McpNote& note) { notes_.push_back(note); }},
          pinned_);
    }
    return *core_;
  }

  int64_t NowMs() { return world_.clock.MonotonicNow().ns / kMs; }

  base::MonotonicTime InMs(int64_t ms) { return {world_.clock.MonotonicNow().ns + ms * kMs}; }

  struct Opened {
    std::optional<base::Status> status;
    int64_t ms = 0;
  };
  Opened Open(int64_t deadline_ms = 60'000) {
    Opened opened;
    const int64_t from = NowMs();
    Core().Open(InMs(deadline_ms), [&](base::Status status) {
      EXPECT_FALSE(opened.status.has_value()) << "told twice";
      opened = {std::move(status), NowMs() - from};
    });
    world_.executor.RunUntil([&] { return opened.status.has_value(); });
    return opened;
  }

  struct Called {
    std::optional<ToolResult> result;
    int64_t ms = 0;
    int count = 0;
    ServerCore::CallNumber number = 0;
  };
  std::unique_ptr<Called> Start(const std::string& tool, int64_t deadline_ms = 10'000,
                                bool harmless = false) {
    auto called = std::make_unique<Called>();
    const int64_t from = NowMs();
    called->number = Core().Call(tool, Json::object(), harmless, InMs(deadline_ms),
                                 [this, from, call = called.get()](ToolResult result) {
                                   ++call->count;
                                   call->ms = NowMs() - from;
                                   call->result = std::move(result);
                                 });
    EXPECT_FALSE(called->result.has_value()) << "told from within Call";
    return called;
  }
  Called Call(const std::string& tool, int64_t deadline_ms = 10'000, bool harmless = false) {
    const auto called = Start(tool, deadline_ms, harmless);
    world_.executor.RunUntil([&] { return called->result.has_value(); });
    world_.executor.RunUntilIdle();
    EXPECT_EQ(called->count, 1);
    return *called;
  }

  std::vector<std::string> NoteTexts(McpNote::Kind kind) const {
    std::vector<std::string> texts;
    for (const McpNote& note : notes_) {
      if (note.kind == kind) texts.push_back(note.text);
    }
    return texts;
  }

  ScriptedWorld world_;
  McpServerConfig config_;
  std::optional<Catalogue> pinned_;
  std::vector<McpNote> notes_;
  ServerRef core_;
};

// --- opening ----------------------------------------------------------------------------------------

TEST_F(ServerTest, ToolsAreListedAndCalledInTheModernEra) {
  EXPECT_TRUE(Open().status->ok());
  ASSERT_TRUE(Core().catalogue().has_value());
  EXPECT_THAT(Core().catalogue()->tools, SizeIs(2));
  const Called called = Call("a");
  EXPECT_EQ(called.result->status, ToolStatus::kOk);
  EXPECT_EQ(called.result->text, "called a");
  EXPECT_THAT(world_.Sent("initialize"), IsEmpty());
  for (const char* method : {"server/discover", "tools/list", "tools/call"}) {
    const auto sent = world_.Sent(method);
    ASSERT_THAT(sent, SizeIs(1)) << method;
    const Json& meta = sent[0]["params"]["_meta"];
    EXPECT_EQ(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28") << method;
    EXPECT_TRUE(meta["io.modelcontextprotocol/clientCapabilities"].is_object()) << method;
    EXPECT_EQ(meta["io.modelcontextprotocol/clientInfo"]["name"], "holdfast") << method;
  }
  EXPECT_EQ(Core().counters().answered, 1u);
}

TEST_F(ServerTest, ToolsAreListedAndCalledInTheOldEra) {
  world_.BeLegacy({PlainTool("a")});
  EXPECT_TRUE(Open().status->ok());
  EXPECT_EQ(Call("a").result->text, "called a");
  ASSERT_THAT(world_.Sent("initialize"), SizeIs(1));
  EXPECT_EQ(world_.Sent("initialize")[0]["params"]["protocolVersion"], "2025-11-25");
  EXPECT_THAT(world_.Sent("notifications/initialized"), SizeIs(1));
  EXPECT_FALSE(world_.Sent("tools/call")[0]["params"].contains("_meta"));
}

TEST_F(ServerTest, IdsAreNeverUsedTwice) {
  world_.BeLegacy({PlainTool("a")});
  Open();
  Call("a");
  Call("a");
  std::vector<int64_t> ids;
  for (const Json& message : world_.sent) {
    if (message.contains("id")) ids.push_back(message["id"].get<int64_t>());
  }
  EXPECT_THAT(ids, ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(ServerTest, NothingIsStartedBeforeItIsNeeded) {
  Core();
  world_.executor.RunFor(3'600'000 * kMs);
  EXPECT_EQ(world_.runs, 0u);
}

TEST_F(ServerTest, CatalogueOfTheSessionNeedsNoServerUntilTheFirstCall) {
  pinned_ = Catalogue{{{.name = "a", .function = "{}"}}};
  EXPECT_TRUE(Open().status->ok());
  EXPECT_EQ(world_.runs, 0u);
  EXPECT_EQ(Call("a").result->text, "called a");
  EXPECT_EQ(world_.runs, 1u);
  // The server has another schema line for `a`, and a tool more: the session keeps its own.
  EXPECT_THAT(NoteTexts(McpNote::Kind::kToolsDiffer), ElementsAre(HasSubstr("new: b; changed: a")));
  EXPECT_THAT(Core().catalogue()->tools, SizeIs(1));
}

TEST_F(ServerTest, ToolThatIsGoneIsNotCalled) {
  pinned_ = Catalogue{{{.name = "gone", .function = "{}"}}};
  const Called called = Call("gone");
  EXPECT_EQ(called.result->status, ToolStatus::kUnavailable);
  EXPECT_THAT(called.result->text, HasSubstr("does not offer this tool any more"));
  EXPECT_THAT(world_.Sent("tools/call"), IsEmpty());
}

TEST_F(ServerTest, OpeningEndsByItsDeadlineWhateverTheServerDoes) {
  const std::function<void()> silences[] = {
      [&] { world_.starts = false; },
      [&] { world_.handlers.clear(); },
      [&] { world_.handlers.erase("tools/list"); },
      [&] {
        world_.BeLegacy({});
        world_.handlers.erase("initialize");
      },
      [&] { world_.start_ms = 100'000; },
  };
  for (size_t i = 0; i < std::size(silences); ++i) {
    SCOPED_TRACE(i);
    core_ = nullptr;
    world_.starts = true;
    world_.start_ms = 0;
    world_.BeModern({PlainTool("a")});
    silences[i]();
    const Opened opened = Open(5'000);
    EXPECT_EQ(opened.status->code(), absl::StatusCode::kDeadlineExceeded) << *opened.status;
    EXPECT_EQ(opened.ms, 5'000);
    // Its own deadlines end the start later, with nobody waiting.
    world_.executor.RunFor(100'000 * kMs);
    EXPECT_EQ(world_.alive, 0u);
    EXPECT_EQ(Core().counters().failures, 1u);
  }
}

TEST_F(ServerTest, StartThatFailsIsToldAtOnce) {
  world_.start_status = base::FailedPrecondition("not started: npx: command not found");
  const Opened opened = Open();
  EXPECT_EQ(opened.status->code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(base::Message(*opened.status),
              HasSubstr("MCP server `s` could not be started: not started: npx: command not found"));
  EXPECT_EQ(opened.ms, 0);
}

TEST_F(ServerTest, SilentServerFailsItsStartInTime) {
  world_.handlers.clear();
  const Opened opened = Open(120'000);
  EXPECT_EQ(opened.status->code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(base::Message(*opened.status), HasSubstr("answered neither server/discover nor initialize"));
  EXPECT_EQ(opened.ms, config_.timeouts.startup_ms);
}

TEST_F(ServerTest, SilentListingFailsTheStartInTime) {
  world_.handlers.erase("tools/list");
  const Opened opened = Open(120'000);
  EXPECT_THAT(base::Message(*opened.status), HasSubstr("did not list its tools in time"));
  EXPECT_EQ(opened.ms, config_.timeouts.list_ms);
}

TEST_F(ServerTest, ServerWithoutToolsHasNone) {
  world_.handlers["server/discover"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, {{"supportedVersions", {"2026-07-28"}}, {"capabilities", Json::object()}});
  };
  EXPECT_TRUE(Open().status->ok());
  EXPECT_THAT(Core().catalogue()->tools, IsEmpty());
  EXPECT_THAT(NoteTexts(McpNote::Kind::kToolLeftOut), ElementsAre(HasSubstr("offers no tools")));
}

TEST_F(ServerTest, OldServerThatFallsOverTheProbeIsStartedAgainWithoutIt) {
  world_.BeLegacy({PlainTool("a")});
  world_.handlers["server/discover"] = [](ScriptedServer& server, const Json&) {
    server.End("ended: exit 1");
  };
  EXPECT_TRUE(Open().status->ok());
  EXPECT_EQ(world_.runs, 2u);
  EXPECT_EQ(Core().counters().failures, 0u);
  EXPECT_EQ(Call("a").result->text, "called a");
}

TEST_F(ServerTest, ServerThatEndsAtEveryStartFailsOnceMore) {
  for (const char* method : {"server/discover", "initialize"}) {
    world_.handlers[method] = [](ScriptedServer& server, const Json&) { server.End("ended: exit 3"); };
  }
  const Opened opened = Open();
  EXPECT_THAT(base::Message(*opened.status), HasSubstr("ended: exit 3 during the handshake"));
  EXPECT_EQ(world_.runs, 2u);
  EXPECT_EQ(Core().counters().failures, 1u);
}

// --- calls ------------------------------------------------------------------------------------------

TEST_F(ServerTest, CallThatIsNeverAnsweredEndsAtItsDeadlineAndIsUnknown) {
  world_.handlers.erase("tools/call");
  const Called called = Call("a", 3'000);
  EXPECT_EQ(called.ms, 3'000);
  EXPECT_EQ(called.result->status, ToolStatus::kUnknown);
  EXPECT_THAT(called.result->text, HasSubstr("did not answer in time"));
  const auto cancelled = world_.Sent("notifications/cancelled");
  ASSERT_THAT(cancelled, SizeIs(1));
  EXPECT_EQ(cancelled[0]["params"]["requestId"], world_.Sent("tools/call")[0]["id"]);
}

TEST_F(ServerTest, HarmlessCallThatIsNeverAnsweredTimesOut) {
  world_.handlers.erase("tools/call");
  const Called called = Call("a", 3'000, /*harmless=*/true);
  EXPECT_EQ(called.ms, 3'000);
  EXPECT_EQ(called.result->status, ToolStatus::kTimeout);
}

TEST_F(ServerTest, CallDuringASilentStartEndsAtItsDeadlineAndWasNotMade) {
  world_.handlers.clear();
  const Called called = Call("a", 3'000);
  EXPECT_EQ(called.ms, 3'000);
  EXPECT_EQ(called.result->status, ToolStatus::kTimeout);
  EXPECT_THAT(called.result->text, HasSubstr("the call was not made"));
}

TEST_F(ServerTest, ProgressExtendsNothing) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json&) {
    for (int64_t ms = 0; ms < 60'000; ms += 100) {
      server.Write(R"({"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}})", ms);
    }
  };
  const Called called = Call("a", 3'000);
  EXPECT_EQ(called.ms, 3'000);
  EXPECT_EQ(called.result->status, ToolStatus::kUnknown);
}

TEST_F(ServerTest, LateAndSecondAndForeignAnswersAreDropped) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    if (request["params"]["name"] == "a") return server.Answer(request, TextResult("late"), 5'000);
    server.Answer(request, TextResult("first"));
    server.Answer(request, TextResult("second"));
    Json foreign = request;
    foreign["id"] = 999;
    server.Answer(foreign, TextResult("foreign"));
    foreign["id"] = std::to_string(request["id"].get<int64_t>());
    server.Answer(foreign, TextResult("an id as text"));
  };
  EXPECT_EQ(Call("a", 1'000).result->status, ToolStatus::kUnknown);
  EXPECT_EQ(Call("b").result->text, "first");
  world_.executor.RunFor(10'000 * kMs);
  EXPECT_EQ(Core().counters().late_answers, 2u);
  EXPECT_EQ(Core().counters().foreign_answers, 2u);
  EXPECT_EQ(world_.runs, 1u);
}

TEST_F(ServerTest, AnswerUnderAWrongIdIsNoAnswer) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    Json wrong = request;
    wrong["id"] = request["id"].get<int64_t>() + 1;
    server.Answer(wrong, TextResult("x"));
  };
  const Called called = Call("a", 2'000);
  EXPECT_EQ(called.ms, 2'000);
  EXPECT_EQ(called.result->status, ToolStatus::kUnknown);
}

TEST_F(ServerTest, CallsRunAtOnceAndAnswersFindTheirOwn) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    const bool is_a = request["params"]["name"] == "a";
    server.Answer(request, TextResult(is_a ? "slow" : "quick"), is_a ? 500 : 100);
  };
  Open();
  const auto a = Start("a");
  const auto b = Start("b");
  world_.executor.RunFor(1'000 * kMs);
  EXPECT_EQ(a->result->text, "slow");
  EXPECT_EQ(b->result->text, "quick");
  EXPECT_EQ(b->ms, 100);
}

TEST_F(ServerTest, CallsBeyondTheBoundAreRefused) {
  config_.bounds.calls_max = 2;
  world_.handlers.erase("tools/call");
  const auto first = Start("a");
  const auto second = Start("a");
  const auto third = Start("a");
  world_.executor.RunUntilIdle();
  EXPECT_FALSE(first->result.has_value());
  EXPECT_FALSE(second->result.has_value());
  ASSERT_TRUE(third->result.has_value());
  EXPECT_EQ(third->result->status, ToolStatus::kUnavailable);
}

TEST_F(ServerTest, CallThatIsTooLongIsRefused) {
  config_.bounds.request_bytes_max = 2'048;
  Open();
  std::optional<ToolResult> result;
  Core().Call("a", {{"text", std::string(4'000, 'x')}}, false, InMs(1'000),
              [&](ToolResult r) { result = std::move(r); });
  world_.executor.RunUntilIdle();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->status, ToolStatus::kFailed);
  EXPECT_THAT(result->text, HasSubstr("too long"));
}

TEST_F(ServerTest, ServerThatDoesNotReadGetsNoCall) {
  Open();
  world_.send_status = base::ResourceExhausted("4 MiB wait");
  const Called called = Call("a");
  EXPECT_EQ(called.result->status, ToolStatus::kUnavailable);
  EXPECT_THAT(called.result->text, HasSubstr("does not read"));
}

TEST_F(ServerTest, ErrorIsAFailureThatSaysSo) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Refuse(request, -32602, "Unknown tool\x1b[31m");
  };
  const Called called = Call("a");
  EXPECT_EQ(called.result->status, ToolStatus::kFailed);
  EXPECT_EQ(called.result->text, "the MCP server `s` refused the call: error -32602: Unknown tool");
}

TEST_F(ServerTest, InputIsNotGivenAndTheCallSaysSo) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, {{"resultType", "input_required"},
                            {"requestState", "x"},
                            {"inputRequests", {{"k", {{"method", "elicitation/create"}}}}}});
  };
  const Called called = Call("a");
  EXPECT_EQ(called.result->status, ToolStatus::kFailed);
  EXPECT_THAT(called.result->text,
              HasSubstr("asks for input that it cannot be given here (elicitation/create)"));
  EXPECT_THAT(world_.Sent("tools/call"), SizeIs(1));
}

TEST_F(ServerTest, StateAloneIsGivenBackUnderANewIdAFewTimes) {
  int asked = 0;
  world_.handlers["tools/call"] = [&](ScriptedServer& server, const Json& request) {
    if (++asked == 3) return server.Answer(request, TextResult("done"));
    server.Answer(request, {{"resultType", "input_required"}, {"requestState", "s" + std::to_string(asked)}});
  };
  EXPECT_EQ(Call("a").result->text, "done");
  const auto sent = world_.Sent("tools/call");
  ASSERT_THAT(sent, SizeIs(3));
  EXPECT_FALSE(sent[0]["params"].contains("requestState"));
  EXPECT_EQ(sent[1]["params"]["requestState"], "s1");
  EXPECT_EQ(sent[2]["params"]["requestState"], "s2");
  EXPECT_NE(sent[1]["id"], sent[2]["id"]);
  // Without end it ends.
  asked = -1'000;
  const Called endless = Call("a");
  EXPECT_EQ(endless.result->status, ToolStatus::kFailed);
  EXPECT_THAT(world_.Sent("tools/call"), SizeIs(3 + 9));
}

TEST_F(ServerTest, SecretsOfTheEnvironmentAreNotShown) {
  config_.environment = {{"API_TOKEN", "sesame-open"}, {"PLAIN", "visible-value"}};
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, TextResult("sesame-open and visible-value"));
  };
  EXPECT_EQ(Call("a").result->text, "\xC2\xABredacted:API_TOKEN\xC2\xBB and visible-value");
}

// --- cancelling -------------------------------------------------------------------------------------

TEST_F(ServerTest, CancelledCallEndsAtOnceAndTheServerIsTold) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, TextResult("after cancel"), 2'000);
  };
  Open();
  const auto called = Start("a");
  world_.executor.RunFor(1'000 * kMs);
  EXPECT_FALSE(Core().Cancel(called->number));
  EXPECT_FALSE(called->result.has_value()) << "told from within Cancel";
  world_.executor.RunUntilIdle();
  ASSERT_TRUE(called->result.has_value());
  EXPECT_EQ(called->result->status, ToolStatus::kUnknown);
  EXPECT_THAT(world_.Sent("notifications/cancelled"), SizeIs(1));
  world_.executor.RunFor(10'000 * kMs);
  EXPECT_EQ(called->count, 1);
  EXPECT_EQ(Core().counters().late_answers, 1u);
  EXPECT_EQ(world_.runs, 1u) << "a cancel is no reason to end the server";
}

TEST_F(ServerTest, CallCancelledBeforeItWasSentWasNotMade) {
  world_.start_ms = 1'000;
  const auto called = Start("a");
  EXPECT_TRUE(Core().Cancel(called->number));
  world_.executor.RunFor(20'000 * kMs);
  EXPECT_EQ(called->result->status, ToolStatus::kCancelled);
  EXPECT_EQ(called->count, 1);
  EXPECT_THAT(world_.Sent("tools/call"), IsEmpty());
}

TEST_F(ServerTest, AbandonedCallGivesNoResult) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, TextResult("x"), 1'000);
  };
  Open();
  const auto called = Start("a");
  world_.executor.RunUntilIdle();
  Core().Abandon(called->number);
  world_.executor.RunFor(20'000 * kMs);
  EXPECT_EQ(called->count, 0);
  EXPECT_THAT(world_.Sent("notifications/cancelled"), SizeIs(1));
}

// --- ends and restarts ------------------------------------------------------------------------------

TEST_F(ServerTest, ServerThatDiesInACallLeavesItUnknownAndComesBack) {
  world_.handlers["tools/call"] = [this](ScriptedServer& server, const Json& request) {
    if (server.run() > 1) return server.Answer(request, TextResult("again"));
    world_.error_tail = "Traceback: boom";
    server.End("ended: killed by signal 11", 100);
  };
  const Called died = Call("a");
  EXPECT_EQ(died.result->status, ToolStatus::kUnknown);
  EXPECT_EQ(died.ms, 100);
  EXPECT_EQ(
      died.result->text,
      "the MCP server `s` ended: killed by signal 11 before it answered the call; whether the call had an "
      "effect is not known");
  EXPECT_THAT(NoteTexts(McpNote::Kind::kServerFailed),
              ElementsAre(AllOf(HasSubstr("killed by signal 11"), HasSubstr("Traceback: boom"))));
  const Called next = Call("a");
  EXPECT_EQ(next.result->text, "again");
  EXPECT_EQ(next.ms, config_.bounds.backoff_ms_min) << "the back-off is waited for";
  EXPECT_EQ(world_.runs, 2u);
  EXPECT_EQ(world_.alive, 1u);
}

TEST_F(ServerTest, HarmlessCallOfAServerThatDiesHasFailed) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json&) { server.End("ended: exit 1"); };
  const Called called = Call("a", 10'000, /*harmless=*/true);
  EXPECT_EQ(called.result->status, ToolStatus::kFailed);
  EXPECT_THAT(called.result->text, HasSubstr("may be repeated"));
}

TEST_F(ServerTest, ServerThatEndsBetweenCallsIsStartedByTheNext) {
  Open();
  Call("a");
  world_.handlers["notifications/cancelled"] = nullptr;
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, TextResult("x"));
    if (server.run() == 1) server.End("ended: exit 0", 50);
  };
  Call("a");
  world_.executor.RunFor(60'000 * kMs);
  EXPECT_EQ(world_.runs, 1u) << "nobody asked for it";
  EXPECT_EQ(world_.alive, 0u);
  EXPECT_EQ(Call("a").result->text, "x");
  EXPECT_EQ(world_.runs, 2u);
}

TEST_F(ServerTest, RestartsWaitTwiceAsLongEachTimeAndEndWithGivingUp) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json&) { server.End("ended: exit 1"); };
  std::vector<int64_t> waits;
  for (int i = 0; i < config_.bounds.restarts_max; ++i) {
    const Called called = Call("a");
    EXPECT_EQ(called.result->status, ToolStatus::kUnknown);
    waits.push_back(called.ms);
  }
  EXPECT_THAT(waits, ElementsAre(0, 500, 1'000, 2'000, 4'000));
  EXPECT_THAT(NoteTexts(McpNote::Kind::kServerGivenUp), SizeIs(1));
  const Called refused = Call("a");
  EXPECT_EQ(refused.result->status, ToolStatus::kUnavailable);
  EXPECT_EQ(refused.ms, 0);
  EXPECT_EQ(world_.runs, 5u);
  EXPECT_FALSE(Open().status->code() == absl::StatusCode::kUnavailable) << "its tools are known all the same";
  Core().Revive();
  world_.BeModern({PlainTool("a"), PlainTool("b")});
  EXPECT_EQ(Call("a").result->text, "called a");
}

TEST_F(ServerTest, AnsweredCallEndsTheRowOfFailures) {
  int calls = 0;
  world_.handlers["tools/call"] = [&](ScriptedServer& server, const Json& request) {
    if (++calls % 2 == 0) return server.End("ended: exit 1");
    server.Answer(request, TextResult("ok"));
  };
  for (int i = 0; i < 40; ++i) Call("a");
  EXPECT_EQ(Core().counters().failures, 20u);
  EXPECT_THAT(NoteTexts(McpNote::Kind::kServerGivenUp), IsEmpty());
}

TEST_F(ServerTest, CallThatCannotOutliveTheBackOffIsToldAtOnce) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json&) { server.End("ended: exit 1"); };
  Call("a");
  const Called called = Call("a", 200);
  EXPECT_EQ(called.ms, 0);
  EXPECT_EQ(called.result->status, ToolStatus::kUnavailable);
}

TEST_F(ServerTest, ServerThatAnswersNothingIsEndedAfterAFewCalls) {
  world_.handlers.erase("tools/call");
  for (int i = 0; i < config_.bounds.unanswered_calls_max; ++i) {
    EXPECT_EQ(world_.runs, i == 0 ? 0u : 1u);
    EXPECT_EQ(Call("a", 1'000).result->status, ToolStatus::kUnknown);
  }
  world_.executor.RunUntilIdle();
  EXPECT_EQ(world_.alive, 0u);
  EXPECT_THAT(NoteTexts(McpNote::Kind::kServerFailed), ElementsAre(HasSubstr("answered none of 3 calls")));
}

TEST_F(ServerTest, BrokenTransportEndsTheServerAndItsCalls) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json&) {
    server.Break("wrote a line of more than 16777216 bytes");
  };
  const Called called = Call("a");
  EXPECT_EQ(called.ms, 0);
  EXPECT_EQ(called.result->status, ToolStatus::kUnknown);
  EXPECT_EQ(world_.alive, 0u);
}

TEST_F(ServerTest, LinesThatAreNoMessagesAreCountedAndAtLastEndTheServer) {
  config_.bounds.malformed_lines_max = 10;
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    const bool many = request["params"]["name"] == "b";
    for (int i = 0; i < (many ? 11 : 10); ++i) server.Write("Listening on stdio...");
    server.Answer(request, TextResult("x"));
  };
  EXPECT_EQ(Call("a").result->text, "x");
  EXPECT_EQ(Call("a").result->text, "x") << "an answer starts the count anew";
  const Called called = Call("b");
  EXPECT_EQ(called.result->status, ToolStatus::kUnknown);
  EXPECT_THAT(called.result->text, HasSubstr("more than 10 lines that are no messages"));
  EXPECT_EQ(Core().counters().malformed_lines, 31u);
}

TEST_F(ServerTest, FloodOfNotificationsEndsTheServer) {
  config_.bounds.unasked_messages_max = 1'000;
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json&) {
    for (int i = 0; i < 1'001; ++i) server.Write(R"({"jsonrpc":"2.0","method":"notifications/message"})");
  };
  const Called called = Call("a");
  EXPECT_EQ(called.result->status, ToolStatus::kUnknown);
  EXPECT_THAT(called.result->text, HasSubstr("floods its output"));
}

TEST_F(ServerTest, ServerOfTheOldEraMayPingAndAskForNothingElse) {
  world_.BeLegacy({PlainTool("a")});
  std::vector<Json> answers;
  world_.handlers[""] = [&](ScriptedServer&, const Json& message) { answers.push_back(message); };
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Write(R"({"jsonrpc":"2.0","id":"p","method":"ping"})");
    server.Write(R"({"jsonrpc":"2.0","id":1,"method":"roots/list"})");
    server.Write(R"({"jsonrpc":"2.0","id":2,"method":"sampling/createMessage","params":{}})");
    server.Write(R"({"jsonrpc":"2.0","id":3,"method":"elicitation/create","params":{}})");
    server.Answer(request, TextResult("x"), 10);
  };
  EXPECT_EQ(Call("a").result->text, "x");
  ASSERT_THAT(answers, SizeIs(4));
  EXPECT_EQ(answers[0]["id"], "p");
  EXPECT_EQ(answers[0]["result"], Json::object());
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(answers[i]["error"]["code"], -32601);
  EXPECT_EQ(Core().counters().server_requests, 4u);
}

TEST_F(ServerTest, ServerOfTheModernEraGetsNoAnswers) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Write(R"({"jsonrpc":"2.0","id":"p","method":"ping"})");
    server.Answer(request, TextResult("x"), 10);
  };
  EXPECT_EQ(Call("a").result->text, "x");
  for (const Json& message : world_.sent) EXPECT_TRUE(message.contains("method")) << message;
}

TEST_F(ServerTest, ChangedListIsANoteOnceAndNothingElse) {
  world_.BeLegacy({PlainTool("a")});
  Open();
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    for (int i = 0; i < 3; ++i) {
      server.Write(R"({"jsonrpc":"2.0","method":"notifications/tools/list_changed"})");
    }
    server.Answer(request, TextResult("x"));
  };
  Call("a");
  EXPECT_THAT(NoteTexts(McpNote::Kind::kToolsDiffer), SizeIs(1));
  EXPECT_THAT(world_.Sent("tools/list"), SizeIs(1));
}

TEST_F(ServerTest, EraIsAskedOnceAndAgainWhenItWasWrong) {
  world_.BeLegacy({PlainTool("a")});
  Open();
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json&) { server.End("ended: exit 1"); };
  Call("a");
  Call("a");
  EXPECT_THAT(world_.Sent("server/discover"), SizeIs(1)) << "known from the first run";
  EXPECT_THAT(world_.Sent("initialize"), SizeIs(2));
  world_.BeModern({PlainTool("a")});  // it was replaced by another version
  EXPECT_EQ(Call("a").result->status, ToolStatus::kUnavailable);
  EXPECT_EQ(Call("a").result->text, "called a");
}

// --- stopping ---------------------------------------------------------------------------------------

TEST_F(ServerTest, ShutdownClosesTheInputFirst) {
  Open();
  bool done = false;
  Core().Shutdown([&] { done = true; });
  world_.executor.RunUntilIdle();
  EXPECT_TRUE(done);
  EXPECT_THAT(world_.events, ElementsAre("close", "gone"));
  EXPECT_EQ(Call("a").result->status, ToolStatus::kUnavailable);
  EXPECT_EQ(world_.runs, 1u);
}

TEST_F(ServerTest, ServerThatIgnoresItsInputIsKilled) {
  world_.ends_at_close = false;
  Open();
  int64_t done_ms = -1;
  const int64_t from = NowMs();
  Core().Shutdown([&] { done_ms = NowMs() - from; });
  world_.executor.RunFor(60'000 * kMs);
  EXPECT_EQ(done_ms, config_.timeouts.shutdown_ms);
  EXPECT_THAT(world_.events, ElementsAre("close", "kill", "gone"));
}

TEST_F(ServerTest, ServerThatCannotBeKilledIsLetGoOf) {
  world_.ends_at_close = world_.ends_at_kill = false;
  Open();
  int64_t done_ms = -1;
  const int64_t from = NowMs();
  Core().Shutdown([&] { done_ms = NowMs() - from; });
  world_.executor.RunFor(60'000 * kMs);
  EXPECT_EQ(done_ms,
            config_.timeouts.shutdown_ms + static_cast<int64_t>(config_.limits.kill_grace_ms) + 1'000);
  EXPECT_EQ(world_.alive, 0u);
}

TEST_F(ServerTest, ShutdownEndsWhatRunsAndWhatWaits) {
  world_.handlers.erase("tools/call");
  Open();
  const auto called = Start("a");
  world_.executor.RunUntilIdle();
  int done = 0;
  Core().Shutdown([&] { ++done; });
  Core().Shutdown([&] { ++done; });
  world_.executor.RunUntilIdle();
  EXPECT_EQ(called->result->status, ToolStatus::kUnknown);
  EXPECT_EQ(done, 2);
  Core().Shutdown([&] { ++done; });
  world_.executor.RunUntilIdle();
  EXPECT_EQ(done, 3);
}

TEST_F(ServerTest, DestroyedServerEndsItsCallsAndLeavesNothing) {
  world_.handlers.erase("tools/call");
  Open();
  const auto sent = Start("a");
  world_.executor.RunUntilIdle();
  const auto tools = MakeTools(core_);
  core_ = nullptr;
  world_.executor.RunUntilIdle();
  EXPECT_EQ(sent->result->status, ToolStatus::kUnknown);
  EXPECT_EQ(world_.alive, 0u);
  std::optional<ToolResult> result;
  const ToolContext context = {.executor = &world_.executor, .clock = &world_.clock};
  EXPECT_EQ(tools[0]->Start(context, Json::object(), [&](ToolResult r) { result = std::move(r); }), nullptr);
  EXPECT_EQ(result->status, ToolStatus::kUnavailable);
  world_.executor.RunFor(100'000 * kMs);
}

// --- anything at all --------------------------------------------------------------------------------

// Whatever a server does, every call and every opening gets exactly one end, by its deadline, and nothing is
// left behind.
TEST_F(ServerTest, EveryCallEndsOnceByItsDeadlineWhateverTheServerDoes) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    ScriptedWorld world(seed);
    random.Percent(50) ? world.BeModern({PlainTool("a")}) : world.BeLegacy({PlainTool("a")});
    const auto good = world.handlers;
    world.ends_at_close = random.Percent(70);
    world.ends_at_kill = random.Percent(70);
    for (const auto& [method, handler] : good) {
      world.handlers[method] = [&random, h = handler](ScriptedServer& server, const Json& message) {
        switch (random.Below(12)) {
          case 0:
            return;
          case 1:
            return server.End("ended: exit 1", random.Between(0, 3'000));
          case 2:
            return server.Write("garbage");
          case 3:
            return server.Answer(message, TextResult("late"), random.Between(0, 20'000));
          case 4:
            return server.Refuse(message, -32000 - random.Between(0, 30), "no");
          case 5:
            return server.Break("broke");
          case 6:
            h(server, message);
            return h(server, message);
          default:
            return h(server, message);
        }
      };
    }
    McpServerConfig config = config_;
    config.bounds.restarts_max = 1'000;
    config.bounds.backoff_ms_max = 2'000;
    auto core = ServerCore::Make(
        config, ServerCore::World{world.executor, world.clock, world.Factory(), [](const McpNote&) {}},
        std::nullopt);
    struct Seen {
      int ends = 0;
      int64_t due_ns = 0, end_ns = 0;
    };
    std::vector<std::unique_ptr<Seen>> seen;
    const auto expect = [&](int64_t ms) {
      seen.push_back(std::make_unique<Seen>());
      seen.back()->due_ns = world.clock.MonotonicNow().ns + ms * kMs;
      return [&world, s = seen.back().get()] {
        ++s->ends;
        s->end_ns = world.clock.MonotonicNow().ns;
      };
    };
    for (int i = 0; i < 30; ++i) {
      const int64_t ms = random.Between(1, 8'000);
      const base::MonotonicTime due = {world.clock.MonotonicNow().ns + ms * kMs};
      auto told = expect(ms);
      if (random.Percent(20)) {
        core->Open(due, [told](base::Status) { told(); });
      } else {
        const auto number =
            core->Call("a", Json::object(), random.Percent(50), due, [told](ToolResult) { told(); });
        if (random.Percent(20)) {
          world.executor.RunFor(random.Between(0, 2'000) * kMs);
          core->Cancel(number);
        }
      }
      world.executor.RunFor(random.Between(0, 3'000) * kMs);
    }
    if (random.Percent(50)) core->Shutdown(expect(10'000));
    world.executor.RunFor(10'000 * kMs);
    for (const auto& each : seen) {
      EXPECT_EQ(each->ends, 1);
      EXPECT_LE(each->end_ns, each->due_ns);
    }
    core = nullptr;
    world.executor.RunFor(120'000 * kMs);
    EXPECT_EQ(world.alive, 0u);
  }
}

}  // namespace
}  // namespace holdfast::tools::mcp
