// errno -> Status, with one table for the whole tree.
#pragma once

#include <string_view>

#include "base/status.h"

namespace holdfast::base {

// `what: text of the error`, e.g. "open /data/x: No such file or directory". Codes:
//   ENOENT NotFound; EEXIST AlreadyExists; EACCES, EPERM PermissionDenied; ENOSPC, EDQUOT, EFBIG
//   ResourceExhausted (the disk is full, and nothing else); EIO DataLoss; EAGAIN, EBUSY, EMFILE, ENFILE,
//   ENOMEM Unavailable; EINVAL, ENAMETOOLONG, ELOOP InvalidArgument; ENOTDIR, EISDIR, ENOTEMPTY, EROFS,
//   EXDEV, EOPNOTSUPP FailedPrecondition; anything else Internal. `error` 0 is a programmer's error.
Status ErrnoStatus(int error, std::string_view what);

}  // namespace holdfast::base
