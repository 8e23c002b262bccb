#include "sessions/session_export.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/coding.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sessions {
namespace {

constexpr SessionUid kUid = {std::byte{7}, std::byte{1}};

base::Sha256Digest DigestOf(std::string_view text) { return base::Sha256Of(base::AsBytes(text)); }

std::vector<Event> Chained(const std::vector<EventBody>& bodies) {
  std::vector<Event> events;
  base::Sha256Digest chain = {};
  for (const EventBody& body : bodies) {
    if (const auto* created = std::get_if<SessionCreated>(&body)) chain = ChainRoot(created->uid);
    Event event{.seq = events.size() + 1, .utc_ms = 1000 + static_cast<int64_t>(events.size()), .body = body};
    chain = NextChain(chain, event.seq, event.utc_ms, KindOf(body), base::AsBytes(EncodeBody(body)));
    event.chain = chain;
    events.push_back(std::move(event));
  }
  return events;
}

// A fork with its parent's events before its own.
std::vector<Event> Log() {
  const SessionUid parent = {std::byte{6}};
  return Chained({SessionCreated{.uid = parent, .tools = "{}", .seed = 3},
                  InputReceived{.request_id = "r1", .text = "hello"},
                  TokenRun{.position = 0, .ids = {1, 2, 300}, .rendered = {2}},
                  SessionCreated{.uid = kUid, .tools = "{}", .parent = parent, .parent_seq = 3, .stream = 1},
                  CallIntent{.call = "c0.3.0", .tool = "bash@2", .workspace_before = DigestOf("before")},
                  CallOutcome{.call = "c0.3.0",
                              .text = "done\n",
                              .workspace_after = DigestOf("after"),
                              .blobs = {DigestOf("output")}},
                  AgentEvent{.kind = 300, .payload = "{}"}, TurnFinished{.reason = "over"}});
}

std::string Exported(const std::vector<Event>& log, const std::vector<std::string>& objects) {
  std::string out;
  ExportWriter writer(
      [&out](std::span<const std::byte> bytes) {
        out += base::AsText(bytes);
        return base::Status();
      },
      {.id = "fix-tests", .uid = kUid});
  for (const std::string& object : objects) {
    EXPECT_TRUE(writer.BeginObject(DigestOf(object), object.size()).ok());
    EXPECT_TRUE(writer.AddBytes(base::AsBytes(object)).ok());
  }
  for (const Event& event : log) EXPECT_TRUE(writer.AddEvent(event).ok());
  EXPECT_TRUE(writer.Finish().ok());
  return out;
}

// Everything that a file holds.
struct Whole {
  ExportHeader header;
  std::vector<std::string> objects;
  std::vector<Event> events;
};

base::StatusOr<Whole> Imported(std::string_view file, size_t bytes_max = 64, bool read_objects = true) {
  HF_ASSIGN_OR_RETURN(
      const auto reader,
      ExportReader::Open([file, at = size_t{0}](std::span<std::byte> out) mutable -> base::StatusOr<size_t> {
        const size_t count = std::min(out.size(), file.size() - at);
        std::copy_n(base::AsBytes(file).begin() + static_cast<ptrdiff_t>(at), count, out.begin());
        at += count;
        return count;
      }));
  Whole whole{.header = reader->header()};
  while (read_objects) {
    HF_ASSIGN_OR_RETURN(const auto object, reader->NextObject());
    if (!object.has_value()) break;
    std::string& text = whole.objects.emplace_back();
    std::vector<std::byte> part(5);
    for (;;) {
      HF_ASSIGN_OR_RETURN(const size_t got, reader->ReadObject(part));
      if (got == 0) break;
      text += base::AsText(std::span(part).first(got));
    }
  }
  for (;;) {
    HF_ASSIGN_OR_RETURN(const std::vector<Event> events, reader->NextEvents(bytes_max));
    if (events.empty()) return whole;
    whole.events.insert(whole.events.end(), events.begin(), events.end());
  }
}

const std::vector<std::string> kObjects = {"output", "", std::string(200'000, 'x')};

TEST(SessionExportTest, ComesBackAsItWas) {
  const std::string file = Exported(Log(), kObjects);
  for (const size_t bytes_max : {1, 64, 1 << 20}) {
    const auto whole = Imported(file, bytes_max);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(whole->header.id, "fix-tests");
    EXPECT_EQ(whole->header.uid, kUid);
    EXPECT_EQ(whole->objects, kObjects);
    EXPECT_EQ(whole->events, Log());
  }
}

TEST(SessionExportTest, ObjectsMayBeReadOver) {
  const auto whole = Imported(Exported(Log(), kObjects), 64, /*read_objects=*/false);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->events, Log());
}

// Bytes of version 1. They are on people's disks.
TEST(SessionExportTest, BytesAreThoseOfTheGoldenFile) {
  std::ifstream golden(std::string(HOLDFAST_SOURCE_DIR) + "/tests/golden/session_export_v1.hfs",
                       std::ios::binary);
  ASSERT_TRUE(golden.good());
  const std::string bytes{std::istreambuf_iterator<char>(golden), {}};
  EXPECT_EQ(Exported(Log(), {"output", ""}), bytes);
}

TEST(SessionExportTest, EveryTruncationIsDataLoss) {
  const std::string file = Exported(Log(), {"output", ""});
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(Imported(file.substr(0, size)).status())) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(Imported(file + '\0').status()));
}

