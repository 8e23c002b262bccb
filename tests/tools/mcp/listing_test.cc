#include "tools/mcp/listing.h"

#include <memory>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "tests/tools/mcp/scripted_server.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int64_t kMs = base::kNsPerMs;

class ListingTest : public testing::Test {
 protected:
  ListingTest() {
    config_.name = "s";
    config_.argv = {"x"};
  }

  base::StatusOr<Listed> List() {
    peer_ = std::make_unique<Peer>(world_.executor, config_.bounds, counters_, world_.Factory()());
    listing_ = std::make_unique<Listing>(*peer_, config_, agreement_);
    const int64_t from = world_.clock.MonotonicNow().ns;
    std::optional<base::StatusOr<Listed>> result;
    peer_->Start({.started =
                      [&](base::Status) {
                        listing_->Start({from + 5'000 * kMs}, [&](base::StatusOr<Listed> listed) {
                          EXPECT_FALSE(result.has_value()) << "told twice";
                          result = std::move(listed);
                          ms_ = (world_.clock.MonotonicNow().ns - from) / kMs;
                        });
                      },
                  .notification = [](std::string_view) {},
                  .lost = [](std::string) {}});
    world_.executor.RunFor(20'000 * kMs);
    return result.value_or(base::Internal("never told"));
  }
  std::string WhyNot() { return base::Message(List().status()); }

  // `pages` pages of one tool each, `ms` apart.
  void ServePages(int pages, int64_t ms = 0) {
    world_.handlers["tools/list"] = [=](ScriptedServer& server, const Json& request) {
      const std::string cursor = request["params"].value("cursor", "0");
      const int page = std::stoi(cursor);
      Json result = {{"tools", {PlainTool("tool" + cursor)}}};
      if (page + 1 < pages) result["nextCursor"] = std::to_string(page + 1);
      server.Answer(request, std::move(result), ms);
    };
  }

  ScriptedWorld world_;
  McpServerConfig config_;
  McpCounters counters_;
  Agreement agreement_ = {.era = McpEra::kLegacy, .version = "2025-11-25", .offers_tools = true};
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<Listing> listing_;
  int64_t ms_ = -1;
};

TEST_F(ListingTest, AllPagesAreAskedFor) {
  ServePages(7);
  const auto listed = List();
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_THAT(listed->catalogue.tools, SizeIs(7));
  const auto sent = world_.Sent("tools/list");
  EXPECT_THAT(sent, SizeIs(7));
  EXPECT_FALSE(sent[0]["params"].contains("cursor"));
  EXPECT_EQ(sent[6]["params"]["cursor"], "6");
}

TEST_F(ListingTest, ModernRequestsCarryTheirMetadataOnEveryPage) {
  agreement_ = {.era = McpEra::kModern, .version = "2026-07-28"};
  ServePages(2);
  EXPECT_TRUE(List().ok());
  for (const Json& sent : world_.Sent("tools/list")) {
    EXPECT_EQ(sent["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
  }
}

TEST_F(ListingTest, PagesWithoutEndAreBounded) {
  config_.bounds.pages_max = 5;
  ServePages(5);
  EXPECT_TRUE(List().ok());
  ServePages(6);
  EXPECT_THAT(WhyNot(), HasSubstr("more than 5 pages"));
  ServePages(1'000'000, 300);
  config_.bounds.pages_max = 1'000'000;
  EXPECT_THAT(WhyNot(), HasSubstr("did not list its tools in time"));
  EXPECT_EQ(ms_, 5'000) << "one deadline for all pages";
}

TEST_F(ListingTest, CursorThatComesTwiceEndsIt) {
  world_.handlers["tools/list"] = [](ScriptedServer& server, const Json& request) {
    const bool first = !request["params"].contains("cursor");
    server.Answer(request, {{"tools", Json::array()}, {"nextCursor", first ? "a" : "b"}});
  };
  EXPECT_THAT(WhyNot(), HasSubstr("a cursor came twice"));
  EXPECT_THAT(world_.Sent("tools/list"), SizeIs(3));
}

TEST_F(ListingTest, AnswersThatAreNoneAreTold) {
  world_.handlers["tools/list"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, 7);
  };
  EXPECT_THAT(WhyNot(), HasSubstr("answered tools/list without tools"));
  world_.handlers["tools/list"] = [](ScriptedServer& server, const Json& request) {
    server.Refuse(request, -32603, "no");
  };
  EXPECT_THAT(WhyNot(), HasSubstr("refused to list its tools: error -32603: no"));
  world_.handlers["tools/list"] = [](ScriptedServer& server, const Json&) { server.End("ended: exit 1"); };
  EXPECT_EQ(WhyNot(), "ended: exit 1 while it listed its tools");
}

}  // namespace
}  // namespace holdfast::tools::mcp
