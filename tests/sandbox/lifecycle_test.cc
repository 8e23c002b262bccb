// From start to end: background jobs and terminals, errors of commands and of the sandbox, and what is left
// when everybody has gone.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/process.h"
#include "gmock/gmock.h"
#include "sandbox/broker/descriptor.h"
#include "sandbox/sandbox.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::StartsWith;

class LifecycleTest : public SandboxTest {
 protected:
  std::unique_ptr<Job> Start(const Command& command, RunOptions options = {}) {
    auto job = OpenSession().Start(command, std::move(options));
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? *std::move(job) : nullptr;
  }
  static Command WithTerminal(std::vector<std::string> argv) {
    Command command;
    command.argv = std::move(argv);
    command.terminal = TerminalSize{.rows = 30, .columns = 100};
    return command;
  }
  // Waits until the job has printed `text`.
  static ::testing::AssertionResult Prints(Job& job, std::string_view text) {
    std::string all;
    const bool seen = Eventually(10'000, [&] {
      all = job.Poll(0, 1 << 20).text;
      return all.find(text) != std::string::npos;
    });
    return seen ? ::testing::AssertionSuccess() : ::testing::AssertionFailure() << "printed only: " << all;
  }
};
INSTANTIATE_SANDBOX_TEST(LifecycleTest);

// --- background jobs --------------------------------------------------------------------------------

TEST_P(LifecycleTest, BackgroundJobIsPolledWrittenToAndSurvivesOtherCommands) {  // 56
  const auto job = Start({.argv = {"bash", "-c", "while read line; do echo got $line; done; echo end"},
                          .keep_input_open = true});
  ASSERT_TRUE(job->Write("one\n").ok());
  EXPECT_TRUE(Prints(*job, "got one"));
  EXPECT_TRUE(Shell("true").ok());
  const OutputPart first = job->Poll(0, 1024);
  EXPECT_EQ(first.text, "got one\n");
  ASSERT_TRUE(job->Write("two\n").ok());
  EXPECT_TRUE(Prints(*job, "got two"));
  EXPECT_EQ(job->Poll(first.next, 1024).text, "got two\n");
  EXPECT_FALSE(job->Result().has_value());
  ASSERT_TRUE(job->CloseInput().ok());
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->output.head, "got one\ngot two\nend\n");
  EXPECT_EQ(job->Write("x").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_P(LifecycleTest, KillEndsTheJobAndAllItStarted) {  // 56
  const auto job =
      Start(ShellCommand("for i in 1 2; do /run/guest ignore-term " + scratch() + " & done; wait"));
  EXPECT_TRUE(Prints(*job, "ignoring"));
  job->Kill();
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->ending, Ending::kKilled);
  EXPECT_THAT(ProcessesWith(scratch()), IsEmpty());
}

TEST_P(LifecycleTest, TimeToLiveEndsABackgroundJob) {  // 56: the wall limit
  RunOptions options;
  options.limits = DefaultPolicy().limits;
  options.limits->wall_ms = 200;
  const auto job = Start({.argv = {kGuest, "sleep"}}, std::move(options));
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->limit, LimitKind::kWallTime);
}

TEST_P(LifecycleTest, JobEndsWithItsSession) {  // 56
  const auto job = Start({.argv = {kGuest, "sleep", scratch()}});
  CloseSession();
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->ending, Ending::kSessionEnd);
  EXPECT_THAT(ProcessesWith(scratch()), IsEmpty());
}

TEST_P(LifecycleTest, DroppedHandleKillsTheJob) {
  Start({.argv = {kGuest, "sleep", scratch()}}).reset();
  EXPECT_TRUE(Eventually(5000, [&] { return ProcessesWith(scratch()).empty(); }));
}

