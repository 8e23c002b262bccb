#include "sessions/session_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::sessions {
namespace {

using test::SeededRandom;
using test::TestSeeds;

SessionCreated Created(uint8_t uid) { return {.uid = {std::byte{uid}}, .tools = "{}", .seed = uid}; }

EventBody Fed(int64_t position, std::vector<int32_t> ids) {
  return TokenRun{.position = position, .origin = TokenOrigin::kFed, .ids = std::move(ids)};
}

// One process over a database, until it ends.
class Process {
 public:
  Process(base::FileSystem& fs, test::SimClock& clock, uint64_t seed = 1) : executor_(clock, {.seed = seed}) {
    auto database = memory::SqliteDatabase::Open(fs, {.path = "/data/holdfast.db"}, {SessionSchema()}, clock);
    status_ = database.status();
    if (!database.ok()) return;
    database_ = *std::move(database);
    auto store = SessionStore::Open(executor_, clock, *database_);
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  ~Process() { opened_.clear(); }

  const base::Status& status() const { return status_; }
  SessionStore& store() { return *store_; }
  memory::SqliteDatabase& database() { return *database_; }
  test::SimExecutor& executor() { return executor_; }

  // Waits for an answer. A crash of the machine is one: Unavailable.
  template <class T, class Call>
  base::StatusOr<T> Ask(Call call) {
    std::optional<base::StatusOr<T>> got;
    call([&got](base::StatusOr<T> answer) { got.emplace(std::move(answer)); });
    executor_.RunUntilIdle();
    EXPECT_TRUE(got.has_value());
    return *std::move(got);
  }
  base::StatusOr<SessionRow> Create(const std::string& id, SessionCreated created,
                                    std::vector<EventBody> bodies = {}) {
    return Ask<SessionRow>([&](auto done) { store_->Create(id, created, bodies, std::move(done)); });
  }
  base::StatusOr<SessionRow> Get(const std::string& id) {
    return Ask<SessionRow>([&](auto done) { store_->Get(id, std::move(done)); });
  }
  base::Status OpenSession(const std::string& id) {
    auto session = Ask<std::unique_ptr<StoredSession>>(
        [&](auto done) { store_->OpenSession(id, nullptr, std::move(done)); });
    if (session.ok()) opened_[id] = *std::move(session);
    return session.status();
  }
  StoredSession& session(const std::string& id) { return *opened_.at(id); }
  void Close(const std::string& id) { opened_.erase(id); }
  base::Status Append(const std::string& id, std::vector<EventBody> bodies) {
    base::Status got;
    session(id).Append(std::move(bodies), [&got](base::Status status) { got = std::move(status); });
    executor_.RunUntilIdle();
    return got;
  }
  base::Status Rewind(const std::string& id, uint64_t to_seq, std::vector<EventBody> bodies = {}) {
    base::Status got;
    session(id).Rewind(to_seq, 9, std::move(bodies),
                       [&got](base::Status status) { got = std::move(status); });
    executor_.RunUntilIdle();
    return got;
  }
  base::StatusOr<std::vector<Event>> Read(const std::string& id, uint64_t after, size_t count) {
    return Ask<std::vector<Event>>([&](auto done) { store_->ReadEvents(id, after, count, std::move(done)); });
  }
  // All of a session's events, one at a time.
  base::StatusOr<SessionRow> Import(const std::string& id, SessionUid uid, std::vector<Event> events) {
    return Ask<SessionRow>([&](auto done) {
      store_->Import(
          id, uid,
          [events, at = size_t{0}]() mutable -> base::StatusOr<std::vector<Event>> {
            if (at == events.size()) return std::vector<Event>();
            return std::vector<Event>{events[at++]};
          },
          std::move(done));
    });
  }
  base::StatusOr<int> Rebuild(const std::string& id) {
    return Ask<int>([&](auto done) { store_->Rebuild(id, std::move(done)); });
  }

 private:
  test::SimExecutor executor_;
  base::Status status_;
  std::unique_ptr<memory::SqliteDatabase> database_;
  std::unique_ptr<SessionStore> store_;
  std::map<std::string, std::unique_ptr<StoredSession>> opened_;
};

class SessionStoreTest : public testing::Test {
 protected:
  SessionStoreTest() { EXPECT_TRUE(fs_.CreateDirectories("/data").ok()); }
  std::unique_ptr<Process> Start() {
    auto process = std::make_unique<Process>(fs_, clock_);
    EXPECT_TRUE(process->status().ok()) << process->status();
    return process;
  }

  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
};

std::vector<int32_t> Window(const StoredSession& session) {
  const auto window = session.facts().tokens().window();
  return {window.begin(), window.end()};
}

TEST_F(SessionStoreTest, SessionComesBackAsItWasLeft) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  EXPECT_EQ(process->session("a").generation(), 1u);
  ASSERT_TRUE(
      process->Append("a", {InputReceived{.request_id = "r", .text = "hello"}, Fed(0, {1, 2, 3})}).ok());
  ASSERT_TRUE(process->Append("a", {StateChanged{.state = SessionState::kRunning}}).ok());
  process->session("a").NoteKv({.end = {}, .tails = {{}, {}}});
  process->executor().RunUntilIdle();
  process.reset();

