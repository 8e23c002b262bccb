#include "tools/dispatcher.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"
#include "nlohmann/json.hpp"
#include "tools/file_versions.h"
#include "tools/result_text.h"
#include "tools/text/json_text.h"
#include "tools/text/nearest.h"
#include "tools/text/utf8.h"
#include "tools/tool_data.h"

namespace holdfast::tools {
namespace {

using base::Lane;
using base::Status;
using base::StatusOr;

const ToolTexts& Texts() {
  static const ToolTexts* const texts = [] {
    auto loaded = ToolTexts::Load();
    HF_CHECK(loaded.ok());
    return new ToolTexts(*std::move(loaded));
  }();
  return *texts;
}

ToolResult Outcome(ToolStatus status, std::string_view text, std::initializer_list<TemplateValue> values) {
  return {.status = status, .text = Texts().text(text).Fill(values)};
}

ToolResult NoTool(const Toolset& tools, std::string_view name) {
  std::vector<std::string> names;
  for (const auto& entry : tools.entries()) names.push_back(entry.tool->spec().name);
  const std::string shown = RepairUtf8(FirstCharacters(name, 128));
  const std::string_view near = Nearest(name, names);
  if (near.empty()) return Outcome(ToolStatus::kInvalid, "no_tool", {{"name", shown}});
  return Outcome(ToolStatus::kInvalid, "no_tool_near", {{"name", shown}, {"near", near}});
}

ActionHash HashOf(std::string_view tool_id, std::string_view arguments, const base::Sha256Digest& policy,
                  const base::Sha256Digest& sandbox) {
  const std::string text = CanonicalJson(nlohmann::json::array(
      {"holdfast-action-1", tool_id, arguments, base::ToHex(policy), base::ToHex(sandbox)}));
  return base::Sha256Of(std::as_bytes(std::span(text)));
}

}  // namespace

// Shared with the tasks under way, which hold it weakly: what comes after the end finds nothing.
class Dispatcher::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(base::Executor& executor, base::Clock& clock, const Toolset& tools, const PermissionPolicy& policy,
       ApprovalBook& approvals, Options options)
      : executor_(executor),
        clock_(clock),
        tools_(tools),
        policy_(policy),
        approvals_(approvals),
        options_(std::move(options)) {}

  Prepared Prepare(const ToolContext& context, std::string_view name, std::string_view arguments) const;
  CallId Start(Prepared prepared, ToolContext context, ResultDone done);
  void Cancel(CallId id) { End(id, ToolStatus::kCancelled); }
  BlockId RunBlock(std::vector<Prepared> calls, ToolContext context, BlockHost& host, BlockDone done);
  void CancelBlock(BlockId id);
  void Shutdown();
  void CheckLane() const { HF_CHECK(executor_.RunsOn(Lane::kControl)); }

  size_t running() const { return calls_.size(); }
  size_t abandoned() const { return abandoned_.size(); }
  uint64_t late_results() const { return late_results_; }

 private:
  struct Call {
    Prepared prepared;
    ToolContext context;
    ResultDone done;
    std::unique_ptr<RunningCall> running;
    bool admitted = false;             // by the budget
    bool started = false;              // and has not come back
    std::optional<ToolStatus> ending;  // why it is to end early
    std::optional<base::TimerId> timer;
    std::optional<ToolResult> result;  // on its way
  };

  enum class Phase { kIdle, kBefore, kRunning, kAfter };
  struct Block {
    std::vector<Prepared> calls;
    ToolContext context;
    BlockHost* host = nullptr;
    BlockDone done;
    std::vector<std::optional<ToolResult>> results;
    size_t next = 0;            // the first call that is in no group yet
    std::vector<size_t> group;  // indices
    std::vector<CallId> running;
    size_t answered = 0;
    Phase phase = Phase::kIdle;
    bool cancelled = false;
  };

  // A task for the control lane that does nothing once the dispatcher is gone.
  template <typename Body>
  base::Task Later(Body body) {
    return [weak = weak_from_this(), body = std::move(body)]() mutable {
      if (const auto impl = weak.lock()) body(*impl);
    };
  }