TEST_P(LifecycleTest, EndIsToldOnce) {
  int told = 0;
  Outcome seen;
  RunOptions options;
  options.on_end = [&](const Outcome& outcome) {
    ++told;
    seen = outcome;
  };
  auto job = Start(ShellCommand("echo x; exit 4"), std::move(options));
  ASSERT_TRUE(Eventually(10'000, [&] { return job->Result().has_value(); }));
  job.reset();
  StopSandbox();  // joins the thread that tells
  EXPECT_EQ(told, 1);
  EXPECT_EQ(seen.exit_code, 4);
}

TEST_P(LifecycleTest, LargeInputArrivesWhole) {
  std::string input;
  for (int i = 0; i < 300'000; ++i) input += static_cast<char>('a' + i % 26);
  Command command;
  command.argv = {kGuest, "echo"};
  command.input = input;
  command.error_stream = ErrorStream::kSeparate;
  RunOptions options;
  options.output.head_bytes = 1 << 20;
  const Outcome outcome = Run(command, std::move(options));
  EXPECT_EQ(outcome.output.head, input);
  EXPECT_EQ(outcome.error_output.head, "bytes=300000\n");
}

TEST_P(LifecycleTest, InputNobodyReadsIsNoTrouble) {
  Command command = ShellCommand("exec 0<&-; echo done");
  command.input = std::string(500'000, 'x');
  EXPECT_EQ(Run(command).output.head, "done\n");
}

// --- terminals --------------------------------------------------------------------------------------

TEST_P(LifecycleTest, TerminalHasItsSizeAndIsResized) {  // 57
  const auto job = Start(WithTerminal(
      {"bash", "-c", "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done"}));
  EXPECT_TRUE(Prints(*job, "30 100\nready"));
  ASSERT_TRUE(job->Resize({.rows = 40, .columns = 120}).ok());
  EXPECT_TRUE(Prints(*job, "40 120"));
}

TEST_P(LifecycleTest, ControlCInterrupts) {  // 57
  const auto job = Start(WithTerminal(
      {"bash", "-c", "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.02; done"}));
  EXPECT_TRUE(Prints(*job, "ready"));
  ASSERT_TRUE(job->Write("\x03").ok());
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->exit_code, 5) << Describe(*outcome);
}

TEST_P(LifecycleTest, ControlDEndsTheInput) {  // 57
  const auto job = Start(WithTerminal({"cat"}));
  ASSERT_TRUE(job->Write("hello\n").ok());
  EXPECT_TRUE(Prints(*job, "hello\nhello\n"));
  ASSERT_TRUE(job->CloseInput().ok());
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(Describe(*outcome), "exit 0");
}

TEST_P(LifecycleTest, InteractiveShellHasJobControl) {  // 57
  const auto job = Start(WithTerminal({"bash", "--norc", "-i"}));
  EXPECT_TRUE(Prints(*job, "$ "));
  ASSERT_TRUE(job->Write("/run/guest sleep " + scratch() + "\n").ok());
  ASSERT_TRUE(Eventually(10'000, [&] { return ProcessesWith(scratch()).size() == 1; }));
  // Ctrl-Z; again should bash not have handed the terminal over when it came.
  const auto stopped = [&] { return job->Poll(0, 1 << 20).text.find("Stopped") != std::string::npos; };
  for (int i = 0; i < 20 && !stopped(); ++i) {
    ASSERT_TRUE(job->Write("\x1a").ok());
    Eventually(500, stopped);
  }
  EXPECT_TRUE(stopped()) << job->Poll(0, 1 << 20).text;
  EXPECT_THAT(job->Poll(0, 1 << 20).text, Not(HasSubstr("no job control")));
  job->Kill();  // an interactive shell ignores SIGTERM, and its child is stopped
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->ending, Ending::kKilled);
  EXPECT_THAT(ProcessesWith(scratch()), IsEmpty());
}

TEST_P(LifecycleTest, PasteOfAMegabyteArrives) {  // 57
  Command command = WithTerminal({"bash", "-c", "stty raw -echo; echo ready; head -c 1000000 | cksum"});
  const auto job = Start(command);
  EXPECT_TRUE(Prints(*job, "ready"));
  ASSERT_TRUE(job->Write(std::string(1'000'000, 'p')).ok());
  const auto outcome = job->Wait(20'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_THAT(outcome->output.head, HasSubstr(" 1000000"));
}

// --- errors -----------------------------------------------------------------------------------------

TEST_P(LifecycleTest, CommandsOwnFaultsAreData) {  // 62
  WriteFileText(tree() + "/plain", "x");
  const auto error = [&](std::vector<std::string> argv, const char* directory = "") {
    Command command;
    command.argv = std::move(argv);
    command.directory = directory;
    const Outcome outcome = Run(command);
    EXPECT_EQ(outcome.ending, Ending::kNotStarted);
    return outcome.start_error;
  };
  EXPECT_EQ(error({"no-such-program"}), "no-such-program: command not found");
  EXPECT_EQ(error({"/no/such/program"}), "/no/such/program: no such file, or its interpreter is missing");
  EXPECT_EQ(error({"./plain"}), "./plain: not executable");
  EXPECT_EQ(error({"true"}, "/no/where"), "/no/where: No such file or directory");
  EXPECT_EQ(error({"/usr"}), "/usr: not executable");
  EXPECT_EQ(error({"echo", std::string(200'000, 'x')}), "echo: arguments and environment are too long");
  EXPECT_TRUE(Shell("true").ok());
}

TEST_P(LifecycleTest, LongArgumentsArrive) {
  Command command;
  command.argv = {"bash", "-c", "echo $#"};
  for (int i = 0; i < 3000; ++i) command.argv.push_back(std::string(100, 'a'));
  EXPECT_EQ(Run(command).output.head, "2999\n");
}

TEST_P(LifecycleTest, MissingSourceOfAMountIsRefused) {  // 60
  Policy policy = DefaultPolicy();
  policy.mounts.push_back({.host = scratch() + "/no-such", .inside = "/extra"});
  auto session = StartSandbox().Open(policy);
  EXPECT_EQ(session.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::Message(session.status()), HasSubstr("/no-such"));
  EXPECT_THAT(base::Message(session.status()), EndsWith("Nothing was run."));
  policy.mounts.back().required = false;
  EXPECT_TRUE(StartSandbox().Open(policy).ok());
}

TEST_P(LifecycleTest, MissingLayerIsRefusedWithItsRemedy) {  // 60
  Policy policy = DefaultPolicy();
  policy.use_landlock = false;
  policy.required_layers |= Bit(Layer::kLandlock);
  auto session = StartSandbox().Open(policy);
  EXPECT_EQ(session.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::Message(session.status()), HasSubstr("landlock (needs a kernel with Landlock"));
  policy = DefaultPolicy();
  policy.use_cgroups = false;
  policy.required_layers |= Bit(Layer::kMemoryCgroup);
  EXPECT_THAT(base::Message(StartSandbox().Open(policy).status()), HasSubstr("memory control group (needs"));
}

TEST_P(LifecycleTest, MissingWorkspaceIsRefused) {
  Policy policy = DefaultPolicy();
  policy.workspace.host = scratch() + "/no-such-tree";
  EXPECT_THAT(base::Message(StartSandbox().Open(policy).status()), HasSubstr("/no-such-tree"));
}

TEST_P(LifecycleTest, HelperThatIsMissingNotExecutableOrWrongIsRefused) {  // 60
  const auto message = [](const std::string& path) {
    auto sandbox = Sandbox::Start({.broker_path = path});
    EXPECT_EQ(sandbox.status().code(), absl::StatusCode::kFailedPrecondition) << path;
    return base::Message(sandbox.status());
  };
  EXPECT_THAT(message(scratch() + "/no-such"), HasSubstr("No such file"));
  WriteFileText(scratch() + "/plain", "x");
  EXPECT_THAT(message(scratch() + "/plain"), HasSubstr("Permission denied"));
  EXPECT_THAT(message("/bin/true"), HasSubstr("ended at once"));
}

TEST_P(LifecycleTest, BrokerThatDiesTakesAllWithItAndIsTold) {
  const auto job = Start({.argv = {kGuest, "ignore-term", scratch()}});
  ASSERT_TRUE(Prints(*job, "ignoring"));
  kill(StartSandbox().broker_pid(), SIGKILL);
  const auto outcome = job->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->ending, Ending::kSessionEnd);
  EXPECT_TRUE(Eventually(2000, [&] { return ProcessesWith(scratch()).empty(); }));
  const auto next = OpenSession().Run(ShellCommand("touch canary"));
  EXPECT_EQ(next.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(Exists(Written("canary")));
}

TEST_P(LifecycleTest, TooManyJobsAreRefused) {
  StartSandbox({.jobs_max = 2});
  const auto first = Start({.argv = {kGuest, "sleep"}});
  const auto second = Start({.argv = {kGuest, "sleep"}});
  EXPECT_EQ(OpenSession().Start(ShellCommand("true")).status().code(), absl::StatusCode::kResourceExhausted);
}

// --- secrets ----------------------------------------------------------------------------------------

class MemorySink final : public OutputSink {
 public:
  base::Status Append(std::span<const std::byte> bytes) override {
    text += std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return fails ? base::ResourceExhausted("sink is full") : absl::OkStatus();
  }
  base::StatusOr<std::string> Finish(const base::Sha256Digest& sha256, uint64_t bytes) override {
    digest = sha256;
    return "spill-" + std::to_string(bytes);
  }
  std::string text;
  base::Sha256Digest digest = {};
  bool fails = false;
};

TEST_P(LifecycleTest, SecretsAreReplacedInOutputAndSpill) {  // 58, 59
  StartSandbox({.secrets = {{"api-key", "hunter2hunter2"}}});
  MemorySink sink;
  RunOptions options;
  options.spill = &sink;
  // Split in the middle, with time between the halves.
  const Outcome outcome = Shell("printf 'a hunter2'; sleep 0.1; printf 'hunter2 b'", std::move(options));
  EXPECT_EQ(outcome.output.head, "a \u00abredacted:api-key\u00bb b");
  EXPECT_EQ(sink.text, outcome.output.head);
  EXPECT_EQ(outcome.output.spill_name, "spill-" + std::to_string(sink.text.size()));
  EXPECT_EQ(sink.digest, base::Sha256Of(std::as_bytes(std::span(sink.text))));
}

TEST_P(LifecycleTest, SpillThatFailsDoesNotFailTheCommand) {
  MemorySink sink;
  sink.fails = true;
  RunOptions options;
  options.spill = &sink;
  const Outcome outcome = Shell("echo x", std::move(options));
  EXPECT_EQ(outcome.output.head, "x\n");
  EXPECT_THAT(outcome.output.spill_error, HasSubstr("sink is full"));
  EXPECT_EQ(outcome.output.spill_name, "");
}

TEST_P(LifecycleTest, EscapesAndBadTextAreMadeSafe) {  // E30
  EXPECT_EQ(Shell(R"(printf '\e[31mred\e[0m \e]52;c;AAAA\a \xff\xfe ok\r\n\0')").output.head,
            "red  \uFFFD\uFFFD ok\n\uFFFD");
}

// --- what is left -----------------------------------------------------------------------------------

std::vector<std::string> GroupDirectories() {
  std::vector<std::string> found;
  for (const char* root : {"/sys/fs/cgroup"}) {
    std::vector<std::string> stack = {root};
    while (!stack.empty()) {
      const std::string directory = stack.back();
      stack.pop_back();
      DIR* handle = opendir(directory.c_str());
      if (handle == nullptr) continue;
      while (const dirent* entry = readdir(handle)) {
        const std::string name = entry->d_name;
        if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
        if (name.starts_with("holdfast-")) found.push_back(directory + "/" + name);
        stack.push_back(directory + "/" + name);
      }
      closedir(handle);
    }
  }
  return found;
}

std::vector<std::string> GroupsOf(int pid) {
  std::vector<std::string> groups;
  for (const std::string& path : GroupDirectories()) {
    if (path.find("/holdfast-" + std::to_string(pid) + "-") != std::string::npos) groups.push_back(path);
  }
  return groups;
}

size_t OpenDescriptors(int pid) {
  size_t count = 0;
  DIR* handle = opendir(("/proc/" + std::to_string(pid) + "/fd").c_str());
  if (handle == nullptr) return 0;
  while (readdir(handle) != nullptr) ++count;
  closedir(handle);
  return count;
}

uint64_t ResidentPages(int pid) {
  unsigned long size = 0, resident = 0;
  const std::string text = ReadFileText("/proc/" + std::to_string(pid) + "/statm");
  return std::sscanf(text.c_str(), "%lu %lu", &size, &resident) == 2 ? resident : 0;
}

std::vector<int> ChildrenOf(int pid) {
  const std::string text =
      ReadFileText("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  std::vector<int> pids;
  const char* at = text.c_str();
  char* end = nullptr;
  for (long child = std::strtol(at, &end, 10); end != at; child = std::strtol(at, &end, 10)) {
    pids.push_back(static_cast<int>(child));
    at = end;
  }
  return pids;
}

TEST_P(LifecycleTest, KillingTheRuntimeLeavesNothing) {  // 35, 53, 60
  std::string self(4096, '\0');
  self.resize(static_cast<size_t>(readlink("/proc/self/exe", self.data(), self.size())));
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  Descriptor read_end(pipe_fds[0]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], 1);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  std::string flag = "--victim", directory = scratch(), mode = overlay() ? "overlay" : "direct";
  char* argv[] = {self.data(), flag.data(), directory.data(), mode.data(), nullptr};
  pid_t victim = -1;
  ASSERT_EQ(posix_spawn(&victim, self.c_str(), &actions, nullptr, argv, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_fds[1]);
  char line[64] = {};
  ASSERT_GT(read(read_end.get(), line, sizeof(line) - 1), 0);
  int broker = 0;
  ASSERT_EQ(std::sscanf(line, "ready %d", &broker), 1) << line;
  EXPECT_GE(ProcessesWith(scratch()).size(), 8u);
  EXPECT_TRUE(Eventually(2000, [&] { return ChildrenOf(broker).size() == 1; })) << "the session alone";

  kill(victim, SIGKILL);
  waitpid(victim, nullptr, 0);
  EXPECT_TRUE(Eventually(2000, [&] { return ProcessesWith(scratch()).empty(); }));
  EXPECT_TRUE(Eventually(2000, [&] { return kill(broker, 0) != 0; })) << "the broker goes too";
  EXPECT_THAT(GroupsOf(broker), IsEmpty());
}

std::string NamesUnder(const std::string& directory) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           directory, std::filesystem::directory_options::skip_permission_denied, error)) {
    names.insert(entry.path());
  }
  std::string text;
  for (const std::string& name : names) text += name + "\n";
  return text;
}

// Many jobs, one after the other and side by side: nothing is left of them, and nothing grows.
TEST_P(LifecycleTest, ThousandsOfJobsLeaveNothing) {  // 55
  const char* wanted = std::getenv("HOLDFAST_SANDBOX_JOBS");
  const int jobs = wanted != nullptr ? std::atoi(wanted) : 300;
  OpenSession();
  const int broker = StartSandbox().broker_pid();
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Shell("echo warm > /tmp/w; rm /tmp/w").ok());
  const size_t own = OpenDescriptors(getpid()), brokers = OpenDescriptors(broker);
  ASSERT_TRUE(Eventually(2000, [&] { return ChildrenOf(broker).size() == 1; })) << "session-init alone";
  const int session = ChildrenOf(broker)[0];
  const uint64_t own_pages = ResidentPages(getpid()), broker_pages = ResidentPages(broker),
                 session_pages = ResidentPages(session);
  const std::string mounts = ReadFileText("/proc/self/mountinfo"), left = NamesUnder(scratch());
  for (int i = 0; i < jobs; ++i) {
    const Outcome outcome = Shell("echo x > /tmp/x; (sleep 60 &) ; rm /tmp/x; exit 3");
    ASSERT_EQ(outcome.exit_code, 3) << Describe(outcome) << " at " << i;
  }
  EXPECT_EQ(OpenDescriptors(getpid()), own);
  EXPECT_TRUE(Eventually(2000, [&] { return OpenDescriptors(broker) <= brokers; }));
#if !defined(__SANITIZE_ADDRESS__)  // which keeps what is freed
  EXPECT_LT(ResidentPages(getpid()), own_pages + 512);
  EXPECT_LT(ResidentPages(broker), broker_pages + 128);
  EXPECT_LT(ResidentPages(session), session_pages + 128);
#else
  (void)own_pages, (void)broker_pages, (void)session_pages;
#endif
  EXPECT_EQ(ReadFileText("/proc/self/mountinfo"), mounts);
  EXPECT_EQ(NamesUnder(scratch()), left) << "a temporary file";
  EXPECT_THAT(ChildrenOf(broker), ElementsAre(session));
  EXPECT_TRUE(Eventually(1000, [&] { return ChildrenOf(session).empty(); }))
      << "no job is left, nor a zombie";
  EXPECT_TRUE(Eventually(2000, [&] { return GroupsOf(broker).empty(); }));
  EXPECT_EQ(Shell("ls -A /tmp").output.head, "");
  StopSandbox();
  EXPECT_NE(kill(broker, 0), 0);
}

TEST_P(LifecycleTest, FiftyJobsAtOnce) {  // 55
  Policy policy = DefaultPolicy();
  policy.limits.processes = 2000;
  OpenSession(policy);
  std::vector<std::unique_ptr<Job>> jobs;
  for (int i = 0; i < 50; ++i) {
    jobs.push_back(Start(ShellCommand("read go; echo " + std::to_string(i))));
    ASSERT_NE(jobs.back(), nullptr);
  }
  for (int i = 0; i < 50; ++i) {
    const auto outcome = jobs[static_cast<size_t>(i)]->Wait(20'000);
    ASSERT_TRUE(outcome.has_value());
    EXPECT_EQ(outcome->output.head, std::to_string(i) + "\n");
  }
}

TEST_P(LifecycleTest, SessionsComeAndGo) {
  OpenSession();
  const int broker = StartSandbox().broker_pid();
  EXPECT_TRUE(Eventually(2000, [&] { return ChildrenOf(broker).size() == 1; }));
  const size_t own = OpenDescriptors(getpid()), brokers = OpenDescriptors(broker);
  for (int i = 0; i < 20; ++i) {
    CloseSession();
    ASSERT_TRUE(Shell("true").ok());
  }
  EXPECT_TRUE(Eventually(2000, [&] { return ChildrenOf(broker).size() == 1; }));
  EXPECT_EQ(OpenDescriptors(getpid()), own);
  EXPECT_TRUE(Eventually(2000, [&] { return OpenDescriptors(broker) <= brokers; }));
}

}  // namespace
}  // namespace holdfast::sandbox