  process = Start();
  EXPECT_EQ(process
                ->Ask<std::vector<std::string>>(
                    [&](auto done) { process->store().ListUnfinished(std::move(done)); })
                .value(),
            (std::vector<std::string>{"a"}));
  ASSERT_TRUE(process->OpenSession("a").ok());
  const StoredSession& session = process->session("a");
  EXPECT_EQ(session.generation(), 2u);
  EXPECT_EQ(Window(session), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(session.facts().state(), SessionState::kRunning);
  EXPECT_EQ(session.facts().FindRequest("r")->seq, 2u);
  ASSERT_EQ(session.facts().untold().size(), 1u);
  EXPECT_EQ(std::get<InputReceived>(session.ReadUntold(2)->body).text, "hello");
  EXPECT_TRUE(absl::IsNotFound(session.ReadUntold(3).status()));
  ASSERT_TRUE(session.kv().has_value());
  EXPECT_EQ(session.kv()->tails.size(), 2u);
  const SessionRow row = *process->Get("a");
  EXPECT_EQ(row.last_seq, 4u);
  EXPECT_EQ(row.state, SessionState::kRunning);
}

TEST_F(SessionStoreTest, BadIdsAndDoublesAreRefused) {
  auto process = Start();
  for (const std::string id : {"", "A", "-a", "a-", "a b", "a/b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(process->Create(id, Created(1)).status())) << id;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(process->Create(std::string(64, 'a'), Created(1)).status()));
  EXPECT_TRUE(process->Create(std::string(63, 'a'), Created(1)).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(process->Create(std::string(63, 'a'), Created(2)).status()));
  EXPECT_TRUE(absl::IsNotFound(process->Get("b").status()));
  EXPECT_TRUE(absl::IsNotFound(process->OpenSession("b")));
}

TEST_F(SessionStoreTest, OpenSessionHasOneHolder) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(process->OpenSession("a")));
  process->Close("a");
  EXPECT_TRUE(process->OpenSession("a").ok());
}

// A lease that was taken over: nothing of the earlier holder gets in any more.
TEST_F(SessionStoreTest, EarlierHolderCannotWrite) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  ASSERT_TRUE(process->database().writer().Execute("UPDATE session SET generation = generation + 1").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(process->Append("a", {Fed(0, {1})})));
  EXPECT_TRUE(absl::IsFailedPrecondition(process->Append("a", {TurnFinished{}}))) << "and stays so";
  EXPECT_EQ(process->Get("a")->last_seq, 1u);
}

TEST_F(SessionStoreTest, EventThatContradictsTheLogIsNotWritten) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  EXPECT_TRUE(absl::IsInternal(process->Append("a", {Fed(7, {1})})));
  EXPECT_EQ(process->Get("a")->last_seq, 1u);
  process->Close("a");
  EXPECT_TRUE(process->OpenSession("a").ok());
}

