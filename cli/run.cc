// holdfast run, holdfast resume: a goal worked on in the foreground, by this process alone.
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "agent/agent_event.h"
#include "agent/session_manager.h"
#include "base/file.h"
#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "server/runtime.h"

namespace holdfast::cli {
namespace {

using agent::SessionStatus;
using base::Status;
using base::StatusOr;
using sessions::SessionState;

struct Options {
  std::string goal;
  std::string id;
  std::string tree = ".";
  std::string data;
  std::string model;
  std::string profile = "default";
  std::vector<std::string> checks;
  agent::Budgets budgets;
  int64_t minutes = 24 * 60;
  bool apply = false;
  uint64_t seed = 0;
  // Of resume: what is said to the session first; bounds below 0 stay as they are.
  std::string message;
  std::string allow, deny;
  int64_t more_tokens = -1, more_calls = -1, more_minutes = -1;
  std::string broker;
  BackendChoice backend;
};

std::atomic<bool> interrupted = false;
void OnSignal(int) { interrupted = true; }

std::string DefaultData() {
  if (const char* xdg = std::getenv("XDG_DATA_HOME"); xdg != nullptr && *xdg != 0) {
    return std::string(xdg) + "/holdfast";
  }
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "." : home) + "/.local/share/holdfast";
}

// One line, not too long, without control characters.
std::string OneLine(std::string_view text, size_t most = 100) {
  std::string line;
  for (const char c : text.substr(0, most)) line.push_back(c >= 0 && c < ' ' ? ' ' : c);
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return text.size() > most ? line + " ..." : line;
}

std::string_view StatusWord(sessions::CallStatus status) {
  switch (status) {
    case sessions::CallStatus::kOk:
      return "ok";
    case sessions::CallStatus::kFailed:
      return "failed";
    case sessions::CallStatus::kTimedOut:
      return "timed out";
    case sessions::CallStatus::kCancelled:
      return "cancelled";
    case sessions::CallStatus::kRefused:
      return "refused";
    case sessions::CallStatus::kUnknown:
      return "unknown outcome";
  }
  return "?";
}

// What people see of an agent's event; empty: nothing.
std::string Line(const sessions::AgentEvent& event) {
  const auto body = agent::Decode(event);
  if (!body.ok() || !body->has_value()) return {};
  if (const auto* ran = std::get_if<agent::CheckRan>(&**body)) {
    return "check (" + ran->when + ") " + OneLine(ran->command) + ": " + (ran->passed ? "passed" : "failed");
  }
  if (const auto* changed = std::get_if<agent::GoalChanged>(&**body)) {
    return "goal: " + std::string(agent::GoalStateName(changed->state)) +
           (changed->reason.empty() ? "" : " (" + changed->reason + ")");
  }
  if (const auto* warned = std::get_if<agent::BudgetWarned>(&**body)) {
    return "budget: " + GroupDigits(warned->used) + " of " + GroupDigits(warned->bound) + " " + warned->which;
  }
  if (const auto* applied = std::get_if<agent::Applied>(&**body)) {
    const std::string counts = "applied " + GroupDigits(applied->applied) + " paths, " +
                               GroupDigits(applied->conflicts) + " conflicts, " +
                               GroupDigits(applied->refused) + " refused";
    return applied->conflicts + applied->refused == 0 ? counts : counts + "\n" + applied->text;
  }
  return {};
}

std::string Line(const sessions::Event& event) {
  if (const auto* intent = std::get_if<sessions::CallIntent>(&event.body)) {
    return intent->tool + " " + OneLine(intent->arguments);
  }
  if (const auto* outcome = std::get_if<sessions::CallOutcome>(&event.body)) {
    return "  -> " + std::string(StatusWord(outcome->status)) + ": " + OneLine(outcome->text, 80);
  }
  if (const auto* recovered = std::get_if<sessions::Recovered>(&event.body)) {
    return "recovered" + (recovered->report.empty() ? std::string() : ": " + OneLine(recovered->report));
  }
  if (const auto* epoch = std::get_if<sessions::EpochStarted>(&event.body)) {
    return "window " + std::to_string(epoch->epoch) + ": " + epoch->reason;
  }
  if (const auto* agent = std::get_if<sessions::AgentEvent>(&event.body)) return Line(*agent);
  return {};
}

// Prints what happens, and wakes who waits for the session to rest. Told on the control lane.
class Follower {
 public:
  void Tell(const std::string& id, const sessions::Event& event) {
    if (const auto* agent = std::get_if<sessions::AgentEvent>(&event.body)) {
      const auto body = agent::Decode(*agent);
      const auto* applied = body.ok() && body->has_value() ? std::get_if<agent::Applied>(&**body) : nullptr;
      if (applied != nullptr && applied->conflicts + applied->refused > 0) left_ = true;
    }
    if (const std::string line = Line(event); !line.empty()) {
      std::printf("[%s] %s\n", id.c_str(), line.c_str());
      std::fflush(stdout);
    }
    const auto* changed = std::get_if<sessions::StateChanged>(&event.body);
    if (changed == nullptr) return;
    const std::lock_guard lock(mutex_);
    rests_[id] = changed->state != SessionState::kRunning &&
                 (changed->state != SessionState::kWaiting || changed->wait == sessions::WaitFor::kApproval ||
                  changed->wait == sessions::WaitFor::kInput);
    changed_.notify_all();
  }

