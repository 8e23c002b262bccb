#include "sandbox/policy.h"

#include <algorithm>
#include <functional>
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
