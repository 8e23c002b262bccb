#include "base/errno.h"

#include <cerrno>

#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

TEST(ErrnoStatusTest, EachErrorHasItsCode) {
  const std::pair<int, absl::StatusCode> cases[] = {
      {ENOENT, absl::StatusCode::kNotFound},           {EEXIST, absl::StatusCode::kAlreadyExists},
      {EACCES, absl::StatusCode::kPermissionDenied},   {EPERM, absl::StatusCode::kPermissionDenied},
      {ENOSPC, absl::StatusCode::kResourceExhausted},  {EDQUOT, absl::StatusCode::kResourceExhausted},
      {EFBIG, absl::StatusCode::kResourceExhausted},   {EIO, absl::StatusCode::kDataLoss},
      {EAGAIN, absl::StatusCode::kUnavailable},        {EMFILE, absl::StatusCode::kUnavailable},
      {EINVAL, absl::StatusCode::kInvalidArgument},    {ELOOP, absl::StatusCode::kInvalidArgument},
      {EISDIR, absl::StatusCode::kFailedPrecondition}, {EROFS, absl::StatusCode::kFailedPrecondition},
      {EPROTO, absl::StatusCode::kInternal},
  };
  for (const auto& [error, code] : cases) EXPECT_EQ(ErrnoStatus(error, "x").code(), code) << error;
}

TEST(ErrnoStatusTest, TheMessageSaysWhatAndWhy) {
  EXPECT_EQ(Message(ErrnoStatus(ENOENT, "open /data/x")), "open /data/x: No such file or directory");
}

TEST(ErrnoStatusDeathTest, NoErrorIsAProgrammersError) { EXPECT_DEATH(ErrnoStatus(0, "x"), "error != 0"); }

}  // namespace
}  // namespace holdfast::base
