// bash@2.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "nlohmann/json.hpp"
#include "sandbox/sandbox.h"
#include "tools/background_jobs.h"
#include "tools/commands/command_call.h"
#include "tools/commands/command_output.h"
#include "tools/commands/command_tool_parts.h"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using sandbox::Ending;
using sandbox::LimitKind;
using sandbox::Outcome;

// Beyond the command's own time: for its start, its end by force, and what is stored of it.
constexpr int64_t kSlackMs = 20'000;

struct BashArguments {
  std::string command;
  std::optional<int64_t> timeout_ms;
  bool background = false;
  bool terminal = false;

  explicit BashArguments(const json& arguments)
      : command(arguments.at("command").get<std::string>()),
        background(arguments.value("run_in_background", false)),
        terminal(arguments.value("tty", false)) {
    if (arguments.contains("timeout")) timeout_ms = arguments.at("timeout").get<int64_t>();
  }
};

class Bash final : public Tool {
 public:
  explicit Bash(ToolData data) : data_(std::move(data)) {}

  const ToolSpec& spec() const override { return data_.spec(); }

  CallTraits Traits(const ToolContext& context, const json& arguments) const override {
    const BashArguments parsed(arguments);
    const bool confined = IsConfined(context);
    // What another process does meanwhile would be undone with it, or go on.
    const bool alone = !parsed.background && (context.jobs == nullptr || context.jobs->running() == 0);
    return {.effect = Effect::kEffectful,
            .contained = confined && alone,
            .confined = confined,
            .timeout_ms = (parsed.background ? 0 : TimeoutMs(parsed)) + kSlackMs};
  }

  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return {.kind = Subject::Kind::kCommand, .texts = {BashArguments(arguments).command}};
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    const BashArguments parsed(arguments);
    if (std::string reason = Refusal(parsed); !reason.empty()) {
      done(Failed(data_.result("not_started").Fill({{"reason", reason}})));
      return nullptr;
    }
    sandbox::Command command = sandbox::ShellCommand(parsed.command);
    if (parsed.terminal) command.terminal = sandbox::TerminalSize{};
    if (parsed.background) command.keep_input_open = true;
    return CommandCall::Start(
        context, Cancellation::kAfterward,
        [this, command = std::move(command), parsed](CommandCall& call) {
          parsed.background ? StartBackground(call, command, parsed) : RunHere(call, command, parsed);
        },
        std::move(done));
  }

 private:
  int64_t TimeoutMs(const BashArguments& arguments) const {
    return arguments.timeout_ms.value_or(data_.limit("timeout_ms_default"));
  }

  std::string Refusal(const BashArguments& arguments) const {
    if (arguments.command.size() > static_cast<size_t>(data_.limit("command_bytes_max"))) {
      return "the command is longer than " + std::to_string(data_.limit("command_bytes_max")) +
             " bytes; write it to a file and run that";
    }
    if (arguments.command.find('\0') != std::string::npos) return "the command holds a NUL byte";
    return {};
  }

  void RunHere(CommandCall& call, const sandbox::Command& command, const BashArguments& arguments) {
    const OutputBounds bounds{.head_bytes = static_cast<size_t>(data_.limit("head_bytes")),
                              .tail_bytes = static_cast<size_t>(data_.limit("tail_bytes")),
                              .spill_bytes_max = static_cast<uint64_t>(data_.limit("spill_bytes_max"))};
    // Shared with the job, which ends by it when the call has been given up.
    auto output = std::make_shared<OutputCollector>(bounds, call.context().blobs);
    const sandbox::Limits limits =
        LimitsFor(*call.context().session, static_cast<uint64_t>(TimeoutMs(arguments)));
    call.Run({.command = command, .limits = limits, .output = OutputCollector::Options(), .sink = output},
             [this, output, limits](CommandCall& c, base::StatusOr<Outcome> outcome) {
               if (!outcome.ok()) return c.Finish(Unstarted(c, outcome.status()));
               if (!output->blob().has_value()) return c.Finish(ResultOf(*output, *outcome, limits));
               c.OnStorage([this, output, limits, outcome = *std::move(outcome)](CommandCall& stored) {
                 // Lost, it says so where the text is cut.
                 const base::Status ignored = output->Commit();
                 stored.Finish(ResultOf(*output, outcome, limits));
               });
             });
  }

  ToolResult ResultOf(const OutputCollector& output, const Outcome& outcome,
                      const sandbox::Limits& limits) const {
    ToolResult result{.status = StatusOf(outcome), .text = OutputText(data_, output)};
    const bool timed_out = outcome.ending == Ending::kLimit && outcome.limit == LimitKind::kWallTime;
    result.text += timed_out ? data_.result("timeout").Fill({{"ms", std::to_string(limits.wall_ms)}})
                             : EndingText(data_, outcome, limits);
    if (outcome.process_limit_reached) {
      result.text += data_.result("processes").Fill({{"count", std::to_string(limits.processes)}});
    }
    if (outcome.unkillable) result.text += data_.result("unkillable").Fill({});
    if (output.blob().has_value()) result.blobs.push_back(*output.blob());
    return result;
  }

  void StartBackground(CommandCall& call, const sandbox::Command& command, const BashArguments& arguments) {
    const ToolContext& context = call.context();
    if (context.jobs == nullptr) {
      const char* const reason = "nothing can run in the background here";
      return call.Finish(Failed(data_.result("not_started").Fill({{"reason", reason}})));
    }
    const auto wall_ms = static_cast<uint64_t>(arguments.timeout_ms.value_or(0));
    const auto id = context.jobs->Start(*context.session, command, LimitsFor(*context.session, wall_ms));
    if (id.ok()) return call.Finish(Succeeded(data_.result("background").Fill({{"id", *id}})));
    if (!absl::IsResourceExhausted(id.status())) return call.Finish(SandboxFailure(id.status()));
    const std::vector<std::string> running = RunningIds(*context.jobs);
    call.Finish(Failed(data_.result("too_many")
                           .Fill({{"count", std::to_string(running.size())}, {"ids", Joined(running)}})));
  }

  static ToolResult Unstarted(const CommandCall& call, const base::Status& status) {
    if (call.cancelled()) return {.status = ToolStatus::kCancelled};
    return SandboxFailure(status);
  }

  const ToolData data_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeBash() {
  HF_ASSIGN_OR_RETURN(ToolData data, ToolData::Load("bash@2"));
  return std::make_unique<Bash>(std::move(data));
}

}  // namespace holdfast::tools