TEST_F(SessionStoreTest, AppendsThatComeTogetherShareACommit) {
  auto process = Start();
  for (const char* id : {"a", "b", "c"}) {
    ASSERT_TRUE(process->Create(id, Created(static_cast<uint8_t>(*id))).ok());
    ASSERT_TRUE(process->OpenSession(id).ok());
  }
  const uint64_t before = fs_.mutations();
  ASSERT_TRUE(process->Append("a", {TurnFinished{}}).ok());
  const uint64_t one = fs_.mutations() - before;
  int done = 0;
  for (int i = 0; i < 20; ++i) {
    for (const char* id : {"a", "b", "c"}) {
      process->session(id).Append({TurnFinished{}},
                                  [&done](const base::Status& status) { done += status.ok() ? 1 : 0; });
    }
  }
  process->executor().RunUntilIdle();
  EXPECT_EQ(done, 60);
  // The first goes at once, the other 59 together.
  EXPECT_LT(fs_.mutations() - before - one, 12 * one);
}

// What a start after a crash costs: not a commit for each session.
TEST_F(SessionStoreTest, LeasesThatAreTakenTogetherShareACommit) {
  constexpr int kSessions = 40;
  auto process = Start();
  for (int i = 0; i < kSessions; ++i) {
    ASSERT_TRUE(process->Create("s" + std::to_string(i), Created(static_cast<uint8_t>(i))).ok());
  }
  const auto open = [&](int from, int to) {
    std::vector<std::unique_ptr<StoredSession>> opened;
    const uint64_t before = fs_.mutations();
    for (int i = from; i < to; ++i) {
      process->store().OpenSession("s" + std::to_string(i), nullptr, [&opened](auto session) {
        ASSERT_TRUE(session.ok()) << session.status();
        opened.push_back(*std::move(session));
      });
    }
    process->executor().RunUntilIdle();
    EXPECT_EQ(opened.size(), static_cast<size_t>(to - from));
    for (const auto& session : opened) EXPECT_EQ(session->generation(), 1u);
    return fs_.mutations() - before;
  };
  const uint64_t one = open(0, 1);
  EXPECT_LT(open(1, kSessions), 8 * one);
}

// The disk has room again for the second: it would stand behind a hole.
TEST_F(SessionStoreTest, AppendBehindAFailedOneFailsToo) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  fs_.FailNext(test::SimOp::kWrite, ".db-wal", ENOSPC);
  std::vector<base::Status> answers;
  const auto note = [&answers](base::Status status) { answers.push_back(std::move(status)); };
  process->session("a").Append({Fed(0, {1, 2})}, note);
  process->session("a").Append({Fed(2, {3})}, note);  // while the first is being written
  process->executor().RunUntilIdle();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_TRUE(absl::IsResourceExhausted(answers[0])) << answers[0];
  EXPECT_TRUE(absl::IsResourceExhausted(answers[1])) << answers[1];
  process->Close("a");

  ASSERT_TRUE(process->OpenSession("a").ok());
  EXPECT_EQ(process->session("a").facts().last_seq(), 1u);
  EXPECT_TRUE(process->Append("a", {Fed(0, {4})}).ok());
  EXPECT_EQ(Window(process->session("a")), (std::vector<int32_t>{4}));
}

TEST_F(SessionStoreTest, ASessionBeginsInOneCommit) {
  auto process = Start();
  const auto row = process->Create(
      "a", Created(1), {InputReceived{.text = "go"}, StateChanged{.state = SessionState::kRunning}});
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->state, SessionState::kRunning);
  EXPECT_EQ(row->last_seq, 3u);
  EXPECT_TRUE(absl::IsInternal(process->Create("b", Created(2), {TimerEnded{.timer = "t"}}).status()));
  EXPECT_TRUE(absl::IsNotFound(process->Get("b").status()));
}

