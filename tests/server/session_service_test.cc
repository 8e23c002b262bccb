#include "server/session_service.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/grpc_status.h"
#include "tests/server/server_testing.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

class SessionServiceTest : public ::testing::Test {
 protected:
  SessionStub& stub() { return server_.stub(); }

  template <class Request, class Response>
  base::StatusOr<Response> Ask(grpc::Status (SessionStub::*method)(grpc::ClientContext*, const Request&,
                                                                   Response*),
                               const Request& request) {
    return Call(stub(), method, request);
  }
  void Make(const std::string& id) {
    const auto made = Ask(&SessionStub::CreateSession, NewSession(id));
    ASSERT_TRUE(made.ok()) << made.status().ToString();
  }
  template <class Request>
  static Request Named(const std::string& id) {
    Request request;
    request.set_name("sessions/" + id);
    return request;
  }
  base::StatusOr<v1::Session> Get(const std::string& id) {
    const auto got = Ask(&SessionStub::GetSession, Named<v1::GetSessionRequest>(id));
    if (!got.ok()) return got.status();
    return got->session();
  }

  TestServer server_;
};

TEST_F(SessionServiceTest, WhatIsMadeIsFoundAgain) {
  const auto made = Ask(&SessionStub::CreateSession, NewSession("one"));
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_EQ(made->session().name(), "sessions/one");
  EXPECT_EQ(made->session().state(), v1::Session::STATE_IDLE);
  EXPECT_EQ(made->session().spec().profile(), "nano");
  EXPECT_EQ(made->session().uid().size(), 32u);
  EXPECT_GT(made->session().window().tokens_max(), 0);
  const auto got = Get("one");
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->SerializeAsString(), made->session().SerializeAsString());
  const auto listed = Ask(&SessionStub::ListSessions, v1::ListSessionsRequest());
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->sessions_size(), 1);
  EXPECT_EQ(listed->sessions(0).name(), "sessions/one");
}

TEST_F(SessionServiceTest, AnEtagChangesWithTheSession) {
  Make("one");
  const std::string before = Get("one")->etag();
  ASSERT_TRUE(Ask(&SessionStub::SendMessage, Signal("one", "go")).ok());
  EXPECT_NE(Get("one")->etag(), before);
}

TEST_F(SessionServiceTest, ASessionThatIsNotThereIsNotFound) {
  const auto got = Get("none");
  EXPECT_TRUE(absl::IsNotFound(got.status()));
  EXPECT_EQ(ReasonOf(got.status()), "SESSION_NOT_FOUND");
  EXPECT_TRUE(absl::IsNotFound(Ask(&SessionStub::SendMessage, Signal("none", "go")).status()));
  EXPECT_TRUE(
      absl::IsNotFound(Ask(&SessionStub::PauseSession, Named<v1::PauseSessionRequest>("none")).status()));
  EXPECT_TRUE(absl::IsNotFound(Ask(&SessionStub::ListEvents, Named<v1::ListEventsRequest>("none")).status()));
  EXPECT_TRUE(
      absl::IsNotFound(Ask(&SessionStub::WaitSession, Named<v1::WaitSessionRequest>("none")).status()));
}

TEST_F(SessionServiceTest, AnIdThatIsTakenIsRefused) {
  Make("one");
  const auto again = Ask(&SessionStub::CreateSession, NewSession("one"));
  EXPECT_TRUE(absl::IsAlreadyExists(again.status()));
  EXPECT_EQ(ReasonOf(again.status()), "SESSION_EXISTS");
}

// What is wrong with a request to make a session, and the field that is named.
TEST_F(SessionServiceTest, WrongFieldsAreNamed) {
  struct Case {
    void (*spoil)(v1::CreateSessionRequest&);
    const char* field;
  };
  const Case cases[] = {
      {[](auto& r) { r.set_session_id("UPPER"); }, "session_id"},
      {[](auto& r) { r.set_request_id(std::string(129, 'x')); }, "request_id"},
      {[](auto& r) { r.set_message(std::string((1 << 20) + 1, 'x')); }, "message"},
      {[](auto& r) { r.mutable_spec()->set_repository("relative"); }, "spec.repository"},
      {[](auto& r) { r.mutable_spec()->set_repository("/no/such/directory"); }, "spec.repository"},
      {[](auto& r) { r.mutable_spec()->set_profile("unheard-of"); }, "spec.profile"},
      {[](auto& r) { r.mutable_spec()->set_workspace_mode(static_cast<v1::SessionSpec::WorkspaceMode>(77)); },
       "spec.workspace_mode"},
      {[](auto& r) { r.mutable_goal(); }, "goal.text"},
      {[](auto& r) { r.mutable_goal()->set_text(std::string((64 << 10) + 1, 'x')); }, "goal.text"},
      {[](auto& r) { r.mutable_goal()->set_text("x"), r.mutable_goal()->add_checks(); },
       "goal.checks[0].command"},
      {[](auto& r) {
         r.mutable_goal()->set_text("x");
         r.mutable_goal()->mutable_budgets()->mutable_running_time()->set_seconds(INT64_MAX);
       },
       "goal.budgets.running_time"},
      {[](auto& r) { r.mutable_goal()->set_text("x"), r.mutable_goal()->mutable_budgets()->set_tokens(-1); },
       "goal.budgets.tokens"},
  };
  for (const Case& one : cases) {
    v1::CreateSessionRequest request = NewSession("spoilt");
    one.spoil(request);
    const auto made = Ask(&SessionStub::CreateSession, request);
    EXPECT_TRUE(absl::IsInvalidArgument(made.status())) << one.field << ": " << made.status().ToString();
    EXPECT_THAT(base::Message(made.status()), HasSubstr(one.field));
  }
  EXPECT_TRUE(absl::IsNotFound(Get("spoilt").status())) << "nothing was made";
}

