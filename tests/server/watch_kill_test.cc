// Watchers that come and go while the daemon is killed and queues overflow: each has each event once, in
// order. What is said to the sessions is said again after an error, with its request id, and stands there
// once.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "server/grpc_status.h"
#include "tests/server/daemon_process.h"

namespace holdfast::server {
namespace {

constexpr int kDeadlineSeconds = 600;
constexpr uint64_t kSeed = 20'261'122;

struct Load {
  int sessions = 0;
  int signals = 0;      // of each session
  int disconnects = 0;  // of each watcher, at least
  int kills = 0;
};

std::string Id(int session) { return "s" + std::to_string(session); }

// Says 0, 1, 2, ... to a session, each once, through whatever happens.
void Speak(const DaemonProcess& daemon, int session, const Load& load, std::atomic<int>& said) {
  const auto stub = daemon.NewStub();
  const auto insist = [&](auto method, const auto& request, auto response) {
    for (int attempt = 0; attempt < 1000; ++attempt) {
      grpc::ClientContext context;
      SetDeadline(context, kDeadlineSeconds);
      context.set_wait_for_ready(true);
      const grpc::Status status = ((*stub).*method)(&context, request, &response);
      // The first creation may have been durable before its answer was lost.
      if (status.ok() || status.error_code() == grpc::StatusCode::ALREADY_EXISTS) return;
      ASSERT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    }
    FAIL() << "the daemon does not come back";
  };
  insist(&SessionStub::CreateSession, NewSession(Id(session)), v1::CreateSessionResponse());
  for (int i = 0; i < load.signals; ++i) {
    const std::string text = std::to_string(i);
    insist(&SessionStub::SendMessage, Signal(Id(session), text, "r" + text), v1::SendMessageResponse());
    ++said;
  }
}

// One watcher: what it has seen so far, over all its streams.
class Watcher {
 public:
  Watcher(const DaemonProcess& daemon, int session, const Load& load)
      : stub_(daemon.NewStub()), session_(session), load_(load), random_(kSeed + session) {}

  // Until it has seen all signals, and left as often as it is to.
  void Run() {
    while (!HasFailure() && (signals_ < load_.signals || disconnects_ < load_.disconnects)) {
      // When all is said it begins anew somewhere in the past.
      if (signals_ == load_.signals) GoBack();
      Stream();
    }
  }

  uint64_t events() const { return events_; }
  int disconnects() const { return disconnects_; }

 private:
  static bool HasFailure() { return ::testing::Test::HasFailure(); }

  void GoBack() {
    last_ = 0;
    signals_ = 0;
  }

  void Stream() {
    grpc::ClientContext context;
    SetDeadline(context, kDeadlineSeconds);
    context.set_wait_for_ready(true);
    v1::WatchSessionRequest request;
    request.set_name("sessions/" + Id(session_));
    request.set_after_sequence(last_);
    const auto reader = stub_->WatchSession(&context, request);
    const int most = 1 + load_.signals / std::max(load_.disconnects, 1) / 2;
    auto left = std::uniform_int_distribution(1, 2 * most)(random_);
    v1::WatchSessionResponse response;
    while (reader->Read(&response)) {
      if (response.has_event()) Take(response.event());
      if (--left > 0 && signals_ < load_.signals) continue;
      context.TryCancel();
      ++disconnects_;
      break;
    }
    const grpc::Status status = reader->Finish();
    if (status.ok() || status.error_code() == grpc::StatusCode::CANCELLED) return;
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) return;  // not made yet
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  }

  void Take(const v1::SessionEvent& event) {
    EXPECT_EQ(event.sequence(), last_ + 1) << Id(session_);
    last_ = event.sequence();
    ++events_;
    if (!event.has_input()) return;
    EXPECT_EQ(event.input().text(), std::to_string(signals_)) << Id(session_);
    ++signals_;
  }

