#include "agent/audit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "base/coding.h"
#include "sessions/session_facts.h"
#include "tests/agent/agent_testing.h"
#include "tests/model/text_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using sessions::Event;
using sessions::TokenOrigin;
using sessions::TokenRun;
using Log = std::vector<Event>;

// Says something more to a session that rests.
void SendMessage(World& world) {
  test::SimExecutor executor(world.clock, {});
  auto database = *memory::SqliteDatabase::Open(world.fs, {.path = "/data/holdfast.db"},
                                                {sessions::SessionSchema()}, world.clock);
  auto store = *sessions::SessionStore::Open(executor, world.clock, *database);
  std::unique_ptr<sessions::StoredSession> session;
  store->OpenSession("session", nullptr, [&session](auto opened) { session = *std::move(opened); });
  executor.RunUntilIdle();
  session->Append({sessions::InputReceived{.text = "go on"}},
                  [](const base::Status& status) { EXPECT_TRUE(status.ok()) << status; });
  executor.RunUntilIdle();
}

// A log that says something else than what happened, whose chain holds even so.
Log Rechained(Log log) {
  base::Sha256Digest chain = {};
  for (Event& event : log) {
    if (const auto* created = std::get_if<sessions::SessionCreated>(&event.body)) {
      chain = sessions::ChainRoot(created->uid);
    }
    const std::string body = EncodeBody(event.body);
    chain = sessions::NextChain(chain, event.seq, event.utc_ms, KindOf(event.body), base::AsBytes(body));
    event.chain = chain;
  }
  return log;
}

class AuditTest : public testing::Test {
 protected:
  // A session that has come to its end by itself.
  static const Log& Whole() {
    static const Log& log = *new Log([] {
      World world;
      world.Run(1, {});
      return world.Events();
    }());
    return log;
  }
  // One that was interrupted inside a block of calls, and went on.
  static const Log& Interrupted() {
    static const Log& log = *new Log([] {
      for (uint64_t steps = 40;; steps += 9) {
        World world;
        {
          SimProcess process(world.disk, world.fs, world.clock, steps);
          for (uint64_t i = 0; i < steps; ++i) process.Step();
          process.Interrupt();
          while (!process.rested()) process.Step();
        }
        Log events = world.Events();
        if (std::any_of(events.begin(), events.end(), [](const Event& event) {
              return std::holds_alternative<sessions::TokensCut>(event.body);
            })) {
          SendMessage(world);
          world.Run(1, {});
          return world.Events();
        }
      }
    }());
    return log;
  }

  AuditReport AuditOf(const Log& log) {
    AuditOptions options{.engine = ChaosModel::Get().engine(),
                         .tokenizer = model::SmallTokenizer(),
                         .numerics = numerics_,
                         .dialogue = &process_.dialogue(),
                         .narrow = NarrowEagerly,
                         .logit_rows = logit_rows_,
                         .progress = progress_};
    auto report = Audit(
        [&log](uint64_t after) -> base::StatusOr<Log> {
          const auto from =
              std::find_if(log.begin(), log.end(), [after](const Event& e) { return e.seq > after; });
          return Log(from, from + std::min<ptrdiff_t>(7, log.end() - from));
        },
        options);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : AuditReport();
  }

  // The events with a run of this origin.
  static std::vector<size_t> RunsOf(const Log& log, TokenOrigin origin) {
    std::vector<size_t> runs;
    for (size_t i = 0; i < log.size(); ++i) {
      const auto* run = std::get_if<TokenRun>(&log[i].body);
      if (run != nullptr && run->origin == origin) runs.push_back(i);
    }
    return runs;
  }

  // Changes one token of a run, and expects that exactly it is named.
  void FlipAndFind(const Log& good, size_t at, size_t token, const std::string& check) {
    Log log = good;
    auto& run = std::get<TokenRun>(log[at].body);
    const int32_t was = run.ids[token];
    run.ids[token] = was == 300 ? 301 : 300;
    const AuditReport report = AuditOf(Rechained(log));
    ASSERT_TRUE(report.finding.has_value());
    EXPECT_EQ(report.finding->seq, log[at].seq) << report.finding->text;
    EXPECT_EQ(report.finding->check, check) << report.finding->text;
    EXPECT_EQ(report.finding->position, run.position + static_cast<int64_t>(token)) << report.finding->text;
    EXPECT_EQ(report.finding->wanted, was) << report.finding->text;
    EXPECT_EQ(report.finding->found, run.ids[token]) << report.finding->text;
  }

