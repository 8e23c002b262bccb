// Command lines of bash, taken apart into what they run: for permission rules, so a wrong "certain" is a hole
// in them, and a wrong "uncertain" only asks once too often.
//
// Understood: lists and pipes, groups and subshells, `if`, `for`, `while`, `until`, `!`, `[[ ]]`, quoting,
// here-documents, redirections, command and process substitution (what is in them is taken apart too),
// assignments, `bash -c TEXT`, `eval TEXT` and `trap TEXT` with a text that is known. Uncertain: a command
// whose name is the result of an expansion, `case`, `select`, functions, arrays, coprocesses, `alias`, a
// shell that reads its commands from its input, anything unfinished, and what is beyond the bounds.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tools/text/pattern.h"

namespace holdfast::tools {

// One simple command: assignments, then words, one blank between them. A word with characters that mean
// something to the shell stands in single quotes; an expansion is a hole. A redirection is a command of its
// own: "> path", ">> path", "< path"; those of /dev/null, of descriptors to each other, and here-documents
// are left out.
struct SimpleCommand {
  OpenText text;
  // Other forms of it, for rules that forbid: without assignments and quotes, without the directory of the
  // program, and what a program that runs others (env, xargs, sudo, find -exec, ...) may run.
  std::vector<OpenText> also;
};

struct CommandLine {
  static constexpr size_t kBytesMax = 131'072;
  static constexpr size_t kCommandsMax = 1024;
  static constexpr size_t kDepthMax = 16;
  static constexpr size_t kFormUnitsMax = 262'144;  // of all forms of all commands together

  bool certain = true;
  std::string doubt;                    // why it is not, for people: "a command named by an expansion"
  std::vector<SimpleCommand> commands;  // in the order they stand; all that were found, when uncertain
};

CommandLine TakeApart(std::string_view line);

}  // namespace holdfast::tools
