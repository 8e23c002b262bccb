#include "tests/agent/simulation_tools.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "nlohmann/json.hpp"
#include "tests/agent/simulation_model.h"

namespace holdfast::agent::simulation {
namespace {

enum class Kind { kAppend, kSend, kMark, kLook, kWait };
struct Row {
  Kind kind;
  const char* name;
  bool has_line;
  tools::Effect effect;
  bool contained;
};
constexpr Row kRows[] = {
    {Kind::kAppend, "append", true, tools::Effect::kEffectful, true},
    {Kind::kSend, "send", true, tools::Effect::kEffectful, false},
    {Kind::kMark, "mark", true, tools::Effect::kIdempotent, false},
    {Kind::kLook, "look", false, tools::Effect::kReadOnly, true},
    {Kind::kWait, "wait", false, tools::Effect::kReadOnly, true},
};
constexpr int64_t kTimeoutMs = 200;

std::string LineOf(const Row& row) {
  const nlohmann::json line = {{"type", "string"}};
  nlohmann::json parameters = {{"type", "object"}, {"properties", nlohmann::json::object()}};
  if (row.has_line)
    parameters = {{"type", "object"}, {"properties", {{"line", line}}}, {"required", {"line"}}};
  return nlohmann::json{{"name", row.name}, {"parameters", parameters}}.dump();
}

// One call under way. Shared by its two tasks and its handle, any of which may be the last.
struct Run {
  Machine& machine;
  const Row& row;
  std::string session;
  std::string line;
  tools::Done done;
  bool cancelled = false;
  bool ended = false;

  Witness& witness() { return machine.witnesses.at(session); }
  void End(tools::ToolResult result) {
    if (std::exchange(ended, true)) return;
    --witness().progress.running;
    witness().progress.ended = true;
    done(std::move(result));
  }
};

class Handle final : public tools::RunningCall {
 public:
  explicit Handle(std::shared_ptr<Run> run)  // shared_ptr: see Run
      : run_(std::move(run)) {}
  void Cancel() override {
    run_->cancelled = true;
    if (run_->row.kind == Kind::kWait) run_->End({.status = tools::ToolStatus::kCancelled});
  }

 private:
  std::shared_ptr<Run> run_;  // shared_ptr: see Run
};

void SecondHalf(Run& run) {
  Files& layer = run.witness().layer;
  if (run.cancelled) return run.End({.status = tools::ToolStatus::kCancelled});
  if (run.row.kind == Kind::kLook)
    return run.End(tools::Succeeded(std::to_string(layer.size()) + " files\n"));
  if (run.row.kind == Kind::kMark) return run.End(tools::Succeeded("marked\n"));
  std::string& file = layer["file"];
  file += "\n";
  const auto lines = std::count(file.begin(), file.end(), '\n');
  run.End(tools::Succeeded(std::to_string(lines) + " lines\n"));
}

void FirstHalf(const std::shared_ptr<Run>& run, base::Executor& executor) {  // shared_ptr: see Run
  const bool writes = run->row.kind == Kind::kAppend || run->row.kind == Kind::kSend;
  if (run->cancelled) return run->End({.status = tools::ToolStatus::kCancelled});
  if (writes && run->line.starts_with('c')) return run->End(tools::Failed("no line begins so\n"));
  if (writes) run->witness().layer["file"] += run->line;
  executor.PostResult(base::Lane::kTools, [run] { SecondHalf(*run); });
}

class SimTool final : public tools::Tool {
 public:
  SimTool(Machine& machine, const Row& row) : machine_(machine), row_(row) {
    spec_.name = row.name;
    spec_.function = LineOf(row);
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::CallTraits Traits(const tools::ToolContext&, const nlohmann::json&) const override {
    return {.effect = row_.effect, .contained = row_.contained, .confined = true, .timeout_ms = kTimeoutMs};
  }
  tools::Subject SubjectOf(const tools::ToolContext&, const nlohmann::json&) const override { return {}; }
  std::unique_ptr<tools::RunningCall> Start(const tools::ToolContext& context,
                                            const nlohmann::json& arguments, tools::Done done) override {
    auto run = std::make_shared<Run>(Run{.machine = machine_,  // shared: see Run
                                         .row = row_,
                                         .session = context.inside,
                                         .line = arguments.value("line", ""),
                                         .done = std::move(done)});
    Witness& witness = run->witness();
    witness.progress.intended = false;
    ++witness.progress.running;
    if (witness.step == RecoveryStep::kWorkspaceRestored) witness.step = RecoveryStep::kCallsStarted;
    if (row_.kind == Kind::kSend) ++witness.sent[arguments.dump()];
    base::Executor& executor = *context.executor;
    if (row_.kind != Kind::kWait) {
      executor.PostResult(base::Lane::kTools, [run, &executor] { FirstHalf(run, executor); });
    }
    return std::make_unique<Handle>(std::move(run));
  }

 private:
  Machine& machine_;
  const Row& row_;
  tools::ToolSpec spec_;
};

}  // namespace

std::vector<std::string> ToolLines() {
  std::vector<std::string> lines;
  for (const Row& row : kRows) lines.push_back(LineOf(row));
  return lines;
}

void AddTools(Machine& machine, tools::Registry& registry) {
  for (const Row& row : kRows) {
    const base::Status added = registry.Add(std::make_unique<SimTool>(machine, row));
    HF_CHECK(added.ok());
  }
}

}  // namespace holdfast::agent::simulation
