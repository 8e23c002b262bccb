// holdfast stop, logs, status, completion: the daemon, and the shell.
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
#include "cli/interrupts.h"
#include "cli/session_text.h"
#include "cli/terminal.h"
#include "holdfast/v1/server_service.pb.h"

namespace holdfast::cli {
namespace {

using base::Status;

constexpr uint64_t kLogPart = 64 << 10;
constexpr int64_t kLogPollMs = 200;
constexpr int64_t kStopPollMs = 100;
constexpr int64_t kStopSlackMs = 30'000;  // beyond the deadline that the daemon was given

struct Options {
  DaemonChoice daemon;
  int64_t deadline_s = 30;
  int lines = 50;
  bool follow = false;
  std::string shell;
};

Status DaemonStatus(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  HF_ASSIGN_OR_RETURN(const v1::GetServerInfoResponse info, client->Call(v1::GetServerInfoRequest()));
  if (options.daemon.json) {
    PrintJson(info);
    return {};
  }
  std::printf("holdfast %s, process %lld, since %s UTC\n", info.version().c_str(),
              static_cast<long long>(info.process_id()), TimeText(info.start_time().seconds()).c_str());
  std::printf("  address   %s\n  data      %s\n  model     %s\n  sessions  %d open, %d running, %d watched\n",
              client->address().c_str(), info.data_directory().c_str(), info.model_directory().c_str(),
              info.sessions_open(), info.sessions_running(), info.watchers());
  return {};
}

Status Stop(const Options& options) {
  CountInterrupts();
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::StopServerRequest request;
  request.mutable_deadline()->set_seconds(options.deadline_s);
  HF_RETURN_IF_ERROR(client->Call(request).status());
  // It has answered, and comes to rest; it is gone when nobody answers any more.
  for (int64_t left_ms = options.deadline_s * 1000 + kStopSlackMs; left_ms > 0; left_ms -= kStopPollMs) {
    if (!client->Wait(kStopPollMs)) return absl::CancelledError("left; it stops");
    if (!DaemonRuns(options.daemon)) {
      if (!options.daemon.json)
        std::printf("stopped; sessions rest where they are, and go on with the next daemon\n");
      return {};
    }
  }
  return absl::DeadlineExceededError("it still runs; see: holdfast logs");
}

// Prints what stands in the log behind `from`; where it ends.
base::StatusOr<uint64_t> PrintLog(base::File& log, uint64_t from) {
  std::string part(kLogPart, '\0');
  for (;;) {
    HF_ASSIGN_OR_RETURN(const size_t got, log.ReadAt(from, std::as_writable_bytes(std::span(part))));
    if (got == 0) return from;
    std::fputs(ForTerminal(std::string_view(part).substr(0, got)).c_str(), stdout);
    from += got;
  }
}

// Where the last `lines` lines begin.
base::StatusOr<uint64_t> LastLines(base::File& log, int lines) {
  HF_ASSIGN_OR_RETURN(const uint64_t size, log.Size());
  std::string part(kLogPart, '\0');
  for (uint64_t end = size; end > 0;) {
    const uint64_t begin = end > kLogPart ? end - kLogPart : 0;
    HF_ASSIGN_OR_RETURN(const size_t got,
                        log.ReadAt(begin, std::as_writable_bytes(std::span(part)).first(end - begin)));
    for (size_t i = got; i > 0; --i) {
      if (part[i - 1] == '\n' && begin + i != size && --lines == 0) return begin + i;
    }
    end = begin;
  }
  return uint64_t{0};
}

Status Logs(const Options& options) {
  CountInterrupts();
  const std::string path = DaemonLog(options.daemon.data);
  const auto log = base::RealFileSystem().Open(path, base::OpenMode::kRead);
  if (absl::IsNotFound(log.status())) {
    return base::NotFound(path +
                          ": there is none; a daemon that was not started by a command writes elsewhere");
  }
  HF_RETURN_IF_ERROR(log.status());
  HF_ASSIGN_OR_RETURN(uint64_t at, LastLines(**log, options.lines));
  HF_ASSIGN_OR_RETURN(at, PrintLog(**log, at));
  if (!options.follow) return {};
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  while (client->Wait(kLogPollMs)) {
    HF_ASSIGN_OR_RETURN(at, PrintLog(**log, at));
    std::fflush(stdout);
  }
  return {};
}

// Names of subcommands and, of each, its options.
struct Words {
  std::string name, options;
};

std::vector<Words> WordsOf(const CLI::App& app) {
  std::vector<Words> all;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    Words words{.name = command->get_name()};
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames())
        words.options += (words.options.empty() ? "--" : " --") + name;
    }
    for (const CLI::App* below : command->get_subcommands([](const CLI::App*) { return true; })) {
      words.options += " " + below->get_name();
    }
    all.push_back(std::move(words));
  }
  return all;
}

