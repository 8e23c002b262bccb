// holdfast run, holdfast resume: a goal, worked on by the daemon and followed here.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/data_directory.h"
#include "cli/exit_status.h"
#include "cli/follow.h"
#include "cli/interrupts.h"
#include "cli/session_name.h"
#include "cli/session_text.h"
#include "cli/terminal.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using server::Client;

constexpr uint64_t kShownBefore = 10;  // events, of a session that a new daemon has taken up

struct Options {
  DaemonChoice daemon;
  std::string goal;
  std::string id;
  std::string tree;  // empty: the repository that the working directory is in
  std::string load;
  std::string profile;
  std::vector<std::string> checks;
  int64_t tokens = -1, calls = -1, minutes = -1;  // -1: as they are
  bool apply = false;
  bool snapshot = false, direct = false;
  bool detach = false;
  uint64_t seed = 0;
  std::string message;  // of resume: said first
};

void SetBudgets(const Options& options, v1::Budgets& budgets) {
  if (options.tokens >= 0) budgets.set_tokens(options.tokens);
  if (options.calls >= 0) budgets.set_tool_calls(options.calls);
  if (options.minutes >= 0) budgets.mutable_running_time()->set_seconds(options.minutes * 60);
}

Status SetSpec(const Options& options, v1::SessionSpec& spec) {
  spec.set_profile(options.profile);
  spec.set_seed(options.seed);
  if (options.tree.empty()) {
    HF_ASSIGN_OR_RETURN(*spec.mutable_repository(), RepositoryHere());
  } else {
    HF_ASSIGN_OR_RETURN(*spec.mutable_repository(), ExistingDirectory(options.tree));
  }
  if (!options.load.empty()) {
    HF_ASSIGN_OR_RETURN(*spec.mutable_load(), ExistingDirectory(options.load));
  }
  if (options.snapshot) spec.set_workspace_mode(v1::SessionSpec::WORKSPACE_MODE_SNAPSHOT);
  if (options.direct) spec.set_workspace_mode(v1::SessionSpec::WORKSPACE_MODE_DIRECT);
  return {};
}

StatusOr<v1::CreateSessionRequest> RequestOf(const Options& options) {
  if (options.goal.find_first_not_of(" \t\n") == std::string::npos) {
    return base::InvalidArgument("say what is to be done: the goal is empty");
  }
  v1::CreateSessionRequest request;
  request.set_session_id(options.id);
  request.set_request_id(NewRequestId());
  HF_RETURN_IF_ERROR(SetSpec(options, *request.mutable_spec()));
  v1::Goal& goal = *request.mutable_goal();
  goal.set_text(options.goal);
  goal.set_apply_on_success(options.apply);
  SetBudgets(options, *goal.mutable_budgets());
  for (const std::string& check : options.checks) {
    if (check.empty())
      return base::InvalidArgument("--check is empty: name a command that passes when it is done");
    goal.add_checks()->set_command(check);
  }
  return request;
}

Status FollowAndSummarise(Client& client, const Options& options, const FollowOptions& follow) {
  if (options.detach) {
    if (!options.daemon.json) {
      std::printf("it works on; see it with: holdfast watch %s\n", IdOf(follow.name).c_str());
    }
    return {};
  }
  HF_RETURN_IF_ERROR(Follow(client, follow));
  return Summarise(client, follow.name, options.daemon.json);
}

Status Run(const Options& options) {
  HF_ASSIGN_OR_RETURN(const v1::CreateSessionRequest request, RequestOf(options));
  CountInterrupts();
  HF_ASSIGN_OR_RETURN(const auto client, ConnectOrStart(options.daemon));
  HF_ASSIGN_OR_RETURN(const v1::CreateSessionResponse made, client->Call(request));
  const v1::Session& session = made.session();
  if (options.daemon.json) {
    PrintJson(session);
  } else {
    std::printf("session %s\n", IdOf(session.name()).c_str());
    std::fflush(stdout);
  }
  return FollowAndSummarise(*client, options,
                            {.name = session.name(),
                             .busy_until = session.last_sequence(),
                             .json = options.daemon.json,
                             .interrupts = true});
}

// Other budgets, which alone let a goal go on that was paused for the old ones. Whether there were any.
StatusOr<bool> ChangeBudgets(Client& client, const Options& options, const v1::Session& session) {
  if (options.tokens < 0 && options.calls < 0 && options.minutes < 0) return false;
  v1::UpdateSessionRequest request;
  request.mutable_session()->set_name(session.name());
  *request.mutable_session()->mutable_goal()->mutable_budgets() = session.goal().budgets();
  SetBudgets(options, *request.mutable_session()->mutable_goal()->mutable_budgets());
  request.mutable_update_mask()->add_paths("goal.budgets");
  request.set_request_id(NewRequestId());
  HF_RETURN_IF_ERROR(client.Call(request).status());
  return true;
}

// Lets the session go on; the event from which on it does.
StatusOr<uint64_t> GoOn(Client& client, const Options& options, const std::string& name) {
  if (!options.message.empty()) {
    v1::SendMessageRequest request;
    request.set_name(name);
    request.set_request_id(NewRequestId());
    request.set_text(options.message);
    HF_ASSIGN_OR_RETURN(const v1::SendMessageResponse sent, client.Call(request));
    return sent.sequence();
  }
  v1::ResumeSessionRequest request;
  request.set_name(name);
  request.set_request_id(NewRequestId());
  HF_ASSIGN_OR_RETURN(const v1::ResumeSessionResponse resumed, client.Call(request));
  return resumed.sequence();
}