  // Until the session rests, or a signal came.
  void Wait(const std::string& id) {
    std::unique_lock lock(mutex_);
    while (!interrupted && !rests_[id]) changed_.wait_for(lock, std::chrono::milliseconds(200));
  }

  // Not all that was to be applied was.
  bool left() const { return left_; }

 private:
  std::atomic<bool> left_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, bool> rests_;
};

void Summarise(const SessionStatus& status, const std::string& resume) {
  if (!status.said.empty()) std::printf("%s\n", status.said.c_str());
  const sessions::TokensAccounted& tokens = status.accounted;
  std::printf(
      "session %s: %s%s\n", status.row.id.c_str(),
      status.goal.has_value() ? std::string(agent::GoalStateName(status.goal_state)).c_str() : "at rest",
      status.goal_reason.empty() ? "" : (" (" + status.goal_reason + ")").c_str());
  std::printf("tokens: %s prefilled, %s from the store, %s decoded, %s forced; %s calls\n",
              GroupDigits(static_cast<int64_t>(tokens.prefilled)).c_str(),
              GroupDigits(static_cast<int64_t>(tokens.attached)).c_str(),
              GroupDigits(static_cast<int64_t>(tokens.decoded)).c_str(),
              GroupDigits(static_cast<int64_t>(tokens.forced)).c_str(),
              GroupDigits(status.used.calls).c_str());
  if (status.row.state == SessionState::kPaused) {
    std::printf("paused: %s; go on with: %s\n", status.row.reason.c_str(), resume.c_str());
  }
  for (const sessions::ApprovalRequested& question : status.questions) {
    std::printf("call %s waits for an answer:\n  %s\n  %s --allow %s, or --deny\n", question.call.c_str(),
                question.question.c_str(), resume.c_str(), question.call.c_str());
  }
}

StatusOr<std::string> Absolute(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return base::NotFound(path + ": no such directory");
  std::string absolute = resolved;
  std::free(resolved);
  return absolute;
}

StatusOr<std::unique_ptr<server::Runtime>> Open(Options& options, Follower& follower) {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(options.data));
  HF_ASSIGN_OR_RETURN(options.data, Absolute(options.data));
  HF_ASSIGN_OR_RETURN(auto backend, MakeBackend(options.backend));
  sandbox::Policy policy;
  policy.workspace.inside = "/workspace";
  return server::Runtime::Open(
      {.directory = options.data,
       .model = options.model,
       .backend = std::move(backend),
       .broker = options.broker,
       .policy = std::move(policy),
       .take_up = false,
       .on_event = [&follower](const std::string& id,
                               const sessions::Event& event) { follower.Tell(id, event); },
       .on_message = [](const std::string& message) { std::fprintf(stderr, "%s\n", message.c_str()); }});
}

StatusOr<SessionStatus> StatusOf(server::Runtime& runtime, const std::string& id) {
  return runtime.Ask<SessionStatus>([&](auto done) { runtime.manager().Status(id, std::move(done)); });
}