TEST_F(SessionStoreTest, ListsAreFiltered) {
  auto process = Start();
  for (uint8_t i = 0; i < 6; ++i) {
    clock_.Advance(base::kNsPerSecond);
    const SessionState state = i % 2 == 0 ? SessionState::kPaused : SessionState::kRunning;
    ASSERT_TRUE(process->Create("s" + std::to_string(i), Created(i), {StateChanged{.state = state}}).ok());
  }
  const auto archive = [&](const std::string& id, bool archived) {
    return process->Ask<SessionRow>(
        [&](auto done) { process->store().Archive(id, archived, std::move(done)); });
  };
  ASSERT_TRUE(archive("s4", true)->archived);
  const auto list = [&](const SessionFilter& filter) {
    std::string ids;
    std::string token;
    do {
      const auto page = process->Ask<SessionPage>(
          [&](auto done) { process->store().List(filter, 2, token, std::move(done)); });
      EXPECT_TRUE(page.ok()) << page.status();
      for (const SessionRow& row : page->sessions) ids += row.id + (row.archived ? "* " : " ");
      token = page->next_page_token;
    } while (!token.empty());
    return ids;
  };
  EXPECT_EQ(list({}), "s5 s3 s2 s1 s0 ");
  EXPECT_EQ(list({.states = {SessionState::kPaused}}), "s2 s0 ");
  EXPECT_EQ(list({.states = {SessionState::kPaused}, .archived = true}), "s4* s2 s0 ");
  EXPECT_EQ(list({.states = {SessionState::kIdle, SessionState::kRunning}}), "s5 s3 s1 ");
  EXPECT_FALSE(archive("s4", false)->archived);
  EXPECT_EQ(list({.states = {SessionState::kPaused}}), "s4 s2 s0 ");
  EXPECT_TRUE(absl::IsNotFound(archive("none", true).status()));
}

TEST_F(SessionStoreTest, ASummaryStandsInTheRowAndMovesNothing) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  const int64_t updated = process->Get("a")->updated_utc_ms;
  clock_.Advance(base::kNsPerSecond);
  process->session("a").NoteSummary("{\"goal\":\"x\"}");
  process->executor().RunUntilIdle();
  EXPECT_EQ(process->Get("a")->summary, "{\"goal\":\"x\"}");
  EXPECT_EQ(process->Get("a")->updated_utc_ms, updated);
  EXPECT_EQ(process->Get("a")->last_seq, 1u);
  process->Close("a");
  ASSERT_TRUE(process->OpenSession("a").ok());
  EXPECT_EQ(process->session("a").summary(), "{\"goal\":\"x\"}");
  EXPECT_TRUE(process->Append("a", {Fed(0, {1})}).ok());
  EXPECT_EQ(process->Get("a")->summary, "{\"goal\":\"x\"}");
}

// A hint that a full disk refuses is none; the log goes on.
TEST_F(SessionStoreTest, ASummaryThatFailsHarmsNothing) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  fs_.FailNext(test::SimOp::kWrite, "holdfast.db", ENOSPC);
  process->session("a").NoteSummary("x");
  process->executor().RunUntilIdle();
  EXPECT_EQ(process->Get("a")->summary, "");
  EXPECT_TRUE(process->Append("a", {Fed(0, {1})}).ok());
}

