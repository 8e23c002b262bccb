// The public interface over the supervisor.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/errno.h"
#include "sandbox/client/supervisor.h"
#include "sandbox/sandbox.h"

namespace holdfast::sandbox {
namespace {

class JobHandle final : public Job {
 public:
  JobHandle(Supervisor& supervisor, JobRecord& record) : supervisor_(supervisor), record_(record) {}
  ~JobHandle() override { supervisor_.ReleaseJob(record_); }

  std::optional<Outcome> Result() override {
    const std::lock_guard lock(record_.mu);
    return record_.outcome;
  }

  std::optional<Outcome> Wait(int64_t ms) override {
    std::unique_lock lock(record_.mu);
    record_.changed.wait_for(lock, std::chrono::milliseconds(ms),
                             [&] { return record_.outcome.has_value(); });
    return record_.outcome;
  }

  OutputPart Poll(uint64_t from, size_t bytes_max) override {
    const std::lock_guard lock(record_.mu);
    OutputCapture::Part part = record_.output.capture->Read(from, bytes_max);
    return {.text = std::move(part.text), .next = part.next, .skipped_bytes = part.skipped_bytes};
  }

  base::Status Write(std::string_view bytes) override { return supervisor_.WriteInput(record_, bytes); }

  base::Status CloseInput() override {
    supervisor_.CloseInput(record_);
    return absl::OkStatus();
  }

  base::Status Resize(TerminalSize size) override {
    const std::lock_guard lock(record_.mu);
    if (!record_.terminal) return base::FailedPrecondition("sandbox: the job has no terminal");
    if (!record_.output.fd.valid()) return base::FailedPrecondition("sandbox: the job has ended");
    const winsize window = {.ws_row = size.rows, .ws_col = size.columns, .ws_xpixel = 0, .ws_ypixel = 0};
    if (ioctl(record_.output.fd.get(), TIOCSWINSZ, &window) != 0) {
      return base::ErrnoStatus(errno, "sandbox: resizing the terminal");
    }
    return absl::OkStatus();
  }

  void Kill() override { supervisor_.KillJob(record_.id, wire::EndCause::kCaller, false); }

 private:
  Supervisor& supervisor_;
  JobRecord& record_;
};

class SessionHandle final : public Session {
 public:
  SessionHandle(Supervisor& supervisor, SessionRecord& record) : supervisor_(supervisor), record_(record) {}
  ~SessionHandle() override { supervisor_.ReleaseSession(record_); }

  base::StatusOr<std::unique_ptr<Job>> Start(const Command& command, RunOptions options) override {
    HF_RETURN_IF_ERROR(Validate(command));
    if (options.limits.has_value()) {
      HF_RETURN_IF_ERROR(Validate(*options.limits));
      HF_RETURN_IF_ERROR(CheckWithin(*options.limits, record_.policy.limits));
    }
    HF_ASSIGN_OR_RETURN(JobRecord* const job, supervisor_.StartJob(record_, command, std::move(options)));
    return std::make_unique<JobHandle>(supervisor_, *job);
  }

  const Policy& policy() const override { return record_.policy; }
  LayerSet layers() const override { return record_.ready.layers; }
  base::StatusOr<base::Descriptor> OpenWorkspace() override { return supervisor_.OpenWorkspace(record_); }
  uint32_t host_uid() const override { return record_.ready.host_uid; }
  uint32_t host_gid() const override { return record_.ready.host_gid; }

 private:
  Supervisor& supervisor_;
  SessionRecord& record_;
};

class SandboxHandle final : public Sandbox {
 public:
  explicit SandboxHandle(std::unique_ptr<Supervisor> supervisor) : supervisor_(std::move(supervisor)) {}

  base::StatusOr<std::unique_ptr<Session>> Open(Policy policy) override {
    HF_ASSIGN_OR_RETURN(Policy clean, Normalise(std::move(policy)));
    HF_ASSIGN_OR_RETURN(SessionRecord* const session, supervisor_->OpenSession(std::move(clean)));
    return std::make_unique<SessionHandle>(*supervisor_, *session);
  }

  const HostFacts& host() const override { return supervisor_->host(); }
  const std::string& broker_path() const override { return supervisor_->broker_path(); }
  int broker_pid() const override { return supervisor_->broker_pid(); }

 private:
  const std::unique_ptr<Supervisor> supervisor_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Sandbox>> Sandbox::Start(SandboxOptions options) {
  HF_ASSIGN_OR_RETURN(std::unique_ptr<Supervisor> supervisor, Supervisor::Start(std::move(options)));
  return std::make_unique<SandboxHandle>(std::move(supervisor));
}

bool IsProtectedName(int directory, const std::string& name) {
  struct statx stat = {};
  return statx(directory, name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &stat) == 0 &&
         (stat.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

base::StatusOr<Outcome> Session::Run(const Command& command, RunOptions options) {
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<Job> job, Start(command, std::move(options)));
  while (true) {
    if (std::optional<Outcome> outcome = job->Wait(3'600'000)) return *std::move(outcome);
  }
}

}  // namespace holdfast::sandbox
