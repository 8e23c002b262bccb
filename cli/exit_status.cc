#include "cli/exit_status.h"

#include <string>

#include "absl/strings/cord.h"

namespace holdfast::cli {
namespace {

constexpr char kPayload[] = "holdfast/exit";

}  // namespace

base::Status ExitWith(Exit exit, std::string_view message) {
  base::Status status(absl::StatusCode::kFailedPrecondition, base::View(message));
  status.SetPayload(kPayload, absl::Cord(std::to_string(static_cast<int>(exit))));
  return status;
}

Exit ExitOf(const base::Status& status) {
  if (status.ok()) return Exit::kReached;
  if (const auto payload = status.GetPayload(kPayload); payload.has_value()) {
    return static_cast<Exit>(std::stoi(std::string(*payload)));
  }
  return Exit::kError;
}

}  // namespace holdfast::cli