TEST_F(SessionStoreTest, RequestsStayDoneBehindARewindAndAreNotAForks) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1), {RequestDone{.request_id = "c", .what = "create"}}).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  ASSERT_TRUE(process
                  ->Append("a", {InputReceived{.request_id = "r", .text = "x"},
                                 RequestDone{.request_id = "r", .what = "send"}})
                  .ok());                                                                            // 3, 4
  ASSERT_TRUE(process->Rewind("a", 2, {RequestDone{.request_id = "back", .what = "rewind"}}).ok());  // 5 to 7
  const auto check = [&] {
    const SessionFacts& facts = process->session("a").facts();
    EXPECT_EQ(facts.FindRequest("c"), (DoneRequest{.seq = 2, .what = "create"}));
    EXPECT_EQ(facts.FindRequest("r"), (DoneRequest{.seq = 4, .what = "send"}));
    EXPECT_EQ(facts.FindRequest("back"), (DoneRequest{.seq = 7, .what = "rewind"}));
    EXPECT_EQ(facts.FindRequest("other"), std::nullopt);
    EXPECT_EQ(facts.last_seq(), 7u);
  };
  check();
  ASSERT_TRUE(process->Rewind("a", 2).ok());
  EXPECT_EQ(process->session("a").facts().FindRequest("back")->seq, 7u);
  process = nullptr;
  process = Start();
  ASSERT_TRUE(process->OpenSession("a").ok());
  EXPECT_EQ(process->session("a").facts().FindRequest("r")->seq, 4u);
  EXPECT_EQ(process->session("a").facts().FindRequest("back")->seq, 7u);

  SessionCreated fork = Created(2);
  fork.parent = SessionUid{std::byte{1}};
  fork.parent_seq = 9;
  ASSERT_TRUE(process->Create("b", fork, {RequestDone{.request_id = "f", .what = "fork"}}).ok());
  ASSERT_TRUE(process->OpenSession("b").ok());
  EXPECT_EQ(process->session("b").facts().FindRequest("r"), std::nullopt);
  EXPECT_EQ(process->session("b").facts().FindRequest("c"), std::nullopt);
  EXPECT_EQ(process->session("b").facts().FindRequest("f")->what, "fork");
}

TEST_F(SessionStoreTest, ListIsPagedByLastUpdate) {
  auto process = Start();
  for (uint8_t i = 0; i < 7; ++i) {
    clock_.Advance(base::kNsPerSecond);
    ASSERT_TRUE(process->Create("s" + std::to_string(i), Created(i)).ok());
  }
  ASSERT_TRUE(
      process->Ask<SessionRow>([&](auto done) { process->store().Archive("s3", true, std::move(done)); })
          .ok());
  std::vector<std::string> ids;
  std::string token;
  do {
    const auto page =
        process->Ask<SessionPage>([&](auto done) { process->store().List({}, 2, token, std::move(done)); });
    ASSERT_TRUE(page.ok()) << page.status();
    for (const SessionRow& row : page->sessions) ids.push_back(row.id);
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_EQ(ids, (std::vector<std::string>{"s6", "s5", "s4", "s2", "s1", "s0"}));
  for (const std::string bad : {"x", "1", "1.", "1.x", ".1", "1.2.3"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        process->Ask<SessionPage>([&](auto done) { process->store().List({}, 2, bad, std::move(done)); })
            .status()))
        << bad;
  }
}

TEST_F(SessionStoreTest, ForkSharesTheHistoryUpToItsEvent) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  ASSERT_TRUE(process->Append("a", {Fed(0, {1, 2}), Fed(2, {3})}).ok());  // 2, 3
  SessionCreated fork = Created(2);
  fork.parent = SessionUid{std::byte{1}};
  fork.parent_seq = 2;
  fork.stream = 5;
  ASSERT_TRUE(process->Create("b", fork).ok());
  ASSERT_TRUE(process->Append("a", {Fed(3, {4})}).ok());
  ASSERT_TRUE(process->OpenSession("b").ok());
  EXPECT_EQ(Window(process->session("b")), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(process->session("b").facts().tokens().stream(), 5u);
  ASSERT_TRUE(process->Append("b", {Fed(2, {9})}).ok());
  EXPECT_EQ(Window(process->session("b")), (std::vector<int32_t>{1, 2, 9}));
  EXPECT_EQ(Window(process->session("a")), (std::vector<int32_t>{1, 2, 3, 4}));
  // The numbers of a fork go on without a gap, its parent's events among them.
  const auto events = *process->Read("b", 0, 100);
  ASSERT_EQ(events.size(), 4u);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].seq, i + 1);
  EXPECT_TRUE(std::holds_alternative<SessionCreated>(events[2].body));
  EXPECT_EQ(process->Read("b", 2, 1)->size(), 1u);
  EXPECT_EQ(process->Get("b")->parent, "a");

  SessionCreated lost = Created(3);
  lost.parent = SessionUid{std::byte{1}};
  lost.parent_seq = 99;
  EXPECT_TRUE(absl::IsNotFound(process->Create("c", lost).status()));
  lost.parent = SessionUid{std::byte{77}};
  lost.parent_seq = 1;
  EXPECT_TRUE(absl::IsNotFound(process->Create("c", lost).status()));
}

