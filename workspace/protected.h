// Which paths of a tree are not changed when the agent's work is applied to it: what git keeps for itself,
// and what editors, shells and other agents obey or run without asking. A session's commands may write such
// files as they like; they stay in the layer.
//
// A name is compared as the most forgiving file system would: without regard to case, ignoring code points
// that HFS+ and APFS ignore and the dots, spaces and streams that NTFS drops, short names (GIT~1) included.
// Names that merely look the same (a Cyrillic letter, full-width forms) are refused as well: nobody who means
// well has one.
//
// The list of names is sandbox::Policy::DefaultProtectedPaths(), here and in direct mode.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace holdfast::workspace {

enum class Guard {
  kNone,
  kFlagged,        // applied, and pointed out: instructions to agents, what a build service runs
  kRefused,        // not applied, unless the operator names this very path
  kRefusedAlways,  // not applied: anything under a `.git`, or a `.git` itself
};

struct GuardVerdict {
  Guard guard = Guard::kNone;
  std::string reason;  // empty for kNone
};

// Immutable; any thread. A check costs about a microsecond for each part of the path.
class ProtectedPaths {
 public:
  // The default list.
  ProtectedPaths();

  // A name ("`.vscode`") is protected at any depth with all that is under it, a path ("a/b") where its parts
  // follow each other. `.git` is protected whether it stands in the list or not.
  explicit ProtectedPaths(const std::vector<std::string>& names);

  GuardVerdict Check(std::string_view path) const;

 private:
  struct Entry {
    std::string name;                // as given
    std::vector<std::string> parts;  // folded
  };
  std::vector<Entry> entries_;
};

// A name as the most forgiving file system sees it; see above. For comparison only.
std::string FoldName(std::string_view name);

// FoldName, with look-alikes mapped to what they look like.
std::string FoldLookalike(std::string_view name);

// A path for people, on one line and free of tricks: printable ASCII as it is, `\` as `\\`, other code points
// as \u{...}, bytes that are not UTF-8 as \x... Two different paths never read the same.
std::string ShowPath(std::string_view path);

// Why a link at `path` with this target would lead out of the tree, or could; empty when it stays inside. A
// `..` behind a name is refused, since where it leads depends on what the name is.
std::string WhyLinkLeaves(std::string_view path, std::string_view target);

}  // namespace holdfast::workspace
