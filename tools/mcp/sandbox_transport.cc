#include "tools/mcp/sandbox_transport.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "base/file.h"
#include "tools/mcp/line_splitter.h"

namespace holdfast::tools::mcp {
namespace {

// Taken in one task, before other tasks of the control lane have their turn.
constexpr size_t kLinesATask = 256;
constexpr size_t kBytesATask = 1 << 20;
constexpr size_t kLineOverhead = 64;  // what a waiting line costs beside its bytes

}  // namespace

// Between the supervisor's thread and the control lane.
class SandboxTransport::Pipe : public std::enable_shared_from_this<Pipe> {
 public:
  Pipe(base::Executor& executor, const McpBounds& bounds, SandboxTransport* transport)
      : owner(transport), executor_(executor), bounds_(bounds), splitter_(bounds.message_bytes_max) {}

  // The supervisor's thread. False: nothing is taken any more.
  bool TakeOutput(std::string_view bytes) {
    const std::lock_guard lock(mu_);
    if (closed_ || broken_.has_value()) return false;
    const bool in_bounds = splitter_.Feed(bytes, [&](std::string line) { Push(std::move(line)); });
    if (!in_bounds) {
      broken_ = "wrote a line of more than " + std::to_string(bounds_.message_bytes_max) + " bytes";
    } else if (waiting_bytes_ > bounds_.waiting_bytes_max) {
      broken_ = "floods its output";
    }
    if (!lines_.empty() || broken_.has_value()) Wake();
    return !broken_.has_value();
  }

  void TakeError(std::string_view bytes) {
    const std::lock_guard lock(mu_);
    if (bytes.size() >= bounds_.error_bytes) {
      error_ = bytes.substr(bytes.size() - bounds_.error_bytes);
      return;
    }
    const size_t kept = std::min(error_.size(), bounds_.error_bytes - bytes.size());
    error_.erase(0, error_.size() - kept);
    error_.append(bytes);
  }

  void TakeEnd(std::string how) {
    const std::lock_guard lock(mu_);
    if (closed_) return;
    if (!broken_.has_value()) {
      if (std::string rest = splitter_.Rest(); !rest.empty()) Push(std::move(rest));
    }
    ended_ = std::move(how);
    Wake();
  }

  // The control lane. What comes next, at most one task's worth of lines.
  struct Part {
    std::deque<std::string> lines;
    std::optional<std::string> broken;
    std::optional<std::string> ended;
  };
  Part Take() {
    const std::lock_guard lock(mu_);
    woken_ = false;
    Part part;
    size_t bytes = 0;
    while (!lines_.empty() && part.lines.size() < kLinesATask && bytes < kBytesATask) {
      bytes += lines_.front().size();
      part.lines.push_back(std::move(lines_.front()));
      lines_.pop_front();
    }
    waiting_bytes_ -= bytes + part.lines.size() * kLineOverhead;
    if (!lines_.empty()) {
      Wake();
    } else {
      if (broken_.has_value() && !std::exchange(broken_told_, true)) part.broken = broken_;
      part.ended = std::exchange(ended_, std::nullopt);
    }
    return part;
  }

  std::string ErrorTail() {
    const std::lock_guard lock(mu_);
    return sandbox::MakeSafe(error_);
  }

  void Close() {
    owner = nullptr;
    const std::lock_guard lock(mu_);
    closed_ = true;
    lines_.clear();
    splitter_.Rest();
  }

  SandboxTransport* owner;  // control lane only; null once it is gone

  // What the job writes to, on the supervisor's thread.
  struct OutputSink final : sandbox::OutputSink {
    explicit OutputSink(Pipe& p) : pipe(p) {}
    base::Status Append(std::span<const std::byte> bytes) override {
      if (pipe.TakeOutput(Text(bytes))) return absl::OkStatus();
      return base::ResourceExhausted("mcp: nothing is taken any more");
    }
    base::StatusOr<std::string> Finish(const base::Sha256Digest&, uint64_t) override { return std::string(); }
    Pipe& pipe;
  };
  struct ErrorSink final : sandbox::OutputSink {
    explicit ErrorSink(Pipe& p) : pipe(p) {}
    base::Status Append(std::span<const std::byte> bytes) override {
      pipe.TakeError(Text(bytes));
      return absl::OkStatus();
    }
    base::StatusOr<std::string> Finish(const base::Sha256Digest&, uint64_t) override { return std::string(); }
    Pipe& pipe;
  };
  OutputSink output{*this};
  ErrorSink error{*this};

 private:
  static std::string_view Text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  void Push(std::string line) {
    waiting_bytes_ += line.size() + kLineOverhead;
    lines_.push_back(std::move(line));
  }

  // Asks for a turn on the control lane; one at a time.
  void Wake() {
    if (std::exchange(woken_, true)) return;
    executor_.PostResult(base::Lane::kControl, [self = shared_from_this()] {
      if (self->owner != nullptr) self->owner->Drain();
    });
  }

  base::Executor& executor_;
  const McpBounds bounds_;