  // What a tool answers with; says so when the tool lets go of it without an answer.
  class Answer {
   public:
    Answer(base::Executor& executor, std::weak_ptr<Impl> impl, CallId id)
        : executor_(&executor), impl_(std::move(impl)), id_(id) {}
    Answer(Answer&& other) noexcept
        : executor_(std::exchange(other.executor_, nullptr)), impl_(std::move(other.impl_)), id_(other.id_) {}
    Answer& operator=(Answer&&) = delete;
    ~Answer() {
      if (executor_ != nullptr) Post([](Impl& impl, CallId id) { impl.OnDropped(id); });
    }
    void operator()(ToolResult result) {
      if (executor_ == nullptr) return;  // once only
      Post([result = std::move(result)](Impl& impl, CallId id) mutable {
        impl.OnResult(id, std::move(result));
      });
      executor_ = nullptr;
    }

   private:
    template <typename Body>
    void Post(Body body) {
      executor_->PostResult(Lane::kControl, [impl = impl_, id = id_, body = std::move(body)]() mutable {
        if (const auto alive = impl.lock()) body(*alive, id);
      });
    }
    base::Executor* executor_;  // null: answered
    std::weak_ptr<Impl> impl_;
    CallId id_;
  };

  // --- One call
  std::optional<ToolResult> Refusal(const Prepared& prepared);
  void Launch(CallId id, Call& call);
  void SetTimer(CallId id, Call& call, base::MonotonicTime when);
  void OnTimer(CallId id);
  void End(CallId id, ToolStatus why);
  void OnResult(CallId id, ToolResult result);
  void OnDropped(CallId id);
  ToolResult GivenUp(const Call& call, ToolStatus why) const;
  void AnswerSoon(CallId id, ToolResult result);
  void Bound(CallId id, Call& call);
  void Spill(CallId id, Call& call, std::string whole);
  void Finish(CallId id);
  ToolResult Complete(const Call& call, ToolResult result) const;

  // --- Blocks
  void Step(BlockId id);
  void FormGroup(Block& block) const;
  BlockHost::Go GoOn(BlockId id, Phase phase);
  void OnGo(BlockId id, Phase phase, const Status& status);
  void StartGroup(BlockId id);
  void OnCallDone(BlockId id, size_t index, ToolResult result);
  void GroupEnded(BlockId id);
  void FinishBlock(BlockId id);

  base::Executor& executor_;
  base::Clock& clock_;
  const Toolset& tools_;
  const PermissionPolicy& policy_;
  ApprovalBook& approvals_;
  const Options options_;

  // Control lane only.
  uint64_t next_id_ = 1;
  std::map<CallId, Call> calls_;
  std::map<BlockId, Block> blocks_;
  std::set<CallId> abandoned_;
  uint64_t late_results_ = 0;
  bool closed_ = false;
};

// ---- One call

Prepared Dispatcher::Impl::Prepare(const ToolContext& context, std::string_view name,
                                   std::string_view arguments) const {
  Prepared prepared{.name = std::string(name)};
  const Toolset::Entry* entry = tools_.Find(name);
  if (entry == nullptr) {
    prepared.error = NoTool(tools_, name);
    return prepared;
  }
  prepared.tool_id = entry->tool->spec().id();
  const auto invalid = [&](std::string_view problems) {
    prepared.error = Outcome(ToolStatus::kInvalid, "invalid", {{"name", name}, {"problems", problems}});
    return std::move(prepared);
  };
  const std::string_view text = arguments.empty() ? std::string_view("{}") : arguments;
  const auto value = ParseJson(text, options_.limits.argument_bytes_max, Schema::kDepthMax);
  if (!value.ok()) return invalid("the arguments are " + base::Message(value.status()));
  std::string problems;
  for (const std::string& problem : entry->schema->Check(*value))
    problems += (problems.empty() ? "" : "; ") + problem;
  if (!problems.empty()) return invalid(problems);
  prepared.arguments = CanonicalJson(*value);
  prepared.action = HashOf(prepared.tool_id, prepared.arguments, policy_.hash(), options_.sandbox_hash);
  prepared.traits = entry->tool->Traits(context, *value);
  prepared.subject = entry->tool->SubjectOf(context, *value);
  prepared.verdict = policy_.Judge(name, prepared.subject, prepared.traits);
  if (prepared.verdict.permission == Permission::kDeny) {
    prepared.error = Outcome(ToolStatus::kDenied, "denied",
                             {{"name", name}, {"reason", RepairUtf8(prepared.verdict.reason)}});
  }
  return prepared;
}