bool Ended(const v1::Session& session) {
  return session.goal().state() == v1::Goal::STATE_SUCCEEDED ||
         session.goal().state() == v1::Goal::STATE_FINISHED_UNVERIFIED;
}

Status Resume(const Options& options) {
  CountInterrupts();
  // A daemon for a directory that has no sessions would only make one.
  if (!base::RealFileSystem().Stat(options.daemon.data + "/holdfast.db").ok() &&
      options.daemon.address.empty()) {
    return base::NotFound("there are no sessions in " + options.daemon.data +
                          "; name their directory with --data DIR or HOLDFAST_DATA");
  }
  HF_ASSIGN_OR_RETURN(const auto client, ConnectOrStart(options.daemon));
  v1::GetSessionRequest get;
  HF_ASSIGN_OR_RETURN(*get.mutable_name(), SessionName(*client, options.id));
  HF_ASSIGN_OR_RETURN(const v1::GetSessionResponse got, client->Call(get));
  const v1::Session& session = got.session();
  FollowOptions follow{.name = session.name(),
                       .after_sequence = session.last_sequence(),
                       .json = options.daemon.json,
                       .interrupts = true};
  HF_ASSIGN_OR_RETURN(const bool rebudgeted, ChangeBudgets(*client, options, session));
  // A daemon that has just been started has taken it up already.
  const bool at_work = !AtRest(session) && options.message.empty();
  if (at_work) {
    follow.after_sequence -= std::min(follow.after_sequence, kShownBefore);
  } else if (Ended(session) && options.message.empty() && !rebudgeted) {
    return Summarise(*client, session.name(), options.daemon.json);
  } else {
    const auto sequence = GoOn(*client, options, session.name());
    if (!sequence.ok() && !(rebudgeted && absl::IsFailedPrecondition(sequence.status())))
      return sequence.status();
    follow.busy_until = sequence.value_or(session.last_sequence());
  }
  return FollowAndSummarise(*client, options, follow);
}

void AddBudgetOptions(CLI::App& command, Options& options) {
  command.add_option("--tokens", options.tokens, "Budget of tokens, in all")->check(CLI::NonNegativeNumber);
  command.add_option("--calls", options.calls, "Budget of tool calls, in all")->check(CLI::NonNegativeNumber);
  command.add_option("--minutes", options.minutes, "Budget of working time in minutes, in all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 32));
}

void AddSessionOptions(CLI::App& command, Options& options) {
  command.add_option("--repo", options.tree,
                     "The tree to work on (default: the repository around this directory)");
  command.add_option("--check", options.checks,
                     "Command that passes when the goal is reached; run by the runtime. May be repeated");
  command.add_option("--load", options.load, "Directory that is read into the window first");
  command.add_option("--id", options.id, "Name of the session (default: one is made up)");
  command.add_option("--profile", options.profile,
                     "Tools and prompt: default or nano (default: what fits the model)");
  command.add_flag("--apply", options.apply, "Take the changes over into the repository on success");
  CLI::Option* snapshot =
      command.add_flag("--snapshot", options.snapshot, "Work on a copy of the tree as it is now");
  command.add_flag("--direct", options.direct, "Work in place, with weaker guarantees")->excludes(snapshot);
  command.add_option("--seed", options.seed, "Of sampling")->capture_default_str();
}

}  // namespace

void AddGoalRun(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "run",
      "Work on a goal until it is reached, and say so.\n\n"
      "The agent works in a sandbox on a layer over the repository, which stays as it is until its\n"
      "changes are applied. A daemon does the work, and is started when none runs; everything is on\n"
      "record: kill it at any moment, and `holdfast resume` goes on where it was. Ctrl-C once\n"
      "interrupts the work, twice leaves it alone.\n\n"
      "Examples:\n"
      "  holdfast run 'Rename `frobnicate` to `twiddle`.' --repo . --check 'make test'\n"
      "  holdfast run 'Where is `frobnicate` defined?' --detach");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("GOAL", options->goal, "What is to be done")->required();
  AddSessionOptions(*command, *options);
  AddBudgetOptions(*command, *options);
  command->add_flag("--detach", options->detach, "Do not stay to watch");
  AddStartOptions(*command, options->daemon);
  command->final_callback([options, &result] { result = Run(*options); });
}

void AddGoalResume(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "resume",
      "Go on with a session that was killed, stopped, interrupted or paused, and watch it.\n\n"
      "Examples:\n"
      "  holdfast resume                                    # the last one on this repository\n"
      "  holdfast resume fix-tests --calls 500              # after BUDGET_CALLS\n"
      "  holdfast resume fix-tests --say 'The fixture is in tests/data.'");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("SESSION", options->id, "Its id or the beginning of it (default: the last one here)");
  command->add_option("--say", options->message, "A message to the model; it goes on with that");
  AddBudgetOptions(*command, *options);
  command->add_flag("--detach", options->detach, "Do not stay to watch");
  AddStartOptions(*command, options->daemon);
  command->final_callback([options, &result] { result = Resume(*options); });
}

}  // namespace holdfast::cli
