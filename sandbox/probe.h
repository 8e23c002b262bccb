// Does the sandbox hold on this machine? A real command is run that tries to get out.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "sandbox/policy.h"
#include "sandbox/sandbox.h"

namespace holdfast::sandbox {

struct ProbeCheck {
  std::string name;  // "writes outside are refused"
  bool passed = false;
  std::string detail;  // what came of the attempt: "EROFS"
};

struct MissingLayer {
  Layer layer = Layer::kEnd;
  bool required = false;
  std::string remedy;  // what would bring it back
};

struct ProbeReport {
  HostFacts host;
  LayerSet in_force = 0;
  std::vector<MissingLayer> missing;
  std::vector<ProbeCheck> checks;
  std::string refusal;  // why no command runs under this policy; empty: commands run

  // A command runs, and every attempt failed.
  bool ok() const;
};

// Opens a session under `policy` (in a workspace of its own: `policy.workspace` is used as it is) and runs
// the broker's program in it, as an attacker. Costs two commands. An error only when the sandbox itself is
// gone; what the machine cannot do stands in the report.
base::StatusOr<ProbeReport> Probe(Sandbox& sandbox, Policy policy);

// The report for people, a line each: what is in force, what is missing and how to get it, what was tried.
std::string Describe(const ProbeReport& report);

}  // namespace holdfast::sandbox
