#include "sessions/event.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/coding.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sessions {
namespace {

using test::SeededRandom;

base::Sha256Digest Digest(uint8_t fill) {
  base::Sha256Digest digest;
  digest.fill(std::byte{fill});
  return digest;
}

// One of each kind, every field away from its default.
std::vector<EventBody> OneOfEach() {
  return {
      SessionCreated{.uid = {std::byte{1}},
                     .weights = Digest(2),
                     .config = Digest(3),
                     .tokenizer = Digest(4),
                     .chat_template = "v4/1",
                     .tools = "{}\n",
                     .seed = 5,
                     .parent = SessionUid{std::byte{6}},
                     .parent_seq = 7,
                     .stream = 8},
      TokenRun{.position = 130,
               .origin = TokenOrigin::kSampled,
               .ids = {0, 127, 128, 129'279},
               .sampling = Sampling{.temperature = 0.5f,
                                    .top_k = 40,
                                    .min_p = 0.1f,
                                    .top_p = 0.9f,
                                    .seed = 1,
                                    .stream = 2,
                                    .grammar = Digest(9),
                                    .numerics = "cpu-1"}},
      TokensCut{.position = 9, .count = 3, .reason = "malformed"},
      EpochStarted{.epoch = 2, .reason = "90% full"},
      Rewound{.to_seq = 11, .stream = 3},
      StateChanged{.state = SessionState::kWaiting, .wait = WaitFor::kTimer, .reason = "until noon"},
      InputReceived{.kind = InputKind::kSteer, .request_id = "r1", .text = "stop that\n"},
      CallIntent{.call = "c1",
                 .tool = "bash@2",
                 .arguments = "{}",
                 .action = Digest(1),
                 .effect = CallEffect::kIdempotent,
                 .contained = true,
                 .workspace_before = Digest(8),
                 .client_deadline_utc_ms = 1000},
      CallOutcome{.call = "c1",
                  .status = CallStatus::kTimedOut,
                  .text = "timeout\n",
                  .workspace_after = Digest(7),
                  .blobs = {Digest(1), Digest(2)},
                  .record = "{}"},
      ApprovalRequested{.call = "c2", .action = Digest(3), .question = "Apply?"},
      ApprovalResolved{.call = "c2", .action = Digest(3), .allowed = true, .request_id = "r2"},
      TimerSet{.timer = "t1", .due_utc_ms = -5, .remaining_ms = 1000},
      TimerEnded{.timer = "t1", .fired = true},
      TurnFinished{.reason = "end of turn"},
      Recovered{.generation = 4, .report = "c1 was run again"},
      TokensAccounted{.attached = 1, .prefilled = 2, .decoded = 3, .forced = 4, .discarded = 5},
      WorkspaceChanged{.manifest = Digest(5), .reason = "applied"},
      RequestDone{.request_id = "r3", .what = "pause"},
      AgentEvent{.kind = 300, .payload = std::string("\0x", 2)},
  };
}

base::StatusOr<EventBody> Decode(uint16_t kind, std::string_view bytes) {
  return DecodeBody(kind, base::AsBytes(bytes));
}

TEST(EventTest, EveryKindComesBackAsItWas) {
  const std::vector<EventBody> bodies = OneOfEach();
  ASSERT_EQ(bodies.size(), std::variant_size_v<EventBody>);
  for (size_t i = 0; i < bodies.size(); ++i) {
    ASSERT_EQ(bodies[i].index(), i);
    const std::string bytes = EncodeBody(bodies[i]);
    const auto decoded = Decode(KindOf(bodies[i]), bytes);
    ASSERT_TRUE(decoded.ok()) << KindName(KindOf(bodies[i])) << ": " << decoded.status();
    EXPECT_EQ(*decoded, bodies[i]) << KindName(KindOf(bodies[i]));
    EXPECT_EQ(EncodeBody(*decoded), bytes);
  }
}

// The bytes of version 1: one line a kind, its name and its body. Bodies are on disk, so this file only
// grows.
TEST(EventTest, BytesAreThoseOfTheGoldenFile) {
  std::ifstream file(std::string(HOLDFAST_SOURCE_DIR) + "/tests/golden/session_log_v1.txt");
  ASSERT_TRUE(file.good());
  for (const EventBody& body : OneOfEach()) {
    std::string name;
    std::string hex;
    ASSERT_TRUE(file >> name >> hex);
    EXPECT_EQ(name, KindName(KindOf(body)));
    EXPECT_EQ(hex, base::ToHex(base::AsBytes(EncodeBody(body)))) << name;
  }
}

TEST(EventTest, EveryTruncationIsDataLoss) {
  for (const EventBody& body : OneOfEach()) {
    if (std::holds_alternative<AgentEvent>(body)) continue;  // any bytes will do
    const std::string bytes = EncodeBody(body);
    for (size_t size = 0; size < bytes.size(); ++size) {
      const auto decoded = Decode(KindOf(body), std::string_view(bytes).substr(0, size));
      EXPECT_TRUE(absl::IsDataLoss(decoded.status())) << KindName(KindOf(body)) << " cut to " << size;
    }
    EXPECT_TRUE(absl::IsDataLoss(Decode(KindOf(body), bytes + '\0').status()));
  }
}

// Whatever bytes are accepted are the encoding of what they were read as.
TEST(EventTest, FlippedBitsAreRefusedOrMeanAnotherEvent) {
  SeededRandom random(1);
  for (const EventBody& body : OneOfEach()) {
    for (int round = 0; round < 300; ++round) {
      std::string bytes = EncodeBody(body);
      const size_t at = random.Below(bytes.size());
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.Below(8)));
      const auto decoded = Decode(KindOf(body), bytes);
      if (!decoded.ok()) {
        EXPECT_TRUE(absl::IsDataLoss(decoded.status()));
        continue;
      }
      EXPECT_EQ(EncodeBody(*decoded), bytes) << KindName(KindOf(body)) << ", byte " << at;
    }
  }
}