CallId Dispatcher::Impl::Start(Prepared prepared, ToolContext context, ResultDone done) {
  const CallId id{next_id_++};
  Call& call = calls_[id];
  call.prepared = std::move(prepared);
  call.context = std::move(context);
  call.done = std::move(done);
  if (auto refusal = Refusal(call.prepared)) {
    AnswerSoon(id, *std::move(refusal));
  } else {
    call.admitted = true;
    Launch(id, call);
  }
  return id;
}

// Why a call does not start. Takes the approval and the budget when it does.
std::optional<ToolResult> Dispatcher::Impl::Refusal(const Prepared& prepared) {
  const std::string& name = prepared.name;
  if (prepared.error) return prepared.error;
  if (closed_) return Outcome(ToolStatus::kCancelled, "cancelled", {{"name", name}});
  HF_CHECK(!prepared.tool_id.empty() && prepared.verdict.permission != Permission::kDeny);
  if (calls_.size() > options_.limits.calls_max) {
    return Outcome(ToolStatus::kUnavailable, "unavailable",
                   {{"name", name}, {"reason", "too many calls at once"}});
  }
  const bool asks = prepared.verdict.permission == Permission::kAsk;
  if (asks && !approvals_.Holds(prepared.action)) {
    return Outcome(ToolStatus::kDenied, "not_approved", {{"name", name}});
  }
  if (options_.budget != nullptr) {
    if (const Status status = options_.budget->Admit(prepared.tool_id); !status.ok()) {
      return Outcome(ToolStatus::kDenied, "refused",
                     {{"name", name}, {"reason", RepairUtf8(base::Message(status))}});
    }
  }
  if (asks) HF_CHECK(approvals_.Use(prepared.action));
  return std::nullopt;
}

void Dispatcher::Impl::Launch(CallId id, Call& call) {
  const Toolset::Entry* entry = tools_.Find(call.prepared.name);
  HF_CHECK(entry != nullptr && entry->tool->spec().id() == call.prepared.tool_id);
  // What runs is what was hashed.
  const auto arguments = ParseJson(call.prepared.arguments, SIZE_MAX, Schema::kDepthMax);
  HF_CHECK(arguments.ok());
  const int64_t timeout_ms =
      std::clamp<int64_t>(call.prepared.traits.timeout_ms, 1, options_.limits.timeout_ms_max);
  ToolContext& context = call.context;
  context.executor = &executor_;
  context.clock = &clock_;
  context.deadline = std::min(context.deadline, {clock_.MonotonicNow().ns + timeout_ms * base::kNsPerMs});
  SetTimer(id, call, context.deadline);
  if (!call.timer) {
    const TemplateValue reason = {"reason", "too many timers wait"};
    return AnswerSoon(
        id, Outcome(ToolStatus::kUnavailable, "unavailable", {{"name", call.prepared.name}, reason}));
  }
  call.started = true;
  call.running = entry->tool->Start(context, *arguments, Answer(executor_, weak_from_this(), id));
}

void Dispatcher::Impl::SetTimer(CallId id, Call& call, base::MonotonicTime when) {
  if (call.timer) executor_.Cancel(*call.timer);
  call.timer.reset();
  auto timer = executor_.PostAt(when, Later([id](Impl& impl) { impl.OnTimer(id); }));
  if (timer.ok()) call.timer = *timer;
}

// The deadline first, the end of the grace then.
void Dispatcher::Impl::OnTimer(CallId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end() || it->second.result) return;
  Call& call = it->second;
  call.timer.reset();
  if (!call.ending) return End(id, ToolStatus::kTimeout);
  AnswerSoon(id, GivenUp(call, *call.ending));
}

