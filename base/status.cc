#include "base/status.h"

namespace holdfast::base {

Status Annotate(const Status& status, std::string_view prefix) {
  if (status.ok()) return status;
  std::string message(prefix);
  message += ": ";
  message += Message(status);
  return Status(status.code(), View(message));
}

}  // namespace holdfast::base
