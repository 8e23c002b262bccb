// bash_output@1, bash_input@1, bash_kill@1.
#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "nlohmann/json.hpp"
#include "tools/background_jobs.h"
#include "tools/command_tools.h"
#include "tools/commands/command_output.h"
#include "tools/commands/command_tool_parts.h"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using InfoState = BackgroundInfo::State;

constexpr int64_t kSlackMs = 5'000;

std::string IdOf(const json& arguments) { return arguments.at("id").get<std::string>(); }

// Only the lines that hold `filter`.
std::string Filtered(std::string_view text, std::string_view filter) {
  std::string kept;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    if (text.substr(0, end).find(filter) != std::string_view::npos) kept += text.substr(0, end);
    text.remove_prefix(end);
  }
  return kept;
}

ToolResult UnknownId(const ToolData& data, const BackgroundJobs* jobs, const std::string& id) {
  std::vector<std::string> known;
  if (jobs != nullptr) {
    for (const BackgroundInfo& info : jobs->List()) known.push_back(info.id);
  }
  if (known.empty()) return Failed(data.result("no_jobs").Fill({{"id", id}}));
  return Failed(data.result("no_job").Fill({{"id", id}, {"ids", Joined(known)}}));
}

std::string StateText(const ToolData& data, const BackgroundLook& look, const std::string& id) {
  if (look.state == InfoState::kRunning) return data.result("running").Fill({{"id", id}});
  if (look.state == InfoState::kLost) return data.result("lost").Fill({{"id", id}});
  return EndingText(data, *look.outcome, look.limits);
}

// A look at `id`: what is new, then how it is.
ToolResult LookAt(const ToolData& data, BackgroundJobs* jobs, const std::string& id,
                  std::string_view filter) {
  if (jobs == nullptr) return UnknownId(data, jobs, id);
  const auto look = jobs->Look(id, static_cast<size_t>(data.limit("look_bytes_max")));
  if (!look.ok()) return UnknownId(data, jobs, id);
  std::string output = filter.empty() ? look->text : Filtered(look->text, filter);
  if (!output.empty() && output.back() != '\n') output += '\n';
  std::string text;
  if (look->skipped_bytes > 0) {
    text += data.result("skipped").Fill({{"bytes", std::to_string(look->skipped_bytes)}});
  }
  text += output.empty() ? data.result("nothing").Fill({}) : data.result("output").Fill({{"output", output}});
  if (look->more) text += data.result("more").Fill({});
  text += StateText(data, *look, id);
  return Succeeded(std::move(text));
}

// Waits until a command has ended, or some time has passed, then delivers a result. Shared by the timer, the
// listener and the dispatcher's handle; whoever is first delivers.
class Wait : public std::enable_shared_from_this<Wait> {
 public:
  using Result = absl::AnyInvocable<ToolResult()>;

  Wait(const ToolContext& context, Result result, Done done)
      : context_(context), result_(std::move(result)), done_(std::move(done)) {}

  void Begin(const std::string& id, int64_t ms) {
    const base::MonotonicTime due{context_.clock->MonotonicNow().ns + ms * base::kNsPerMs};
    auto timer = context_.executor->PostAt(due, [self = shared_from_this()] { self->Deliver(); });
    const uint64_t listener =
        context_.jobs->WhenEnded(id, [self = shared_from_this()] { self->DeliverOnControl(); });
    const std::lock_guard lock(mu_);
    listener_ = listener;
    if (timer.ok()) timer_ = *timer;
    // Without a timer it waits for the end of the command alone, and for the dispatcher's deadline.
  }

  void Cancel() {
    if (Done done = Take()) done({.status = ToolStatus::kCancelled});
  }

 private:
  void DeliverOnControl() {
    context_.executor->PostResult(base::Lane::kControl, [self = shared_from_this()] { self->Deliver(); });
  }

  void Deliver() {
    if (Done done = Take()) done(result_());
  }

  // The right to deliver, once; what else would have called is put away.
  Done Take() {
    std::unique_lock lock(mu_);
    Done done = std::exchange(done_, nullptr);
    const auto timer = std::exchange(timer_, std::nullopt);
    const uint64_t listener = std::exchange(listener_, 0);
    lock.unlock();
    if (timer.has_value()) context_.executor->Cancel(*timer);
    if (listener != 0) context_.jobs->RemoveListener(listener);
    return done;
  }

  const ToolContext context_;
  Result result_;

  std::mutex mu_;  // guards all that follows
  Done done_;
  std::optional<base::TimerId> timer_;
  uint64_t listener_ = 0;
};

class WaitHandle final : public RunningCall {
 public:
  // Shared with the timer and the listener, whichever delivers.
  WaitHandle(std::shared_ptr<Wait> wait, bool harmless) : wait_(std::move(wait)), harmless_(harmless) {}
  ~WaitHandle() override { wait_->Cancel(); }
  void Cancel() override { wait_->Cancel(); }
  bool Harmless() const override { return harmless_; }

 private:
  // Shared with the timer and the listener.
  const std::shared_ptr<Wait> wait_;
  const bool harmless_;
};