TEST_F(SessionStoreTest, RewindGoesBackAndKeepsTheRecord) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  ASSERT_TRUE(process->Append("a", {Fed(0, {1, 2}), Fed(2, {3})}).ok());
  ASSERT_TRUE(process->Append("a", {StateChanged{.state = SessionState::kRunning}}).ok());
  ASSERT_TRUE(process->Rewind("a", 2).ok());
  EXPECT_EQ(Window(process->session("a")), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(process->session("a").facts().state(), SessionState::kIdle);
  ASSERT_TRUE(process->Append("a", {Fed(2, {8})}).ok());
  process->Close("a");
  ASSERT_TRUE(process->OpenSession("a").ok());
  EXPECT_EQ(Window(process->session("a")), (std::vector<int32_t>{1, 2, 8}));
  EXPECT_EQ(process->session("a").facts().tokens().stream(), 9u);
  EXPECT_EQ(process->Read("a", 0, 100)->size(), 7u);
  // Of a fork, behind where it was forked.
  SessionCreated fork = Created(2);
  fork.parent = SessionUid{std::byte{1}};
  fork.parent_seq = 7;
  ASSERT_TRUE(process->Create("b", fork).ok());
  ASSERT_TRUE(process->OpenSession("b").ok());
  EXPECT_EQ(Window(process->session("b")), (std::vector<int32_t>{1, 2, 8}));
  ASSERT_TRUE(process->Rewind("b", 2).ok());
  EXPECT_EQ(Window(process->session("b")), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(Window(process->session("a")), (std::vector<int32_t>{1, 2, 8}));
}

TEST_F(SessionStoreTest, AlteredEventIsNamed) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  ASSERT_TRUE(process->Append("a", {Fed(0, {1, 2}), TurnFinished{.reason = "x"}}).ok());
  process->Close("a");
  memory::SqliteConnection& writer = process->database().writer();
  const auto broken = [&](const char* sql, const char* named) {
    ASSERT_TRUE(writer.Execute("SAVEPOINT s").ok());
    ASSERT_TRUE(writer.Execute(sql).ok());
    const base::Status status = process->OpenSession("a");
    EXPECT_TRUE(absl::IsDataLoss(status)) << sql << ": " << status;
    EXPECT_NE(base::Message(status).find(named), std::string::npos) << status;
    ASSERT_TRUE(writer.Execute("ROLLBACK TO s; RELEASE s").ok());
  };
  broken("UPDATE event SET utc_ms = utc_ms + 1 WHERE seq = 2", "event 2");
  broken("UPDATE event SET body = x'0161' WHERE seq = 3", "event 3");
  broken("DELETE FROM event WHERE seq = 2", "event 2");
  broken("DELETE FROM event WHERE seq = 3", "event 3");
  broken("UPDATE event SET kind = 99 WHERE seq = 3", "event 3");
  broken("UPDATE event SET chain = x'00' WHERE seq = 3", "event 3");
  broken("UPDATE session SET chain = zeroblob(32)", "rebuild");
  EXPECT_TRUE(process->OpenSession("a").ok());
}