void Dispatcher::Impl::End(CallId id, ToolStatus why) {
  const auto it = calls_.find(id);
  if (it == calls_.end() || it->second.result || it->second.ending) return;
  Call& call = it->second;
  call.ending = why;
  SetTimer(id, call, {clock_.MonotonicNow().ns + options_.limits.grace_ms * base::kNsPerMs});
  if (call.running != nullptr) call.running->Cancel();
  if (!call.timer) AnswerSoon(id, GivenUp(call, why));  // nobody would wake us
}

// What is known of a call that does not answer.
ToolResult Dispatcher::Impl::GivenUp(const Call& call, ToolStatus why) const {
  const bool harmless = !call.started || call.prepared.traits.effect == Effect::kReadOnly ||
                        (call.running != nullptr && call.running->Harmless());
  return harmless ? ToolResult{.status = why} : UnknownOutcome();
}

// The text that a result without one gets.
ToolResult Dispatcher::Impl::Complete(const Call& call, ToolResult result) const {
  if (call.ending == ToolStatus::kTimeout && result.status == ToolStatus::kCancelled) {
    result.status = ToolStatus::kTimeout;
  }
  const TemplateValue name = {"name", call.prepared.name};
  if (result.text.empty() && result.status == ToolStatus::kTimeout) {
    result.text = Texts().text("timeout").Fill({name});
  } else if (result.text.empty() && result.status == ToolStatus::kCancelled) {
    result.text = Texts().text("cancelled").Fill({name});
  } else if (result.text.empty() && result.status == ToolStatus::kUnknown) {
    result.text = UnknownOutcome().text;
  }
  return result;
}

void Dispatcher::Impl::OnResult(CallId id, ToolResult result) {
  const auto it = calls_.find(id);
  if (it == calls_.end() || it->second.result) {
    ++late_results_;
    abandoned_.erase(id);
    return;
  }
  Call& call = it->second;
  call.started = false;  // it has come back
  call.result = Complete(call, std::move(result));
  Bound(id, call);
}

void Dispatcher::Impl::OnDropped(CallId id) {
  abandoned_.erase(id);
  const auto it = calls_.find(id);
  if (it == calls_.end() || it->second.result) return;
  ToolResult result = GivenUp(it->second, ToolStatus::kUnavailable);
  if (result.text.empty()) {
    result.text = Texts()
                      .text("unavailable")
                      .Fill({{"name", it->second.prepared.name}, {"reason", "it gave no answer"}});
  }
  it->second.started = false;
  AnswerSoon(id, std::move(result));
}

// A result that is made here. The tool, when it runs, is given up.
void Dispatcher::Impl::AnswerSoon(CallId id, ToolResult result) {
  Call& call = calls_.at(id);
  call.result = Complete(call, std::move(result));
  executor_.PostResult(Lane::kControl, Later([id](Impl& impl) { impl.Finish(id); }));
}

// Well-formed, and short enough; then finished.
void Dispatcher::Impl::Bound(CallId id, Call& call) {
  std::string& text = call.result->text;
  if (!IsUtf8(text)) text = RepairUtf8(text);
  if (text.size() <= options_.limits.result_bytes_max) return Finish(id);
  Spill(id, call, std::exchange(text, {}));
}

void Dispatcher::Impl::Spill(CallId id, Call& call, std::string whole) {
  const CutResult cut(whole, options_.limits.result_bytes_max);
  call.result->text = cut.head();
  const auto finish = [id, cut](Impl& impl, const StatusOr<SpilledBlob>& blob) {
    const auto it = impl.calls_.find(id);
    if (it == impl.calls_.end()) return;
    ToolResult& result = *it->second.result;
    result.text = cut.Text(blob.ok() ? &*blob : nullptr);
    if (blob.ok()) result.blobs.push_back(*blob);
    impl.Finish(id);
  };
  if (options_.spill == nullptr || whole.size() > options_.limits.spill_bytes_max) {
    return finish(*this, base::NotFound("not kept"));
  }
  base::Task task = [executor = &executor_, spill = options_.spill, weak = weak_from_this(), finish,
                     whole = std::move(whole)] {
    executor->PostResult(Lane::kControl, [weak, finish, blob = spill->Put(whole)] {
      if (const auto impl = weak.lock()) finish(*impl, blob);
    });
  };
  if (const Status posted = executor_.Post(Lane::kStorage, std::move(task)); !posted.ok())
    finish(*this, posted);
}

