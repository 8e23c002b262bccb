// What a repository tells agents: its AGENTS.md files. Read once, at the start of a session, and pinned by
// hash; read again only when somebody asks for it, since they stand in the prompt that all turns share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"

namespace holdfast::workspace {
class Tree;
}

namespace holdfast::tools {

struct InstructionLimits {
  size_t file_bytes_max = 32 * 1024;    // the rest of a longer file is cut off, at a line
  size_t total_bytes_max = 128 * 1024;  // what is beyond it is left out whole
  size_t files_max = 32;
  size_t depth_max = 8;             // directories above a file
  size_t directories_max = 20'000;  // looked into
};

struct InstructionFile {
  std::string path;  // "AGENTS.md", "src/AGENTS.md"
  std::string text;  // UTF-8, without byte order mark, lines ended by LF
  bool cut = false;
};

struct Instructions {
  std::vector<InstructionFile> files;  // the root's first, each directory's before those beneath it
  std::vector<std::string> left_out;   // paths, with the reason: "x/AGENTS.md: not UTF-8"
  bool complete = true;                // false: a limit on directories or files ended the search
  base::Sha256Digest hash = {};        // of all of the above
};

// Finds them. Links are not followed, hidden directories and `node_modules` not looked into. An error is that
// of the root; what else cannot be read is left out. Blocks; costs a listing of each directory.
base::StatusOr<Instructions> ReadInstructions(workspace::Tree& tree, const InstructionLimits& limits = {});

// The files that speak about `path`, the most general first, so that the nearest has the last word.
std::vector<const InstructionFile*> InstructionsFor(const Instructions& instructions, std::string_view path);

}  // namespace holdfast::tools
