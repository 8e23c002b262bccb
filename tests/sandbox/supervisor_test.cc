// The runtime's side under many threads, for ThreadSanitizer's eyes too: who starts, looks, writes, kills,
// opens and closes at once gets its own results, and exactly once.
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "tests/sandbox/sandbox_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sandbox {
namespace {

class SupervisorTest : public SandboxTest {
 protected:
  // A command answers what it was sent, polled meanwhile.
  static void Converse(Session& session, int number) {
    Command command = ShellCommand("read line; echo got $line");
    command.keep_input_open = true;
    auto job = session.Start(command);
    ASSERT_TRUE(job.ok()) << job.status();
    ASSERT_TRUE((*job)->Write(std::to_string(number) + "\n").ok());
    std::string text;
    for (uint64_t at = 0; !(*job)->Result().has_value();) {
      const OutputPart part = (*job)->Poll(at, 64);
      text += part.text;
      at = part.next;
      std::this_thread::yield();
    }
    EXPECT_EQ((*job)->Result()->output.head, "got " + std::to_string(number) + "\n");
    EXPECT_TRUE((*job)->Result()->output.head.starts_with(text));
  }

  static void KillOne(Session& session) {
    auto job = session.Start({.argv = {kGuest, "ignore-term"}});
    ASSERT_TRUE(job.ok()) << job.status();
    (*job)->Kill();
    const auto outcome = (*job)->Wait(30'000);
    ASSERT_TRUE(outcome.has_value());
    EXPECT_EQ(outcome->ending, Ending::kKilled) << Describe(*outcome);
  }

  static void DropOne(Session& session) {
    auto job = session.Start({.argv = {kGuest, "sleep"}});
    ASSERT_TRUE(job.ok()) << job.status();
  }

  static void LookAtTheWorkspace(Session& session) {
    const auto root = session.OpenWorkspace();
    ASSERT_TRUE(root.ok()) << root.status();
    struct stat stat = {};
    EXPECT_EQ(fstat(root->get(), &stat), 0);
    EXPECT_TRUE(S_ISDIR(stat.st_mode));
  }

  // A session of the thread's own, opened and ended while the others run.
  void OpenAnother(Sandbox& sandbox, int thread) const {
    Policy policy = DefaultPolicy();
    if (overlay()) policy.workspace.layer += "-" + std::to_string(thread);
    auto session = sandbox.Open(policy);
    ASSERT_TRUE(session.ok()) << session.status();
    auto job = (*session)->Start({.argv = {kGuest, "sleep"}});
    ASSERT_TRUE(job.ok()) << job.status();
    session->reset();
    const auto outcome = (*job)->Wait(30'000);
    ASSERT_TRUE(outcome.has_value());
    EXPECT_EQ(outcome->ending, Ending::kSessionEnd);
  }
};
INSTANTIATE_SANDBOX_TEST(SupervisorTest);

TEST_P(SupervisorTest, ThreadsGetTheirOwnResults) {
  Session& session = OpenSession();
  Sandbox& sandbox = StartSandbox();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      test::SeededRandom random(static_cast<uint64_t>(thread));
      for (int i = 0; i < 12; ++i) {
        switch (random.Below(5)) {
          case 0:
            KillOne(session);
            break;
          case 1:
            DropOne(session);
            break;
          case 2:
            LookAtTheWorkspace(session);
            break;
          case 3:
            OpenAnother(sandbox, thread);
            break;
          default:
            Converse(session, thread * 1000 + i);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(SupervisorTest, BrokerThatDiesUnderLoadIsToldToEveryone) {
  Session& session = OpenSession();
  const int broker = StartSandbox().broker_pid();
  std::atomic<int> begun = 0, started = 0, told = 0, refused = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      while (true) {
        RunOptions options;
        options.on_end = [&told](const Outcome&) { ++told; };
        ++begun;
        auto job = session.Start({.argv = {kGuest, "ignore-term"}}, std::move(options));
        if (!job.ok()) {
          EXPECT_EQ(job.status().code(), absl::StatusCode::kUnavailable) << job.status();
          ++refused;
          return;
        }
        ++started;
        if (started % 2 == 0) (*job)->Kill();
        const auto outcome = (*job)->Wait(2);
        if (!outcome.has_value()) continue;
        EXPECT_TRUE(outcome->ending == Ending::kKilled || outcome->ending == Ending::kSessionEnd);
      }
    });
  }
  EXPECT_TRUE(Eventually(30'000, [&] { return started >= 20; }));
  kill(broker, SIGKILL);
  for (std::thread& thread : threads) thread.join();
  StopSandbox();  // joins the thread that tells
  EXPECT_EQ(refused, 4);
  EXPECT_EQ(begun, started + refused);
  EXPECT_EQ(told, started) << "each end once, and no failed start";
}

TEST_P(SupervisorTest, SessionMayEndWhileOthersWaitForItsJobs) {
  Session& session = OpenSession();
  std::vector<std::unique_ptr<Job>> jobs;
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) {
    auto job = session.Start({.argv = {kGuest, "sleep"}});
    ASSERT_TRUE(job.ok()) << job.status();
    jobs.push_back(*std::move(job));
    waiters.emplace_back([job = jobs.back().get()] {
      const auto outcome = job->Wait(30'000);
      ASSERT_TRUE(outcome.has_value());
      EXPECT_EQ(outcome->ending, Ending::kSessionEnd);
    });
  }
  CloseSession();
  for (std::thread& waiter : waiters) waiter.join();
}

}  // namespace
}  // namespace holdfast::sandbox
