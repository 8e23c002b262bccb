// holdfast audit: proves a session from its record.
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "agent/audit.h"
#include "base/coding.h"
#include "base/file.h"
#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/model_choice.h"
#include "cli/record.h"
#include "cli/session_data.h"
#include "cli/terminal.h"
#include "model/engine.h"
#include "model/fingerprint.h"
#include "model/tokenizer.h"
#include "server/client_daemon.h"

namespace holdfast::cli {
namespace {

using base::Status;
using model::Json;

struct Options {
  DaemonChoice daemon;
  std::string id;
  std::string model;  // of the choice, or the shipped one
};

Json Count(uint64_t value) { return Json::Int(static_cast<int64_t>(value)); }
std::string Digits(uint64_t value) { return GroupDigits(static_cast<int64_t>(value)); }

// What was made with other weights cannot be computed again, and would look like a forgery.
Status CheckModel(const Options& options, const sessions::SessionCreated& created,
                  const model::Checkpoint& checkpoint) {
  HF_ASSIGN_OR_RETURN(const model::WeightsHash weights,
                      model::HashWeights(checkpoint.weights(), model::HashDepth::kSampled, {}));
  const base::Sha256Digest config = base::Sha256Of(base::AsBytes(model::ConfigText(checkpoint.config())));
  if (weights.digest == created.weights && config == created.config) return {};
  return base::FailedPrecondition("session " + options.id + " was made with another model than " +
                                  options.model + "; name that one with --model DIR");
}

Json ReportJson(const Options& options, const agent::AuditReport& report) {
  Json out = Json::Object();
  out.Set("session", Json::String(options.id));
  out.Set("proven", Json::Bool(report.proven()));
  out.Set("events", Count(report.events));
  out.Set("epochs", Count(report.epochs));
  out.Set("rewinds", Count(report.rewinds));
  out.Set("fed", Count(report.fed));
  out.Set("sampled", Count(report.sampled));
  out.Set("forced", Count(report.forced));
  out.Set("cut", Count(report.cut));
  out.Set("unaccounted", Count(report.unaccounted));
  Json foreign = Json::Array();
  for (const agent::AuditForeign& one : report.foreign) {
    Json entry = Json::Object();
    entry.Set("numerics", Json::String(one.numerics));
    entry.Set("tokens", Count(one.tokens));
    foreign.Append(std::move(entry));
  }
  out.Set("not_provable", std::move(foreign));
  if (report.finding.has_value()) {
    const agent::AuditFinding& finding = *report.finding;
    Json entry = Json::Object();
    entry.Set("event", Count(finding.seq));
    entry.Set("check", Json::String(finding.check));
    entry.Set("epoch", Json::Int(finding.epoch));
    entry.Set("position", Json::Int(finding.position));
    entry.Set("wanted", finding.wanted ? Json::Int(*finding.wanted) : Json());
    entry.Set("found", finding.found ? Json::Int(*finding.found) : Json());
    entry.Set("cause", Count(finding.cause));
    entry.Set("text", Json::String(finding.text));
    out.Set("finding", std::move(entry));
  }
  return out;
}

void Print(const Options& options, const agent::AuditReport& report) {
  if (options.daemon.json) {
    std::printf("%s\n", ReportJson(options, report).Dump().c_str());
    return;
  }
  std::printf(
      "%s: %s events, %s windows: %s tokens fed, %s sampled, %s forced derived again; %s cut by rule\n",
      options.id.c_str(), Digits(report.events).c_str(), Digits(report.epochs).c_str(),
      Digits(report.fed).c_str(), Digits(report.sampled).c_str(), Digits(report.forced).c_str(),
      Digits(report.cut).c_str());
  if (report.unaccounted > 0)
    std::printf("  %s sampled tokens are in no account: their orders ended with their process\n",
                Digits(report.unaccounted).c_str());
  for (const agent::AuditForeign& one : report.foreign) {
    std::printf("  not provable here: %s tokens in %s runs of numerics '%s'\n", Digits(one.tokens).c_str(),
                Digits(one.runs).c_str(), one.numerics.c_str());
  }
  if (report.proven()) std::printf("proven: every token is what it must be\n");
}

// Without a daemon.
Status AuditHere(Options options) {
  if (options.id.empty()) return base::InvalidArgument("no daemon runs: name the session by its whole id");
  HF_ASSIGN_OR_RETURN(const std::string program, server::OwnProgram());
  HF_ASSIGN_OR_RETURN(const ModelChoice choice, ChooseModel(options.daemon.model, program));
  options.model = choice.directory;
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.daemon.data, SessionData::Absent::kRefuse));
  HF_ASSIGN_OR_RETURN(const std::vector<sessions::Event> first, data->ReadEvents(options.id, 0, 1));
  const auto* created = first.empty() ? nullptr : std::get_if<sessions::SessionCreated>(&first[0].body);
  if (created == nullptr)
    return base::DataLoss("session " + options.id + " does not begin with SESSION_CREATED");
  HF_ASSIGN_OR_RETURN(const auto backend, MakeBackend(options.daemon.backend));
  HF_ASSIGN_OR_RETURN(const auto checkpoint, model::Checkpoint::Open(base::RealFileSystem(), options.model));
  HF_RETURN_IF_ERROR(CheckModel(options, *created, *checkpoint));
  HF_ASSIGN_OR_RETURN(const auto tokenizer,
                      model::Tokenizer::Load(base::RealFileSystem(), options.model + "/tokenizer.json"));
  model::Engine engine(checkpoint->config(), checkpoint->weights(), *backend, {});
  std::unique_ptr<Progress> progress;
  const agent::AuditOptions audit{.engine = engine,
                                  .tokenizer = *tokenizer,
                                  .numerics = backend->NumericsId(),
                                  .progress = [&progress](uint64_t done, uint64_t total) {
                                    if (progress == nullptr) {
                                      progress = std::make_unique<Progress>("auditing", "tokens",
                                                                            static_cast<int64_t>(total));
                                    }
                                    progress->Update(static_cast<int64_t>(done));
                                    return true;
                                  }};
  auto report = agent::Audit([&](uint64_t after) { return data->ReadEvents(options.id, after); }, audit);
  progress.reset();
  HF_RETURN_IF_ERROR(report.status());
  Print(options, *report);
  if (report->finding.has_value()) return base::DataLoss("not what happened: " + report->finding->text);
  if (!report->foreign.empty()) {
    return base::FailedPrecondition(
        "not all is proven: run it where the numerics are the same (see --precision, --kv)");
  }
  return {};
}

Status Run(const Options& options) {
  const auto client = Connect(options.daemon);
  if (client.ok()) return AuditThroughDaemon(**client, options.id, options.daemon.json);
  return absl::IsNotFound(client.status()) ? AuditHere(options) : client.status();
}

}  // namespace

void AddSessionAudit(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  CLI::App* app = parent.add_subcommand(
      "audit",
      "Derives every token of a session again, from its log and the weights, and compares.\n\n"
      "Sampled tokens are sampled again, fed ones rendered again from the events that they tell, and what "
      "closed\n"
      "a turn follows from the rule. The exit status is 0 only when all is proven; else the first event "
      "that\n"
      "differs is named.\n\n"
      "Example: holdfast audit fix-tests --model model/nano/checkpoint");
  app->add_option("SESSION", options->id, "Its id or the beginning of it (default: the last one here)");
  AddStartOptions(*app, options->daemon);
  app->final_callback([options, &result] { result = Run(*options); });
}

}  // namespace holdfast::cli
