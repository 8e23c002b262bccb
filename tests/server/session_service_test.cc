#include "server/session_service.h"

#include <map>
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

TEST_F(SessionServiceTest, AnUpdateChangesWhatItsMaskNames) {
  Make("one");
  v1::UpdateSessionRequest request;
  request.mutable_session()->set_name("sessions/one");
  request.mutable_session()->set_display_name("The first");
  request.mutable_session()->set_archived(true);
  request.mutable_session()->set_etag(Get("one")->etag());
  request.set_request_id("u1");
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(&SessionStub::UpdateSession, request).status())) << "no mask";
  request.mutable_update_mask()->add_paths("display_name");
  request.mutable_update_mask()->add_paths("archived");
  const auto updated = Ask(&SessionStub::UpdateSession, request);
  ASSERT_TRUE(updated.ok()) << updated.status().ToString();
  EXPECT_EQ(updated->session().display_name(), "The first");
  EXPECT_TRUE(updated->session().archived());
  EXPECT_EQ(ReasonOf(Ask(&SessionStub::UpdateSession, request).status()), "ETAG_MISMATCH");
  EXPECT_EQ(Ask(&SessionStub::ListSessions, v1::ListSessionsRequest())->sessions_size(), 0);
  v1::ListSessionsRequest all;
  all.set_show_archived(true);
  EXPECT_EQ(Ask(&SessionStub::ListSessions, all)->sessions_size(), 1);
  request.mutable_update_mask()->add_paths("uid");
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(&SessionStub::UpdateSession, request).status()));
}

// Each is asked for twice; the second is answered what the first was, and nothing more is on record.
TEST_F(SessionServiceTest, EveryMutationActsOnceForItsRequest) {
  v1::CreateSessionRequest create;
  create.set_request_id("create");
  const auto made = Ask(&SessionStub::CreateSession, create);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  const auto made_again = Ask(&SessionStub::CreateSession, create);
  ASSERT_TRUE(made_again.ok()) << made_again.status().ToString();
  EXPECT_EQ(made_again->session().uid(), made->session().uid());
  const std::string id = made->session().name().substr(9);

  const auto last = [&] { return Get(id)->last_sequence(); };
  const auto twice = [&](const char* what, auto method, auto request) {
    request.set_name("sessions/" + id);
    request.set_request_id(what);
    const auto first = Ask(method, request);
    ASSERT_TRUE(first.ok()) << what << ": " << first.status().ToString();
    v1::WaitSessionRequest rest = Named<v1::WaitSessionRequest>(id);
    ASSERT_TRUE(Ask(&SessionStub::WaitSession, rest).ok());
    const uint64_t before = last();
    const auto second = Ask(method, request);
    ASSERT_TRUE(second.ok()) << what << ": " << second.status().ToString();
    if constexpr (requires { first->sequence(); }) {
      EXPECT_EQ(second->sequence(), first->sequence()) << what;
    } else if constexpr (requires { first->session(); }) {
      EXPECT_EQ(second->session().name(), first->session().name()) << what;
    }
    EXPECT_EQ(last(), before) << what;
  };
  v1::SendMessageRequest signal = Signal(id, "go");
  twice("signal", &SessionStub::SendMessage, signal);
  twice("pause", &SessionStub::PauseSession, v1::PauseSessionRequest());
  twice("resume", &SessionStub::ResumeSession, v1::ResumeSessionRequest());
  v1::SendMessageRequest message = Signal(id, "Say hello.");
  message.set_kind(v1::SendMessageRequest::KIND_MESSAGE);
  twice("message", &SessionStub::SendMessage, message);
  twice("interrupt", &SessionStub::InterruptSession, v1::InterruptSessionRequest());
  v1::SetGoalRequest goal;
  goal.mutable_goal()->set_text("Say hello.");
  goal.mutable_goal()->mutable_budgets()->set_tokens(0);  // paused at once, and so not at its end
  twice("goal", &SessionStub::SetGoal, goal);
  twice("cancel", &SessionStub::CancelGoal, v1::CancelGoalRequest());
  v1::ForkSessionRequest fork;
  fork.set_sequence(2);
  twice("fork", &SessionStub::ForkSession, fork);
  v1::RewindSessionRequest rewind;
  rewind.set_sequence(3);
  twice("rewind", &SessionStub::RewindSession, rewind);
  twice("delete", &SessionStub::DeleteSession, v1::DeleteSessionRequest());
  EXPECT_EQ(Ask(&SessionStub::ListSessions, v1::ListSessionsRequest())->sessions_size(), 1)
      << "the fork alone";

  // The same id for something else.
  v1::PauseSessionRequest other = Named<v1::PauseSessionRequest>(id);
  other.set_request_id("message");
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(&SessionStub::PauseSession, other).status()));
}

