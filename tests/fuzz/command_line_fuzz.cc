// Command lines from anywhere are taken apart within bounds, and judged: what cannot be told is never allowed
// by a rule for commands, and a line that is allowed is not hit by a rule against all of its commands.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "tools/command_line.h"
#include "tools/permission.h"

namespace holdfast::tools {
namespace {

PermissionPolicy Make(Permission permission, const char* pattern) {
  auto policy = PermissionPolicy::Make({{.permission = permission,
                                         .tool = "bash",
                                         .kind = Subject::Kind::kCommand,
                                         .subject = pattern,
                                         .matches = {"git status"}}});
  HF_CHECK(policy.ok());
  return *std::move(policy);
}

void Judge(std::string_view line) {
  static const auto* const allow = new PermissionPolicy(Make(Permission::kAllow, "git *"));
  static const auto* const deny = new PermissionPolicy(Make(Permission::kDeny, "git *"));
  const Subject subject{.kind = Subject::Kind::kCommand, .texts = {std::string(line)}};
  const bool certain = TakeApart(line).certain;
  const Permission allowed = allow->Judge("bash", subject, {}).permission;
  const Permission denied = deny->Judge("bash", subject, {}).permission;
  HF_CHECK(certain || allowed == Permission::kAsk);
  HF_CHECK(certain || denied == Permission::kDeny);
  // Whatever must match may match, unless there is nothing in it.
  HF_CHECK(allowed != Permission::kAllow || denied == Permission::kDeny || TakeApart(line).commands.empty());
}

}  // namespace
}  // namespace holdfast::tools

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const auto apart = holdfast::tools::TakeApart(line);
  HF_CHECK(apart.certain == apart.doubt.empty());
  HF_CHECK(apart.commands.size() <= holdfast::tools::CommandLine::kCommandsMax);
  holdfast::tools::Judge(line);
  return 0;
}
