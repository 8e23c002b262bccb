#include "sandbox/policy.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sandbox {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Policy Good() {
  Policy policy;
  policy.workspace = {.host = "/data/tree", .layer = "/data/layer"};
  return policy;
}

std::string Refusal(const std::function<void(Policy&)>& change) {
  Policy policy = Good();
  change(policy);
  const auto result = Normalise(policy);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  return base::Message(result.status());
}

TEST(PolicyTest, PathsAreCleaned) {
  Policy policy = Good();
  policy.workspace.host = "//data/./tree/";
  const auto clean = Normalise(policy);
  ASSERT_TRUE(clean.ok()) << clean.status();
  EXPECT_EQ(clean->workspace.host, "/data/tree");
  EXPECT_EQ(clean->workspace.inside, "/data/tree");
}

TEST(PolicyTest, WhatIsAskedForIsRequired) {
  const auto clean = Normalise(Good());
  ASSERT_TRUE(clean.ok());
  EXPECT_TRUE(Has(clean->required_layers, Layer::kOverlay));
  EXPECT_TRUE(Has(clean->required_layers, Layer::kNetNamespace));
  Policy host = Good();
  host.network = Network::kHost;
  EXPECT_FALSE(Has(Normalise(host)->required_layers, Layer::kNetNamespace));
}

TEST(PolicyTest, BadWorkspacesAreRefused) {  // 63
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.host = "tree"; }), HasSubstr("not absolute"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.host = "/a/../etc"; }), HasSubstr(".."));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.host = "/"; }), HasSubstr("share everything"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.host = std::string("/a\0b", 4); }), HasSubstr("NUL"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.inside = "/"; }), HasSubstr("cover the sandbox's own"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.inside = "/usr"; }), HasSubstr("cover"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.inside = "/proc/1"; }), HasSubstr("cover"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.inside = "/dev"; }), HasSubstr("cover"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.layer = "/data/tree/layer"; }),
              HasSubstr("within each other"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.layer = "/data"; }), HasSubstr("within each other"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.layer.clear(); }), HasSubstr("not absolute"));
  EXPECT_THAT(Refusal([](Policy& p) { p.workspace.mode = WorkspaceMode::kDirect; }),
              HasSubstr("direct mode"));
}

TEST(PolicyTest, BadMountsAreRefused) {  // 63
  const auto mount = [](std::string host, std::string inside) {
    return Refusal([&](Policy& p) { p.mounts = {{.host = host, .inside = inside}}; });
  };
  EXPECT_THAT(mount("/", "/x"), HasSubstr("share everything"));
  EXPECT_THAT(mount("x", "/x"), HasSubstr("not absolute"));
  EXPECT_THAT(mount("/x", "/proc"), HasSubstr("cover the sandbox's own"));
  EXPECT_THAT(mount("/x", "/etc/passwd"), HasSubstr("cover the sandbox's own"));
  EXPECT_THAT(mount("/x", "/etc"), HasSubstr("cover the sandbox's own"));
  EXPECT_THAT(mount("/x", "/data"), HasSubstr("cover the workspace"));
  EXPECT_THAT(mount("/x", "/data/tree/sub"), HasSubstr("lies in the workspace"));
  EXPECT_THAT(Refusal([](Policy& p) {
                p.mounts = {{.host = "/a", .inside = "/x"}, {.host = "/b", .inside = "/x/"}};
              }),
              HasSubstr("given twice"));
}

TEST(PolicyTest, BadRootsAreRefused) {  // 63
  EXPECT_THAT(Refusal([](Policy& p) { p.system_roots = {"/"}; }), HasSubstr("not to be shared"));
  EXPECT_THAT(Refusal([](Policy& p) { p.system_roots = {"/proc"}; }), HasSubstr("not to be shared"));
  EXPECT_THAT(Refusal([](Policy& p) { p.system_roots = {"/sys/kernel"}; }), HasSubstr("not to be shared"));
  EXPECT_THAT(Refusal([](Policy& p) {
                p.system_roots = {
                    "/"
                    "root"};
              }),
              HasSubstr("somebody's home"));
  EXPECT_THAT(Refusal([](Policy& p) { p.system_roots = {"usr"}; }), HasSubstr("not absolute"));
  EXPECT_THAT(Refusal([](Policy& p) { p.protected_paths = {"../x"}; }), HasSubstr("within the workspace"));
  EXPECT_THAT(Refusal([](Policy& p) { p.protected_paths = {"/x"}; }), HasSubstr("within the workspace"));
}