TEST_F(SessionStoreTest, RebuildPutsTheRowRight) {
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(1)).ok());
  ASSERT_TRUE(process->OpenSession("a").ok());
  ASSERT_TRUE(process->Append("a", {StateChanged{.state = SessionState::kPaused, .reason = "STORAGE"}}).ok());
  process->Close("a");
  EXPECT_EQ(*process->Rebuild("a"), 0);
  ASSERT_TRUE(process->database()
                  .writer()
                  .Execute("UPDATE session SET state = 2, reason = '', chain = zeroblob(32)")
                  .ok());
  EXPECT_EQ(*process->Rebuild("a"), 3);
  EXPECT_EQ(process->Get("a")->state, SessionState::kPaused);
  EXPECT_TRUE(process->OpenSession("a").ok());
}

// What is acknowledged is there after a crash at any write; of what is not, all of an append or nothing.
TEST(SessionStoreCrashTest, AcknowledgedEventsSurviveACrashAnywhere) {
  uint64_t crashes = 0;
  for (const uint64_t seed : TestSeeds(6)) {
    for (uint64_t at = 1;; ++at) {
      SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed << " mutation " << at);
      test::SimClock clock;
      test::SimFileSystem fs(clock, {.seed = seed});
      ASSERT_TRUE(fs.CreateDirectories("/data").ok());
      std::map<std::string, size_t> acknowledged;  // appends, of two events each, by session
      std::map<std::string, size_t> asked;
      {
        Process process(fs, clock, seed);
        ASSERT_TRUE(process.status().ok());
        for (const char* id : {"a", "b"}) {
          ASSERT_TRUE(process.Create(id, Created(static_cast<uint8_t>(*id))).ok());
          ASSERT_TRUE(process.OpenSession(id).ok());
        }
        fs.CrashAtMutation(at);
        for (int i = 0; i < 6; ++i) {
          for (const std::string id : {"a", "b"}) {
            const auto n = static_cast<int32_t>(asked[id]++);
            process.session(id).Append({Fed(n, {n}), TurnFinished{.reason = std::to_string(n)}},
                                       [&acknowledged, id](const base::Status& status) {
                                         if (status.ok()) ++acknowledged[id];
                                       });
          }
          for (uint64_t n = seed % 3 + 1; n > 0; --n) process.executor().RunOne(clock.MonotonicNow());
        }
        process.executor().RunUntilIdle();
      }
      const bool crashed = fs.crashed();
      fs.Crash();
      fs.Restart();
      Process process(fs, clock, seed);
      ASSERT_TRUE(process.status().ok()) << process.status();
      for (const std::string id : {"a", "b"}) {
        ASSERT_TRUE(process.OpenSession(id).ok());
        const uint64_t events = process.session(id).facts().last_seq() - 1;
        EXPECT_EQ(events % 2, 0u) << "half an append";
        EXPECT_GE(events / 2, acknowledged[id]);
        EXPECT_LE(events / 2, asked[id]);
        EXPECT_EQ(static_cast<uint64_t>(process.session(id).facts().tokens().position()), events / 2);
      }
      if (!crashed) break;
      ++crashes;
    }
  }
  EXPECT_GT(crashes, 100u);
}

// A fork of a session that was rewound, at work.
std::pair<SessionUid, std::vector<Event>> LogFromElsewhere() {
  test::SimClock clock;
  test::SimFileSystem fs(clock);
  EXPECT_TRUE(fs.CreateDirectories("/data").ok());
  Process process(fs, clock);
  EXPECT_TRUE(process.Create("a", Created(1)).ok());
  EXPECT_TRUE(process.OpenSession("a").ok());
  EXPECT_TRUE(process.Append("a", {Fed(0, {1, 2}), Fed(2, {3})}).ok());
  EXPECT_TRUE(process.Rewind("a", 2).ok());
  SessionCreated fork = Created(2);
  fork.parent = Created(1).uid;
  fork.parent_seq = 4;
  EXPECT_TRUE(process.Create("b", fork).ok());
  EXPECT_TRUE(process.OpenSession("b").ok());
  EXPECT_TRUE(process.Append("b", {Fed(2, {9}), StateChanged{.state = SessionState::kRunning}}).ok());
  return {fork.uid, *process.Read("b", 0, 100)};
}