void Dispatcher::Impl::Finish(CallId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  Call call = std::move(it->second);
  calls_.erase(it);
  if (call.timer) executor_.Cancel(*call.timer);
  if (call.started) abandoned_.insert(id);
  call.running.reset();
  ToolResult& result = *call.result;
  if (call.context.versions != nullptr) call.context.versions->Apply(result.observed);
  if (options_.budget != nullptr && call.admitted) options_.budget->Charge(call.prepared.tool_id, result);
  call.done(std::move(result));
}

void Dispatcher::Impl::Shutdown() {
  closed_ = true;
  while (!calls_.empty()) {
    const CallId id = calls_.begin()->first;
    Call& call = calls_.begin()->second;
    if (call.running != nullptr && !call.result) call.running->Cancel();
    if (!call.result) call.result = Complete(call, GivenUp(call, ToolStatus::kCancelled));
    Finish(id);
  }
  while (!blocks_.empty()) FinishBlock(blocks_.begin()->first);
}

// ---- Blocks

BlockId Dispatcher::Impl::RunBlock(std::vector<Prepared> calls, ToolContext context, BlockHost& host,
                                   BlockDone done) {
  const BlockId id{next_id_++};
  Block& block = blocks_[id];
  block.results.resize(calls.size());
  block.calls = std::move(calls);
  block.context = std::move(context);
  block.host = &host;
  block.done = std::move(done);
  block.cancelled = closed_;
  for (size_t i = 0; i < block.calls.size(); ++i) {
    const std::string& name = block.calls[i].name;
    if (block.calls[i].error) {
      block.results[i] = block.calls[i].error;
    } else if (i >= options_.limits.block_calls_max) {
      block.results[i] = Outcome(ToolStatus::kDenied, "refused",
                                 {{"name", name}, {"reason", "too many calls in one block"}});
    }
  }
  executor_.PostResult(Lane::kControl, Later([id](Impl& impl) { impl.Step(id); }));
  return id;
}

void Dispatcher::Impl::CancelBlock(BlockId id) {
  const auto it = blocks_.find(id);
  if (it == blocks_.end()) return;
  it->second.cancelled = true;
  for (const CallId call : it->second.running) Cancel(call);
}

// The next calls: all that only read up to the first that does not, or one.
void Dispatcher::Impl::FormGroup(Block& block) const {
  block.group.clear();
  block.running.clear();
  block.answered = 0;
  for (; block.next < block.calls.size(); ++block.next) {
    if (block.results[block.next]) continue;
    const bool reads = block.calls[block.next].traits.effect == Effect::kReadOnly;
    if (!block.group.empty() && (!reads || block.group.size() >= options_.limits.calls_max / 2)) return;
    block.group.push_back(block.next);
    if (!reads) {
      ++block.next;
      return;
    }
  }
}

void Dispatcher::Impl::Step(BlockId id) {
  const auto it = blocks_.find(id);
  if (it == blocks_.end()) return;
  Block& block = it->second;
  if (block.cancelled) return FinishBlock(id);
  FormGroup(block);
  if (block.group.empty()) return FinishBlock(id);
  block.phase = Phase::kBefore;
  block.host->BeforeStart(block.group, GoOn(id, Phase::kBefore));
}

BlockHost::Go Dispatcher::Impl::GoOn(BlockId id, Phase phase) {
  return [executor = &executor_, weak = weak_from_this(), id, phase](const Status& status) {
    executor->PostResult(Lane::kControl, [weak, id, phase, status] {
      if (const auto impl = weak.lock()) impl->OnGo(id, phase, status);
    });
  };
}

