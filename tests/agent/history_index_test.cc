#include "agent/history_index.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/agent_event.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memory/text_index.h"
#include "sessions/session_store.h"
#include "sessions/token_log.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::agent {
namespace {

using sessions::CallIntent;
using sessions::CallOutcome;
using sessions::EventBody;
using sessions::InputKind;
using sessions::InputReceived;
using sessions::TokenOrigin;
using sessions::TokenRun;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

std::string Words(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += (text.empty() ? "t" : " t") + std::to_string(id);
  return text;
}

// A turn of tokens 3, 4 says "t3 t4", and stands in the window as "<t3 t4>".
TurnTexts Texts() {
  return {.said = Words, .bytes = [](std::span<const int32_t> ids) { return "<" + Words(ids) + ">"; }};
}

EventBody Message(std::string text, InputKind kind = InputKind::kMessage) {
  return InputReceived{.kind = kind, .text = std::move(text)};
}
EventBody Intent(const std::string& call, std::string arguments, std::string tool = "bash@2") {
  return CallIntent{.call = call,
                    .tool = std::move(tool),
                    .arguments = std::move(arguments),
                    .effect = sessions::CallEffect::kIdempotent,
                    .contained = true};
}
EventBody Outcome(const std::string& call, std::string text) {
  return CallOutcome{.call = call, .text = std::move(text)};
}

// One process over a database, until it ends. Its lanes run when it is waited for.
class Process {
 public:
  Process(base::FileSystem& fs, test::SimClock& clock, uint64_t seed = 1, HistoryIndexOptions options = {})
      : executor_(clock, {.seed = seed}) {
    auto database = memory::SqliteDatabase::Open(
        fs, {.path = "/data/holdfast.db"},
        {sessions::SessionSchema(), memory::TextIndex::kSchema, HistorySchema()}, clock);
    EXPECT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    store_ = *sessions::SessionStore::Open(executor_, clock, *database_);
    index_ = *HistoryIndex::Open(executor_, *database_, *store_, options);
  }
  ~Process() { opened_.clear(); }

  template <class T, class Call>
  base::StatusOr<T> Ask(Call call) {
    std::optional<base::StatusOr<T>> got;
    call([&got](base::StatusOr<T> answer) { got.emplace(std::move(answer)); });
    EXPECT_FALSE(got.has_value()) << "answered from within the method";
    executor_.RunUntilIdle();
    EXPECT_TRUE(got.has_value());
    return *std::move(got);
  }

  void Create(const std::string& id, sessions::SessionCreated created) {
    const auto row =
        Ask<sessions::SessionRow>([&](auto done) { store_->Create(id, created, {}, std::move(done)); });
    ASSERT_TRUE(row.ok()) << row.status();
  }
  sessions::StoredSession& Session(const std::string& id) {
    if (!opened_.contains(id)) {
      auto session = Ask<std::unique_ptr<sessions::StoredSession>>(
          [&](auto done) { store_->OpenSession(id, nullptr, std::move(done)); });
      EXPECT_TRUE(session.ok()) << session.status();
      opened_[id] = *std::move(session);
    }
    return *opened_[id];
  }
  // The number of the last event.
  uint64_t Append(const std::string& id, std::vector<EventBody> bodies) {
    base::Status got;
    Session(id).Append(std::move(bodies), [&got](base::Status status) { got = std::move(status); });
    executor_.RunUntilIdle();
    EXPECT_TRUE(got.ok()) << got;
    return Session(id).facts().last_seq();
  }
  uint64_t AppendTokens(const std::string& id, TokenOrigin origin, std::vector<int32_t> ids) {
    TokenRun run{
        .position = Session(id).facts().tokens().position(), .origin = origin, .ids = std::move(ids)};
    if (origin == TokenOrigin::kSampled) run.sampling.emplace();
    if (origin == TokenOrigin::kForced) run.rule = sessions::ForcedRule::kInterrupted;
    return Append(id, {run});
  }
  void Rewind(const std::string& id, uint64_t to_seq) {
    base::Status got;
    Session(id).Rewind(to_seq, 9, {}, [&got](base::Status status) { got = std::move(status); });
    executor_.RunUntilIdle();
    ASSERT_TRUE(got.ok()) << got;
  }
  std::vector<sessions::Event> Events(const std::string& id) {
    return *Ask<std::vector<sessions::Event>>(
        [&](auto done) { store_->ReadEvents(id, 0, 1'000'000, std::move(done)); });
  }

