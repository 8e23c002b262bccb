#include "server/token.h"

#include <sys/stat.h>

#include <map>
#include <string>

#include "base/coding.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/socket_testing.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

class TokenTest : public ::testing::Test {
 protected:
  void Write(std::string_view text, mode_t mode = 0600) {
    ASSERT_TRUE(base::WriteFileAtomically(base::RealFileSystem(), path_, base::AsBytes(text)).ok());
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
  }
  grpc::StatusCode Check(std::multimap<grpc::string_ref, grpc::string_ref> metadata) {
    grpc::AuthMetadataProcessor::OutputMetadata consumed, response;
    const auto code = RequireToken(token_)->Process(metadata, nullptr, &consumed, &response).error_code();
    EXPECT_EQ(consumed.count("authorization"), code == grpc::StatusCode::OK ? 1u : 0u);
    return code;
  }

  const std::string path_ = ShortDirectory() + "/token";
  const std::string token_ = std::string(64, 'a');
};

TEST_F(TokenTest, IsMadeOnceOf32RandomBytesForTheOwnerAlone) {
  const auto token = LoadOrMakeToken(path_);
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(token->size(), 64u);
  struct stat found = {};
  ASSERT_EQ(stat(path_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
  EXPECT_EQ(*LoadOrMakeToken(path_), *token);
  EXPECT_NE(*LoadOrMakeToken(path_ + "2"), *token);
}

TEST_F(TokenTest, AFileThatOthersMayReadIsRefusedWithWhatToDo) {
  Write(token_ + "\n", 0640);
  const auto token = LoadOrMakeToken(path_);
  EXPECT_TRUE(absl::IsFailedPrecondition(token.status()));
  EXPECT_THAT(base::Message(token.status()), HasSubstr("chmod 600"));
}

TEST_F(TokenTest, WhatIsNoTokenIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("\n"), token_.substr(1), token_ + "a", token_ + "\n\n"}) {
    Write(text);
    EXPECT_TRUE(absl::IsInvalidArgument(LoadOrMakeToken(path_).status())) << text;
  }
  Write(token_);
  EXPECT_EQ(*LoadOrMakeToken(path_), token_);
}

TEST_F(TokenTest, EqualIsTheWholeToken) {
  EXPECT_TRUE(TokensEqual(token_, token_));
  EXPECT_FALSE(TokensEqual(token_, token_.substr(1)));
  EXPECT_FALSE(TokensEqual(token_, ""));
  for (size_t i = 0; i < token_.size(); ++i) {
    std::string other = token_;
    other[i] = 'b';
    EXPECT_FALSE(TokensEqual(token_, other)) << i;
  }
}

TEST_F(TokenTest, CallsWithoutExactlyTheTokenAreUnauthenticated) {
  const std::string good = "Bearer " + token_;
  const std::string cut = good.substr(0, good.size() - 1), longer = good + "a", bare = token_,
                    basic = "Basic " + token_;
  EXPECT_EQ(Check({{"authorization", good}}), grpc::StatusCode::OK);
  EXPECT_EQ(Check({}), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Check({{"authorization", good}, {"authorization", good}}), grpc::StatusCode::UNAUTHENTICATED);
  for (const std::string& wrong : {cut, longer, bare, basic, std::string("Bearer ")}) {
    EXPECT_EQ(Check({{"authorization", wrong}}), grpc::StatusCode::UNAUTHENTICATED) << wrong;
  }
}

}  // namespace
}  // namespace holdfast::server