TEST(PolicyTest, SecretsAreNotPassedByName) {
  for (const char* name : {"OPENAI_API_KEY", "token", "My_Secret", "DB_PASSWORD", "AWS_CREDENTIALS"}) {
    EXPECT_THAT(Refusal([&](Policy& p) { p.pass_environment = {name}; }), HasSubstr("looks like a secret"));
  }
  EXPECT_THAT(Refusal([](Policy& p) {
                p.set_environment = {{"A=B", "c"}};
              }),
              HasSubstr("cannot be a variable"));
  EXPECT_FALSE(LooksSecret("LANG"));
}

TEST(PolicyTest, UnboundedMemoryIsRefused) {
  EXPECT_THAT(Refusal([](Policy& p) { p.tmp_bytes = 0; }), HasSubstr("bound memory"));
  EXPECT_THAT(Refusal([](Policy& p) { p.tmp_inodes = 0; }), HasSubstr("bound memory"));
  EXPECT_THAT(Refusal([](Policy& p) { p.limits.memory_bytes = 0; }), HasSubstr("memory_bytes"));
  EXPECT_THAT(Refusal([](Policy& p) { p.setup_ms_max = 1; }), HasSubstr("setup_ms_max"));
}

TEST(PolicyTest, BubblewrapHasNoOverlay) {
  EXPECT_THAT(Refusal([](Policy& p) { p.backend = Backend::kBubblewrap; }), HasSubstr("no overlay"));
}

TEST(PolicyTest, OnlyAnOverlayWithoutNetworkAndWritableMountsIsContained) {
  Policy policy = Good();
  policy.workspace.mode = WorkspaceMode::kOverlay;
  policy.mounts = {{.host = "/docs"}};
  EXPECT_EQ(WhyNotContained(policy), "");
  EXPECT_TRUE(IsContained(policy));
  Policy worse = policy;
  worse.workspace.mode = WorkspaceMode::kDirect;
  EXPECT_EQ(WhyNotContained(worse), "the workspace is written in place");
  worse = policy;
  worse.network = Network::kHost;
  EXPECT_EQ(WhyNotContained(worse), "the network is the host's");
  worse = policy;
  worse.mounts.push_back({.host = "/var/cache/x", .access = Access::kReadWrite});
  EXPECT_EQ(WhyNotContained(worse), "/var/cache/x is writable");
  worse.mounts.back().inside = "/cache";
  EXPECT_EQ(WhyNotContained(worse), "/cache is writable");
  EXPECT_FALSE(IsContained(worse));
}

TEST(PolicyTest, DescriptionHoldsNoValueOfAVariable) {
  Policy policy = Good();
  policy.set_environment = {{"HF_KEY", "hunter2"}};
  const std::string text = Describe(policy);
  EXPECT_THAT(text, HasSubstr("variable set: HF_KEY\n"));
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
}

