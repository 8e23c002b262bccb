// CHECK: for a programmer's error. Always on; prints file, line and condition, then aborts.
// Bytes from disk, network, model or guest are never a CHECK: they are a Status, or data.
#pragma once

namespace holdfast::base {

// Prints "file:line: CHECK failed: condition" to standard error and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace holdfast::base

#define HF_CHECK(condition)                            \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::holdfast::base::CheckFailed(__FILE__, __LINE__, #condition))