TEST(SessionExportTest, FlippedBitsAreRefused) {
  const std::string file = Exported(Log(), {"output", ""});
  for (const uint64_t seed : test::TestSeeds(2)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    for (int round = 0; round < 1000; ++round) {
      std::string bytes = file;
      const size_t at = random.Below(bytes.size());
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.Below(8)));
      EXPECT_FALSE(Imported(bytes).ok()) << at;
    }
  }
}

// With every checksum of the file right.
TEST(SessionExportTest, LogThatIsNoneIsRefused) {
  std::vector<Event> gap = Log();
  gap.erase(gap.begin() + 1);
  std::vector<Event> altered = Log();
  altered[2].utc_ms += 1;
  std::vector<Event> headless = Log();
  headless.erase(headless.begin());
  std::vector<Event> stranger = Log();
  std::get<SessionCreated>(stranger[3].body).parent = SessionUid{};
  std::vector<Event> parent_only = Log();
  parent_only.resize(3);
  for (const auto& log : {gap, altered, headless, stranger, parent_only}) {
    EXPECT_TRUE(absl::IsDataLoss(Imported(Exported(log, {})).status()));
  }
}

TEST(SessionExportTest, OtherFilesAndVersionsAreRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(Imported(std::string(100, 'x')).status()));
  std::string later = Exported(Log(), {});
  later[8] = 2;
  EXPECT_TRUE(absl::IsFailedPrecondition(Imported(later).status()));
}

TEST(SessionExportTest, WriterRefusesWhatIsNotWhole) {
  const auto drop = [](std::span<const std::byte>) { return base::Status(); };
  ExportWriter empty(drop, {});
  EXPECT_TRUE(absl::IsFailedPrecondition(empty.Finish()));
  ExportWriter half(drop, {});
  ASSERT_TRUE(half.BeginObject(DigestOf("ab"), 2).ok());
  ASSERT_TRUE(half.AddBytes(base::AsBytes("a")).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(half.AddEvent(Log()[0])));
  EXPECT_TRUE(absl::IsFailedPrecondition(half.AddBytes(base::AsBytes("bc"))));
}

TEST(SessionExportTest, NamesWhatEventsName) {
  NamedObjects named;
  for (const Event& event : Log()) AddNamedObjects(event.body, named);
  EXPECT_EQ(named.blobs, (std::vector{DigestOf("output")}));
  EXPECT_EQ(named.manifests, (std::vector{DigestOf("before"), DigestOf("after")}));
}

TEST(SessionExportTest, ErrorOfTheSinkIsHandedOn) {
  ExportWriter writer([](std::span<const std::byte>) { return absl::ResourceExhaustedError("full"); }, {});
  ASSERT_TRUE(writer.AddEvent(Log()[0]).ok());  // still in memory
  EXPECT_TRUE(absl::IsResourceExhausted(writer.Finish()));
}

}  // namespace
}  // namespace holdfast::sessions