TEST(PolicyTest, EveryFieldMovesTheDigest) {
  const auto base = [] {
    Policy policy = Good();
    policy.mounts = {{.host = "/m", .inside = "/n"}};
    policy.set_environment = {{"A", "1"}};
    return policy;
  };
  const std::vector<std::function<void(Policy&)>> changes = {
      [](Policy&) {},
      [](Policy& p) { p.workspace.host += "x"; },
      [](Policy& p) { p.workspace.inside += "x"; },
      [](Policy& p) { p.workspace.mode = WorkspaceMode::kDirect; },
      [](Policy& p) { p.workspace.layer += "x"; },
      [](Policy& p) { p.backend = Backend::kBubblewrap; },
      [](Policy& p) { p.network = Network::kHost; },
      [](Policy& p) { p.debugging = Debugging::kAllowed; },
      [](Policy& p) { p.unix_sockets = UnixSockets::kRefused; },
      [](Policy& p) { p.system_roots.pop_back(); },
      [](Policy& p) { p.mounts[0].host += "x"; },
      [](Policy& p) { p.mounts[0].inside += "x"; },
      [](Policy& p) { p.mounts[0].access = Access::kReadWrite; },
      [](Policy& p) { p.mounts[0].required = false; },
      [](Policy& p) { p.mounts.push_back({.host = "/o"}); },
      [](Policy& p) { p.protected_paths.pop_back(); },
      [](Policy& p) { ++p.tmp_bytes; },
      [](Policy& p) { ++p.tmp_inodes; },
      [](Policy& p) { ++p.shm_bytes; },
      [](Policy& p) { ++p.home_bytes; },
      [](Policy& p) { p.pass_environment.emplace_back("EDITOR"); },
      [](Policy& p) { p.set_environment[0].first = "B"; },
      [](Policy& p) { p.set_environment[0].second = "2"; },
      [](Policy& p) { p.set_environment.emplace_back("C", "3"); },
      [](Policy& p) { ++p.limits.wall_ms; },
      [](Policy& p) { ++p.limits.idle_ms; },
      [](Policy& p) { ++p.limits.cpu_ms; },
      [](Policy& p) { ++p.limits.memory_bytes; },
      [](Policy& p) { ++p.limits.processes; },
      [](Policy& p) { ++p.limits.open_files; },
      [](Policy& p) { ++p.limits.file_bytes; },
      [](Policy& p) { ++p.limits.disk_bytes; },
      [](Policy& p) { ++p.limits.disk_inodes; },
      [](Policy& p) { ++p.limits.output_bytes; },
      [](Policy& p) { ++p.limits.kill_grace_ms; },
      [](Policy& p) { p.required_layers |= Bit(Layer::kOverlay); },
      [](Policy& p) { p.use_cgroups = false; },
      [](Policy& p) { p.use_landlock = false; },
      [](Policy& p) { ++p.setup_ms_max; },
  };
  std::set<base::Sha256Digest> digests;
  for (const auto& change : changes) {
    Policy policy = base();
    change(policy);
    digests.insert(DigestOf(policy));
  }
  EXPECT_EQ(digests.size(), changes.size());
  EXPECT_EQ(DigestOf(base()), DigestOf(base()));
}

// One list's end is not another's beginning.
TEST(PolicyTest, ADigestCannotBeReadInTwoWays) {
  Policy one = Good();
  Policy other = Good();
  one.set_environment = {{"A", "1"}, {"B", "2"}};
  other.set_environment = {{"A", "1B"}, {"", "2"}};
  EXPECT_NE(DigestOf(one), DigestOf(other));
  one.set_environment = other.set_environment = {};
  one.system_roots = {"/usr", "/opt"};
  one.protected_paths = {};
  other.system_roots = {"/usr"};
  other.protected_paths = {"/opt"};
  EXPECT_NE(DigestOf(one), DigestOf(other));
}

TEST(PolicyTest, OrderDoesNotMatter) {  // 63
  Policy policy = Good();
  for (int i = 0; i < 6; ++i) {
    policy.mounts.push_back(
        {.host = "/m" + std::to_string(i),
         .inside = std::string(static_cast<size_t>(i % 3 + 1), 'x').insert(0, "/n/") + std::to_string(i)});
  }
  const std::string expected = Describe(*Normalise(policy));
  for (const uint64_t seed : test::TestSeeds(50)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto shuffle = [&](auto& list) {
      for (size_t i = list.size(); i > 1; --i)
        std::swap(list[i - 1], list[static_cast<size_t>(random.Below(i))]);
    };
    shuffle(policy.mounts);
    shuffle(policy.system_roots);
    EXPECT_EQ(Describe(*Normalise(policy)), expected);
  }
}

}  // namespace
}  // namespace holdfast::sandbox
