#include "tools/permission.h"

#include <algorithm>
#include <initializer_list>
#include <span>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/command_line.h"
#include "tools/text/json_text.h"
#include "tools/text/pattern.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;

constexpr size_t kPolicyBytesMax = 4 << 20;

// What the patterns of one call are matched against.
struct Item {
  OpenText text;
  std::vector<OpenText> also;  // for rules that forbid
};

struct Target {
  Subject::Kind kind = Subject::Kind::kNone;
  bool certain = true;
  std::string doubt;
  std::vector<Item> items;
};

Target TargetOf(const Subject& subject) {
  Target target{.kind = subject.kind};
  for (const std::string& text : subject.texts) {
    if (subject.kind != Subject::Kind::kCommand) {
      target.items.push_back({.text = ToOpenText(text)});
      continue;
    }
    CommandLine line = TakeApart(text);
    if (!line.certain && target.certain) target.doubt = line.doubt;
    target.certain = target.certain && line.certain;
    for (SimpleCommand& command : line.commands) {
      target.items.push_back({.text = std::move(command.text), .also = std::move(command.also)});
    }
  }
  return target;
}

PatternKind KindOf(Subject::Kind kind) {
  switch (kind) {
    case Subject::Kind::kCommand:
      return PatternKind::kCommand;
    case Subject::Kind::kPath:
      return PatternKind::kPath;
    default:
      return PatternKind::kText;
  }
}

bool NamesTool(const PermissionRule& rule, std::string_view tool) {
  return MustMatch(PatternKind::kText, rule.tool, ToOpenText(tool));
}

// Of a rule that forbids, for a call of a tool that it names.
bool Hits(const PermissionRule& rule, const Target& target) {
  if (rule.kind == Subject::Kind::kNone) return true;
  if (rule.kind != target.kind) return false;
  if (!target.certain) return true;
  const auto may = [&](const OpenText& text) { return MayMatch(KindOf(rule.kind), rule.subject, text); };
  return std::any_of(target.items.begin(), target.items.end(), [&](const Item& item) {
    return may(item.text) || std::any_of(item.also.begin(), item.also.end(), may);
  });
}

// Of a rule that allows, for one item.
bool Covers(const PermissionRule& rule, const Target& target, const Item& item) {
  if (rule.kind == Subject::Kind::kNone) return true;
  return rule.kind == target.kind && target.certain && MustMatch(KindOf(rule.kind), rule.subject, item.text);
}

bool AllCovered(std::span<const PermissionRule* const> rules, const Target& target) {
  const auto whole = [](const PermissionRule* rule) { return rule->kind == Subject::Kind::kNone; };
  if (std::any_of(rules.begin(), rules.end(), whole)) return true;
  return !rules.empty() && target.certain && target.kind != Subject::Kind::kNone &&
         std::all_of(target.items.begin(), target.items.end(), [&](const Item& item) {
           return std::any_of(rules.begin(), rules.end(),
                              [&](const PermissionRule* rule) { return Covers(*rule, target, item); });
         });
}

std::string Describe(const PermissionRule& rule, size_t index) {
  std::string text = "rule " + std::to_string(index + 1) + ": " +
                     std::string(PermissionName(rule.permission)) + " " + rule.tool;
  if (rule.kind != Subject::Kind::kNone) text += " \"" + rule.subject + "\"";
  return text;
}

bool ExampleMatches(const PermissionRule& rule, const std::string& example) {
  const Target target = TargetOf({.kind = rule.kind, .texts = {example}});
  if (rule.permission != Permission::kAllow) return Hits(rule, target);
  const PermissionRule* const rules[] = {&rule};
  return AllCovered(rules, target);
}

base::Status CheckRule(const PermissionRule& rule, size_t index) {
  const auto bad = [&](const std::string& what) {
    return base::InvalidArgument("permission " + Describe(rule, index) + ": " + what);
  };
  if (rule.tool.empty() || rule.tool.size() > PermissionPolicy::kPatternBytesMax)
    return bad("the tool is empty, or too long");
  if (rule.matches.size() + rule.no_matches.size() > PermissionPolicy::kExamplesMax)
    return bad("too many examples");
  if (rule.kind == Subject::Kind::kNone) {
    const bool plain = rule.subject.empty() && rule.matches.empty() && rule.no_matches.empty();
    return plain ? absl::OkStatus() : bad("examples, but nothing to match them with");
  }
  if (rule.subject.empty() || rule.subject.size() > PermissionPolicy::kPatternBytesMax) {
    return bad("the pattern is empty, or too long");
  }
  if (rule.matches.empty()) return bad("no example of what it matches");
  for (const std::string& example : rule.matches) {
    if (!ExampleMatches(rule, example)) return bad("does not match its example \"" + example + "\"");
  }
  for (const std::string& example : rule.no_matches) {
    if (ExampleMatches(rule, example)) return bad("matches \"" + example + "\", which it must not");
  }
  return absl::OkStatus();
}

