// Whether a call may run: ordered rules, the strictest match wins, and a default by what the call can reach.
//
// A rule names tools and, if it likes, what their calls are about. Patterns: `*` any characters, `?` one; in
// a path `*` and `?` stop at `/`, and `**` does not. A command line is taken apart into its simple commands:
// an allow rule must match every one of them, a deny or ask rule any of them. A command line that cannot be
// taken apart with certainty (here-documents, `eval`, functions, an expansion in the place of a command's
// name) is allowed by rules for the whole tool only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
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
  std::string tool;                     // pattern over the tool's name: "bash", "github__*"
  std::string subject;                  // pattern over the call's subject; empty: every call of the tool
  std::vector<std::string> matches;     // subjects that it must match, checked at load
  std::vector<std::string> no_matches;  // and must not
};

struct Verdict {
  Permission permission = Permission::kAsk;
  std::string
      reason;  // for people: `rule 3: deny bash "rm *"`, `default: reaches beyond the session's layer`
};

// Immutable after Make; safe from any thread.
class PermissionPolicy {
 public:
  static constexpr size_t kRulesMax = 1024;

  // The default alone: what is read-only or confined is allowed, everything else asks.
  PermissionPolicy();

  // InvalidArgument, naming the rule and the example, when a rule has none to match or an example does not
  // hold, or a pattern is empty or too long.
  static base::StatusOr<PermissionPolicy> Make(std::vector<PermissionRule> rules);

  // {"rules": [{"permission": "deny", "tool": "bash", "subject": "rm *", "matches": [...], "no_matches":
  // [...]}]}
  static base::StatusOr<PermissionPolicy> Parse(std::string_view json);

  Verdict Judge(std::string_view tool, const Subject& subject, const CallTraits& traits) const;

  // Of all rules in their order: part of every action hash, so that an approval dies with the policy that it
  // was asked under.
  const base::Sha256Digest& hash() const { return hash_; }
  const std::vector<PermissionRule>& rules() const { return rules_; }

 private:
  std::vector<PermissionRule> rules_;
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
