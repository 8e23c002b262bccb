// Whether a call may run: allow, ask and deny rules, of which the strictest that matches wins, and a default
// for what no rule speaks about.
//
// A rule names tools and, if it likes, what their calls are about. Patterns: `*` any characters, `?` one; in
// a path both stop at `/`, `**` does not. A command line is taken apart into its simple commands and its
// redirections (tools/command_line.h): it is allowed when an allow rule matches each of them, and a deny or
// ask rule matches when it may match any of them, also behind `env`, `xargs` and their like. A command line
// that cannot be taken apart with certainty is allowed by rules for the whole tool only, and every deny or
// ask rule for commands counts as matching.
//
// Rules are about what a command is called, and a program may run any other: they keep an honest model within
// bounds. What keeps the others is the sandbox.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "tools/tool.h"

namespace holdfast::tools {

enum class Permission { kAllow, kAsk, kDeny };  // ascending strictness
std::string_view PermissionName(Permission permission);

struct PermissionRule {
  Permission permission = Permission::kAsk;
  std::string tool;                           // pattern over the tool's name: "bash", "github__*"
  Subject::Kind kind = Subject::Kind::kNone;  // of the subject; kNone: every call of the tool
  std::string subject;                        // pattern over the call's subject
  std::vector<std::string> matches;           // subjects that the rule must match, checked at load
  std::vector<std::string> no_matches;        // and must not
};

// What no rule speaks about.
enum class PermissionDefault {
  kByReach,  // allowed when it only reads, is confined to the session's layer, or is a client's; else asked
  kAsk,
  kDeny,
};

struct Verdict {
  Permission permission = Permission::kAsk;
  std::string reason;  // for people and the model: `rule 3: deny bash "rm *"`
};

// Immutable after Make; safe from any thread.
class PermissionPolicy {
 public:
  static constexpr size_t kRulesMax = 1024;
  static constexpr size_t kPatternBytesMax = 1024;
  static constexpr size_t kExamplesMax = 64;  // of one rule

  // No rules: PermissionDefault::kByReach.
  PermissionPolicy();

  // InvalidArgument, naming the rule and the example, when a rule with a subject has no example to match, an
  // example does not hold, or a pattern is empty or too long.
  static base::StatusOr<PermissionPolicy> Make(std::vector<PermissionRule> rules,
                                               PermissionDefault otherwise = PermissionDefault::kByReach);

  // {"default": "by_reach" | "ask" | "deny",
  //  "rules": [{"permission": "deny", "tool": "bash", "command": "rm *", "matches": ["rm -r x"],
  //  "no_matches": ["ls"]},
  //            {"permission": "allow", "tool": "write", "path": "notes/**", "matches": ["notes/a"]},
  //            {"permission": "ask", "tool": "github__*"}]}
  // A subject is a "command", a "path" or a "text". InvalidArgument as Make, and for what else is in it.
  static base::StatusOr<PermissionPolicy> Parse(std::string_view json);

  Verdict Judge(std::string_view tool, const Subject& subject, const CallTraits& traits) const;

  // Of all rules in their order: part of every action hash, so that an approval dies with the policy that it
  // was asked under.
  const base::Sha256Digest& hash() const { return hash_; }
  const std::vector<PermissionRule>& rules() const { return rules_; }

 private:
  void ComputeHash();

  std::vector<PermissionRule> rules_;
  PermissionDefault otherwise_ = PermissionDefault::kByReach;
  base::Sha256Digest hash_ = {};
};

// What an approval is for: SHA-256 over the tool's id, its canonical arguments, and the policies in force.
using ActionHash = base::Sha256Digest;

// Answers to what was asked, each for one exact action and good for one call. The record stores every change
// before it counts: Export after it, Import at start. One thread at a time (the control lane).
class ApprovalBook {
 public:
  static constexpr size_t kEntriesMax = 4096;

  struct Entry {
    ActionHash action = {};
    uint32_t granted = 0;  // calls that may still run
    friend bool operator==(const Entry&, const Entry&) = default;
  };

  // One more call of `action` may run. ResourceExhausted beyond kEntriesMax different actions.
  base::Status Grant(const ActionHash& action);
  // Takes one grant; false when there is none.
  [[nodiscard]] bool Use(const ActionHash& action);
  bool Holds(const ActionHash& action) const { return grants_.contains(action); }
  // Forgets what was granted and not used.
  void Revoke(const ActionHash& action) { grants_.erase(action); }

  std::vector<Entry> Export() const;  // ascending by action
  base::Status Import(const std::vector<Entry>& entries);

 private:
  std::map<ActionHash, uint32_t> grants_;
};

}  // namespace holdfast::tools