  World world_;
  SimProcess process_{world_.disk, world_.fs, world_.clock, 1};  // never runs: has the prompt
  std::string numerics_;
  int32_t logit_rows_ = 32;
  std::function<bool(uint64_t, uint64_t)> progress_;
};

TEST_F(AuditTest, SessionIsProvenTokenByToken) {
  const AuditReport report = AuditOf(Whole());
  EXPECT_TRUE(report.proven()) << report.finding->text;
  sessions::SessionFacts facts;
  for (const Event& event : Whole()) ASSERT_TRUE(facts.Apply(event).ok());
  EXPECT_EQ(report.events, Whole().size());
  EXPECT_EQ(report.fed, facts.tokens().totals().fed);
  EXPECT_EQ(report.sampled, facts.tokens().totals().sampled);
  EXPECT_EQ(report.epochs, facts.tokens().epoch() + 1u);
  EXPECT_EQ(report.unaccounted, 0u);
}

TEST_F(AuditTest, SizeOfStepsChangesNothing) {
  for (const int32_t rows : {1, 5, 1000}) {
    logit_rows_ = rows;
    EXPECT_TRUE(AuditOf(Interrupted()).proven());
  }
}

TEST_F(AuditTest, InterruptedSessionIsProven) {
  const AuditReport report = AuditOf(Interrupted());
  EXPECT_TRUE(report.proven()) << report.finding->text;
  EXPECT_GT(report.forced, 0u);
  EXPECT_GT(report.cut, 0u);
  EXPECT_GT(RunsOf(Interrupted(), TokenOrigin::kSampled).back(),
            RunsOf(Interrupted(), TokenOrigin::kForced).front());
}

TEST_F(AuditTest, SeveralWindowsAreProven) {
  World world;
  world.disk.window_tokens_max = 2000;
  world.Run(1, {{.tasks = 700}});
  const AuditReport report = AuditOf(world.Events());
  EXPECT_TRUE(report.proven()) << report.finding->text;
  EXPECT_GT(report.epochs, 2u);
}

// A window that begins with a text, a turn of the window before, and what follows it.
TEST_F(AuditTest, TurnsThatAWindowKeepsAreProven) {
  const std::vector<size_t> fed = RunsOf(Whole(), TokenOrigin::kFed);
  const size_t at = fed[3];
  Log log(Whole().begin(), Whole().begin() + static_cast<ptrdiff_t>(at));
  sessions::SessionFacts facts;
  for (const Event& event : log) ASSERT_TRUE(facts.Apply(event).ok());
  const auto& last = std::get<TokenRun>(log[fed[2]].body);
  const int64_t from = last.position + static_cast<int64_t>(last.ids.size());
  const auto window = facts.tokens().window();
  TokenRun run = std::get<TokenRun>(Whole()[at].body);
  std::vector<int32_t> ids = *process_.dialogue().First(std::vector<Said>{{.text = "go on"}});
  ids.insert(ids.end(), window.begin() + from, window.end());
  ids.insert(ids.end(), run.ids.begin(), run.ids.end());
  run.position = 0;
  run.ids = ids;
  const Opening opening{
      .texts = {"go on"}, .kept_from = from, .kept_count = facts.tokens().position() - from};
  for (sessions::EventBody body : std::initializer_list<sessions::EventBody>{
           sessions::EpochStarted{.epoch = 1, .reason = "full"}, Encode(opening), run}) {
    log.push_back({.seq = log.back().seq + 1, .body = std::move(body)});
  }
  log = Rechained(log);
  const AuditReport report = AuditOf(log);
  EXPECT_TRUE(report.proven()) << report.finding->text;
  EXPECT_EQ(report.epochs, 2u);
  for (const size_t token : {size_t{3}, ids.size() / 2, ids.size() - 2}) {
    FlipAndFind(log, log.size() - 1, token, "fed");
  }
}

TEST_F(AuditTest, KilledSessionIsProven) {
  for (const uint64_t seed : test::TestSeeds(3)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    World world;
    world.Run(seed, {{.tasks = 120 + 31 * seed}, {.mutations = 40 + 17 * seed}, {.tasks = 260}});
    const Log log = world.Events();
    const AuditReport report = AuditOf(log);
    EXPECT_TRUE(report.proven()) << report.finding->text;
  }
}

