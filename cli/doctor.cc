// holdfast doctor: does the sandbox hold on this machine, and if not, what would help?
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/data_directory.h"
#include "model/json.h"
#include "sandbox/probe.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using model::Json;
using sandbox::ProbeReport;

struct Options {
  std::string directory;
  std::string broker;
  std::string mode = "overlay";
  std::string backend = "namespaces";
  bool json = false;
};

// Removes what the probe left. A work directory of overlayfs cannot be read by its owner, but it can be
// removed.
void RemoveTree(const std::string& path) {
  base::FileSystem& files = base::RealFileSystem();
  if (files.Remove(path).ok()) return;
  if (const auto entries = files.List(path, 1000); entries.ok()) {
    for (const base::DirectoryEntry& entry : *entries) RemoveTree(path + "/" + entry.name);
  }
  const Status ignored = files.Remove(path);
}

// A workspace for the probe, beside where sessions keep theirs.
class Place {
 public:
  explicit Place(const std::string& directory)
      : path_(directory + "/doctor-" + std::to_string(base::ProcessId())) {}
  ~Place() { RemoveTree(path_); }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  Status Make() const { return base::RealFileSystem().CreateDirectories(path_ + "/tree"); }
  std::string tree() const { return path_ + "/tree"; }
  std::string layer() const { return path_ + "/layer"; }

 private:
  const std::string path_;
};

StatusOr<ProbeReport> Examine(const Options& options) {
  const Place place(options.directory);
  HF_RETURN_IF_ERROR(place.Make());
  sandbox::Policy policy;
  policy.workspace = {.host = place.tree(), .inside = "/workspace", .mode = sandbox::WorkspaceMode::kDirect};
  if (options.mode == "overlay") {
    policy.workspace.mode = sandbox::WorkspaceMode::kOverlay;
    policy.workspace.layer = place.layer();
  }
  if (options.backend == "bubblewrap") {
    policy.backend = sandbox::Backend::kBubblewrap;
    policy.required_layers = sandbox::kRequiredLayersOfBubblewrap;
  }
  auto sandbox = sandbox::Sandbox::Start({.broker_path = options.broker});
  if (!sandbox.ok()) {
    ProbeReport report;
    report.refusal = base::Message(sandbox.status());
    return report;
  }
  return sandbox::Probe(**sandbox, std::move(policy));
}

Json ToJson(const Options& options, const ProbeReport& report) {
  Json host = Json::Object();
  host.Set("root", Json::Bool(report.host.root));
  host.Set("landlock_abi", Json::Int(report.host.landlock_abi));
  host.Set("cgroups", Json::String(report.host.cgroups));
  Json in_force = Json::Array(), missing = Json::Array(), checks = Json::Array();
  for (const std::string_view name : sandbox::LayerNames(report.in_force))
    in_force.Append(Json::String(name));
  for (const sandbox::MissingLayer& layer : report.missing) {
    Json entry = Json::Object();
    entry.Set("layer", Json::String(sandbox::LayerName(layer.layer)));
    entry.Set("required", Json::Bool(layer.required));
    entry.Set("remedy", Json::String(layer.remedy));
    missing.Append(std::move(entry));
  }
  for (const sandbox::ProbeCheck& check : report.checks) {
    Json entry = Json::Object();
    entry.Set("name", Json::String(check.name));
    entry.Set("passed", Json::Bool(check.passed));
    entry.Set("detail", Json::String(check.detail));
    checks.Append(std::move(entry));
  }
  Json out = Json::Object();
  out.Set("ok", Json::Bool(report.ok()));
  out.Set("mode", Json::String(options.mode));
  out.Set("backend", Json::String(options.backend));
  out.Set("refusal", Json::String(report.refusal));
  out.Set("host", std::move(host));
  out.Set("in_force", std::move(in_force));
  out.Set("missing", std::move(missing));
  out.Set("checks", std::move(checks));
  return out;
}

Status Doctor(const Options& options) {
  HF_ASSIGN_OR_RETURN(const ProbeReport report, Examine(options));
  if (options.json) {
    std::printf("%s\n", ToJson(options, report).Dump().c_str());
  } else {
    std::printf("%s", sandbox::Describe(report).c_str());
  }
  if (report.ok()) return {};
  if (!report.refusal.empty()) return base::FailedPrecondition("commands would be refused on this machine");
  return base::FailedPrecondition(
      "the sandbox does not hold on this machine: an attempt of the probe worked");
}

}  // namespace

void AddDoctor(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  options->directory = DefaultDataDirectory();
  CLI::App* app = parent.add_subcommand(
      "doctor",
      "Run a command that tries to get out of the sandbox, and say what is in force, what is missing and how "
      "to "
      "get it. The exit status is 1 when commands would be refused, or an attempt works");
  app->add_option("--directory", options->directory,
                  "Where sessions keep their layers; the probe works in a directory of its own in it")
      ->capture_default_str();
  app->add_option("--mode", options->mode, "overlay or direct")
      ->check(CLI::IsMember({"overlay", "direct"}))
      ->capture_default_str();
  app->add_option("--backend", options->backend, "namespaces or bubblewrap (direct mode only)")
      ->check(CLI::IsMember({"namespaces", "bubblewrap"}))
      ->capture_default_str();
  app->add_option("--broker", options->broker, "The broker's program; by default the one beside this program")
      ->envname("HOLDFAST_SANDBOX_BROKER");
  app->add_flag("--json", options->json, "Print JSON");
  app->callback([options, &result] { result = Doctor(*options); });
}

}  // namespace holdfast::cli