void Dispatcher::Impl::OnGo(BlockId id, Phase phase, const Status& status) {
  const auto it = blocks_.find(id);
  if (it == blocks_.end() || it->second.phase != phase) return;
  Block& block = it->second;
  if (phase == Phase::kAfter) {
    block.cancelled = block.cancelled || !status.ok();
    return Step(id);
  }
  if (status.ok()) return StartGroup(id);
  for (const size_t index : block.group) {
    const std::string& name = block.calls[index].name;
    block.results[index] = absl::IsCancelled(status)
                               ? Outcome(ToolStatus::kCancelled, "cancelled", {{"name", name}})
                               : Outcome(ToolStatus::kDenied, "refused",
                                         {{"name", name}, {"reason", RepairUtf8(base::Message(status))}});
  }
  Step(id);
}

void Dispatcher::Impl::StartGroup(BlockId id) {
  Block& block = blocks_.at(id);
  block.phase = Phase::kRunning;
  for (const size_t index : block.group) {
    Prepared call = block.calls[index];
    // Its intent is on record, so that the host has to hear of its end.
    if (block.cancelled) call.error = Outcome(ToolStatus::kCancelled, "cancelled", {{"name", call.name}});
    block.running.push_back(
        Start(std::move(call), block.context, [weak = weak_from_this(), id, index](ToolResult result) {
          if (const auto impl = weak.lock()) impl->OnCallDone(id, index, std::move(result));
        }));
  }
}

void Dispatcher::Impl::OnCallDone(BlockId id, size_t index, ToolResult result) {
  const auto it = blocks_.find(id);
  if (it == blocks_.end()) return;
  Block& block = it->second;
  block.results[index] = std::move(result);
  if (++block.answered == block.group.size() && !closed_) GroupEnded(id);
}

void Dispatcher::Impl::GroupEnded(BlockId id) {
  Block& block = blocks_.at(id);
  block.phase = Phase::kAfter;
  std::vector<ToolResult> results;
  for (const size_t index : block.group) results.push_back(*block.results[index]);
  block.host->AfterEnd(block.group, results, GoOn(id, Phase::kAfter));
}

void Dispatcher::Impl::FinishBlock(BlockId id) {
  const auto it = blocks_.find(id);
  Block block = std::move(it->second);
  blocks_.erase(it);
  std::vector<ToolResult> results;
  for (size_t i = 0; i < block.calls.size(); ++i) {
    if (!block.results[i]) {
      block.results[i] = Outcome(ToolStatus::kCancelled, "cancelled", {{"name", block.calls[i].name}});
    }
    results.push_back(*std::move(block.results[i]));
  }
  block.done(std::move(results));
}

// ---- The door

Dispatcher::Dispatcher(base::Executor& executor, base::Clock& clock, const Toolset& tools,
                       const PermissionPolicy& policy, ApprovalBook& approvals, Options options)
    // Shared with nobody: the tasks under way hold it weakly.
    : impl_(std::make_shared<Impl>(executor, clock, tools, policy, approvals, std::move(options))) {}

Dispatcher::~Dispatcher() { impl_->Shutdown(); }

Prepared Dispatcher::Prepare(const ToolContext& context, std::string_view name,
                             std::string_view arguments) const {
  return impl_->Prepare(context, name, arguments);
}

CallId Dispatcher::Start(Prepared call, ToolContext context, ResultDone done) {
  impl_->CheckLane();
  return impl_->Start(std::move(call), std::move(context), std::move(done));
}

void Dispatcher::Cancel(CallId call) {
  impl_->CheckLane();
  impl_->Cancel(call);
}

BlockId Dispatcher::RunBlock(std::vector<Prepared> calls, ToolContext context, BlockHost& host,
                             BlockDone done) {
  impl_->CheckLane();
  return impl_->RunBlock(std::move(calls), std::move(context), host, std::move(done));
}

void Dispatcher::CancelBlock(BlockId block) {
  impl_->CheckLane();
  impl_->CancelBlock(block);
}

void Dispatcher::Shutdown() { impl_->Shutdown(); }
size_t Dispatcher::running() const { return impl_->running(); }
size_t Dispatcher::abandoned() const { return impl_->abandoned(); }
uint64_t Dispatcher::late_results() const { return impl_->late_results(); }

ToolResult UnknownOutcome() { return Outcome(ToolStatus::kUnknown, "unknown", {}); }

}  // namespace holdfast::tools
