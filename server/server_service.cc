#include "server/server_service.h"

#include <unistd.h>

#include <mutex>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "server/backup.h"
#include "server/grpc_status.h"

namespace holdfast::server {
namespace {

constexpr int64_t kStopDeadlineMs = 30'000;
// The server does not start without them.
constexpr char kSandbox[] =
    "namespaces, seccomp and an own layer for each session; `holdfast doctor` tests them";
constexpr const char* kProfiles[] = {"default", "nano"};  // of tools/data
constexpr int64_t kStopDeadlineSecondsMax = 24 * 3600;

// Says how far a backup is whenever the client has read what was said before. Tell and End come from one
// thread; deletes itself.
class BackupCall final : public grpc::ServerWriteReactor<v1::BackupServerResponse> {
 public:
  // False: nobody listens any more.
  bool Tell(const BackupProgress& progress) {
    {
      const std::lock_guard lock(mutex_);
      if (gone_ || writing_) return !gone_;
      writing_ = true;
      Fill(progress);
    }
    StartWrite(&message_);
    return true;
  }

  // The last call of its caller's.
  void End(base::Status status, const BackupProgress& progress) {
    {
      const std::lock_guard lock(mutex_);
      ended_ = std::move(status);
      last_ = progress;
      if (writing_) return;
    }
    Close();
  }

  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      gone_ = gone_ || !ok;
      if (!ended_.has_value()) return;
    }
    Close();
  }
  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    gone_ = true;
  }
  void OnDone() override { delete this; }

 private:
  void Fill(const BackupProgress& progress) {
    message_.set_bytes_done(static_cast<int64_t>(progress.bytes_done));
    message_.set_bytes_total(static_cast<int64_t>(progress.bytes_total));
  }
  void Close() {
    if (!ended_->ok()) return Finish(ToGrpc(*ended_));
    Fill(last_);
    message_.set_ended(true);
    StartWriteAndFinish(&message_, {}, grpc::Status::OK);
  }

  std::mutex mutex_;
  bool writing_ = false;
  bool gone_ = false;
  std::optional<base::Status> ended_;
  BackupProgress last_;
  v1::BackupServerResponse message_;  // while it is written: gRPC's
};

}  // namespace

ServerService::ServerService(CallGate& gate, Runtime& runtime, ServerFacts facts,
                             std::function<void(int64_t)> stop)
    : gate_(gate), runtime_(runtime), facts_(std::move(facts)), stop_(std::move(stop)) {}

grpc::ServerUnaryReactor* ServerService::GetServerInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetServerInfoRequest*,
                                                       v1::GetServerInfoResponse* response) {
  return gate_.Unary(context, "GetServerInfo", [this, response](Finish finish) {
    response->set_version(facts_.version);
    response->mutable_start_time()->set_seconds(facts_.start_utc_ms / 1000);
    response->set_data_directory(facts_.data_directory);
    response->set_model_directory(facts_.model_directory);
    response->set_process_id(getpid());
    response->set_sessions_open(static_cast<int32_t>(runtime_.manager().open_sessions()));
    const sessions::SchedulerStats orders = runtime_.scheduler().stats();
    response->set_sessions_running(static_cast<int32_t>(orders.active + orders.waiting));
    response->set_watchers(static_cast<int32_t>(facts_.watchers()));
    response->set_sandbox(kSandbox);
    for (const char* profile : kProfiles) response->add_profiles(profile);
    finish({});
  });
}

grpc::ServerWriteReactor<v1::BackupServerResponse>* ServerService::BackupServer(
    grpc::CallbackServerContext*, const v1::BackupServerRequest* request) {
  auto* const call = new BackupCall;               // deletes itself
  auto last = std::make_shared<BackupProgress>();  // shared: by the two callbacks of the backup
  Finish finish([this, call, last, began_ns = base::RealClock().MonotonicNow().ns](base::Status status) {
    gate_.Report({.method = "BackupServer",
                  .status = status,
                  .took_ns = base::RealClock().MonotonicNow().ns - began_ns});
    call->End(std::move(status), *last);
  });
  if (base::Status admitted = gate_.Admit(); !admitted.ok()) {
    finish(std::move(admitted));
    return call;
  }
  StartBackup(
      {.executor = runtime_.executor(),
       .database = runtime_.database(),
       .blobs = facts_.data_directory + "/blobs"},
      request->directory(),
      [call, last](const BackupProgress& progress) {
        *last = progress;
        return call->Tell(progress);
      },
      [finish = std::move(finish)](base::Status status) mutable { finish(std::move(status)); });
  return call;
}

grpc::ServerUnaryReactor* ServerService::StopServer(grpc::CallbackServerContext* context,
                                                    const v1::StopServerRequest* request,
                                                    v1::StopServerResponse*) {
  return gate_.Unary(context, "StopServer", [this, request](Finish finish) {
    int64_t deadline_ms = kStopDeadlineMs;
    if (request->has_deadline()) {
      const int64_t seconds = request->deadline().seconds();
      if (seconds < 0 || seconds > kStopDeadlineSecondsMax) {
        return finish(WithField(base::InvalidArgument("deadline: 0 to 24 hours"), "deadline"));
      }
      deadline_ms = seconds * 1000 + request->deadline().nanos() / 1'000'000;
    }
    finish({});
    stop_(deadline_ms);
  });
}

}  // namespace holdfast::server