  std::mutex mu_;  // guards all that follows
  LineSplitter splitter_;
  std::deque<std::string> lines_;
  size_t waiting_bytes_ = 0;
  std::string error_;
  std::optional<std::string> broken_;
  bool broken_told_ = false;
  std::optional<std::string> ended_;
  bool woken_ = false;
  bool closed_ = false;
};

// Destroyed in the reverse order: the job, its session, then what the job writes to.
struct SandboxTransport::Process {
  PipeRef pipe;
  std::unique_ptr<sandbox::Session> session;
  std::unique_ptr<sandbox::Job> job;
};

SandboxTransport::SandboxTransport(base::Executor& executor, sandbox::Sandbox& sandbox,
                                   sandbox::Policy policy, sandbox::Command command, const McpBounds& bounds)
    : executor_(executor),
      sandbox_(sandbox),
      policy_(std::move(policy)),
      command_(std::move(command)),
      pipe_(new Pipe(executor, bounds, this)) {}

SandboxTransport::~SandboxTransport() {
  pipe_->Close();
  if (process_ != nullptr) Release(executor_, std::move(process_));
}

void SandboxTransport::Release(base::Executor& executor, std::unique_ptr<Process> process) {
  executor.PostResult(base::Lane::kTools, [process = std::move(process)]() mutable { process.reset(); });
}

void SandboxTransport::Start(TransportEvents events) {
  events_ = std::move(events);
  auto start = [&executor = executor_, &sandbox = sandbox_, policy = policy_, command = command_,
                pipe = pipe_] {
    auto process = StartProcess(sandbox, policy, command, pipe);
    executor.PostResult(base::Lane::kControl, [&executor, pipe, process = std::move(process)]() mutable {
      if (pipe->owner != nullptr) {
        pipe->owner->TakeProcess(std::move(process));
      } else if (process.ok()) {
        Release(executor, *std::move(process));
      }
    });
  };
  const base::Status status = executor_.Post(base::Lane::kTools, std::move(start));
  if (status.ok()) return;
  executor_.PostResult(base::Lane::kControl, [pipe = pipe_, status] {
    if (pipe->owner != nullptr) pipe->owner->TakeProcess(status);
  });
}

base::StatusOr<std::unique_ptr<SandboxTransport::Process>> SandboxTransport::StartProcess(
    sandbox::Sandbox& sandbox, const sandbox::Policy& policy, const sandbox::Command& command,
    const PipeRef& pipe) {
  HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(policy.workspace.host));
  auto process = std::make_unique<Process>();
  process->pipe = pipe;
  HF_ASSIGN_OR_RETURN(process->session, sandbox.Open(policy));
  sandbox::RunOptions options;
  options.output = {.head_bytes = 0, .tail_bytes = 0, .ring_bytes = 1, .spill_bytes_max = UINT64_MAX};
  options.spill = &pipe->output;
  options.error_spill = &pipe->error;
  options.on_end = [pipe](const sandbox::Outcome& outcome) {
    pipe->TakeEnd("ended: " + sandbox::Describe(outcome));
  };
  base::StatusOr<std::unique_ptr<sandbox::Job>> job = process->session->Start(command, std::move(options));
  if (!job.ok()) {
    // A broker that does not answer may have started it all the same: the sinks are left to it, for good.
    if (job.status().code() == absl::StatusCode::kUnavailable) new PipeRef(pipe);
    return job.status();
  }
  process->job = *std::move(job);
  if (const auto outcome = process->job->Result();
      outcome.has_value() && outcome->ending == sandbox::Ending::kNotStarted) {
    return base::FailedPrecondition(sandbox::Describe(*outcome));
  }
  return process;
}

void SandboxTransport::TakeProcess(base::StatusOr<std::unique_ptr<Process>> process) {
  if (!process.ok()) return events_.started(process.status());
  process_ = *std::move(process);
  events_.started(absl::OkStatus());
  Drain();
}

void SandboxTransport::Drain() {
  if (process_ == nullptr) return;  // what is there comes after `started`
  const PipeRef pipe = pipe_;
  Pipe::Part part = pipe->Take();
  for (const std::string& line : part.lines) {
    if (pipe->owner == nullptr) return;
    events_.line(line);
  }
  if (part.broken.has_value() && pipe->owner != nullptr) events_.broken(*std::move(part.broken));
  if (part.ended.has_value() && pipe->owner != nullptr) events_.ended(*std::move(part.ended));
}

base::Status SandboxTransport::Send(std::string_view line) {
  if (process_ == nullptr) return base::FailedPrecondition("the server does not run");
  return process_->job->Write(line);
}

void SandboxTransport::CloseInput() {
  if (process_ != nullptr) process_->job->CloseInput().IgnoreError();
}

void SandboxTransport::Kill() {
  if (process_ != nullptr) process_->job->Kill();
}

std::string SandboxTransport::ErrorTail() const { return pipe_->ErrorTail(); }

}  // namespace holdfast::tools::mcp