  base::Status Update(const std::string& id, bool anew = false) {
    base::Status got = absl::UnknownError("no answer");
    const auto done = [&got](base::Status status) { got = std::move(status); };
    anew ? index_->Rebuild(id, Texts(), done) : index_->Update(id, Texts(), done);
    executor_.RunUntilIdle();
    return got;
  }
  base::StatusOr<std::vector<RecallHit>> Search(const std::string& id, const std::string& query,
                                                size_t count = 10) {
    return Ask<std::vector<RecallHit>>(
        [&](auto done) { index_->Search(id, Texts(), query, count, std::move(done)); });
  }
  base::StatusOr<std::string> Fetch(const std::string& id, uint64_t seq) {
    return Ask<std::string>([&](auto done) { index_->Fetch(id, Texts(), seq, std::move(done)); });
  }
  // "5 user", ...
  std::vector<std::string> Found(const std::string& id, const std::string& query) {
    const auto hits = Search(id, query, 100);
    EXPECT_TRUE(hits.ok()) << hits.status();
    std::vector<std::string> found;
    for (const RecallHit& hit : hits.value_or(std::vector<RecallHit>()))
      found.push_back(std::to_string(hit.seq) + " " + hit.kind);
    return found;
  }

  HistoryIndex& index() { return *index_; }
  test::SimExecutor& executor() { return executor_; }
  memory::SqliteDatabase& database() { return *database_; }

