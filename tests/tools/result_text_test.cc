#include "tools/result_text.h"

#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"

namespace holdfast::tools {
namespace {

using ::testing::HasSubstr;

class Kept final : public SpillStore {
 public:
  base::StatusOr<SpilledBlob> Put(std::string_view bytes) override {
    if (refuses) return base::NotFound("no room");
    whole = bytes;
    return SpilledBlob{.id = base::Sha256Of(std::as_bytes(std::span(bytes))), .bytes = bytes.size()};
  }
  bool refuses = false;
  std::string whole;
};

class ResultTextTest : public testing::Test {
 protected:
  ToolResult Bound(std::string text, SpillStore* spill) {
    std::optional<ToolResult> bounded;
    BoundResult({.status = ToolStatus::kFailed, .text = std::move(text)}, {.result_bytes_max = 1000}, spill,
                executor_, [&bounded](ToolResult result) { bounded = std::move(result); });
    while (!bounded.has_value() && executor_.RunOne()) {
    }
    EXPECT_TRUE(bounded.has_value());
    return bounded.value_or(ToolResult());
  }
  test::SimClock clock_;
  test::SimExecutor executor_{clock_, {}};
  Kept kept_;
};

TEST_F(ResultTextTest, WhatFitsStaysAsItIs) {
  const ToolResult result = Bound(std::string(1000, 'a'), &kept_);
  EXPECT_EQ(result.text, std::string(1000, 'a'));
  EXPECT_EQ(result.status, ToolStatus::kFailed);
  EXPECT_TRUE(result.blobs.empty());
}

TEST_F(ResultTextTest, WhatIsCutIsKeptWholeAndNamed) {
  const std::string whole = std::string(600, 'a') + "\n" + std::string(600, 'b');
  const ToolResult result = Bound(whole, &kept_);
  EXPECT_LE(result.text.size(), 1000u);
  ASSERT_EQ(result.blobs.size(), 1u);
  EXPECT_EQ(kept_.whole, whole);
  EXPECT_THAT(result.text, HasSubstr(base::ToHex(result.blobs[0].id)));
  EXPECT_THAT(result.text, HasSubstr("1 lines omitted"));
}

TEST_F(ResultTextTest, WhatCannotBeKeptIsSaidToBeLost) {
  kept_.refuses = true;
  for (SpillStore* const store : {static_cast<SpillStore*>(&kept_), static_cast<SpillStore*>(nullptr)}) {
    const ToolResult result = Bound(std::string(5000, 'a'), store);
    EXPECT_THAT(result.text, HasSubstr("bytes, 0 lines omitted]"));
    EXPECT_TRUE(result.blobs.empty());
  }
}

TEST_F(ResultTextTest, WhatIsNoUtf8IsMadeSo) { EXPECT_EQ(Bound("a\xff", &kept_).text, "a\xef\xbf\xbd"); }

}  // namespace
}  // namespace holdfast::tools
