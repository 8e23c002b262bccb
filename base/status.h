// Status helpers. Errors are absl::Status / absl::StatusOr; a message says what failed and why, with the
// path, id or offset. Debian's abseil is built with its own string_view: View() is the one place that
// converts.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace holdfast::base {

using absl::Status;
using absl::StatusOr;

inline absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

// The message of a status as std::string.
inline std::string Message(const Status& status) { return std::string(status.message()); }

inline Status InvalidArgument(std::string_view message) { return absl::InvalidArgumentError(View(message)); }
inline Status NotFound(std::string_view message) { return absl::NotFoundError(View(message)); }
inline Status DataLoss(std::string_view message) { return absl::DataLossError(View(message)); }
inline Status FailedPrecondition(std::string_view message) {
  return absl::FailedPreconditionError(View(message));
}
inline Status ResourceExhausted(std::string_view message) {
  return absl::ResourceExhaustedError(View(message));
}
inline Status Internal(std::string_view message) { return absl::InternalError(View(message)); }

// The same status with `prefix: ` before its message.
Status Annotate(const Status& status, std::string_view prefix);

}  // namespace holdfast::base

// Returns from the enclosing function when `expr` is an error.
#define HF_RETURN_IF_ERROR(expr)                    \
  do {                                              \
    if (auto hf_status = (expr); !hf_status.ok()) { \
      return hf_status;                             \
    }                                               \
  } while (false)

#define HF_CONCAT_INNER(a, b) a##b
#define HF_CONCAT(a, b) HF_CONCAT_INNER(a, b)

// `HF_ASSIGN_OR_RETURN(auto x, F())`: assigns the value of F() or returns its error.
#define HF_ASSIGN_OR_RETURN(lhs, expr) HF_ASSIGN_OR_RETURN_IMPL(HF_CONCAT(hf_or_, __LINE__), lhs, expr)
#define HF_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return tmp.status();            \
  lhs = std::move(tmp).value()
