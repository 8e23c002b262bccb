#include "memory/sqlite_statement.h"

#include <limits>
#include <string>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/sqlite_testing.h"

namespace holdfast::memory {
namespace {

class SqliteStatementTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(world_.Open().ok()); }
  SqliteStatement Prepare(std::string_view sql) {
    auto statement = world_.database->writer().Prepare(sql);
    HF_CHECK(statement.ok());
    return *std::move(statement);
  }
  SqliteWorld world_;
};

TEST_F(SqliteStatementTest, ValuesComeBackAsTheyWere) {
  SqliteStatement echo = Prepare("SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7");
  const std::string text("a\0b\xff", 4);
  const std::string empty;
  for (const int64_t number :
       {std::numeric_limits<int64_t>::min(), int64_t{-1}, int64_t{0}, std::numeric_limits<int64_t>::max()}) {
    echo.Bind(1, number).Bind(2, 0.1).Bind(3, text).Bind(4, base::AsBytes(text)).Bind(5, std::string_view());
    echo.Bind(6, std::span<const std::byte>()).BindNull(7);
    ASSERT_TRUE(*echo.Step());
    EXPECT_EQ(echo.Int(0), number);
    EXPECT_EQ(echo.Double(1), 0.1);
    EXPECT_EQ(echo.Text(2), text);
    EXPECT_EQ(base::AsText(echo.Blob(3)), text);
    EXPECT_EQ(echo.Text(4), "");
    EXPECT_TRUE(echo.Blob(5).empty());
    EXPECT_FALSE(echo.IsNull(4) || echo.IsNull(5));
    EXPECT_TRUE(echo.IsNull(6));
    EXPECT_FALSE(*echo.Step());
    EXPECT_TRUE(echo.Finish().ok());
  }
}

TEST_F(SqliteStatementTest, ParametersAreNullAgainAfterFinish) {
  SqliteStatement echo = Prepare("SELECT ?1");
  echo.Bind(1, "text");
  ASSERT_TRUE(*echo.Step());
  ASSERT_TRUE(echo.Finish().ok());
  ASSERT_TRUE(*echo.Step());
  EXPECT_TRUE(echo.IsNull(0));
}

TEST_F(SqliteStatementTest, TheFirstFailureSticksUntilFinish) {
  SqliteStatement echo = Prepare("SELECT ?1, 'text', NULL");
  for (const int column : {1, 2, 3, -1}) {
    ASSERT_TRUE(*echo.Bind(1, 5).Step());
    EXPECT_EQ(echo.Int(0), 5);
    EXPECT_EQ(echo.Int(column), 0);  // of another type, NULL, or not there
    EXPECT_EQ(echo.Int(0), 0);
    EXPECT_TRUE(absl::IsInternal(echo.Step().status()));
    EXPECT_TRUE(absl::IsInternal(echo.Finish()));
    EXPECT_TRUE(echo.Finish().ok());
  }
  echo.Bind(2, 1);
  EXPECT_TRUE(absl::IsInvalidArgument(echo.Step().status()));  // no such parameter
  EXPECT_TRUE(absl::IsInvalidArgument(echo.Finish()));
}

TEST_F(SqliteStatementTest, RunReportsOnceAndCanBeUsedAgain) {
  SqliteStatement put = Prepare("INSERT INTO pairs VALUES (?, ?)");
  EXPECT_TRUE(put.Bind(1, 1).Bind(2, "a").Run().ok());
  EXPECT_TRUE(absl::IsAlreadyExists(put.Bind(1, 1).Bind(2, "b").Run()));
  EXPECT_TRUE(put.Bind(1, 2).Bind(2, "b").Run().ok());
  EXPECT_EQ(world_.database->writer().changes(), 1);
  EXPECT_EQ(world_.database->writer().last_row_id(), 2);
  EXPECT_EQ(*world_.All(), (Pairs{{1, "a"}, {2, "b"}}));
}

}  // namespace
}  // namespace holdfast::memory