TEST_F(AuditTest, FlippedTokenIsNamed) {
  for (const uint64_t seed : test::TestSeeds(4)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    for (const auto& [origin, check] :
         {std::pair(TokenOrigin::kSampled, "sampled"), std::pair(TokenOrigin::kFed, "fed"),
          std::pair(TokenOrigin::kForced, "forced")}) {
      const Log& log = Interrupted();
      const std::vector<size_t> runs = RunsOf(log, origin);
      ASSERT_FALSE(runs.empty());
      const size_t at = runs[random.Below(runs.size())];
      FlipAndFind(log, at, random.Below(std::get<TokenRun>(log[at].body).ids.size()), check);
    }
  }
}

TEST_F(AuditTest, TokenTooManyOrTooFewIsNamed) {
  const size_t at = RunsOf(Interrupted(), TokenOrigin::kForced).front();
  Log log = Interrupted();
  auto& run = std::get<TokenRun>(log[at].body);
  run.ids.push_back(300);
  AuditReport report = AuditOf(Rechained(log));
  ASSERT_TRUE(report.finding.has_value());
  EXPECT_EQ(report.finding->seq, log[at].seq);
  EXPECT_EQ(report.finding->found, 300);
  EXPECT_FALSE(report.finding->wanted.has_value());
}

TEST_F(AuditTest, ChangedResultIsNamed) {
  std::vector<size_t> outcomes;
  for (size_t i = 0; i < Whole().size(); ++i) {
    if (std::holds_alternative<sessions::CallOutcome>(Whole()[i].body)) outcomes.push_back(i);
  }
  for (const size_t at : {outcomes.front(), outcomes[outcomes.size() / 2], outcomes.back()}) {
    Log log = Whole();
    std::get<sessions::CallOutcome>(log[at].body).text += "and more";
    const AuditReport report = AuditOf(Rechained(log));
    ASSERT_TRUE(report.finding.has_value());
    EXPECT_EQ(report.finding->check, "fed");
    EXPECT_EQ(report.finding->cause, log[at].seq) << report.finding->text;
  }
}

TEST_F(AuditTest, CutThatIsNotByRuleIsNamed) {
  Log log = Interrupted();
  const auto at = std::find_if(log.begin(), log.end(), [](const Event& event) {
    return std::holds_alternative<sessions::TokensCut>(event.body);
  });
  auto& cut = std::get<sessions::TokensCut>(at->body);
  ++cut.position;
  --cut.count;
  if (cut.count == 0) cut = {.position = cut.position - 2, .count = 2, .reason = cut.reason};
  const AuditReport report = AuditOf(Rechained(log));
  ASSERT_TRUE(report.finding.has_value());
  EXPECT_EQ(report.finding->check, "cut");
  EXPECT_EQ(report.finding->seq, at->seq);
}

TEST_F(AuditTest, AlteredEventWithoutItsChainIsNamed) {
  Log log = Whole();
  log[5].utc_ms += 1;
  const AuditReport report = AuditOf(log);
  ASSERT_TRUE(report.finding.has_value());
  EXPECT_EQ(report.finding->check, "chain");
  EXPECT_EQ(report.finding->seq, log[5].seq);
}

TEST_F(AuditTest, MissingEventIsNamed) {
  Log log = Whole();
  log.erase(log.begin() + 5);
  const AuditReport report = AuditOf(log);
  ASSERT_TRUE(report.finding.has_value());
  EXPECT_EQ(report.finding->check, "record");
  EXPECT_EQ(report.finding->seq, 7u);
}

TEST_F(AuditTest, TokensThatAreNotAccountedForAreFound) {
  Log log = Whole();
  const auto at = std::find_if(log.begin(), log.end(), [](const Event& event) {
    return std::holds_alternative<sessions::TokensAccounted>(event.body);
  });
  --std::get<sessions::TokensAccounted>(at->body).decoded;
  const AuditReport report = AuditOf(Rechained(log));
  ASSERT_TRUE(report.finding.has_value());
  EXPECT_EQ(report.finding->check, "balance");
}

// Sampled with other settings than those on record.
TEST_F(AuditTest, OtherSeedOrStreamIsFound) {
  const size_t at = RunsOf(Whole(), TokenOrigin::kSampled)[3];
  Log log = Whole();
  ++std::get<TokenRun>(log[at].body).sampling->seed;
  AuditReport report = AuditOf(Rechained(log));
  ASSERT_TRUE(report.finding.has_value());
  EXPECT_EQ(report.finding->check, "sampled");
  EXPECT_EQ(report.finding->seq, log[at].seq);
  log = Whole();
  ++std::get<TokenRun>(log[at].body).sampling->stream;
  report = AuditOf(Rechained(log));
  ASSERT_TRUE(report.finding.has_value());
  EXPECT_EQ(report.finding->check, "record");
}

