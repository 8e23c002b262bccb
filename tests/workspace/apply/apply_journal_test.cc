#include "workspace/apply/apply_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/coding.h"
#include "base/file.h"
#include "base/hash.h"
#include "tests/support/seeded_random.h"

namespace holdfast::workspace {
namespace {

using testing::HasSubstr;

base::StatusOr<ApplyJournal> Decode(std::string_view bytes) {
  return DecodeApplyJournal(base::AsBytes(bytes));
}

Version FileVersion(std::string_view content, uint32_t mode) {
  return {VersionKind::kFile, mode, content.size(), base::Sha256Of(base::AsBytes(content)), {}};
}

// A step of each kind, with each kind of version. Its bytes are tests/golden/apply_journal_v1.haj.
ApplyJournal Example() {
  const Version directory = {VersionKind::kDirectory, 0755, 0, {}, {}};
  const Version link = {VersionKind::kSymlink, 0, 0, {}, "b/c"};
  return {.phase = ApplyPhase::kCommitting,
          .staging = StagingName(0x0123456789abcdef),
          .steps = {{ApplyStepKind::kRemove, "a", FileVersion("old", 0644), directory, 0},
                    {ApplyStepKind::kMakeDirectory, "a", Version(), directory, 0},
                    {ApplyStepKind::kPut, "a/f", Version(), FileVersion("new", 0755), 0},
                    {ApplyStepKind::kPut, "l", link, FileVersion("x", 0600), 1},
                    {ApplyStepKind::kSetMode, "m", FileVersion("m", 0644), FileVersion("m", 0755), 0}}};
}

std::string WithChecksum(std::string body) {
  base::PutFixed64(body, base::Xxh3(base::AsBytes(body)));
  return body;
}

// The encoding with `change` made to the bytes before the checksum, which is made right again.
template <class F>
std::string Forged(const ApplyJournal& journal, F&& change) {
  std::string bytes = EncodeApplyJournal(journal);
  bytes.resize(bytes.size() - 8);
  change(bytes);
  return WithChecksum(bytes);
}

TEST(ApplyJournalTest, ComesBackAsItWent) {
  const auto decoded = Decode(EncodeApplyJournal(Example()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, Example());
  const ApplyJournal staging = {.phase = ApplyPhase::kStaging, .staging = StagingName(1), .steps = {}};
  EXPECT_EQ(*Decode(EncodeApplyJournal(staging)), staging);
}

TEST(ApplyJournalTest, TheBytesAreThoseOfVersionOne) {
  const auto golden =
      base::RealFileSystem().ReadFile(HOLDFAST_SOURCE_DIR "/tests/golden/apply_journal_v1.haj", 1 << 20);
  ASSERT_TRUE(golden.ok()) << golden.status();
  EXPECT_EQ(EncodeApplyJournal(Example()), *golden);
}

TEST(ApplyJournalTest, EveryFlippedByteAndEveryCutIsFound) {
  const std::string bytes = EncodeApplyJournal(Example());
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    EXPECT_TRUE(absl::IsDataLoss(Decode(flipped).status())) << i;
    EXPECT_TRUE(absl::IsDataLoss(Decode(bytes.substr(0, i)).status())) << i;
  }
  EXPECT_TRUE(absl::IsDataLoss(Decode(bytes + "x").status()));
}

TEST(ApplyJournalTest, AnotherVersionIsSaid) {
  const auto decoded = Decode(Forged(Example(), [](std::string& bytes) { bytes[8] = 2; }));
  EXPECT_THAT(base::Message(decoded.status()), HasSubstr("version 2"));
}

TEST(ApplyJournalTest, WrongNumbersUnderARightChecksumAreFound) {
  const auto refused = [](std::string_view bytes) { return absl::IsDataLoss(Decode(bytes).status()); };
  EXPECT_TRUE(refused(Forged(Example(), [](std::string& bytes) { bytes[12] = 3; })));    // phase
  EXPECT_TRUE(refused(Forged(Example(), [](std::string& bytes) { bytes[17] = 'x'; })));  // staging name
  EXPECT_TRUE(refused(Forged(Example(), [](std::string& bytes) { bytes[49] = 'z'; })));  // number of steps
  EXPECT_TRUE(refused(Forged(Example(), [](std::string& bytes) { bytes[50] = 5; })));    // kind of step
  EXPECT_TRUE(refused(Forged(Example(), [](std::string& bytes) { bytes[52] = '/'; })));  // path
  EXPECT_TRUE(refused(Forged(Example(), [](std::string& bytes) { bytes[53] = 9; })));    // kind of version
  EXPECT_TRUE(refused(Forged(Example(), [](std::string& bytes) { bytes += '\0'; })));    // more at the end
  ApplyJournal journal = Example();
  journal.phase = ApplyPhase::kStaging;
  EXPECT_TRUE(refused(EncodeApplyJournal(journal)));  // steps before all is staged
  for (const char* path : {"", "/a", "../a", "a//b", "a/.."}) {
    journal = Example();
    journal.steps[0].path = path;
    EXPECT_TRUE(refused(EncodeApplyJournal(journal))) << path;
  }
  for (const char* name : {"", "x", ".holdfast-apply-", ".holdfast-apply-0123456789abcdeg",
                           "../.holdfast-apply-0123456789abcde"}) {
    journal = Example();
    journal.staging = name;
    EXPECT_TRUE(refused(EncodeApplyJournal(journal))) << name;
  }
}

TEST(ApplyJournalTest, RandomJournalsComeBack) {
  for (const uint64_t seed : test::TestSeeds(50)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto version = [&]() -> Version {
      switch (random.Below(4)) {
        case 0:
          return FileVersion(std::string(random.Below(300), 'x'),
                             static_cast<uint32_t>(random.Below(010000)));
        case 1:
          return {VersionKind::kDirectory, static_cast<uint32_t>(random.Below(010000)), 0, {}, {}};
        case 2:
          return {VersionKind::kSymlink, 0, 0, {}, std::string(random.Below(300), 't')};
        default:
          return {};
      }
    };
    ApplyJournal journal = {
        .phase = ApplyPhase::kCommitting, .staging = StagingName(random.Next()), .steps = {}};
    for (uint64_t n = random.Below(50); n > 0; --n) {
      journal.steps.push_back({static_cast<ApplyStepKind>(1 + random.Below(4)),
                               std::string(1 + random.Below(255), 'p'), version(), version(),
                               static_cast<uint32_t>(random.Next())});
    }
    const auto decoded = Decode(EncodeApplyJournal(journal));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, journal);
  }
}

}  // namespace
}  // namespace holdfast::workspace
