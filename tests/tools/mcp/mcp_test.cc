// Whole servers, as processes in the sandbox: tests/tools/mcp_servers/server.py. What the state machine does
// at which moment is tested in simulated time (server_test.cc); here times have generous upper bounds only.
#include "tools/mcp.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "sandbox/sandbox.h"

namespace holdfast::tools {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

using Json = nlohmann::json;

constexpr int64_t kMs = base::kNsPerMs;
constexpr int64_t kSlackMs = 1'000;  // what the issue allows beyond a deadline

class McpTest : public testing::Test {
 protected:
  McpTest() {
    scratch_ = testing::TempDir() + "hf-mcp-XXXXXX";
    EXPECT_NE(mkdtemp(scratch_.data()), nullptr);
    config_.name = "t";
    config_.mounts = {{.host = HOLDFAST_SOURCE_DIR "/tests/tools/mcp_servers", .inside = "/mcp"}};
    config_.limits.memory_bytes = 512 * sandbox::kMiB;
    config_.limits.kill_grace_ms = 200;
    config_.timeouts.probe_ms = 1'000;
    config_.timeouts.shutdown_ms = 500;
    config_.bounds.backoff_ms_min = 10;
  }

  ~McpTest() override {
    Sync([&] { server_.reset(); });
    executor_.Drain();
    executor_.Shutdown();
    sandbox_.reset();
    std::error_code error;
    std::filesystem::remove_all(scratch_, error);
  }

  // Runs on the control lane, and waits.
  void Sync(std::function<void()> task) {
    // Shared with the task, which is still in set_value when the waiting thread goes on.
    auto done = std::make_shared<std::promise<void>>();
    executor_.PostResult(base::Lane::kControl, [&task, done] {
      task();
      done->set_value();
    });
    done->get_future().wait();
  }

  base::MonotonicTime InMs(int64_t ms) { return {base::RealClock().MonotonicNow().ns + ms * kMs}; }

  void Make(const std::string& mode, std::string_view catalogue = "") {
    MakeProgram({"python3", "/mcp/server.py", mode}, catalogue);
  }
  // With an argument that no other test has, to find its processes by.
  void MakeMarked(const std::string& mode) {
    marker_ = scratch_ + "/marker-" + mode;
    MakeProgram({"python3", "/mcp/server.py", mode, marker_}, "");
  }
  void MakeProgram(std::vector<std::string> argv, std::string_view catalogue) {
    config_.argv = std::move(argv);
    if (sandbox_ == nullptr) {
      auto sandbox = sandbox::Sandbox::Start({.broker_path = HOLDFAST_SANDBOX_BROKER});
      ASSERT_TRUE(sandbox.ok()) << sandbox.status();
      sandbox_ = *std::move(sandbox);
    }
    auto server = McpServer::Make(config_,
                                  {.executor = &executor_,
                                   .clock = &base::RealClock(),
                                   .sandbox = sandbox_.get(),
                                   .directory = scratch_,
                                   .observer =
                                       [this](const McpNote& note) {
                                         const std::lock_guard lock(mu_);
                                         notes_.push_back(note.text);
                                       }},
                                  catalogue);
    ASSERT_TRUE(server.ok()) << server.status();
    Sync([&] { server_ = *std::move(server); });
  }

  base::Status Open(int64_t deadline_ms = 60'000) {
    // Shared, as in Sync.
    auto done = std::make_shared<std::promise<base::Status>>();
    executor_.PostResult(base::Lane::kControl, [&, done] {
      server_->Open(InMs(deadline_ms), [done](base::Status status) { done->set_value(std::move(status)); });
    });
    base::Status status = done->get_future().get();
    Sync([&] { tools_ = server_->MakeTools(); });
    return status;
  }

  void MakeAndOpen(const std::string& mode) {
    Make(mode);
    const base::Status status = Open();
    ASSERT_TRUE(status.ok()) << status;
  }