  const std::unique_ptr<SessionStub> stub_;
  const int session_;
  const Load load_;
  std::mt19937_64 random_;
  uint64_t last_ = 0;
  int signals_ = 0;
  uint64_t events_ = 0;
  int disconnects_ = 0;
};

// A watcher that takes nothing is let go, and goes on where he was. Gives the events that he saw.
uint64_t Overflow(const DaemonProcess& daemon) {
  constexpr int kSignals = 400;
  const std::string text(64 << 10, 'x');
  const auto stub = daemon.NewStub();
  grpc::ClientContext making;
  SetDeadline(making, kDeadlineSeconds);
  making.set_wait_for_ready(true);
  v1::CreateSessionResponse made;
  EXPECT_TRUE(stub->CreateSession(&making, NewSession("slow"), &made).ok());
  uint64_t last = made.session().last_sequence();
  const uint64_t end = last + kSignals;
  v1::WatchSessionRequest request;
  request.set_name("sessions/slow");
  request.mutable_heartbeat_interval()->set_seconds(1);
  const auto watching = daemon.NewStub();
  int overflows = 0;
  while (last < end && !::testing::Test::HasFailure()) {
    grpc::ClientContext context;
    SetDeadline(context, kDeadlineSeconds);
    request.set_after_sequence(last);
    const auto reader = watching->WatchSession(&context, request);
    v1::WatchSessionResponse response;
    while (last < end && reader->Read(&response)) {
      if (response.has_heartbeat() && overflows == 0) {
        // It follows now: what is said goes into its queue.
        for (int i = 0; i < kSignals; ++i) {
          EXPECT_TRUE(Call(*stub, &SessionStub::SendMessage, Signal("slow", text)).ok());
        }
      }
      if (!response.has_event()) continue;
      EXPECT_EQ(response.event().sequence(), last + 1);
      last = response.event().sequence();
    }
    if (last == end) context.TryCancel();
    const base::Status status = FromGrpc(reader->Finish());
    if (last == end) break;
    EXPECT_EQ(ReasonOf(status), "WATCH_OVERFLOW") << status.ToString();
    ++overflows;
  }
  EXPECT_EQ(overflows, 1);
  return kSignals;
}

// Everybody speaks and watches at once; the daemon is killed whenever a part of it all has been said.
// In the end a queue overflows.
void Everybody(const Load& load) {
  const TempDirectory directory;
  DaemonProcess daemon(directory.path());
  daemon.Start();
  std::atomic<int> said = 0;
  std::vector<std::unique_ptr<Watcher>> watchers;
  std::vector<std::thread> threads;
  for (int session = 0; session < load.sessions; ++session) {
    watchers.push_back(std::make_unique<Watcher>(daemon, session, load));
    threads.emplace_back([&, session] { Speak(daemon, session, load, said); });
    threads.emplace_back([watcher = watchers.back().get()] { watcher->Run(); });
  }
  const int all = load.sessions * load.signals;
  for (int kill = 1; kill <= load.kills; ++kill) {
    while (said < all / (load.kills + 1) * kill && !::testing::Test::HasFailure()) std::this_thread::yield();
    daemon.Kill();
    daemon.Start();
  }
  for (std::thread& thread : threads) thread.join();
  uint64_t events = Overflow(daemon);
  int disconnects = 1;
  for (const auto& watcher : watchers) {
    events += watcher->events();
    disconnects += watcher->disconnects();
  }
  std::printf("seed %lu: %lu events seen, %d disconnects, %d kills\n", kSeed, events, disconnects,
              load.kills);
  EXPECT_GT(events, static_cast<uint64_t>(all));
  EXPECT_GE(disconnects, load.sessions * load.disconnects);
}

// With HOLDFAST_WATCH_FULL more than 100,000 events and 1,000 disconnects.
TEST(WatchKillTest, WatchersThatComeAndGoHaveEachEventOnceThoughTheDaemonIsKilled) {
  if (std::getenv("HOLDFAST_WATCH_FULL") != nullptr) {
    Everybody({.sessions = 50, .signals = 2100, .disconnects = 21, .kills = 5});
  } else {
    Everybody({.sessions = 8, .signals = 100, .disconnects = 8, .kills = 1});
  }
}

}  // namespace
}  // namespace holdfast::server
