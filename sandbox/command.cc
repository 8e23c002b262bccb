#include "sandbox/command.h"

#include <string_view>

namespace holdfast::sandbox {
namespace {

constexpr size_t kTotalBytesMax = 2 << 20;

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

}  // namespace

Command ShellCommand(std::string script) {
  Command command;
  command.argv = {"bash", "-c", std::move(script)};
  return command;
}

base::Status Validate(const Command& command) {
  if (command.argv.empty() || command.argv[0].empty()) return base::InvalidArgument("command: no program");
  size_t bytes = 0;
  for (const std::string& argument : command.argv) {
    if (HasNul(argument)) return base::InvalidArgument("command: an argument holds a NUL byte");
    bytes += argument.size() + 1;
  }
  for (const auto& [name, value] : command.environment) {
    if (name.empty() || name.find('=') != std::string::npos || HasNul(name) || HasNul(value)) {
      return base::InvalidArgument("command: `" + name + "` cannot be a variable");
    }
    bytes += name.size() + value.size() + 2;
  }
  if (bytes > kTotalBytesMax) return base::InvalidArgument("command: arguments and environment exceed 2 MiB");
  if (!command.directory.empty() && (command.directory[0] != '/' || HasNul(command.directory))) {
    return base::InvalidArgument("command: the directory `" + command.directory + "` is not absolute");
  }
  return absl::OkStatus();
}

}  // namespace holdfast::sandbox