TEST(EventTest, FieldsThatDoNotGoTogetherAreRefused) {
  const std::vector<EventBody> bad = {
      TokenRun{.ids = {}},
      TokenRun{.position = -1, .ids = {1}},
      TokenRun{.ids = {-1}},
      TokenRun{.origin = TokenOrigin::kSampled, .ids = {1}},
      TokenRun{.origin = TokenOrigin::kFed, .ids = {1}, .sampling = Sampling{}},
      TokenRun{.origin = TokenOrigin::kForced, .ids = {1}},
      TokenRun{.origin = TokenOrigin::kForced, .ids = {1}, .rendered = {1}, .rule = ForcedRule::kBudget},
      TokenRun{.ids = {1}, .rendered = {2, 1}},
      TokensCut{.position = 1, .count = 0},
      StateChanged{.state = SessionState::kWaiting},
      StateChanged{.state = SessionState::kIdle, .wait = WaitFor::kTimer},
  };
  for (const EventBody& body : bad) {
    const auto decoded = Decode(KindOf(body), EncodeBody(body));
    EXPECT_TRUE(absl::IsDataLoss(decoded.status())) << KindName(KindOf(body));
  }
}

TEST(EventTest, UnknownKindsAndTooLargeEventsAreRefused) {
  EXPECT_TRUE(absl::IsDataLoss(Decode(0, "").status()));
  EXPECT_TRUE(absl::IsDataLoss(Decode(19, "").status()));
  EXPECT_TRUE(absl::IsDataLoss(Decode(300, std::string(kEventBytesMax + 1, 'x')).status()));
  EXPECT_EQ(KindName(19), "UNKNOWN_19");
  EXPECT_EQ(KindName(256), "AGENT_256");
}

TEST(EventTest, ChainDependsOnEverything) {
  const base::Sha256Digest root = ChainRoot({});
  const auto body = base::AsBytes("body");
  const base::Sha256Digest chain = NextChain(root, 1, 2, 3, body);
  EXPECT_EQ(chain, NextChain(root, 1, 2, 3, body));
  EXPECT_NE(chain, NextChain(ChainRoot({std::byte{1}}), 1, 2, 3, body));
  EXPECT_NE(chain, NextChain(root, 2, 2, 3, body));
  EXPECT_NE(chain, NextChain(root, 1, 3, 3, body));
  EXPECT_NE(chain, NextChain(root, 1, 2, 4, body));
  EXPECT_NE(chain, NextChain(root, 1, 2, 3, base::AsBytes("bodY")));
}

}  // namespace
}  // namespace holdfast::sessions
