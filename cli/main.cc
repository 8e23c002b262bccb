// holdfast: the command line.
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/faults.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/exit_status.h"

namespace {

// `holdfast` alone is a conversation; `holdfast 'WHAT TO DO'`, of several words, is a goal.
std::vector<std::string> Words(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) return {"chat"};
  if (words[0].find(' ') != std::string::npos && words[0][0] != '-') words.insert(words.begin(), "run");
  return words;
}

}  // namespace

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
      "session", "The record of sessions, while no daemon has it: look at it, put it right.");
  session->require_subcommand(1);
  holdfast::cli::AddSessionLook(*session, result);
  CLI::App* tools =
      app.add_subcommand("tools", "The tools that a model is given: list them, run them by hand.");
  tools->require_subcommand(1);
  holdfast::cli::AddTools(*tools, result);
  holdfast::cli::AddChat(app, result);
  holdfast::cli::AddGoalRun(app, result);
  holdfast::cli::AddGoalResume(app, result);
  holdfast::cli::AddSessions(app, result);
  holdfast::cli::AddSteer(app, result);
  holdfast::cli::AddChanges(app, result);
  holdfast::cli::AddSessionAudit(app, result);
  holdfast::cli::AddSessionTransfer(app, result);
  holdfast::cli::AddBackup(app, result);
  holdfast::cli::AddServe(app, result);
  holdfast::cli::AddDaemonCommands(app, result);
  holdfast::cli::AddDoctor(app, result);

  result = holdfast::base::ArmFaultPointFromEnvironment();
  if (result.ok()) {
    std::vector<std::string> words = Words(argc, argv);
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    try {
      app.parse(std::move(words));
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? 0 : static_cast<int>(holdfast::cli::Exit::kUsage);
    }
  }
  if (const std::string message = holdfast::base::Message(result); !message.empty()) {
    std::fprintf(stderr, "holdfast: %s\n", message.c_str());
  }
  return static_cast<int>(holdfast::cli::ExitOf(result));
}