// --- JSON

base::Status BadField(size_t index, std::string_view what) {
  return base::InvalidArgument("permission rule " + std::to_string(index + 1) + ": " + std::string(what));
}

base::StatusOr<std::string> TextField(const json& object, const char* name, size_t index) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_string()) return BadField(index, std::string(name) + " is no string");
  return it->get<std::string>();
}

base::StatusOr<std::vector<std::string>> ListField(const json& object, const char* name, size_t index) {
  std::vector<std::string> list;
  if (!object.contains(name)) return list;
  if (!object[name].is_array()) return BadField(index, std::string(name) + " is no list");
  for (const json& each : object[name]) {
    if (!each.is_string()) return BadField(index, std::string(name) + " holds what is no string");
    list.push_back(each.get<std::string>());
  }
  return list;
}

constexpr std::pair<const char*, Subject::Kind> kSubjects[] = {
    {"command", Subject::Kind::kCommand}, {"path", Subject::Kind::kPath}, {"text", Subject::Kind::kText}};

base::StatusOr<PermissionRule> ParseRule(const json& object, size_t index) {
  if (!object.is_object()) return BadField(index, "no object");
  for (const auto& [key, value] : object.items()) {
    constexpr std::string_view kKnown[] = {"permission", "tool",    "command",   "path",
                                           "text",       "matches", "no_matches"};
    if (std::find(std::begin(kKnown), std::end(kKnown), key) == std::end(kKnown)) {
      return BadField(index, "unknown field \"" + key + "\"");
    }
  }
  PermissionRule rule;
  HF_ASSIGN_OR_RETURN(const std::string permission, TextField(object, "permission", index));
  const Permission all[] = {Permission::kAllow, Permission::kAsk, Permission::kDeny};
  const auto found = std::find_if(std::begin(all), std::end(all),
                                  [&](Permission p) { return PermissionName(p) == permission; });
  if (found == std::end(all)) return BadField(index, "permission is none of allow, ask, deny");
  rule.permission = *found;
  HF_ASSIGN_OR_RETURN(rule.tool, TextField(object, "tool", index));
  for (const auto& [name, kind] : kSubjects) {
    if (!object.contains(name)) continue;
    if (rule.kind != Subject::Kind::kNone) return BadField(index, "two subjects");
    rule.kind = kind;
    HF_ASSIGN_OR_RETURN(rule.subject, TextField(object, name, index));
  }
  HF_ASSIGN_OR_RETURN(rule.matches, ListField(object, "matches", index));
  HF_ASSIGN_OR_RETURN(rule.no_matches, ListField(object, "no_matches", index));
  return rule;
}

base::StatusOr<PermissionDefault> ParseDefault(const json& file) {
  if (!file.contains("default")) return PermissionDefault::kByReach;
  const json& value = file["default"];
  if (value == "by_reach") return PermissionDefault::kByReach;
  if (value == "ask") return PermissionDefault::kAsk;
  if (value == "deny") return PermissionDefault::kDeny;
  return base::InvalidArgument("permissions: default is none of by_reach, ask, deny");
}

}  // namespace

std::string_view PermissionName(Permission permission) {
  switch (permission) {
    case Permission::kAllow:
      return "allow";
    case Permission::kAsk:
      return "ask";
    case Permission::kDeny:
      return "deny";
  }
  return "unknown";
}

PermissionPolicy::PermissionPolicy() { ComputeHash(); }

base::StatusOr<PermissionPolicy> PermissionPolicy::Make(std::vector<PermissionRule> rules,
                                                        PermissionDefault otherwise) {
  if (rules.size() > kRulesMax) {
    return base::InvalidArgument("permissions: " + std::to_string(rules.size()) + " rules, at most " +
                                 std::to_string(kRulesMax));
  }
  for (size_t i = 0; i < rules.size(); ++i) HF_RETURN_IF_ERROR(CheckRule(rules[i], i));
  PermissionPolicy policy;
  policy.rules_ = std::move(rules);
  policy.otherwise_ = otherwise;
  policy.ComputeHash();
  return policy;
}