TEST_F(AuditTest, OtherNumericsAreSaidAndNotProven) {
  const size_t at = RunsOf(Whole(), TokenOrigin::kSampled)[2];
  Log log = Whole();
  auto& run = std::get<TokenRun>(log[at].body);
  run.sampling->numerics = "elsewhere";
  const AuditReport report = AuditOf(Rechained(log));
  EXPECT_FALSE(report.finding.has_value()) << report.finding->text;
  EXPECT_FALSE(report.proven());
  ASSERT_EQ(report.foreign.size(), 1u);
  EXPECT_EQ(report.foreign[0].numerics, "elsewhere");
  EXPECT_EQ(report.foreign[0].tokens, run.ids.size());
  EXPECT_GT(report.sampled, run.ids.size());  // it goes on behind it
}

// Goes back to before a run was fed, and feeds the same again. What is left behind is proven too.
TEST_F(AuditTest, RewoundSessionIsProvenWithWhatIsLeftBehind) {
  const std::vector<size_t> fed = RunsOf(Whole(), TokenOrigin::kFed);
  ASSERT_GT(fed.size(), 3u);
  Log log = Whole();
  const size_t at = fed[2];
  const auto add = [&log](sessions::EventBody body) {
    log.push_back({.seq = log.back().seq + 1, .body = std::move(body)});
  };
  add(sessions::Rewound{.to_seq = Whole()[at].seq - 1, .stream = 4});
  add(Whole()[at].body);
  log = Rechained(log);
  const AuditReport report = AuditOf(log);
  EXPECT_TRUE(report.proven()) << report.finding->text;
  EXPECT_EQ(report.rewinds, 1u);
  FlipAndFind(log, log.size() - 1, 2, "fed");
  FlipAndFind(log, RunsOf(log, TokenOrigin::kSampled).back(), 0, "sampled");
}

// The events of a fork go on with a chain of their own.
TEST_F(AuditTest, ForkIsProvenFromItsParentsBeginning) {
  const size_t at = RunsOf(Whole(), TokenOrigin::kFed)[1];
  Log log(Whole().begin(), Whole().begin() + static_cast<ptrdiff_t>(at));
  const auto& parent = std::get<sessions::SessionCreated>(log.front().body);
  log.push_back(
      {.seq = log.back().seq + 1,
       .body = sessions::SessionCreated{
           .uid = {std::byte{9}}, .parent = parent.uid, .parent_seq = log.back().seq, .stream = 2}});
  log.push_back({.seq = log.back().seq + 1, .body = Whole()[at].body});
  const AuditReport report = AuditOf(Rechained(log));
  EXPECT_TRUE(report.proven()) << report.finding->text;
  std::get<sessions::SessionCreated>(log[at].body).parent = sessions::SessionUid{std::byte{8}};
  const AuditReport other = AuditOf(Rechained(log));
  ASSERT_TRUE(other.finding.has_value());
  EXPECT_EQ(other.finding->check, "record");
}

TEST_F(AuditTest, EndsWhenItIsAskedTo) {
  progress_ = [](uint64_t done, uint64_t total) { return done < total / 2; };
  AuditOptions options{.engine = ChaosModel::Get().engine(),
                       .tokenizer = model::SmallTokenizer(),
                       .dialogue = &process_.dialogue(),
                       .narrow = NarrowEagerly,
                       .progress = progress_};
  const auto report = Audit(
      [](uint64_t after) -> base::StatusOr<Log> {
        return after < Whole().size() ? Log(Whole().begin() + static_cast<ptrdiff_t>(after), Whole().end())
                                      : Log();
      },
      options);
  EXPECT_TRUE(absl::IsCancelled(report.status())) << report.status();
}

TEST_F(AuditTest, RecordWithoutPromptIsRefused) {
  const AuditOptions options{.engine = ChaosModel::Get().engine(), .tokenizer = model::SmallTokenizer()};
  const auto report = Audit(
      [](uint64_t after) -> base::StatusOr<Log> {
        return after < Whole().size() ? Log(Whole().begin() + static_cast<ptrdiff_t>(after), Whole().end())
                                      : Log();
      },
      options);
  EXPECT_TRUE(absl::IsInvalidArgument(report.status())) << report.status();
}

}  // namespace
}  // namespace holdfast::agent