  // A call in flight. The result may come at any time until it is destroyed.
  struct Flight {
    std::unique_ptr<RunningCall> call;
    std::promise<ToolResult> promise;
    std::future<ToolResult> result = promise.get_future();
  };
  std::unique_ptr<Flight> Start(const std::string& tool, const Json& arguments, int64_t deadline_ms) {
    auto flight = std::make_unique<Flight>();
    Sync([&] {
      const ToolContext context = {
          .executor = &executor_, .clock = &base::RealClock(), .deadline = InMs(deadline_ms)};
      for (const auto& each : tools_) {
        if (each->spec().name != "t__" + tool) continue;
        flight->call = each->Start(context, arguments, [f = flight.get()](ToolResult result) {
          f->promise.set_value(std::move(result));
        });
        return;
      }
      flight->promise.set_value(Failed("the test knows no tool " + tool));
    });
    return flight;
  }
  ToolResult Finish(Flight& flight) {
    ToolResult result = flight.result.get();
    Sync([&] { flight.call.reset(); });
    return result;
  }
  // Also checks that the call ends by its deadline, and the allowance.
  ToolResult Call(const std::string& tool, const Json& arguments = Json::object(),
                  int64_t deadline_ms = 60'000) {
    const int64_t from = base::RealClock().MonotonicNow().ns;
    const auto flight = Start(tool, arguments, deadline_ms);
    ToolResult result = Finish(*flight);
    EXPECT_LE((base::RealClock().MonotonicNow().ns - from) / kMs, deadline_ms + kSlackMs);
    return result;
  }
  std::string Echo(const std::string& text) { return Call("echo", {{"text", text}}).text; }

  McpCounters Counters() {
    McpCounters counters;
    Sync([&] { counters = server_->counters(); });
    return counters;
  }

  std::vector<std::string> Notes() {
    Sync([] {});
    const std::lock_guard lock(mu_);
    return notes_;
  }

  // Python programs of this test on the machine.
  size_t Processes() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream file(entry.path() / "cmdline", std::ios::binary);
      std::string text(size_t{64} << 10, '\0');
      file.read(text.data(), static_cast<std::streamsize>(text.size()));  // nothing, of one that ends now
      if (text.find(marker_) != std::string::npos) ++count;
    }
    return count;
  }
  void ExpectNoProcesses() {
    const base::MonotonicTime end = InMs(10'000);
    while (Processes() > 0 && base::RealClock().MonotonicNow() < end) {
      std::promise<void>().get_future().wait_for(std::chrono::milliseconds(20));
    }
    EXPECT_EQ(Processes(), 0u);
  }

  std::string scratch_;
  std::string marker_;
  McpServerConfig config_;
  base::ThreadExecutor executor_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<McpServer> server_;
  std::vector<std::unique_ptr<Tool>> tools_;
  std::mutex mu_;
  std::vector<std::string> notes_;
};

TEST_F(McpTest, ServersOfAllErasAreCalled) {
  for (const char* mode : {"modern", "legacy", "dual", "paginated", "dies_at_probe"}) {
    SCOPED_TRACE(mode);
    MakeAndOpen(mode);
    ASSERT_THAT(tools_, SizeIs(3));
    EXPECT_EQ(tools_[0]->spec().name, "t__append");
    EXPECT_EQ(Echo("h\xC3\xA9llo\nthere"), "h\xC3\xA9llo\nthere");
    EXPECT_EQ(Call("nothing").text, "the test knows no tool nothing");
    Sync([&] { server_.reset(); });
  }
}

TEST_F(McpTest, SlowServersAreTakenForWhatTheyAre) {
  for (const char* mode : {"slow_start", "slow_legacy_start"}) {
    SCOPED_TRACE(mode);
    MakeAndOpen(mode);
    EXPECT_EQ(Echo("x"), "x");
    EXPECT_EQ(Counters().starts, 1u);
    Sync([&] { server_.reset(); });
  }
}

TEST_F(McpTest, CatalogueIsTheSameEachTimeAndNeedsNoProcess) {
  MakeAndOpen("modern");
  const std::string catalogue = server_->catalogue();
  Make("paginated", catalogue);
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(Counters().starts, 0u);
  EXPECT_EQ(server_->catalogue(), catalogue);
  EXPECT_EQ(Echo("x"), "x");
  EXPECT_EQ(Counters().starts, 1u);
  EXPECT_THAT(Notes(), SizeIs(0));
}

