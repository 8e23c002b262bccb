#include "server/notify_hook.h"

#include <sys/stat.h>

#include <condition_variable>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/socket_testing.h"

namespace holdfast::server {
namespace {

using sessions::SessionState;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A hook whose program writes a line about each event, and what it has to say.
class NotifyHookTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Script("echo $HOLDFAST_SESSION $HOLDFAST_STATE $HOLDFAST_REASON $HOLDFAST_SEQUENCE >> " + told_ + "\n");
  }
  void Script(const std::string& text) {
    std::ofstream(program_) << "#!/bin/sh\n" << text;
    ASSERT_EQ(chmod(program_.c_str(), 0700), 0);
  }
  void Start(int64_t run_ms_max = 30'000) {
    auto hook = NotifyHook::Start({.program = program_,
                                   .file = directory_ + "/notified",
                                   .run_ms_max = run_ms_max,
                                   .on_message = [this](const std::string& message) { Say(message); }});
    ASSERT_TRUE(hook.ok()) << hook.status();
    hook_ = *std::move(hook);
  }
  void Tell(const std::string& session, uint64_t seq, sessions::EventBody body) {
    hook_->OnEvent(session, {.seq = seq, .body = std::move(body)});
  }
  std::vector<std::string> Told() {
    std::vector<std::string> lines;
    std::ifstream file(told_);
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  void WaitForLines(size_t count) {
    while (Told().size() < count) std::this_thread::yield();
  }
  void Say(const std::string& message) {
    const std::lock_guard lock(mutex_);
    said_.push_back(message);
    changed_.notify_all();
  }
  std::string WaitForMessage() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !said_.empty(); });
    return said_[0];
  }

  const std::string directory_ = ShortDirectory();
  const std::string program_ = directory_ + "/tell";
  const std::string told_ = directory_ + "/told";
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> said_;
  std::unique_ptr<NotifyHook> hook_;
};

TEST_F(NotifyHookTest, TellsOfWhatWantsAPersonAndOfTheEndOfAGoal) {
  Start();
  Tell("a", 1, sessions::StateChanged{.state = SessionState::kRunning});
  Tell("a", 2, sessions::ApprovalRequested{.call = "c1", .question = "secret?"});
  Tell("a", 3, sessions::StateChanged{.state = SessionState::kPaused, .reason = "USER"});
  Tell("a", 4, sessions::StateChanged{.state = SessionState::kPaused, .reason = "BUDGET_TOKENS: all used"});
  Tell("a", 5, sessions::StateChanged{.state = SessionState::kWaiting, .wait = sessions::WaitFor::kTimer});
  Tell("a", 6, sessions::StateChanged{.state = SessionState::kWaiting, .wait = sessions::WaitFor::kInput});
  Tell("b", 7, agent::Encode(agent::GoalChanged{.state = agent::GoalState::kActive, .claim = "done"}));
  Tell("b", 8, agent::Encode(agent::GoalChanged{.state = agent::GoalState::kSucceeded}));
  WaitForLines(4);
  EXPECT_THAT(Told(), ElementsAre("a WAITING APPROVAL 2", "a PAUSED BUDGET_TOKENS 4", "a WAITING INPUT 6",
                                  "b SUCCEEDED 8"));
}

TEST_F(NotifyHookTest, NothingIsToldTwiceAlsoAfterARestart) {
  Start();
  Tell("a", 2, sessions::ApprovalRequested{.call = "c1"});
  Tell("a", 2, sessions::ApprovalRequested{.call = "c1"});
  Tell("a", 3, sessions::StateChanged{.state = SessionState::kPaused, .reason = "STORAGE"});
  WaitForLines(2);
  hook_.reset();
  Start();
  Tell("a", 3, sessions::StateChanged{.state = SessionState::kPaused, .reason = "STORAGE"});
  Tell("a", 9, sessions::ApprovalRequested{.call = "c1"});  // asked again by a recovered session
  Tell("a", 10, sessions::ApprovalRequested{.call = "c2"});
  WaitForLines(3);
  EXPECT_THAT(Told(), ElementsAre("a WAITING APPROVAL 2", "a PAUSED STORAGE 3", "a WAITING APPROVAL 10"));
}

TEST_F(NotifyHookTest, AProgramThatTakesTooLongIsEndedWithItsChildren) {
  Script("sleep 600 & sleep 600\n");
  Start(/*run_ms_max=*/50);
  Tell("a", 2, sessions::ApprovalRequested{.call = "c1"});
  EXPECT_THAT(WaitForMessage(), HasSubstr("took too long"));
}

TEST_F(NotifyHookTest, AProgramThatIsNotThereIsSaid) {
  ASSERT_EQ(unlink(program_.c_str()), 0);
  Start();
  Tell("a", 2, sessions::ApprovalRequested{.call = "c1"});
  EXPECT_THAT(WaitForMessage(), HasSubstr(program_));
}

}  // namespace
}  // namespace holdfast::server
