// holdfast diff, apply, discard: what a session has changed.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/session_name.h"
#include "cli/session_text.h"
#include "cli/terminal.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

using base::Status;

struct Options {
  DaemonChoice daemon;
  std::string id;
  std::vector<std::string> paths;
  std::string branch;
  bool all = false;
  bool stat = false;
};

Status Diff(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::DiffSessionRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(*client, options.id));
  for (const std::string& path : options.paths) request.add_paths(path);
  HF_ASSIGN_OR_RETURN(const v1::DiffSessionResponse diff, client->Call(request));
  if (options.daemon.json) {
    PrintJson(diff);
    return {};
  }
  if (diff.paths_size() == 0) {
    std::fprintf(stderr, "%s has changed nothing\n", IdOf(request.name()).c_str());
    return {};
  }
  // As it is for `git apply`; harmless only for eyes.
  if (!options.stat)
    std::fputs(isatty(STDOUT_FILENO) != 0 ? ForTerminal(diff.text()).c_str() : diff.text().c_str(), stdout);
  if (options.stat) std::printf("%s\n", DiffStat(diff).c_str());
  if (diff.text_truncated() && !options.stat) {
    std::fprintf(stderr, "the diff is cut; name paths, or see all of them with --stat\n");
  }
  return {};
}

Status Apply(const Options& options) {
  if (!options.all && options.paths.empty() && options.branch.empty()) {
    return base::InvalidArgument(
        "say what is to be applied: paths, --all or --branch NAME; see: holdfast diff " + options.id +
        " --stat");
  }
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::ApplySessionRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(*client, options.id));
  request.set_request_id(NewRequestId());
  for (const std::string& path : options.paths) request.add_paths(path);
  request.set_branch(options.branch);
  HF_ASSIGN_OR_RETURN(const v1::ApplySessionResponse applied, client->Call(request));
  const bool all = applied.conflicts() + applied.refused() == 0;
  if (options.daemon.json) {
    PrintJson(applied);
  } else {
    std::printf("applied %s paths%s, %s conflicts, %s refused\n", GroupDigits(applied.applied()).c_str(),
                options.branch.empty() ? "" : (" on branch " + options.branch).c_str(),
                GroupDigits(applied.conflicts()).c_str(), GroupDigits(applied.refused()).c_str());
    if (!all) std::printf("%s\n", ForTerminal(applied.text()).c_str());
  }
  return all ? Status() : ExitWith(Exit::kError, "not everything was applied; the paths stand above");
}

Status Discard(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::DiscardSessionRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(*client, options.id));
  request.set_request_id(NewRequestId());
  HF_ASSIGN_OR_RETURN(const v1::DiscardSessionResponse discarded, client->Call(request));
  if (options.daemon.json) {
    PrintJson(discarded);
  } else {
    std::printf("%s: its changes are gone; what they were stays on record\n", IdOf(request.name()).c_str());
  }
  return {};
}

}  // namespace

void AddChanges(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  const auto add = [&](const char* name, const char* help, Status (*run)(const Options&)) {
    CLI::App* app = parent.add_subcommand(name, help);
    AddDaemonOptions(*app, options->daemon);
    app->add_option("SESSION", options->id, "Its id or the beginning of it; '' for the last one here");
    app->final_callback([options, run, &result] { result = run(*options); });
    return app;
  };
  CLI::App* diff = add("diff", "What a session has changed in its files, as a unified diff", Diff);
  diff->add_option("PATH", options->paths, "Only these, and what is below them");
  diff->add_flag("--stat", options->stat, "Paths and counts of lines only");
  CLI::App* apply =
      add("apply",
          "Takes changes of a session over into the repository. Conflicts and protected paths stay\n"
          "as they are, and are told.\n\n"
          "Examples:\n"
          "  holdfast apply fix-tests --all\n"
          "  holdfast apply fix-tests src/a.cc docs\n"
          "  holdfast apply fix-tests --branch fix-tests",
          Apply);
  CLI::Option* paths = apply->add_option("PATH", options->paths, "Only these, and what is below them");
  apply->add_flag("--all", options->all, "All of them")->excludes(paths);
  apply->add_option("--branch", options->branch,
                    "As a commit on a new branch instead of in the working tree");
  add("discard", "Lets go of all changes of a session; what they were stays on record", Discard);
}

}  // namespace holdfast::cli
