#include "server/client.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/client_watch.h"
#include "server/grpc_status.h"
#include "tests/server/fake_sessions.h"

namespace holdfast::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sessions_.get = [](const grpc::ServerContext&, const v1::GetSessionRequest& request,
                       v1::GetSessionResponse& response) {
      response.mutable_session()->set_name(request.name());
      return grpc::Status::OK;
    };
    sessions_.Start();
  }

  std::unique_ptr<Client> Connected(std::function<bool()> keep_on = {}, std::string token = {}) {
    auto client =
        Client::Connect({.address = "unix:" + socket_, .token = token, .keep_on = std::move(keep_on)});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  static v1::GetSessionRequest GetRequest(const std::string& name) {
    v1::GetSessionRequest request;
    request.set_name(name);
    return request;
  }

  static v1::WatchSessionResponse Event(uint64_t sequence) {
    v1::WatchSessionResponse response;
    response.mutable_event()->set_sequence(sequence);
    return response;
  }

  // Watches until event `last`; the numbers that came.
  base::Status WatchUntil(Client& client, uint64_t last, std::vector<uint64_t>& numbers) {
    return Watch(client,
                 {.name = "sessions/s", .patience_ms = 2'000, .on_event = [&](const v1::SessionEvent& event) {
                    numbers.push_back(event.sequence());
                    return event.sequence() < last;
                  }});
  }

  const std::string socket_ = ::testing::TempDir() + "/client_test_" + std::to_string(getpid()) + " %.sock";
  FakeSessions sessions_{socket_};
};

TEST_F(ClientTest, CallAnswersWhatTheServerAnswers) {
  const auto got = Connected()->Call(GetRequest("sessions/s"));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->session().name(), "sessions/s");
}

TEST_F(ClientTest, ErrorsKeepTheirCodeMessageAndReason) {
  sessions_.get = [](const auto&, const auto&, auto&) {
    return ToGrpc(WithReason(base::NotFound("there is no session s"), "SESSION_NOT_FOUND"));
  };
  const auto got = Connected()->Call(GetRequest("sessions/s"));
  EXPECT_TRUE(absl::IsNotFound(got.status()));
  EXPECT_EQ(base::Message(got.status()), "there is no session s");
  EXPECT_EQ(ReasonOf(got.status()), "SESSION_NOT_FOUND");
}

TEST_F(ClientTest, TokenIsSentWithEveryCall) {
  std::string seen;
  sessions_.get = [&](const grpc::ServerContext& context, const auto&, auto&) {
    const auto found = context.client_metadata().find("authorization");
    if (found != context.client_metadata().end()) seen.assign(found->second.data(), found->second.size());
    return grpc::Status::OK;
  };
  ASSERT_TRUE(Connected({}, "secret")->Call(GetRequest("s")).ok());
  EXPECT_EQ(seen, "Bearer secret");
}

TEST_F(ClientTest, NobodyThereIsUnavailableAndNamesTheAddress) {
  const auto client = Client::Connect({.address = "unix:/nowhere/socket", .connect_ms = 100});
  EXPECT_TRUE(absl::IsUnavailable(client.status()));
  EXPECT_THAT(base::Message(client.status()), HasSubstr("/nowhere/socket"));
}

TEST_F(ClientTest, AddressWithoutPortOrSchemeIsRefused) {
  for (const char* address : {"", "localhost", ":80", "localhost:", "unix:relative"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Client::Connect({.address = address}).status())) << address;
  }
}

