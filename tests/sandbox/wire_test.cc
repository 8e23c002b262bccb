#include "sandbox/broker/wire.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sandbox::wire {
namespace {

JobSpec SomeJob() {
  JobSpec spec;
  spec.session = 7;
  spec.argv = {"bash", "-c", "echo"};
  spec.environment = {"A=b", ""};
  spec.directory = "/workspace";
  spec.terminal = true;
  spec.rows = 24;
  spec.columns = 65'535;
  spec.limits = {.wall_ms = 1, .cpu_ms = 2, .memory_bytes = 3, .kill_grace_ms = UINT64_MAX};
  return spec;
}

SessionSpec SomeSession() {
  SessionSpec spec;
  spec.backend = Backend::kBubblewrap;
  spec.host_network = true;
  spec.workspace_host = "/a\n\xff";
  spec.mounts = {{MountKind::kMask, true, "h", "i"}, {MountKind::kReadOnlyFollow, false, "", "/x"}};
  spec.required_layers = 0xffffffff;
  return spec;
}

template <typename T>
void ExpectRoundTrip(const T& value) {
  const std::string bytes = Encode(value);
  T back;
  ASSERT_TRUE(Decode(bytes, back));
  EXPECT_EQ(Encode(back), bytes);
  T more;
  EXPECT_FALSE(Decode(bytes + '\0', more)) << "bytes left over";
  for (size_t size = 0; size < bytes.size(); ++size) {
    T cut;
    EXPECT_FALSE(Decode(std::string_view(bytes).substr(0, size), cut)) << "cut at " << size;
  }
}

TEST(WireTest, EveryMessageComesBackAndNoPieceOfItDoes) {
  ExpectRoundTrip(Hello{.root = true, .landlock_abi = 7, .cgroups = "x"});
  ExpectRoundTrip(SomeSession());
  ExpectRoundTrip(SessionReady{.layers = 1, .landlock_abi = 2, .host_uid = 3, .host_gid = 4, .notes = "n"});
  ExpectRoundTrip(SomeJob());
  ExpectRoundTrip(JobReady{.layers = 3});
  ExpectRoundTrip(JobExit{.wait_status = -1, .cpu_us = 5, .peak_rss_bytes = 6});
  ExpectRoundTrip(JobEnd{.has_status = true, .wait_status = 9, .cause = EndCause::kDisk, .stopped = true});
  ExpectRoundTrip(KillRequest{.cause = EndCause::kOutput, .at_once = true});
  ExpectRoundTrip(Failure{.stage = Stage::kExec, .error = 2, .detail = "d"});
}

TEST(WireTest, ValuesOutsideTheirRangeAreRefused) {
  std::string bytes = Encode(KillRequest{});
  KillRequest kill;
  bytes[0] = static_cast<char>(EndCause::kEnd);
  EXPECT_FALSE(Decode(bytes, kill)) << "no such cause";
  bytes = Encode(KillRequest{});
  bytes[4] = 2;
  EXPECT_FALSE(Decode(bytes, kill)) << "not a truth value";
  Failure failure{.stage = Stage::kExec};
  bytes = Encode(failure);
  bytes[0] = static_cast<char>(Stage::kEnd);
  EXPECT_FALSE(Decode(bytes, failure)) << "no such stage";
}

TEST(WireTest, StringsAreBounded) {
  JobSpec spec = SomeJob();
  spec.argv[0] = std::string("a\0b", 3);
  EXPECT_FALSE(Decode(Encode(spec), spec)) << "a NUL byte";
  spec = SomeJob();
  spec.directory = std::string(4097, 'd');
  EXPECT_FALSE(Decode(Encode(spec), spec)) << "too long a path";
  spec = SomeJob();
  spec.argv.clear();
  EXPECT_FALSE(Decode(Encode(spec), spec)) << "no program";
}

TEST(WireTest, CountThatTheBytesCannotHoldIsRefusedBeforeAllocation) {
  Writer out;
  out.U32(0xffffffff);
  const std::string bytes = out.Take();
  Reader in(bytes);
  EXPECT_TRUE(in.Strings().empty());
  EXPECT_FALSE(in.good());
}

TEST(WireTest, HeaderNamesVersionTypeAndSize) {
  const Header header{.type = MessageType::kJobEnded, .id = 99, .body_bytes = 5, .body_in_descriptor = true};
  const std::string bytes = EncodeHeader(header);
  EXPECT_EQ(bytes.size(), kHeaderBytes);
  Header back;
  ASSERT_TRUE(DecodeHeader(bytes, back));
  EXPECT_EQ(EncodeHeader(back), bytes);
  for (const size_t at : {0u, 4u, 6u, 20u}) {  // magic, version, type, flags
    std::string wrong = bytes;
    wrong[at] = static_cast<char>(0x77);
    EXPECT_FALSE(DecodeHeader(wrong, back)) << at;
  }
  std::string large = EncodeHeader({.body_bytes = static_cast<uint32_t>(kBodyBytesMax) + 1});
  EXPECT_FALSE(DecodeHeader(large, back));
}

TEST(WireTest, DamagedMessagesAreRefusedOrStayInTheirBounds) {
  const std::string good[] = {Encode(SomeSession()), Encode(SomeJob())};
  for (const uint64_t seed : test::TestSeeds(400)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string bytes = good[random.Below(2)];
    for (uint64_t i = 0; i <= random.Below(4); ++i) {
      bytes[static_cast<size_t>(random.Below(bytes.size()))] = static_cast<char>(random.Below(256));
    }
    SessionSpec session;
    EXPECT_TRUE(!Decode(bytes, session) || Encode(session) == bytes);
    JobSpec job;
    EXPECT_TRUE(!Decode(bytes, job) || Encode(job) == bytes);
  }
}

}  // namespace
}  // namespace holdfast::sandbox::wire