TEST_F(SessionServiceTest, WhatIsExportedIsTakenOverElsewhere) {
  Make("one");
  for (int i = 0; i < 400; ++i)
    ASSERT_TRUE(Ask(&SessionStub::SendMessage, Signal("one", std::string(2000, 'x'))).ok());
  const auto exported = [this](v1::ExportSessionRequest::Format format) {
    grpc::ClientContext context;
    SetDeadline(context);
    auto request = Named<v1::ExportSessionRequest>("one");
    request.set_format(format);
    const auto reader = stub().ExportSession(&context, request);
    std::string file;
    v1::ExportSessionResponse part;
    while (reader->Read(&part)) file += part.data();
    EXPECT_TRUE(reader->Finish().ok());
    return file;
  };
  const std::string file = exported(v1::ExportSessionRequest::FORMAT_RECORD);
  EXPECT_GT(file.size(), 400u * 2000);
  EXPECT_THAT(exported(v1::ExportSessionRequest::FORMAT_MARKDOWN), ::testing::StartsWith("# one\n"));

  const auto import = [](SessionStub& to, const std::string& bytes) -> base::StatusOr<v1::Session> {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ImportSessionResponse response;
    const auto writer = to.ImportSession(&context, &response);
    for (size_t at = 0; at < bytes.size(); at += 10'000) {
      v1::ImportSessionRequest part;
      if (at == 0) part.set_session_id("other");
      part.set_data(bytes.substr(at, 10'000));
      if (!writer->Write(part)) break;
    }
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    if (!status.ok()) return FromGrpc(status);
    return response.session();
  };
  TestServer elsewhere;
  EXPECT_TRUE(absl::IsDataLoss(import(elsewhere.stub(), file.substr(0, file.size() - 1)).status()));
  const auto imported = import(elsewhere.stub(), file);
  ASSERT_TRUE(imported.ok()) << imported.status().ToString();
  EXPECT_EQ(imported->name(), "sessions/other");
  EXPECT_EQ(imported->uid(), Get("one")->uid());
  EXPECT_GE(imported->last_sequence(), Get("one")->last_sequence());
  EXPECT_EQ(ReasonOf(import(elsewhere.stub(), file).status()), "SESSION_EXISTS");
  EXPECT_TRUE(absl::IsInvalidArgument(import(elsewhere.stub(), "").status()));
}

// Deltas come before the event that has their tokens, and say the same.
TEST_F(SessionServiceTest, ALiveWatcherSeesTokensBeforeTheyAreDurable) {
  Make("one");
  grpc::ClientContext context;
  SetDeadline(context);
  auto request = Named<v1::WatchSessionRequest>("one");
  request.set_after_sequence(Get("one")->last_sequence());
  request.set_live(true);
  request.mutable_heartbeat_interval()->set_seconds(1);
  const auto reader = stub().WatchSession(&context, request);
  v1::WatchSessionResponse response;
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(response.has_heartbeat()) << "it follows now";
  v1::SendMessageRequest message = Signal("one", "Say hello.");
  message.set_kind(v1::SendMessageRequest::KIND_MESSAGE);
  ASSERT_TRUE(Ask(&SessionStub::SendMessage, message).ok());
  std::map<int64_t, std::string> deltas;  // by position
  int prefills = 0;
  bool superseded = false;
  while (!superseded && reader->Read(&response)) {
    if (response.live().has_prefill()) ++prefills;
    if (response.live().has_text()) deltas[response.live().text().position()] = response.live().text().text();
    const v1::TokensEvent& tokens = response.event().tokens();
    if (tokens.origin() != v1::TokensEvent::ORIGIN_SAMPLED) continue;
    superseded = true;
    std::string text;
    for (const auto& [position, delta] : deltas) {
      if (position < tokens.position() + tokens.count()) text += delta;
    }
    EXPECT_EQ(text, tokens.text());
  }
  EXPECT_TRUE(superseded);
  EXPECT_GT(prefills, 0);
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
