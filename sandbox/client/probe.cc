#include "sandbox/probe.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "sandbox/client/failure_text.h"

namespace holdfast::sandbox {
namespace {

constexpr char kProbeInside[] = "/run/holdfast-probe";

// What is worth having everywhere; a watchdog stands in for a group, so neither is listed as missing with it.
constexpr Layer kWorthHaving[] = {Layer::kLandlock, Layer::kMemoryCgroup, Layer::kPidsCgroup,
                                  Layer::kNoNestedUserNamespaces};

// Lines of the probe: name TAB 0 or 1 TAB detail.
std::vector<ProbeCheck> ParseChecks(std::string_view text) {
  std::vector<ProbeCheck> checks;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t first = line.find('\t');
    const size_t second = first == std::string_view::npos ? first : line.find('\t', first + 1);
    if (second == std::string_view::npos) continue;
    checks.push_back({.name = std::string(line.substr(0, first)),
                      .passed = line.substr(first + 1, second - first - 1) == "1",
                      .detail = std::string(line.substr(second + 1))});
  }
  return checks;
}

void ListMissing(LayerSet required, ProbeReport& report) {
  for (uint32_t i = 0; i < static_cast<uint32_t>(Layer::kEnd); ++i) {
    const auto layer = static_cast<Layer>(i);
    const bool is_required = Has(required, layer);
    const bool wanted =
        is_required || std::count(std::begin(kWorthHaving), std::end(kWorthHaving), layer) > 0;
    if (!wanted || Has(report.in_force, layer)) continue;
    report.missing.push_back({layer, is_required, std::string(LayerRemedy(layer))});
  }
}

}  // namespace

bool ProbeReport::ok() const {
  return refusal.empty() && !checks.empty() &&
         std::all_of(checks.begin(), checks.end(), [](const ProbeCheck& check) { return check.passed; });
}

base::StatusOr<ProbeReport> Probe(Sandbox& sandbox, Policy policy) {
  ProbeReport report;
  report.host = sandbox.host();
  policy.mounts.push_back({.host = sandbox.broker_path(), .inside = kProbeInside});
  const bool network_off = policy.network == Network::kOff;
  const LayerSet required = policy.required_layers;
  const auto session = sandbox.Open(std::move(policy));
  if (session.status().code() == absl::StatusCode::kUnavailable) return session.status();
  if (!session.ok()) {
    report.refusal = base::Message(session.status());
    return report;
  }
  Command command;
  command.argv = {kProbeInside, "probe", network_off ? "off" : "host"};
  const auto outcome = (*session)->Run(command);
  if (outcome.status().code() == absl::StatusCode::kUnavailable) return outcome.status();
  if (!outcome.ok()) {
    report.refusal = base::Message(outcome.status());
    return report;
  }
  report.in_force = outcome->layers;
  report.checks = ParseChecks(outcome->output.head);
  // A probe that did not get to its end has shown nothing.
  report.checks.push_back(
      {.name = "the probe ran to its end", .passed = outcome->ok(), .detail = Describe(*outcome)});
  ListMissing(required, report);
  return report;
}

std::string Describe(const ProbeReport& report) {
  std::string text = "sandbox: ";
  text += report.ok() ? "holds\n" : report.refusal.empty() ? "DOES NOT HOLD\n" : "REFUSES to run commands\n";
  if (!report.refusal.empty()) text += "  " + report.refusal + "\n";
  text += std::string("  runs as: ") + (report.host.root ? "root" : "an ordinary user") + "; landlock: " +
          (report.host.landlock_abi == 0 ? "none" : "ABI " + std::to_string(report.host.landlock_abi)) +
          "; control groups: " + report.host.cgroups + "\n";
  for (const std::string_view name : LayerNames(report.in_force))
    text += "  in force: " + std::string(name) + "\n";
  for (const MissingLayer& missing : report.missing) {
    text += "  missing: " + std::string(LayerName(missing.layer)) + (missing.required ? " (required)" : "") +
            "; needs " + missing.remedy + "\n";
  }
  for (const ProbeCheck& check : report.checks) {
    text +=
        std::string(check.passed ? "  passed: " : "  FAILED: ") + check.name + " (" + check.detail + ")\n";
  }
  return text;
}

}  // namespace holdfast::sandbox
