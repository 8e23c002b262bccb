// Patches in the envelope that models know:
//
//   *** Begin Patch
//   *** Add File: PATH            lines that follow begin with `+`
//   *** Delete File: PATH
//   *** Update File: PATH         maybe followed by  *** Move to: PATH
//   @@ a line to look for         any number of these, or `@@` alone
//    context                      a blank, `-` or `+` before each line; an empty line is empty context
//   -old
//   +new
//   *** End of File               the lines above stand at the end of the file
//   *** End Patch
//
// Pure functions: nothing here touches a file. All costs are linear in patch and file but for the search of a
// change, which is their product at worst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace holdfast::tools {

struct PatchLine {
  enum class Kind : uint8_t { kContext, kOld, kNew } kind;
  std::string text;
};

// Lines that stand together in a file.
struct PatchChange {
  uint64_t line = 0;                 // of the patch where it begins, from 1
  std::vector<std::string> headers;  // lines to look for first, one after the other
  std::vector<PatchLine> lines;
  bool at_end = false;
};

struct PatchFile {
  enum class Kind : uint8_t { kAdd, kDelete, kUpdate } kind;
  uint64_t line = 0;  // of the patch
  std::string path;
  std::string move_to;  // empty: stays
  std::string content;  // of kAdd
  std::vector<PatchChange> changes;
};

struct PatchProblem {
  uint64_t line = 0;  // of the patch, from 1
  std::string reason;
};

struct PatchParse {
  std::vector<PatchFile> files;
  std::vector<PatchProblem> problems;  // one, when it is no patch
};

// CR LF at all line ends, blank lines around the envelope and a here-document around it are taken off.
PatchParse ParsePatch(std::string_view text, size_t files_max);

// Why a change does not fit.
struct PatchMisfit {
  uint64_t line = 0;                // of the patch
  std::vector<std::string> wanted;  // lines that are not there; empty: `places`
  std::vector<uint64_t> places;  // it fits at more than one place: lines of the file, from 1, the first few
};

struct PatchedText {
  std::string text;
  bool fits = false;
  PatchMisfit misfit;
};

// Applies changes, one after the other, to a file's bytes. A change is looked for behind the one before it:
// as it is written, else without blanks at the ends of lines, else without those at their beginnings too.
// Without a header it must fit at one place only. Context keeps the bytes that the file has; new lines get
// the line ends of their neighbours; a byte order mark stays, and so does a missing line end at the end of
// the file. A change without context and old lines goes behind its headers, or to the end of the file.
PatchedText ApplyChanges(std::string_view bytes, const std::vector<PatchChange>& changes);

}  // namespace holdfast::tools