TEST_F(McpTest, ServerSeesItsOwnPlaceAndNothingElse) {
  config_.environment = {{"API_TOKEN", "sesame-open"}, {"COLOUR", "green"}};
  MakeAndOpen("modern");
  const std::string world = Call("world").text;
  EXPECT_THAT(world, HasSubstr("uid 1000\n"));
  EXPECT_THAT(world, HasSubstr("env API_TOKEN\nenv COLOUR\nenv HOME\n"));
  EXPECT_THAT(world, HasSubstr("home []\n"));
  EXPECT_THAT(world, HasSubstr("routes 0\n"));
  EXPECT_THAT(world, HasSubstr("cwd /workspace"));
  EXPECT_EQ(Echo("it is sesame-open"), "it is \xC2\xABredacted:API_TOKEN\xC2\xBB");
}

TEST_F(McpTest, FilesOfAServerOutliveItsProcess) {
  MakeAndOpen("modern");
  EXPECT_EQ(Call("append").text, "1 lines");
  EXPECT_EQ(Call("append").text, "2 lines");
  MakeAndOpen("modern");
  EXPECT_EQ(Call("append").text, "3 lines");
}

TEST_F(McpTest, SilenceAtTheStartEndsByTheDeadline) {
  for (const char* mode : {"silent", "silent_listing"}) {
    SCOPED_TRACE(mode);
    Make(mode);
    const int64_t from = base::RealClock().MonotonicNow().ns;
    EXPECT_EQ(Open(1'500).code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_LE((base::RealClock().MonotonicNow().ns - from) / kMs, 1'500 + kSlackMs);
  }
}

TEST_F(McpTest, SilenceDuringACallEndsByTheDeadlineAndIsUnknown) {
  MakeAndOpen("silent_call");
  EXPECT_EQ(Call("append", Json::object(), 500).status, ToolStatus::kUnknown);
  EXPECT_EQ(Counters().deadlines, 1u);
}

TEST_F(McpTest, TrustedReaderThatIsSilentOnlyTimesOut) {
  config_.trust_annotations = true;
  MakeAndOpen("silent_call");
  EXPECT_EQ(Call("echo", {{"text", "x"}}, 500).status, ToolStatus::kTimeout);
  EXPECT_EQ(Call("append", Json::object(), 500).status, ToolStatus::kUnknown);
}

TEST_F(McpTest, ServerThatDiesLeavesItsCallUnknownAndIsStartedAgain) {
  for (const char* mode : {"dies_in_call", "dies_in_a_line"}) {
    SCOPED_TRACE(mode);
    MakeAndOpen(mode);
    const ToolResult died = Call("append");
    EXPECT_EQ(died.status, ToolStatus::kUnknown);
    EXPECT_THAT(died.text, HasSubstr("whether the call had an effect is not known"));
    EXPECT_EQ(Call("append").status, ToolStatus::kUnknown);
    EXPECT_EQ(Counters().starts, 2u);
  }
  EXPECT_THAT(Notes(), Contains(AllOf(HasSubstr("killed by signal 9"), HasSubstr("about to die"))));
}

TEST_F(McpTest, FloodOfStandardErrorHoldsNothingUp) {
  MakeAndOpen("floods_errors");
  EXPECT_EQ(Echo("x"), "x");
  EXPECT_EQ(Counters().failures, 0u);
}

TEST_F(McpTest, FloodsOfOutputEndTheServer) {
  config_.bounds.message_bytes_max = 1 << 20;
  config_.bounds.waiting_bytes_max = 4 << 20;
  config_.bounds.unasked_bytes_max = 4 << 20;
  for (const char* mode : {"floods_output", "floods_garbage", "floods_newlines", "huge_line"}) {
    SCOPED_TRACE(mode);
    MakeAndOpen(mode);
    const ToolResult result = Call("append");
    EXPECT_EQ(result.status, ToolStatus::kUnknown) << result.text;
    EXPECT_THAT(result.text, Not(HasSubstr("in time"))) << "it ended at its deadline only";
    EXPECT_EQ(Counters().failures, 1u);
  }
}

TEST_F(McpTest, AnswersThatComeTooLateOrTwiceOrToOthersAreDropped) {
  MakeAndOpen("answers_after_cancel");
  EXPECT_EQ(Call("append", Json::object(), 300).status, ToolStatus::kUnknown);
  EXPECT_EQ(Call("append").text, "prompt");
  EXPECT_EQ(Counters().late_answers, 1u);

  MakeAndOpen("answers_twice");
  EXPECT_EQ(Echo("one"), "one");
  EXPECT_EQ(Echo("two"), "two");
  EXPECT_GE(Counters().late_answers, 1u);

  MakeAndOpen("wrong_ids");
  EXPECT_EQ(Call("append", Json::object(), 500).status, ToolStatus::kUnknown);
  EXPECT_EQ(Counters().foreign_answers, 4u);
}

TEST_F(McpTest, CancelledCallEndsAtOnce) {
  MakeAndOpen("answers_after_cancel");
  const auto flight = Start("append", Json::object(), 60'000);
  Sync([&] { flight->call->Cancel(); });
  EXPECT_EQ(flight->result.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(Finish(*flight).status, ToolStatus::kUnknown);
  EXPECT_EQ(Call("append").text, "prompt");
}

TEST_F(McpTest, GarbageBetweenMessagesIsCountedAndSkipped) {
  MakeAndOpen("garbles");
  EXPECT_EQ(Echo("x"), "x");
  EXPECT_EQ(Counters().malformed_lines, 7u);
}

TEST_F(McpTest, ListingInCirclesFailsTheStart) {
  Make("circular_pages");
  EXPECT_THAT(base::Message(Open()), HasSubstr("in a circle"));
}

TEST_F(McpTest, ServerOfANewerEraIsNotTakenForAnOldOne) {
  Make("newer_only");
  EXPECT_THAT(base::Message(Open()), HasSubstr("speaks no version that is spoken here"));
}

TEST_F(McpTest, ProgramThatIsNotThereIsToldAtOnce) {
  MakeProgram({"no-such-program"}, "");
  EXPECT_THAT(base::Message(Open()), HasSubstr("no-such-program: command not found"));
}

TEST_F(McpTest, ServerThatDoesNotReadEndsByTheDeadline) {
  MakeAndOpen("does_not_read");
  const std::string much(1 << 20, 'x');
  std::vector<std::unique_ptr<Flight>> flights;
  for (int i = 0; i < 8; ++i) flights.push_back(Start("echo", {{"text", much}}, 1'000));
  size_t refused = 0;
  for (const auto& flight : flights) {
    const ToolResult result = Finish(*flight);
    if (result.status == ToolStatus::kUnavailable) ++refused;
    EXPECT_NE(result.status, ToolStatus::kOk);
  }
  EXPECT_GE(refused, 1u) << "more than 4 MiB wait for it";
}

TEST_F(McpTest, ShutdownIsBoundedAndLeavesNoProcess) {
  for (const char* mode : {"modern", "ignores_the_end"}) {
    SCOPED_TRACE(mode);
    MakeMarked(mode);
    ASSERT_TRUE(Open().ok());
    EXPECT_EQ(Echo("x"), "x");
    EXPECT_GE(Processes(), 1u);
    // Shared, as in Sync.
    auto done = std::make_shared<std::promise<void>>();
    Sync([&] { server_->Shutdown([done] { done->set_value(); }); });
    EXPECT_EQ(done->get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
    ExpectNoProcesses();
    EXPECT_EQ(Call("append").status, ToolStatus::kUnavailable);
  }
}

TEST_F(McpTest, DestroyedServerLeavesNoProcess) {
  MakeMarked("ignores_the_end");
  ASSERT_TRUE(Open().ok());
  EXPECT_GE(Processes(), 1u);
  Sync([&] { server_.reset(); });
  ExpectNoProcesses();
}

}  // namespace
}  // namespace holdfast::tools