// Follows the session to its rest, takes its changes over if that is asked for, and says how it ended.
Status Finish(server::Runtime& runtime, Follower& follower, const Options& options, const std::string& id) {
  const std::string resume = "holdfast resume " + id;
  follower.Wait(id);
  if (interrupted) {
    runtime.Stop();
    std::printf("stopped; go on with: %s\n", resume.c_str());
    return absl::CancelledError("interrupted");
  }
  HF_ASSIGN_OR_RETURN(const SessionStatus status, StatusOf(runtime, id));
  const bool unapplied = status.goal.has_value() && !status.goal->apply_on_success;
  const bool reached = !status.goal.has_value() || status.goal_state == agent::GoalState::kSucceeded ||
                       status.goal_state == agent::GoalState::kFinishedUnverified;
  Status applied;
  if (options.apply && reached && (unapplied || status.goal_state != agent::GoalState::kSucceeded)) {
    applied =
        runtime.Ask<agent::FilesReport>([&](auto done) { runtime.manager().Apply({id}, std::move(done)); })
            .status();
  }
  Summarise(status, resume);
  if (!options.apply && unapplied && reached) {
    std::printf("its changes are in its own layer; take them over with: %s --apply\n", resume.c_str());
  }
  runtime.Stop();
  HF_RETURN_IF_ERROR(applied);
  if (!reached) {
    return base::FailedPrecondition("the goal was not reached: " +
                                    std::string(status.row.reason.empty() ? "see above" : status.row.reason));
  }
  return follower.left() ? base::FailedPrecondition("not everything was applied; the paths stand above")
                         : Status();
}

Status Run(Options options) {
  if (options.goal.find_first_not_of(" \t\n") == std::string::npos) {
    return base::InvalidArgument("say what is to be done: the goal is empty");
  }
  for (const std::string& check : options.checks) {
    if (check.empty())
      return base::InvalidArgument("--check is empty: name a command that passes when it is done");
  }
  HF_ASSIGN_OR_RETURN(options.tree, Absolute(options.tree));
  Follower follower;
  HF_ASSIGN_OR_RETURN(const auto runtime, Open(options, follower));
  agent::NewSession session{.id = options.id, .seed = options.seed};
  HF_ASSIGN_OR_RETURN(session.profile, runtime->MakeProfile(options.profile, options.tree));
  session.goal =
      agent::GoalSet{.text = options.goal, .budgets = options.budgets, .apply_on_success = options.apply};
  session.goal->budgets.running_ms = options.minutes * 60'000;
  for (const std::string& check : options.checks) session.goal->checks.push_back({.command = check});
  HF_ASSIGN_OR_RETURN(const sessions::SessionRow row, runtime->Ask<sessions::SessionRow>([&](auto done) {
    runtime->manager().Create(session, std::move(done));
  }));
  std::printf("session %s\n", row.id.c_str());
  std::fflush(stdout);
  return Finish(*runtime, follower, options, row.id);
}

// What Resume does before it lets the session go on.
Status SetBounds(server::Runtime& runtime, const Options& options) {
  if (options.more_tokens < 0 && options.more_calls < 0 && options.more_minutes < 0) return {};
  HF_ASSIGN_OR_RETURN(const SessionStatus status, StatusOf(runtime, options.id));
  agent::Budgets budgets = status.budgets;
  if (options.more_tokens >= 0) budgets.tokens = options.more_tokens;
  if (options.more_calls >= 0) budgets.calls = options.more_calls;
  if (options.more_minutes >= 0) budgets.running_ms = options.more_minutes * 60'000;
  return runtime
      .Ask<uint64_t>([&](auto done) { runtime.manager().SetBudgets({options.id}, budgets, std::move(done)); })
      .status();
}

Status AnswerCall(server::Runtime& runtime, const Options& options) {
  const std::string& call = options.allow.empty() ? options.deny : options.allow;
  if (call.empty()) return {};
  HF_ASSIGN_OR_RETURN(const SessionStatus status, StatusOf(runtime, options.id));
  for (const sessions::ApprovalRequested& question : status.questions) {
    if (question.call != call) continue;
    const sessions::ApprovalResolved answer{
        .call = call, .action = question.action, .allowed = !options.allow.empty()};
    return runtime
        .Ask<uint64_t>([&](auto done) { runtime.manager().Answer(options.id, answer, std::move(done)); })
        .status();
  }
  return base::NotFound("call " + call + " of session " + options.id + " waits for no answer");
}

