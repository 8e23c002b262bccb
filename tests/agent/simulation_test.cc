// Sessions on a simulated machine whose processes are killed, whose power goes and whose disk fails: what was
// promised holds (simulation.h says what that is), and bugs that are planted are found.
//
// HOLDFAST_TEST_SEED replays one scenario. HOLDFAST_SCENARIOS says how many to run; HOLDFAST_WRITE_DURABILITY
// names the page whose figures are then written anew (docs/durability.md).
#include "tests/agent/simulation.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>

#include "tests/support/seeded_random.h"

namespace holdfast::agent::simulation {
namespace {

constexpr uint64_t kScenarios = 300;        // of every test run
constexpr uint64_t kPlantScenarios = 1000;  // within which a planted bug has to be found
// Boundaries of a call, a batch of tokens and an epoch, at each of which something has to have ended.
constexpr const char* kBoundaries[] = {"before intent", "after intent",     "after start",
                                       "after end",     "after checkpoint", "after outcome",
                                       "before feed",   "in a token batch", "in an epoch change"};
constexpr char kFiguresBegin[] = "<!-- figures: begin -->\n";
constexpr char kFiguresEnd[] = "<!-- figures: end -->\n";

uint64_t ScenarioCount() {
  const char* const wanted = std::getenv("HOLDFAST_SCENARIOS");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : kScenarios;
}

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// Of crash points, the part before or after the bar.
std::set<std::string> Parts(const Counts& counts, bool before) {
  std::set<std::string> parts;
  for (const auto& [point, count] : counts.crash_points) {
    const size_t bar = point.find(" | ");
    parts.insert(before ? point.substr(0, bar) : point.substr(bar + 3));
  }
  return parts;
}

std::string Joined(const std::set<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += (all.empty() ? "" : ", ") + part;
  return all;
}

// As it stands in docs/durability.md.
std::string Figures(const Verdict& total, const Counts& counts, size_t scenarios, double cpu_seconds) {
  std::ostringstream out;
  const auto row = [&out](const std::string& what, auto figure) {
    out << "| " << what << " | " << figure << " |\n";
  };
  out << "| what | how many |\n|---|---|\n";
  row("scenarios", scenarios);
  row("scenarios a second of one core", static_cast<int>(static_cast<double>(scenarios) / cpu_seconds));
  row("processes", total.processes);
  row("killed, between two tasks or in a write", total.kills);
  row("power cuts", total.power_cuts);
  row("ended by an error of the disk", total.disk_errors);
  row("acknowledged events", total.acknowledged);
  row("acknowledged events lost", total.violations.empty() ? "0" : "see the violations");
  row("calls", total.calls);
  row("calls of unknown outcome, told once", total.unknown);
  row("effects outside, none doubled", total.effects);
  row("sessions equal to the run that was left alone", total.compared);
  row("tokens of disturbed sessions sampled again", total.audited);
  row("violations", total.violations.size());
  row("distinct crash points", counts.crash_points.size());
  out << "\nBoundaries: " << Joined(Parts(counts, true)) << ".\n";
  out << "\nWhat was being done: " << Joined(Parts(counts, false)) << ".\n";
  out << "\n| line of recovery | hit |\n|---|---|\n";
  for (size_t i = 0; i < kRecoveryLineCount; ++i) {
    row(NameOf(static_cast<RecoveryLine>(i)), counts.recovery_lines[i]);
  }
  return out.str();
}

// Puts `figures` between the two markers of a page.
void WriteFigures(const std::string& path, const std::string& figures) {
  std::ifstream in(path);
  std::stringstream page;
  page << in.rdbuf();
  const std::string text = page.str();
  const size_t begin = text.find(kFiguresBegin);
  const size_t end = text.find(kFiguresEnd);
  ASSERT_TRUE(begin != std::string::npos && end != std::string::npos && begin < end) << path;
  std::ofstream(path) << text.substr(0, begin) << kFiguresBegin << "\n"
                      << figures << "\n"
                      << text.substr(end);
}

TEST(SimulationTest, WhatWasPromisedHolds) {
  Simulation simulation;
  Verdict total;
  const double begin = CpuSeconds();
  const auto seeds = test::TestSeeds(ScenarioCount());
  for (const uint64_t seed : seeds) {
    const Verdict verdict = simulation.Run(MakeScenario(seed));
    for (const std::string& violation : verdict.violations) {
      ADD_FAILURE() << "HOLDFAST_TEST_SEED=" << seed << ": " << violation;
    }
    total.Add(verdict);
  }
  const std::string figures = Figures(total, simulation.counts(), seeds.size(), CpuSeconds() - begin);
  std::cout << figures;
  const char* const page = std::getenv("HOLDFAST_WRITE_DURABILITY");
  if (page != nullptr) WriteFigures(page, figures);
  if (seeds.size() < test::Reduced(kScenarios)) return;
  for (size_t i = 0; i < kRecoveryLineCount; ++i) {
    EXPECT_GT(simulation.counts().recovery_lines[i], 0u) << NameOf(static_cast<RecoveryLine>(i));
  }
  const std::set<std::string> hit = Parts(simulation.counts(), /*before=*/true);
  for (const char* boundary : kBoundaries) EXPECT_TRUE(hit.contains(boundary)) << boundary;
}

// A test that cannot fail proves nothing: with a part that lies, it must.
class PlantedBugTest : public testing::TestWithParam<Plant> {};

TEST_P(PlantedBugTest, IsFound) {
  Simulation simulation;
  for (uint64_t seed = 1; seed <= kPlantScenarios; ++seed) {
    const Verdict verdict = simulation.Run(MakeScenario(seed), GetParam());
    if (verdict.violations.empty()) continue;
    std::cout << "found by seed " << seed << ": " << verdict.violations.front() << "\n";
    return;
  }
  ADD_FAILURE() << "not found by " << kPlantScenarios << " scenarios";
}

std::string NameOfPlant(const testing::TestParamInfo<Plant>& plant) {
  switch (plant.param) {
    case Plant::kNone:
      break;
    case Plant::kSkippedDatabaseSync:
      return "SkippedSyncOfTheDatabase";
    case Plant::kSwappedWrites:
      return "WriteSwappedWithASync";
    case Plant::kEarlyManifest:
      return "OutcomeBeforeItsManifest";
    case Plant::kEarlyIntent:
      return "StartBeforeTheIntent";
    case Plant::kEarlyTokens:
      return "TokensAcknowledgedEarly";
    case Plant::kRunsUnknownAgain:
      return "UncontainedCallRunAgain";
  }
  return "None";
}

INSTANTIATE_TEST_SUITE_P(Simulation, PlantedBugTest,
                         testing::Values(Plant::kSkippedDatabaseSync, Plant::kSwappedWrites,
                                         Plant::kEarlyManifest, Plant::kEarlyIntent, Plant::kEarlyTokens,
                                         Plant::kRunsUnknownAgain),
                         NameOfPlant);

}  // namespace
}  // namespace holdfast::agent::simulation