base::StatusOr<PermissionPolicy> PermissionPolicy::Parse(std::string_view text) {
  auto file = ParseJson(text, kPolicyBytesMax, 8);
  if (!file.ok()) return base::Annotate(file.status(), "permissions");
  if (!file->is_object()) return base::InvalidArgument("permissions: no object");
  for (const auto& [key, value] : file->items()) {
    if (key != "default" && key != "rules")
      return base::InvalidArgument("permissions: unknown field \"" + key + "\"");
  }
  HF_ASSIGN_OR_RETURN(const PermissionDefault otherwise, ParseDefault(*file));
  std::vector<PermissionRule> rules;
  const json list = file->value("rules", json::array());
  if (!list.is_array()) return base::InvalidArgument("permissions: rules is no list");
  for (const json& object : list) {
    HF_ASSIGN_OR_RETURN(PermissionRule rule, ParseRule(object, rules.size()));
    rules.push_back(std::move(rule));
  }
  return Make(std::move(rules), otherwise);
}

Verdict PermissionPolicy::Judge(std::string_view tool, const Subject& subject,
                                const CallTraits& traits) const {
  const Target target = TargetOf(subject);
  std::vector<const PermissionRule*> allows;
  const PermissionRule* strictest = nullptr;
  for (const PermissionRule& rule : rules_) {
    if (!NamesTool(rule, tool)) continue;
    if (rule.permission == Permission::kAllow) {
      allows.push_back(&rule);
    } else if ((strictest == nullptr || rule.permission > strictest->permission) && Hits(rule, target)) {
      strictest = &rule;
    }
  }
  if (strictest != nullptr) {
    Verdict verdict{.permission = strictest->permission,
                    .reason = Describe(*strictest, static_cast<size_t>(strictest - rules_.data()))};
    if (!target.certain && strictest->kind != Subject::Kind::kNone) {
      verdict.reason += ", which cannot be ruled out: the command line has " + target.doubt;
    }
    return verdict;
  }
  if (AllCovered(allows, target)) return {.permission = Permission::kAllow, .reason = "allowed by rule"};
  switch (otherwise_) {
    case PermissionDefault::kAsk:
      return {.permission = Permission::kAsk, .reason = "default: no rule allows it"};
    case PermissionDefault::kDeny:
      return {.permission = Permission::kDeny, .reason = "default: no rule allows it"};
    case PermissionDefault::kByReach:
      break;
  }
  if (traits.effect == Effect::kReadOnly)
    return {.permission = Permission::kAllow, .reason = "default: it only reads"};
  if (traits.confined)
    return {.permission = Permission::kAllow, .reason = "default: confined to the session's layer"};
  if (traits.by_client)
    return {.permission = Permission::kAllow, .reason = "default: the session's client runs it"};
  return {.permission = Permission::kAsk, .reason = "default: it reaches beyond the session's layer"};
}

void PermissionPolicy::ComputeHash() {
  json rules = json::array();
  for (const PermissionRule& rule : rules_) {
    // Bytes in hexadecimal: patterns need not be UTF-8. Examples do not count, they change nothing.
    const auto hex = [](const std::string& text) { return base::ToHex(std::as_bytes(std::span(text))); };
    rules.push_back(
        {PermissionName(rule.permission), hex(rule.tool), static_cast<int>(rule.kind), hex(rule.subject)});
  }
  const std::string text =
      CanonicalJson({"holdfast-permissions-1", static_cast<int>(otherwise_), std::move(rules)});
  hash_ = base::Sha256Of(std::as_bytes(std::span(text)));
}

base::Status ApprovalBook::Grant(const ActionHash& action) {
  const auto it = grants_.find(action);
  if (it == grants_.end() && grants_.size() >= kEntriesMax) {
    return base::ResourceExhausted("approvals: " + std::to_string(grants_.size()) +
                                   " actions are approved and not run");
  }
  uint32_t& granted = grants_[action];
  if (granted == UINT32_MAX) return base::ResourceExhausted("approvals: one action approved too often");
  ++granted;
  return absl::OkStatus();
}

bool ApprovalBook::Use(const ActionHash& action) {
  const auto it = grants_.find(action);
  if (it == grants_.end()) return false;
  if (--it->second == 0) grants_.erase(it);
  return true;
}

std::vector<ApprovalBook::Entry> ApprovalBook::Export() const {
  std::vector<Entry> entries;
  for (const auto& [action, granted] : grants_) entries.push_back({.action = action, .granted = granted});
  return entries;
}

base::Status ApprovalBook::Import(const std::vector<Entry>& entries) {
  if (entries.size() > kEntriesMax) return base::ResourceExhausted("approvals: too many entries");
  std::map<ActionHash, uint32_t> grants;
  for (const Entry& entry : entries) {
    if (entry.granted == 0 || !grants.emplace(entry.action, entry.granted).second) {
      return base::InvalidArgument("approvals: an entry without a grant, or an action twice");
    }
  }
  grants_ = std::move(grants);
  return absl::OkStatus();
}

}  // namespace holdfast::tools
