#include "tools/mcp/handshake.h"

#include <memory>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "tests/tools/mcp/scripted_server.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kMs = base::kNsPerMs;

class HandshakeTest : public testing::Test {
 protected:
  HandshakeTest() { world_.BeModern({}); }

  // Shakes hands with a server that runs; how long it took is in `ms_`.
  base::StatusOr<Agreement> Shake(McpEra era = McpEra::kAuto) {
    peer_ = std::make_unique<Peer>(world_.executor, McpBounds(), counters_, world_.Factory()());
    handshake_ = std::make_unique<Handshake>(world_.executor, world_.clock, *peer_, era, McpTimeouts());
    const int64_t from = world_.clock.MonotonicNow().ns;
    std::optional<base::StatusOr<Agreement>> result;
    peer_->Start({.started =
                      [&](base::Status) {
                        handshake_->Start({from + 30'000 * kMs}, [&](base::StatusOr<Agreement> agreement) {
                          EXPECT_FALSE(result.has_value()) << "told twice";
                          result = std::move(agreement);
                          ms_ = (world_.clock.MonotonicNow().ns - from) / kMs;
                        });
                      },
                  .notification = [](std::string_view) {},
                  .lost = [](std::string) {}});
    world_.executor.RunFor(100'000 * kMs);
    return result.value_or(base::Internal("never told"));
  }

  void AnswerDiscovery(Json result, int64_t ms = 0) {
    world_.handlers["server/discover"] = [result, ms](ScriptedServer& server, const Json& request) {
      server.Answer(request, result, ms);
    };
  }
  void RefuseDiscovery(int64_t code, Json data, int64_t ms = 0) {
    world_.handlers["server/discover"] = [=](ScriptedServer& server, const Json& request) {
      server.Refuse(request, code, "no", data, ms);
    };
  }
  static Json Discovered() {
    return {{"supportedVersions", {"2026-07-28"}}, {"capabilities", {{"tools", Json::object()}}}};
  }
  std::string WhyNot(McpEra era = McpEra::kAuto) {
    const auto agreement = Shake(era);
    EXPECT_FALSE(agreement.ok());
    return base::Message(agreement.status());
  }

  ScriptedWorld world_;
  McpCounters counters_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<Handshake> handshake_;
  int64_t ms_ = -1;
};

TEST_F(HandshakeTest, ModernServerIsDiscovered) {
  const auto agreement = Shake();
  ASSERT_TRUE(agreement.ok()) << agreement.status();
  EXPECT_EQ(agreement->era, McpEra::kModern);
  EXPECT_EQ(agreement->version, "2026-07-28");
  EXPECT_TRUE(agreement->offers_tools);
  EXPECT_EQ(ms_, 0);
  EXPECT_THAT(world_.Sent("initialize"), IsEmpty());
}

TEST_F(HandshakeTest, AnyOtherErrorLeadsToTheOldHandshake) {
  for (const int64_t code : {-32601, -32602, -32600, -32000, -32001, -32019, -32023, 0, 500}) {
    SCOPED_TRACE(code);
    world_.sent.clear();
    world_.BeLegacy({});
    RefuseDiscovery(code, nullptr);
    const auto agreement = Shake();
    ASSERT_TRUE(agreement.ok()) << agreement.status();
    EXPECT_EQ(agreement->era, McpEra::kLegacy);
    EXPECT_EQ(ms_, 0);
    EXPECT_THAT(world_.Sent("notifications/initialized"), SizeIs(1));
  }
}

TEST_F(HandshakeTest, ResultThatIsNoDiscoveryLeadsToTheOldHandshake) {
  for (const Json& result : {Json::object(), Json({{"supportedVersions", "2026-07-28"}}), Json("ok")}) {
    world_.BeLegacy({});
    AnswerDiscovery(result);
    EXPECT_EQ(Shake()->era, McpEra::kLegacy) << result;
  }
}

TEST_F(HandshakeTest, SilenceLeadsToTheOldHandshakeSoon) {
  world_.BeLegacy({});
  world_.handlers.erase("server/discover");
  EXPECT_EQ(Shake()->era, McpEra::kLegacy);
  EXPECT_EQ(ms_, McpTimeouts().probe_ms);
}

TEST_F(HandshakeTest, ServerTooSlowForTheProbeIsStillModern) {
  AnswerDiscovery(Discovered(), 5'000);
  world_.handlers["initialize"] = [](ScriptedServer& server, const Json& request) {
    server.Refuse(request, -32601, "no such method", nullptr, 3'001);  // it reads both at once, late
  };
  EXPECT_EQ(Shake()->era, McpEra::kModern);
  EXPECT_EQ(ms_, 5'001);
}

TEST_F(HandshakeTest, SlowModernServerThatIgnoresInitializeIsModern) {
  AnswerDiscovery(Discovered(), 5'000);
  world_.handlers.erase("initialize");
  EXPECT_EQ(Shake()->era, McpEra::kModern);
  EXPECT_EQ(ms_, 5'000 + McpTimeouts().probe_ms);
}

TEST_F(HandshakeTest, HandshakeThatWasGrantedCountsWhateverIsDiscoveredLate) {
  world_.BeLegacy({});
  AnswerDiscovery(Discovered(), 5'000);
  world_.handlers["initialize"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, {{"protocolVersion", "2025-11-25"}, {"capabilities", Json::object()}}, 4'000);
  };
  EXPECT_EQ(Shake()->era, McpEra::kLegacy);
  EXPECT_EQ(ms_, 6'000);
}

TEST_F(HandshakeTest, ErrorThatComesAfterPatienceEndedChangesNothing) {
  world_.BeLegacy({});
  RefuseDiscovery(-32601, nullptr, 3'000);
  world_.handlers["initialize"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, {{"protocolVersion", "2025-11-25"}, {"capabilities", Json::object()}}, 4'000);
  };
  EXPECT_EQ(Shake()->era, McpEra::kLegacy);
  EXPECT_THAT(world_.Sent("initialize"), SizeIs(1));
}

TEST_F(HandshakeTest, RefusedVersionIsNotFollowedByInitialize) {
  RefuseDiscovery(-32022, {{"supported", {"2027-01-01", "2026-12-01"}}, {"requested", "2026-07-28"}});
  EXPECT_THAT(
      WhyNot(),
      HasSubstr("speaks no version that is spoken here (2026-07-28 and before), but 2027-01-01, 2026-12-01"));
  EXPECT_THAT(world_.Sent("initialize"), IsEmpty());
  RefuseDiscovery(-32022, nullptr);
  EXPECT_THAT(WhyNot(), HasSubstr("but none"));
  AnswerDiscovery({{"supportedVersions", {"2027-01-01"}}, {"capabilities", Json::object()}});
  EXPECT_THAT(WhyNot(), HasSubstr("but 2027-01-01"));
  EXPECT_THAT(world_.Sent("initialize"), IsEmpty());
}

TEST_F(HandshakeTest, RefusedVersionMayNameAnOldOneThatIsTaken) {
  world_.BeLegacy({}, "2025-06-18");
  RefuseDiscovery(-32022, {{"supported", {"2024-11-05", "2025-06-18", "2027-01-01"}}});
  EXPECT_EQ(Shake()->version, "2025-06-18");
  EXPECT_EQ(world_.Sent("initialize").at(0)["params"]["protocolVersion"], "2025-06-18");
}

TEST_F(HandshakeTest, OtherModernErrorsEndIt) {
  for (const int64_t code : {-32020, -32021}) {
    RefuseDiscovery(code, nullptr);
    EXPECT_THAT(WhyNot(), HasSubstr("refused to be discovered: error -3202"));
  }
  EXPECT_THAT(world_.Sent("initialize"), IsEmpty());
}

TEST_F(HandshakeTest, AllOldVersionsAreSpokenAndNoOther) {
  for (const std::string_view version : kLegacyVersions) {
    world_.BeLegacy({}, std::string(version));
    EXPECT_EQ(Shake()->version, version);
  }
  world_.BeLegacy({}, "2024-10-07");
  world_.sent.clear();
  EXPECT_THAT(WhyNot(), HasSubstr("the version `2024-10-07`, which is not spoken here"));
  EXPECT_THAT(world_.Sent("notifications/initialized"), IsEmpty());
}

TEST_F(HandshakeTest, OldServerThatNamesItsVersionsIsAskedOnceMore) {
  world_.BeLegacy({}, "2024-11-05");
  const auto good = world_.handlers["initialize"];
  world_.handlers["initialize"] = [good](ScriptedServer& server, const Json& request) {
    if (request["params"]["protocolVersion"] == "2024-11-05") return good(server, request);
    server.Refuse(request, -32602, "Unsupported protocol version", {{"supported", {"2024-11-05"}}});
  };
  EXPECT_EQ(Shake()->version, "2024-11-05");
  world_.handlers["initialize"] = [](ScriptedServer& server, const Json& request) {
    server.Refuse(request, -32602, "Unsupported protocol version", {{"supported", {"2024-11-05"}}});
  };
  world_.sent.clear();
  EXPECT_THAT(WhyNot(), HasSubstr("refused initialize: error -32602"));
  EXPECT_THAT(world_.Sent("initialize"), SizeIs(2));
}

TEST_F(HandshakeTest, KnownEraIsNotAskedFor) {
  world_.BeLegacy({});
  EXPECT_EQ(Shake(McpEra::kLegacy)->era, McpEra::kLegacy);
  EXPECT_THAT(world_.Sent("server/discover"), IsEmpty());
  world_.sent.clear();
  EXPECT_THAT(WhyNot(McpEra::kModern), HasSubstr("is not of the modern era: error -32601"));
  EXPECT_THAT(world_.Sent("initialize"), IsEmpty());
}

TEST_F(HandshakeTest, SilenceEndsItInTime) {
  world_.handlers.clear();
  EXPECT_THAT(WhyNot(), HasSubstr("answered neither"));
  EXPECT_EQ(ms_, 30'000);
  EXPECT_THAT(WhyNot(McpEra::kModern), HasSubstr("did not answer server/discover"));
  EXPECT_EQ(ms_, 30'000);
}

TEST_F(HandshakeTest, EndDuringItIsToldWithItsKind) {
  world_.handlers["server/discover"] = [](ScriptedServer& server, const Json&) {
    server.End("ended: exit 2");
  };
  EXPECT_EQ(WhyNot(), "ended: exit 2 while it was asked for its era");
  EXPECT_TRUE(handshake_->only_probed());
  world_.BeLegacy({});
  world_.handlers["initialize"] = [](ScriptedServer& server, const Json&) { server.End("ended: exit 2"); };
  EXPECT_EQ(WhyNot(), "ended: exit 2 during the handshake");
  EXPECT_FALSE(handshake_->only_probed());
}

TEST_F(HandshakeTest, ServerThatDoesNotReadIsToldAtOnce) {
  world_.send_status = base::ResourceExhausted("4 MiB wait");
  EXPECT_THAT(WhyNot(), HasSubstr("does not read"));
  EXPECT_EQ(ms_, 0);
}

}  // namespace
}  // namespace holdfast::tools::mcp