TEST_F(SessionServiceTest, ASignalIsAnEventAndActsOnceForItsRequest) {
  Make("one");
  const auto first = Ask(&SessionStub::SendMessage, Signal("one", "go", "r1"));
  const auto second = Ask(&SessionStub::SendMessage, Signal("one", "go", "r1"));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->sequence(), second->sequence());
  const auto events = Ask(&SessionStub::ListEvents, Named<v1::ListEventsRequest>("one"));
  ASSERT_TRUE(events.ok());
  int signals = 0;
  for (const v1::SessionEvent& event : events->events()) signals += event.has_input();
  EXPECT_EQ(signals, 1);
}

TEST_F(SessionServiceTest, EventsComeInPagesWithoutAGap) {
  Make("one");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Ask(&SessionStub::SendMessage, Signal("one", "go")).ok());
  auto request = Named<v1::ListEventsRequest>("one");
  request.set_page_size(3);
  uint64_t last = 0;
  do {
    const auto page = Ask(&SessionStub::ListEvents, request);
    ASSERT_TRUE(page.ok());
    EXPECT_LE(page->events_size(), 3);
    for (const v1::SessionEvent& event : page->events()) EXPECT_EQ(event.sequence(), ++last);
    request.set_after_sequence(page->next_after_sequence());
  } while (request.after_sequence() != 0);
  EXPECT_EQ(last, Get("one")->last_sequence());
  request.set_after_sequence(UINT64_MAX);
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(&SessionStub::ListEvents, request).status()));
}

TEST_F(SessionServiceTest, WaitingEndsWhenTheSessionRestsOrItsTimeIsOver) {
  Make("one");
  auto request = Named<v1::WaitSessionRequest>("one");
  auto waited = Ask(&SessionStub::WaitSession, request);
  ASSERT_TRUE(waited.ok());
  EXPECT_TRUE(waited->at_rest());
  v1::SendMessageRequest message = Signal("one", "Say hello.");
  message.set_kind(v1::SendMessageRequest::KIND_MESSAGE);
  ASSERT_TRUE(Ask(&SessionStub::SendMessage, message).ok());
  waited = Ask(&SessionStub::WaitSession, request);
  ASSERT_TRUE(waited.ok());
  EXPECT_TRUE(waited->at_rest());
  EXPECT_GT(waited->session().tokens().decoded(), 0u) << "it has spoken meanwhile";
}

TEST_F(SessionServiceTest, AWatcherIsToldEachEventOnceAndThenHears) {
  Make("one");
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Ask(&SessionStub::SendMessage, Signal("one", "past")).ok());
  const uint64_t past = Get("one")->last_sequence();
  grpc::ClientContext context;
  SetDeadline(context);
  auto request = Named<v1::WatchSessionRequest>("one");
  request.mutable_heartbeat_interval()->set_seconds(1);
  const auto reader = stub().WatchSession(&context, request);
  v1::WatchSessionResponse response;
  for (uint64_t seq = 1; seq <= past; ++seq) {
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.event().sequence(), seq);
  }
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.heartbeat().last_sequence(), past) << response.DebugString();
  for (uint64_t seq = past + 1; seq <= past + 5; ++seq) {
    ASSERT_TRUE(Ask(&SessionStub::SendMessage, Signal("one", "present")).ok());
    do {
      ASSERT_TRUE(reader->Read(&response));
    } while (response.has_heartbeat());
    EXPECT_EQ(response.event().sequence(), seq);
    EXPECT_EQ(response.event().input().text(), "present");
  }
  context.TryCancel();
  EXPECT_FALSE(reader->Read(&response));
}

TEST_F(SessionServiceTest, WatchesThatMakeNoSenseAreRefused) {
  Make("one");
  const auto ask = [this](const v1::WatchSessionRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    const auto reader = stub().WatchSession(&context, request);
    v1::WatchSessionResponse response;
    while (reader->Read(&response)) {
    }
    return FromGrpc(reader->Finish());
  };
  EXPECT_EQ(ReasonOf(ask(Named<v1::WatchSessionRequest>("none"))), "SESSION_NOT_FOUND");
  EXPECT_TRUE(absl::IsInvalidArgument(ask(Named<v1::WatchSessionRequest>("UPPER"))));
  auto request = Named<v1::WatchSessionRequest>("one");
  request.set_after_sequence(1'000'000);
  EXPECT_TRUE(absl::IsInvalidArgument(ask(request)));
  request.set_after_sequence(UINT64_MAX);
  EXPECT_TRUE(absl::IsInvalidArgument(ask(request)));
  request.set_after_sequence(0);
  request.mutable_heartbeat_interval()->set_nanos(1);
  EXPECT_TRUE(absl::IsInvalidArgument(ask(request)));
}

TEST_F(SessionServiceTest, WatchersAreEndedWhenTheServerStops) {
  Make("one");
  grpc::ClientContext context;
  SetDeadline(context);
  const auto reader = stub().WatchSession(&context, Named<v1::WatchSessionRequest>("one"));
  v1::WatchSessionResponse response;
  ASSERT_TRUE(reader->Read(&response));
  server_.Stop();
  while (reader->Read(&response)) {
  }
  const base::Status status = FromGrpc(reader->Finish());
  EXPECT_TRUE(absl::IsUnavailable(status)) << status.ToString();
  EXPECT_EQ(ReasonOf(status), "SERVER_STOPPING");
}

}  // namespace
}  // namespace holdfast::server