 private:
  test::SimExecutor executor_;
  std::unique_ptr<memory::SqliteDatabase> database_;
  std::unique_ptr<sessions::SessionStore> store_;
  std::unique_ptr<HistoryIndex> index_;
  std::map<std::string, std::unique_ptr<sessions::StoredSession>> opened_;
};

class HistoryIndexTest : public ::testing::Test {
 protected:
  HistoryIndexTest() {
    EXPECT_TRUE(fs_.CreateDirectories("/data").ok());
    Start();
    process_->Create("s", {.uid = {std::byte{1}}});
  }
  void Start(HistoryIndexOptions options = {}) {
    process_.reset();
    process_ = std::make_unique<Process>(fs_, clock_, 1, options);
  }
  uint64_t Append(std::vector<EventBody> bodies) { return process_->Append("s", std::move(bodies)); }
  uint64_t Sampled(std::vector<int32_t> ids) {
    return process_->AppendTokens("s", TokenOrigin::kSampled, std::move(ids));
  }
  uint64_t Fed() { return process_->AppendTokens("s", TokenOrigin::kFed, {1}); }
  std::vector<std::string> Found(const std::string& query) { return process_->Found("s", query); }
  std::string Fetch(uint64_t seq) {
    const auto text = process_->Fetch("s", seq);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.value_or("");
  }
  bool IsThere(uint64_t seq) {
    const auto text = process_->Fetch("s", seq);
    EXPECT_TRUE(text.ok() || absl::IsNotFound(text.status())) << text.status();
    return text.ok();
  }

  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
  std::unique_ptr<Process> process_;
};

TEST_F(HistoryIndexTest, FindsWhatCameInByItsKind) {
  Append({Message("apple one"), Message("apple two", InputKind::kSteer), Message("apple", InputKind::kSignal),
          Message("apple", InputKind::kNotice), Message("apple", InputKind::kReminder)});
  EXPECT_THAT(Found("apple"), UnorderedElementsAre("2 user", "3 user", "4 signal", "5 notice"));
  EXPECT_THAT(Found("APPLE two"), ElementsAre("3 user"));
  EXPECT_EQ(Fetch(3), "apple two");
  EXPECT_FALSE(IsThere(6));
  EXPECT_FALSE(IsThere(1));
  EXPECT_FALSE(IsThere(1000));
  EXPECT_FALSE(IsThere(UINT64_MAX));
}

TEST_F(HistoryIndexTest, FindsCallsByTheWordsOfTheirArguments) {
  Append({Intent("c1", R"({"command":"make\ncheck","timeout":70000})"), Outcome("c1", "all 12 passed\n")});
  EXPECT_THAT(Found("check"), ElementsAre("2 call"));  // not "ncheck"
  EXPECT_THAT(Found("bash 70000"), ElementsAre("2 call"));
  EXPECT_THAT(Found("12 passed"), ElementsAre("3 result"));
  EXPECT_EQ(Fetch(2), R"(bash {"command":"make\ncheck","timeout":70000})");
  EXPECT_EQ(Fetch(3), "all 12 passed\n");
}

TEST_F(HistoryIndexTest, FindsWhatTheAgentPutsOnRecord) {
  Append({Encode(GoalSet{.text = "quince goal"}), Encode(NoteTaken{.text = "quince note"}),
          Encode(PlanSet{.items = {{"peel the quince", "active"}}}),
          Encode(GoalChanged{.claim = "done", .evidence = "quince peeled"}),
          Encode(CheckRan{.command = "make quince", .when = "end", .text = "exit 0"}),
          Encode(GoalChanged{.state = GoalState::kSucceeded, .reason = "quince"}),
          Encode(Opening{.texts = {"quince"}}), sessions::AgentEvent{.kind = 9999, .payload = "quince"},
          sessions::AgentEvent{.kind = 257, .payload = "{quince"}});
  EXPECT_THAT(Found("quince"), UnorderedElementsAre("2 goal", "3 note", "4 plan", "5 goal", "6 check"));
  EXPECT_EQ(Fetch(4), "active: peel the quince\n");
  EXPECT_EQ(Fetch(5), "done: quince peeled");
}

// A recall would find itself before all else.
TEST_F(HistoryIndexTest, CallsOfControlToolsAreNoDocuments) {
  Append({Intent("c1", R"({"query":"plum"})", "recall@1")});
  EXPECT_THAT(Found("plum"), IsEmpty());  // asked for by that call
  Append({Outcome("c1", "event 9, user: plum\n"), Intent("c2", R"({"text":"plum"})", "note@1"),
          Encode(NoteTaken{.text = "plum"}), Outcome("c2", "noted plum"), Message("plum")});
  EXPECT_THAT(Found("plum"), UnorderedElementsAre("5 note", "7 user"));
}

TEST_F(HistoryIndexTest, ATurnIsOneDocumentOfAllItsRuns) {
  Fed();
  Sampled({3, 4});
  Sampled({5});
  EXPECT_THAT(Found("t4"), IsEmpty());  // has not ended
  Append({sessions::TurnFinished{}});
  EXPECT_THAT(Found("t3 t5"), ElementsAre("4 said"));
  EXPECT_EQ(Fetch(4), "<t3 t4 t5>");
  EXPECT_FALSE(IsThere(3));
  Fed();
  Sampled({6});
  Append({Intent("c1", "{}")});  // ends it too
  EXPECT_THAT(Found("t6"), ElementsAre("7 said"));
  EXPECT_THAT(Found("t3"), ElementsAre("4 said"));
}

TEST_F(HistoryIndexTest, OfATurnThatIsClosedByRuleTheTokensThatStayCount) {
  Sampled({3, 4, 5});
  Append({sessions::TokensCut{.position = 1, .count = 2}});
  process_->AppendTokens("s", TokenOrigin::kForced, {7});
  Fed();
  EXPECT_THAT(Found("t3 t7"), ElementsAre("4 said"));
  EXPECT_THAT(Found("t4"), IsEmpty());
  EXPECT_EQ(Fetch(4), "<t3 t7>");
}

TEST_F(HistoryIndexTest, WhatIsRewoundIsFoundNoMore) {
  const uint64_t kept = Append({Message("pear kept")});
  const uint64_t lost = Append({Message("pear lost")});
  EXPECT_THAT(Found("pear"), SizeIs(2));
  process_->Rewind("s", kept);
  EXPECT_THAT(Found("pear"), ElementsAre(std::to_string(kept) + " user"));
  EXPECT_FALSE(IsThere(lost));
  Append({Message("pear new")});
  EXPECT_THAT(Found("pear"), SizeIs(2));
}

TEST_F(HistoryIndexTest, ARewindIntoATurnKeepsItsBeginning) {
  Sampled({3});
  const uint64_t middle = Sampled({4});
  Sampled({5});
  const uint64_t end = Append({sessions::TurnFinished{}});
  Append({Message("later")});
  EXPECT_THAT(Found("t5"), ElementsAre("4 said"));
  process_->Rewind("s", middle);
  EXPECT_THAT(Found("t5"), IsEmpty());
  EXPECT_THAT(Found("later"), IsEmpty());
  const uint64_t last = Sampled({6});
  Append({sessions::TurnFinished{}});
  EXPECT_THAT(Found("t3 t4 t6"), ElementsAre(std::to_string(last) + " said"));
  EXPECT_EQ(Fetch(last), "<t3 t4 t6>");
  EXPECT_FALSE(IsThere(end));
}

TEST_F(HistoryIndexTest, AForkFindsItsParentsHistoryUpToTheFork) {
  const uint64_t at = Append({Message("fig before")});
  Append({Message("fig after")});
  process_->Create("fork",
                   {.uid = {std::byte{2}}, .parent = sessions::SessionUid{std::byte{1}}, .parent_seq = at});
  process_->Append("fork", {Message("fig of the fork")});
  EXPECT_THAT(process_->Found("fork", "fig"), UnorderedElementsAre("2 user", "4 user"));
  EXPECT_THAT(process_->Found("fork", "after"), IsEmpty());
  EXPECT_THAT(Found("fig"), UnorderedElementsAre("2 user", "3 user"));
  EXPECT_THAT(Found("fork"), IsEmpty());  // only this session's history
  process_->Rewind("fork", 1);
  EXPECT_THAT(process_->Found("fork", "fig"), IsEmpty());
  EXPECT_THAT(Found("fig"), SizeIs(2));
}

TEST_F(HistoryIndexTest, HostileTextIsGivenByteForByte) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const std::string huge = "start " + std::string(3 << 20, 'x') + " end";
  Append({Message("olive " + all), Message(huge), Message(std::string("a\0olive\0b", 9))});
  EXPECT_EQ(Fetch(2), "olive " + all);
  EXPECT_EQ(Fetch(3), huge);
  EXPECT_EQ(Fetch(4), std::string("a\0olive\0b", 9));
  EXPECT_THAT(Found("start"), ElementsAre("3 user"));
  EXPECT_THAT(Found("end"), IsEmpty());  // behind the first MiB
  EXPECT_THAT(Found("olive"), UnorderedElementsAre("2 user", "4 user"));
  const auto hits = process_->Search("s", "olive");
  for (const RecallHit& hit : *hits) EXPECT_LE(hit.excerpt.size(), 240u);
}

