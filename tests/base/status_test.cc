#include "base/status.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

StatusOr<std::unique_ptr<int>> Half(int value) {
  if (value % 2 != 0) return InvalidArgument("odd");
  return std::make_unique<int>(value / 2);
}

StatusOr<int> Quarter(int value) {
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<int> half, Half(value));
  HF_ASSIGN_OR_RETURN(const auto quarter, Half(*half));
  return *quarter;
}

Status CheckQuarter(int value) {
  HF_RETURN_IF_ERROR(Quarter(value).status());
  return absl::OkStatus();
}

TEST(StatusTest, MacrosPassValuesAndErrorsOn) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_TRUE(CheckQuarter(12).ok());
  EXPECT_EQ(Message(Quarter(6).status()), "odd");
  EXPECT_TRUE(absl::IsInvalidArgument(CheckQuarter(7)));
}

TEST(StatusTest, AnnotatePutsAPrefixBeforeErrorsOnly) {
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
  const Status status = Annotate(DataLoss("bad checksum"), "segment 7");
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_EQ(Message(status), "segment 7: bad checksum");
}

}  // namespace
}  // namespace holdfast::base
