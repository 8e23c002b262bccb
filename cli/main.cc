// holdfast: the command line.
#include <cstdio>

#include "CLI/CLI.hpp"
#include "base/faults.h"
#include "base/status.h"
#include "cli/commands.h"

int main(int argc, char** argv) {
  holdfast::base::Status result;
  CLI::App app("Holdfast: a self-hosted agent runtime with an embedded DeepSeek-V4 core.", "holdfast");
  app.require_subcommand(1);
  CLI::App* model =
      app.add_subcommand("model", "The model core on its own: look at checkpoints, run text through it.");
  model->require_subcommand(1);
  holdfast::cli::AddModelInfo(*model, result);
  holdfast::cli::AddModelLogits(*model, result);
  holdfast::cli::AddModelSynth(*model, result);
  holdfast::cli::AddModelGenerate(*model, result);
  holdfast::cli::AddModelTokenize(*model, result);
  holdfast::cli::AddModelDetokenize(*model, result);
  holdfast::cli::AddModelRender(*model, result);
  holdfast::cli::AddModelParse(*model, result);
  CLI::App* kv = app.add_subcommand("kv", "The KV block store: look at it, check it, make it smaller.");
  kv->require_subcommand(1);
  holdfast::cli::AddKv(*kv, result);
  CLI::App* session = app.add_subcommand(
      "session", "The record of sessions: look at it, prove it, take it elsewhere. Needs no running daemon.");
  session->require_subcommand(1);
  holdfast::cli::AddSessionLook(*session, result);
  holdfast::cli::AddSessionAudit(*session, result);
  holdfast::cli::AddSessionTransfer(*session, result);
  CLI::App* tools =
      app.add_subcommand("tools", "The tools that a model is given: list them, run them by hand.");
  tools->require_subcommand(1);
  holdfast::cli::AddTools(*tools, result);
  holdfast::cli::AddServe(app, result);
  holdfast::cli::AddGoalRun(app, result);
  holdfast::cli::AddGoalResume(app, result);
  holdfast::cli::AddDoctor(app, result);

  result = holdfast::base::ArmFaultPointFromEnvironment();
  if (result.ok()) CLI11_PARSE(app, argc, argv);
  if (result.ok()) return 0;
  std::fprintf(stderr, "holdfast: %s\n", holdfast::base::Message(result).c_str());
  return 1;
}