TEST_F(HistoryIndexTest, NoQueryIsWrong) {
  Append({Message("x")});
  for (const std::string& query : std::vector<std::string>{
           "", "\"", "AND", "x OR", "place : s", "{place} : x", "text:", "NEAR(", "*", "x*", "-x", "^",
           "'); DROP", std::string("\0", 1), "\xff", std::string(100'000, '(')}) {
    EXPECT_TRUE(process_->Search("s", query).ok()) << query;
  }
  EXPECT_EQ(process_->Search("s", "x", 0).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HistoryIndexTest, ASessionThatIsNotThereIsSaid) {
  EXPECT_TRUE(absl::IsNotFound(process_->Search("none", "x").status()));
  EXPECT_TRUE(absl::IsNotFound(process_->Fetch("none", 1).status()));
  EXPECT_TRUE(absl::IsNotFound(process_->Update("none")));
}

TEST_F(HistoryIndexTest, ADatabaseWithoutTheSchemaIsSaid) {
  test::SimFileSystem fs(clock_);
  ASSERT_TRUE(fs.CreateDirectories("/d").ok());
  auto database = memory::SqliteDatabase::Open(fs, {.path = "/d/x.db"}, {sessions::SessionSchema()}, clock_);
  ASSERT_TRUE(database.ok());
  test::SimExecutor executor(clock_, {});
  auto store = sessions::SessionStore::Open(executor, clock_, **database);
  EXPECT_FALSE(HistoryIndex::Open(executor, **database, **store).ok());
}

// Damage is put right by making it anew.
TEST_F(HistoryIndexTest, IsMadeAnewFromTheLog) {
  Sampled({3});
  Append({sessions::TurnFinished{}, Message("lemon")});
  ASSERT_TRUE(process_->Update("s").ok());
  ASSERT_TRUE(process_->database().writer().Execute("DELETE FROM history_document WHERE seq = 2").ok());
  EXPECT_FALSE(IsThere(2));
  ASSERT_TRUE(process_->Update("s", true).ok());
  EXPECT_EQ(Fetch(2), "<t3>");
  EXPECT_THAT(Found("t3"), ElementsAre("2 said"));
  EXPECT_THAT(Found("lemon"), SizeIs(1));
}

TEST_F(HistoryIndexTest, ManyMayAskAtOnce) {
  Append({Message("mango")});
  int answers = 0;
  const auto count = [&answers](const auto& got) {
    EXPECT_TRUE(got.ok());
    ++answers;
  };
  process_->index().Update("s", Texts(), count);
  process_->index().Search("s", Texts(), "mango", 10, count);
  process_->index().Rebuild("s", Texts(), count);
  process_->index().Fetch("s", Texts(), 2, count);
  process_->executor().RunUntilIdle();
  EXPECT_EQ(answers, 4);
}

TEST_F(HistoryIndexTest, AStartGoesOnWhereTheLastOneWas) {
  for (int i = 0; i < 50; ++i) Append({Message("kiwi number" + std::to_string(i))});
  ASSERT_TRUE(process_->Update("s").ok());
  Start();
  // What is not read again cannot come back.
  ASSERT_TRUE(process_->database().writer().Execute("DELETE FROM history_document WHERE seq = 5").ok());
  Append({Message("kiwi last")});
  EXPECT_THAT(Found("kiwi last"), ElementsAre("52 user"));
  EXPECT_FALSE(IsThere(5));
}

// --- Against a plain model: all live events, read from the beginning.

struct Expected {
  std::string kind;
  std::string text;  // as Fetch gives it
  bool operator==(const Expected&) const = default;
};

std::map<uint64_t, Expected> PlainModel(const std::vector<sessions::Event>& events) {
  std::vector<sessions::RewindPoint> rewinds;
  for (const auto& event : events)
    if (const auto* rewound = std::get_if<sessions::Rewound>(&event.body))
      rewinds.push_back({event.seq, rewound->to_seq});
  const auto live = sessions::LiveHistory(rewinds, events.back().seq);
  std::map<uint64_t, Expected> model;
  std::vector<int32_t> turn;
  uint64_t last = 0;
  for (const auto& event : events) {
    if (std::none_of(live.begin(), live.end(),
                     [&](const auto& range) { return range.first <= event.seq && event.seq <= range.last; }))
      continue;
    const auto* run = std::get_if<TokenRun>(&event.body);
    const bool sampled = run != nullptr && run->origin == TokenOrigin::kSampled;
    if (sampled) {
      turn.insert(turn.end(), run->ids.begin(), run->ids.end());
      last = event.seq;
    }
    const bool ends = (run != nullptr && !sampled) || std::holds_alternative<CallIntent>(event.body) ||
                      std::holds_alternative<sessions::TurnFinished>(event.body);
    if (ends && !turn.empty()) model[last] = {"said", "<" + Words(std::exchange(turn, {})) + ">"};
    if (const auto* input = std::get_if<InputReceived>(&event.body)) model[event.seq] = {"user", input->text};
    if (const auto* call = std::get_if<CallIntent>(&event.body))
      model[event.seq] = {"call", "bash " + call->arguments};
    if (const auto* outcome = std::get_if<CallOutcome>(&event.body))
      model[event.seq] = {"result", outcome->text};
  }
  return model;
}

class RandomHistory {
 public:
  explicit RandomHistory(uint64_t seed) : random_(seed) {}

  void Step(Process& process) {
    const auto& facts = process.Session("s").facts();
    const std::string word = "w" + std::to_string(++words_);
    switch (random_.Below(8)) {
      case 0:
        process.Append("s", {Message(word)});
        break;
      case 1:
      case 2:
      case 3:
        process.AppendTokens("s", TokenOrigin::kSampled, {static_cast<int32_t>(words_)});
        break;
      case 4:
        process.AppendTokens("s", TokenOrigin::kFed, {1});
        break;
      case 5:
        process.Append("s", {sessions::TurnFinished{}});
        break;
      case 6:
        if (facts.open_calls().empty()) {
          process.Append("s", {Intent(word, "{\"x\":\"" + word + "\"}")});
        } else {
          process.Append("s", {Outcome(facts.open_calls().front().intent.call, word)});
        }
        break;
      default:
        if (random_.Percent(40)) Rewind(process);
    }
  }

 private:
  void Rewind(Process& process) {
    const auto events = process.Events("s");
    std::vector<sessions::RewindPoint> rewinds;
    for (const auto& event : events)
      if (const auto* rewound = std::get_if<sessions::Rewound>(&event.body))
        rewinds.push_back({event.seq, rewound->to_seq});
    std::vector<uint64_t> live;
    for (const auto& range : sessions::LiveHistory(rewinds, events.back().seq))
      for (uint64_t seq = range.first; seq <= range.last; ++seq) live.push_back(seq);
    const size_t back = std::min<size_t>(live.size(), 1 + random_.Below(25));
    process.Rewind("s", live[live.size() - back]);
  }

  test::SeededRandom random_;
  int words_ = 9;
};

TEST(HistoryIndexPropertyTest, HoldsExactlyWhatCountsHoweverOftenItIsInterrupted) {
  for (const uint64_t seed : test::TestSeeds(12)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    test::SimClock clock;
    test::SimFileSystem fs(clock);
    ASSERT_TRUE(fs.CreateDirectories("/data").ok());
    const HistoryIndexOptions options{.read_events = 1 + random.Below(12), .batch_bytes_max = 16};
    auto process = std::make_unique<Process>(fs, clock, seed, options);
    process->Create("s", {.uid = {std::byte{1}}});
    RandomHistory history(seed);
    for (int round = 0; round < 6; ++round) {
      for (uint64_t i = random.Below(40); i > 0; --i) history.Step(*process);
      if (random.Percent(50)) {  // a process that dies on the way
        process->index().Update("s", Texts(), [](const base::Status&) {});
        for (uint64_t i = random.Below(30); i > 0; --i) process->executor().RunOne(clock.MonotonicNow());
        process = nullptr;
        process = std::make_unique<Process>(fs, clock, seed + static_cast<uint64_t>(round), options);
      }
      const auto events = process->Events("s");
      const auto model = PlainModel(events);
      std::map<uint64_t, Expected> found;
      for (const auto& event : events) {
        const auto text = process->Fetch("s", event.seq);
        if (!text.ok()) continue;
        const auto hits = process->Search("s", "\"" + *text + "\"", 100);
        ASSERT_TRUE(hits.ok());
        for (const RecallHit& hit : *hits)
          if (hit.seq == event.seq) found[event.seq] = {hit.kind, *text};
      }
      const auto calls = process->Search("s", "bash", 100);
      ASSERT_TRUE(calls.ok());
      for (const RecallHit& hit : *calls) ASSERT_TRUE(model.contains(hit.seq)) << hit.seq;
      ASSERT_EQ(found.size(), model.size());
      for (const auto& [seq, expected] : model) {
        EXPECT_EQ(found[seq].kind, expected.kind) << seq;
        EXPECT_EQ(found[seq].text, expected.text) << seq;
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::agent