TEST_F(SessionStoreTest, ImportIsTheSameHistoryAndRests) {
  const auto [uid, log] = LogFromElsewhere();
  {
    auto process = Start();
    const auto row = process->Import("c", uid, log);
    ASSERT_TRUE(row.ok()) << row.status();
    EXPECT_EQ(row->uid, uid);
    EXPECT_EQ(row->state, SessionState::kPaused);
    EXPECT_EQ(row->reason, "IMPORTED");
    EXPECT_EQ(row->parent, "");
  }
  auto process = Start();
  std::vector<Event> events = *process->Read("c", 0, 100);
  ASSERT_EQ(events.size(), log.size() + 1);
  events.pop_back();
  EXPECT_EQ(events, log);
  ASSERT_TRUE(process->OpenSession("c").ok());
  EXPECT_EQ(Window(process->session("c")), (std::vector<int32_t>{1, 2, 9}));
  EXPECT_TRUE(process->Append("c", {Fed(3, {10})}).ok());
  EXPECT_EQ(*process->Rebuild("c"), 0);
}

TEST_F(SessionStoreTest, ImportIsRefusedForWhatIsHereOrIsNoLog) {
  const auto [uid, log] = LogFromElsewhere();
  auto process = Start();
  ASSERT_TRUE(process->Create("a", Created(7)).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(process->Import("a", uid, log).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(process->Import("A", uid, log).status()));
  EXPECT_TRUE(absl::IsDataLoss(process->Import("c", SessionUid{std::byte{5}}, log).status()));
  EXPECT_TRUE(absl::IsDataLoss(process->Import("c", uid, {}).status()));
  std::vector<Event> altered = log;
  altered[1].utc_ms += 1;
  EXPECT_TRUE(absl::IsDataLoss(process->Import("c", uid, altered).status()));
  std::vector<Event> gap = log;
  gap.erase(gap.begin() + 2);
  EXPECT_TRUE(absl::IsDataLoss(process->Import("c", uid, gap).status()));
  // Nothing is left of those.
  EXPECT_TRUE(process->Import("c", uid, log).ok());
  const auto again = process->Import("d", uid, log);
  EXPECT_TRUE(absl::IsAlreadyExists(again.status())) << again.status();
  EXPECT_NE(base::Message(again.status()).find("as c"), std::string::npos);
}

TEST(SessionStoreCrashTest, ImportIsThereWholeOrNotAtAll) {
  const auto [uid, log] = LogFromElsewhere();
  uint64_t crashes = 0;
  for (uint64_t at = 1;; ++at) {
    SCOPED_TRACE(testing::Message() << "crash at mutation " << at);
    test::SimClock clock;
    test::SimFileSystem fs(clock, {.seed = at});
    ASSERT_TRUE(fs.CreateDirectories("/data").ok());
    ASSERT_TRUE(Process(fs, clock).status().ok());
    fs.CrashAtMutation(at);
    bool acknowledged = false;
    {
      Process process(fs, clock);
      if (process.status().ok()) acknowledged = process.Import("c", uid, log).ok();
    }
    const bool crashed = fs.crashed();
    fs.Crash();
    fs.Restart();
    Process process(fs, clock);
    ASSERT_TRUE(process.status().ok()) << process.status();
    const bool there = process.Get("c").ok();
    EXPECT_TRUE(there || !acknowledged);
    if (there) {
      EXPECT_EQ(process.Read("c", 0, 100)->size(), log.size() + 1);
      EXPECT_TRUE(process.OpenSession("c").ok());
    } else {
      EXPECT_TRUE(process.Import("c", uid, log).ok());
    }
    if (!crashed) break;
    ++crashes;
  }
  EXPECT_GT(crashes, 20u);
}

}  // namespace
}  // namespace holdfast::sessions
