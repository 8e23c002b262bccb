// What to run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace holdfast::sandbox {

struct TerminalSize {
  uint16_t rows = 24;
  uint16_t columns = 80;
};

// Where standard error goes.
enum class ErrorStream {
  kWithOutput,  // into the same stream as standard output, in the order it was written
  kSeparate,    // a stream of its own; the order between the two is not kept
};

struct Command {
  // The program and its arguments. A program without a slash is looked up in the PATH of the environment.
  std::vector<std::string> argv;

  // Absolute, as seen inside; empty: the workspace.
  std::string directory;

  // Added to the policy's environment. A name the policy sets cannot be replaced.
  std::vector<std::pair<std::string, std::string>> environment;

  // Written to standard input, which is then closed, unless `keep_input_open`: then Job::Write adds to it.
  std::string input;
  bool keep_input_open = false;

  ErrorStream error_stream = ErrorStream::kWithOutput;

  // With a terminal, all three streams are one, and input stays open.
  std::optional<TerminalSize> terminal;
};

// `bash -c SCRIPT`.
Command ShellCommand(std::string script);

// Refuses what no system call could take: an empty argv, NUL bytes, a relative directory, a malformed name of
// a variable, more than 2 MiB in all. InvalidArgument, saying which.
base::Status Validate(const Command& command);

}  // namespace holdfast::sandbox