std::string BashCompletion(const std::vector<Words>& words) {
  std::string names, cases;
  for (const Words& one : words) {
    names += one.name + " ";
    cases += "    " + one.name + ") words='" + one.options + "' ;;\n";
  }
  return "_holdfast() {\n  local words='" + names +
         "' current=${COMP_WORDS[COMP_CWORD]}\n  if ((COMP_CWORD > 1)); then\n    case ${COMP_WORDS[1]} "
         "in\n" +
         cases +
         "    *) words= ;;\n    esac\n  fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  if ((${#COMPREPLY[@]} == 0)); then COMPREPLY=($(compgen -f -- \"$current\")); fi\n}\n"
         "complete -F _holdfast holdfast\n";
}

std::string FishCompletion(const std::vector<Words>& words) {
  std::string text;
  for (const Words& one : words) {
    text += "complete -c holdfast -n __fish_use_subcommand -a " + one.name + "\n";
    for (size_t at = 0; at < one.options.size();) {
      const size_t end = std::min(one.options.find(' ', at), one.options.size());
      const std::string word = one.options.substr(at, end - at);
      text += "complete -c holdfast -n '__fish_seen_subcommand_from " + one.name + "' " +
              (word.starts_with("--") ? "-l " + word.substr(2) : "-a " + word) + "\n";
      at = end + 1;
    }
  }
  return text;
}

Status Completion(const Options& options, const CLI::App& root) {
  const std::vector<Words> words = WordsOf(root);
  if (options.shell == "fish") {
    std::fputs(FishCompletion(words).c_str(), stdout);
  } else {
    if (options.shell == "zsh") std::fputs("autoload -Uz bashcompinit && bashcompinit\n", stdout);
    std::fputs(BashCompletion(words).c_str(), stdout);
  }
  return {};
}

}  // namespace

void AddDaemonCommands(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  const auto add = [&](const char* name, const char* help, Status (*run)(const Options&)) {
    CLI::App* app = parent.add_subcommand(name, help);
    AddDaemonOptions(*app, options->daemon);
    app->final_callback([options, run, &result] { result = run(*options); });
    return app;
  };
  add("status", "What the daemon is, and what it does", DaemonStatus);
  add("stop", "Ends the daemon. Sessions come to rest where they are, and go on with the next one", Stop)
      ->add_option("--deadline", options->deadline_s, "Seconds; commands that still run then are ended")
      ->capture_default_str()
      ->check(CLI::Range(0, 86'400));
  CLI::App* logs = add("logs", "What a daemon that was started by a command has to say", Logs);
  logs->add_option("--lines", options->lines, "The last so many")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  logs->add_flag("--follow,-f", options->follow, "And what comes");
  CLI::App* completion = parent.add_subcommand(
      "completion", "Prints the completion of a shell\n\nExample: source <(holdfast completion bash)");
  completion->add_option("SHELL", options->shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->final_callback([options, &parent, &result] { result = Completion(*options, parent); });
}

}  // namespace holdfast::cli