Status Resume(Options options) {
  Follower follower;
  HF_ASSIGN_OR_RETURN(const auto runtime, Open(options, follower));
  HF_RETURN_IF_ERROR(SetBounds(*runtime, options));
  HF_RETURN_IF_ERROR(AnswerCall(*runtime, options));
  const auto gone_on = runtime->Ask<uint64_t>([&](auto done) {
    if (options.message.empty()) return runtime->manager().Resume({options.id}, std::move(done));
    runtime->manager().Send(options.id, {.text = options.message}, std::move(done));
  });
  HF_RETURN_IF_ERROR(gone_on.status());
  return Finish(*runtime, follower, options, options.id);
}

void AddPlaceOptions(CLI::App& command, Options& options) {
  options.data = DefaultData();
  command.add_option("--data", options.data, "Directory of everything that is kept")
      ->envname("HOLDFAST_DATA")
      ->capture_default_str();
  command.add_option("--model", options.model, "Checkpoint directory, with tokenizer.json")
      ->envname("HOLDFAST_MODEL")
      ->required();
  command.add_option("--broker", options.broker, "Program of the sandbox (default: beside this one)");
  AddBackendOptions(command, options.backend);
}

}  // namespace

void AddGoalRun(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "run",
      "Work on a goal until it is reached, and say so.\n\n"
      "The agent works in a sandbox on a layer over the repository, which stays as it is until its\n"
      "changes are applied. Everything is on record: kill this process at any moment, and\n"
      "`holdfast resume` goes on where it was.\n\n"
      "Examples:\n"
      "  holdfast run 'Rename `frobnicate` to `twiddle`.' --repo . --check 'make test' --model DIR\n"
      "  holdfast run 'Where is `frobnicate` defined?' --model model/nano/checkpoint --profile nano");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("GOAL", options->goal, "What is to be done")->required();
  command->add_option("--repo", options->tree, "The tree to work on")->capture_default_str();
  command->add_option("--check", options->checks,
                      "Command that passes when the goal is reached; run by the runtime. May be repeated");
  command->add_option("--id", options->id, "Name of the session (default: one is made up)");
  command
      ->add_option("--profile", options->profile, "Tools and prompt: default, or nano for the shipped model")
      ->capture_default_str();
  command->add_option("--tokens", options->budgets.tokens, "Budget of tokens")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--calls", options->budgets.calls, "Budget of tool calls")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--minutes", options->minutes, "Budget of working time, in minutes")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--apply", options->apply, "Take the changes over into the repository on success");
  command->add_option("--seed", options->seed, "Of sampling")->capture_default_str();
  AddPlaceOptions(*command, *options);
  command->final_callback([options, &result] { result = Run(*options); });
}

void AddGoalResume(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "resume",
      "Go on with a session that was killed, stopped or paused.\n\n"
      "Examples:\n"
      "  holdfast resume s-1f2e3d4c5b6a7988 --model DIR\n"
      "  holdfast resume fix-tests --calls 500              # after BUDGET_CALLS\n"
      "  holdfast resume fix-tests --say 'The fixture is in tests/data.'\n"
      "  holdfast resume fix-tests --allow c0.717.0         # a call that waits for an answer");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("ID", options->id, "The session")->required();
  command->add_flag("--apply", options->apply, "Take the changes over into the repository when it rests");
  command->add_option("--say", options->message, "A message to the model; it goes on with that");
  command->add_option("--tokens", options->more_tokens, "Another budget of tokens, in all");
  command->add_option("--calls", options->more_calls, "Another budget of tool calls, in all");
  command->add_option("--minutes", options->more_minutes, "Another budget of working time, in all");
  CLI::Option* allow = command->add_option("--allow", options->allow, "Lets this call run, once");
  command->add_option("--deny", options->deny, "Refuses this call")->excludes(allow);
  AddPlaceOptions(*command, *options);
  command->final_callback([options, &result] { result = Resume(*options); });
}

}  // namespace holdfast::cli