TEST_F(ClientTest, KeepOnEndsACallThatHangs) {
  sessions_.get = [](const grpc::ServerContext& context, const auto&, auto&) {
    while (!context.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  int asked = 0;
  const auto client = Connected();
  client->SetKeepOn([&] { return ++asked < 4; });
  EXPECT_TRUE(absl::IsCancelled(client->Call(GetRequest("s")).status()));
}

TEST_F(ClientTest, KeepOnMayMakeACallItself) {
  sessions_.get = [](const grpc::ServerContext& context, const v1::GetSessionRequest& request, auto&) {
    while (request.name() == "slow" && !context.IsCancelled()) std::this_thread::yield();
    return grpc::Status::OK;
  };
  const auto client = Connected();
  bool inside = false, called = false;
  client->SetKeepOn([&] {
    if (inside || called) return inside;
    inside = true;
    called = client->Call(GetRequest("quick")).ok();
    inside = false;
    return true;
  });
  EXPECT_TRUE(absl::IsCancelled(client->Call(GetRequest("slow")).status()));
  EXPECT_TRUE(called);
}

TEST_F(ClientTest, UploadSendsEveryPiece) {
  int piece = 0;
  const auto client = Connected();
  const auto got = client->Upload<v1::ImportSessionRequest>([&](v1::ImportSessionRequest& request) {
    request.set_data(std::to_string(piece));
    return ++piece <= 5;
  });
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->session().last_text(), "01234");
}

TEST_F(ClientTest, WatchGoesOnWhereAConnectionWasLost) {
  std::vector<uint64_t> asked;
  sessions_.watch = [&](const v1::WatchSessionRequest& request, const auto&, const auto& write) {
    asked.push_back(request.after_sequence());
    for (uint64_t i = 1; i <= 3; ++i) write(Event(request.after_sequence() + i));
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping");
  };
  std::vector<uint64_t> numbers;
  const auto client = Connected();
  ASSERT_TRUE(WatchUntil(*client, 7, numbers).ok());
  EXPECT_THAT(numbers, ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(asked, ElementsAre(0, 3, 6));
}

TEST_F(ClientTest, WatchOutlivesTheServer) {
  sessions_.watch = [&](const v1::WatchSessionRequest& request, const grpc::ServerContext& context,
                        const auto& write) {
    write(Event(request.after_sequence() + 1));
    while (!context.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  std::vector<uint64_t> numbers;
  const auto client = Connected();
  std::thread restarts;
  const auto ended = Watch(
      *client, {.name = "sessions/s", .patience_ms = 10'000, .on_event = [&](const v1::SessionEvent& event) {
                  numbers.push_back(event.sequence());
                  if (numbers.size() == 1) {
                    restarts = std::thread([this] {
                      sessions_.Stop();
                      sessions_.Start();
                    });
                  }
                  return numbers.size() < 2;
                }});
  restarts.join();
  EXPECT_TRUE(ended.ok()) << ended;
  EXPECT_THAT(numbers, ElementsAre(1, 2));
}

TEST_F(ClientTest, WatcherThatWasTooSlowWatchesAgain) {
  int watches = 0;
  sessions_.watch = [&](const v1::WatchSessionRequest& request, const auto&, const auto& write) {
    write(Event(request.after_sequence() + 1));
    return ++watches < 3 ? ToGrpc(WithReason(base::ResourceExhausted("too slow"), "WATCH_OVERFLOW"))
                         : grpc::Status(grpc::StatusCode::NOT_FOUND, "gone");
  };
  std::vector<uint64_t> numbers;
  const auto client = Connected();
  EXPECT_TRUE(absl::IsNotFound(WatchUntil(*client, 100, numbers)));
  EXPECT_THAT(numbers, ElementsAre(1, 2, 3));
}

TEST_F(ClientTest, MissingEventIsAnErrorOfTheWatch) {
  sessions_.watch = [&](const auto&, const auto&, const auto& write) {
    write(Event(1));
    write(Event(3));
    return grpc::Status::OK;
  };
  std::vector<uint64_t> numbers;
  const auto client = Connected();
  EXPECT_TRUE(absl::IsDataLoss(WatchUntil(*client, 100, numbers)));
  EXPECT_THAT(numbers, ElementsAre(1));
}

TEST_F(ClientTest, WatchEndsWhenPatienceDoes) {
  sessions_.watch = [&](const auto&, const auto&, const auto&) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping");
  };
  std::vector<uint64_t> numbers;
  const auto client = Connected();
  const auto ended = Watch(
      *client, {.name = "sessions/s", .patience_ms = 300, .on_event = [](const auto&) { return true; }});
  EXPECT_TRUE(absl::IsUnavailable(ended)) << ended;
}

TEST_F(ClientTest, SilentConnectionIsGivenUp) {
  int watches = 0;
  sessions_.watch = [&](const v1::WatchSessionRequest& request, const grpc::ServerContext& context,
                        const auto& write) {
    if (++watches == 2) write(Event(request.after_sequence() + 1));
    while (!context.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  std::vector<uint64_t> numbers;
  const auto client = Connected();
  const auto ended =
      Watch(*client, {.name = "sessions/s", .heartbeat_ms = 100, .on_event = [&](const auto& event) {
                        numbers.push_back(event.sequence());
                        return false;
                      }});
  EXPECT_TRUE(ended.ok()) << ended;
  EXPECT_THAT(numbers, ElementsAre(1));
}

}  // namespace
}  // namespace holdfast::server
