// From a call as the model wrote it to a result that it can read. Two steps, so that the caller can commit
// the intent between them:
//
//   Prepared call = dispatcher.Prepare(context, "bash", R"({"command": "make"})");
//   if (call.error) ... it is the result;  else commit the INTENT (call.tool_id, call.arguments, call.action)
//   CallId id = dispatcher.Start(std::move(call), context, [](ToolResult result) { commit the OUTCOME });
//
// Every started call gets exactly one result, on the control lane: the tool's own, or one made here when its
// deadline and the grace after it have passed, when it was cancelled, or when the dispatcher goes away. What
// a tool delivers after that is counted and dropped.
//
// All methods are called on the control lane; results and hooks come on it, never from within a method other
// than Shutdown and the destructor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/hash.h"
#include "base/status.h"
#include "tools/permission.h"
#include "tools/registry.h"
#include "tools/tool.h"

namespace holdfast::tools {

struct DispatchLimits {
  size_t argument_bytes_max = 1 << 20;  // of the arguments' text
  size_t result_bytes_max = 32 * 1024;  // of a result's text; longer ones are cut in the middle
  size_t spill_bytes_max = 64 << 20;    // of what is kept of a text that was cut; a longer one is a failure
  int64_t timeout_ms_max = 630'000;     // of a call, whatever the tool asks for: 10 minutes, and time to end
  int64_t grace_ms = 900;               // from the deadline's Cancel to the end without an answer
  size_t calls_max = 64;                // running at once
  size_t block_calls_max = 128;         // of one block
};

// Budgets of the goal: asked before a call, told after each that was admitted. Called on the control lane.
class CallBudget {
 public:
  virtual ~CallBudget() = default;
  // An error refuses the call; its message is shown to the model.
  virtual base::Status Admit(std::string_view tool_id) = 0;
  virtual void Charge(std::string_view tool_id, const ToolResult& result) = 0;
};

// Where texts that are too long are kept. Put runs on the storage lane.
class SpillStore {
 public:
  virtual ~SpillStore() = default;
  // Durable on return.
  virtual base::StatusOr<SpilledBlob> Put(std::string_view bytes) = 0;
};

struct Prepared {
  std::string name;       // as the model wrote it
  std::string tool_id;    // "bash@2"; empty: no such tool
  std::string arguments;  // canonical JSON: sorted keys, no blanks
  ActionHash action = {};
  CallTraits traits;
  Subject subject;
  Verdict verdict;                  // kAsk: Start needs a grant for `action` in the approval book
  std::optional<ToolResult> error;  // the call cannot be run: this is its result
};

enum class CallId : uint64_t {};
using ResultDone = absl::AnyInvocable<void(ToolResult)>;

// What happens around the calls of a block. Each method is called on the control lane and answers once, at
// any later time or at once, through what it is given.
class BlockHost {
 public:
  using Go = absl::AnyInvocable<void(base::Status)>;
  virtual ~BlockHost() = default;

  // Before the calls with these indices start, together: commits their intents. An error ends them as
  // kDenied with its message; kCancelled for a Cancelled status.
  virtual void BeforeStart(std::span<const size_t> indices, Go go) = 0;

  // After they have all ended: checkpoint, commits their outcomes. `results` are parallel to `indices`. Not
  // asked for calls that BeforeStart refused. An error ends the block: what has not started is kCancelled.
  virtual void AfterEnd(std::span<const size_t> indices, std::span<const ToolResult> results, Go go) = 0;
};

enum class BlockId : uint64_t {};
using BlockDone = absl::AnyInvocable<void(std::vector<ToolResult>)>;

class Dispatcher {
 public:
  struct Options {
    DispatchLimits limits;
    CallBudget* budget = nullptr;
    SpillStore* spill = nullptr;           // null: what is cut is lost, and the mark says so
    base::Sha256Digest sandbox_hash = {};  // of the sandbox policy in force: part of every action hash
  };

  // All references outlive the dispatcher; the executor, the tools and the spill store also outlive every
  // call that was given up.
  Dispatcher(base::Executor& executor, base::Clock& clock, const Toolset& tools,
             const PermissionPolicy& policy, ApprovalBook& approvals, Options options);
  ~Dispatcher();  // Shutdown
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // Finds the tool, checks the arguments, judges. `arguments` is the text of a JSON object; empty text is an
  // empty object. Never fails: what is wrong stands in `error`.
  Prepared Prepare(const ToolContext& context, std::string_view name, std::string_view arguments) const;

  // Starts a prepared call, or ends it at once: by its error, by a deny rule, for want of an approval, by the
  // budget. context.deadline bounds the call beside its own timeout.
  CallId Start(Prepared call, ToolContext context, ResultDone done);

  // Ends a call early; its result comes as ever. Nothing happens when it has ended.
  void Cancel(CallId call);

  // Runs the calls of one block: those that only read and stand side by side run together, all others alone
  // and in order. Results are in the order of the calls, errors of Prepare among them (for these the host is
  // not asked).
  BlockId RunBlock(std::vector<Prepared> calls, ToolContext context, BlockHost& host, BlockDone done);
  // What runs ends early, what has not started does not start. BlockDone comes as ever.
  void CancelBlock(BlockId block);

  // Gives everything up: each call and block gets its result before this returns, kCancelled when it is known
  // that nothing was changed and kUnknown otherwise. Hosts of blocks are asked nothing more. What is started
  // later is cancelled. To end calls gently, cancel them and wait first.
  void Shutdown();

  size_t running() const;
  // Calls that were given up and have not come back; they still use their contexts.
  size_t abandoned() const;
  // Results that came too late.
  uint64_t late_results() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with the results under way, which may find it closed
};

// The text that stands where a result would when a call has started and nobody can say how it ended: after a
// crash, for calls that must not be run again.
ToolResult UnknownOutcome();

}  // namespace holdfast::tools