// A look after at most `ms`, or at once.
std::unique_ptr<RunningCall> LookAfter(const ToolData& data, const ToolContext& context,
                                       const std::string& id, std::string filter, int64_t ms, bool harmless,
                                       Done done) {
  auto look = [&data, jobs = context.jobs, id, filter = std::move(filter)] {
    return LookAt(data, jobs, id, filter);
  };
  if (ms <= 0 || context.jobs == nullptr) {
    done(look());
    return nullptr;
  }
  // Shared with the timer and the listener.
  auto wait = std::make_shared<Wait>(context, std::move(look), std::move(done));
  wait->Begin(id, ms);
  return std::make_unique<WaitHandle>(std::move(wait), harmless);
}

class BackgroundTool : public Tool {
 public:
  explicit BackgroundTool(ToolData data) : data_(std::move(data)) {}
  const ToolSpec& spec() const override { return data_.spec(); }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {IdOf(arguments)}};
  }

 protected:
  const ToolData data_;
};

class BashOutput final : public BackgroundTool {
 public:
  using BackgroundTool::BackgroundTool;
  CallTraits Traits(const ToolContext&, const json& arguments) const override {
    return {.effect = Effect::kReadOnly,
            .contained = true,
            .confined = true,
            .timeout_ms = arguments.value("wait", int64_t{0}) + kSlackMs};
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    return LookAfter(data_, context, IdOf(arguments), arguments.value("filter", std::string()),
                     arguments.value("wait", int64_t{0}), true, std::move(done));
  }
};

class BashInput final : public BackgroundTool {
 public:
  using BackgroundTool::BackgroundTool;
  CallTraits Traits(const ToolContext& context, const json& arguments) const override {
    return {.effect = Effect::kEffectful,
            .contained = false,
            .confined = IsConfined(context),
            .timeout_ms = WaitMs(arguments) + kSlackMs};
  }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {arguments.at("text").get<std::string>()}};
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    const std::string id = IdOf(arguments);
    const base::Status written = Write(context.jobs, id, arguments);
    if (absl::IsNotFound(written)) {
      done(UnknownId(data_, context.jobs, id));
      return nullptr;
    }
    if (!written.ok()) {
      done(Failed(data_.result("refused").Fill({{"reason", base::Message(written)}})));
      return nullptr;
    }
    return LookAfter(data_, context, id, "", WaitMs(arguments), false, std::move(done));
  }

 private:
  int64_t WaitMs(const json& arguments) const {
    return arguments.value("wait", data_.limit("wait_ms_default"));
  }

  base::Status Write(BackgroundJobs* jobs, const std::string& id, const json& arguments) const {
    if (jobs == nullptr) return base::NotFound("");
    const std::string text = arguments.at("text").get<std::string>();
    if (text.size() > static_cast<size_t>(data_.limit("text_bytes_max"))) {
      return base::InvalidArgument("longer than " + std::to_string(data_.limit("text_bytes_max")) + " bytes");
    }
    HF_RETURN_IF_ERROR(jobs->Write(id, text));
    return arguments.value("close", false) ? jobs->CloseInput(id) : absl::OkStatus();
  }
};

class BashKill final : public BackgroundTool {
 public:
  using BackgroundTool::BackgroundTool;
  CallTraits Traits(const ToolContext& context, const json&) const override {
    return {.effect = Effect::kIdempotent,
            .contained = false,
            .confined = IsConfined(context),
            .timeout_ms = data_.limit("kill_ms_max") + kSlackMs};
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    const std::string id = IdOf(arguments);
    if (context.jobs != nullptr) {
      // An unknown id is told by the look.
      const base::Status ignored = context.jobs->Kill(id);
    }
    return LookAfter(data_, context, id, "", data_.limit("kill_ms_max"), false, std::move(done));
  }
};

template <typename T>
base::StatusOr<std::unique_ptr<Tool>> Make(std::string_view id) {
  HF_ASSIGN_OR_RETURN(ToolData data, ToolData::Load(id));
  return std::make_unique<T>(std::move(data));
}

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeBashOutput() { return Make<BashOutput>("bash_output@1"); }
base::StatusOr<std::unique_ptr<Tool>> MakeBashInput() { return Make<BashInput>("bash_input@1"); }
base::StatusOr<std::unique_ptr<Tool>> MakeBashKill() { return Make<BashKill>("bash_kill@1"); }

std::vector<std::string> RunningIds(const BackgroundJobs& jobs) {
  std::vector<std::string> ids;
  for (const BackgroundInfo& info : jobs.List()) {
    if (info.state == InfoState::kRunning) ids.push_back(info.id);
  }
  return ids;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

base::Status AddCommandTools(Registry& registry) {
  for (auto make : {MakeBash, MakeBashOutput, MakeBashInput, MakeBashKill}) {
    HF_ASSIGN_OR_RETURN(std::unique_ptr<Tool> tool, make());
    HF_RETURN_IF_ERROR(registry.Add(std::move(tool)));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::tools
