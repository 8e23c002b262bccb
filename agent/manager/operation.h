// One thing asked of a session that is halted for it: answers once, and lets the session go on.
//
// Threads: control lane.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/manager/requests.h"
#include "agent/session_files.h"
#include "agent/session_worker.h"
#include "base/status.h"
#include "sessions/event.h"

namespace holdfast::agent::manager {

template <class T>
class Operation : public std::enable_shared_from_this<Operation<T>> {
 public:
  using Done = absl::AnyInvocable<void(base::StatusOr<T>)>;
  Operation(SessionWorker& worker, Request request, std::function<void()> finish, Done done)
      : worker_(worker), request_(std::move(request)), finish_(std::move(finish)), done_(std::move(done)) {}

  SessionWorker& worker() { return worker_; }
  const Request& request() const { return request_; }

  // The session goes on; this is no more.
  void End(base::StatusOr<T> result) {
    done_(std::move(result));
    finish_();
  }
  // The same, the answer being given later by whoever takes it.
  Done LetGo() {
    finish_();
    return std::move(done_);
  }

  // `use` with the files; without any it ends here.
  void WithFiles(std::function<void(SessionFiles&)> use) {
    worker_.WithFiles(
        [self = this->shared_from_this(), use = std::move(use)](base::StatusOr<SessionFiles*> files) {
          if (!files.ok()) return self->End(files.status());
          if (*files == nullptr) return self->End(base::FailedPrecondition("the session has no workspace"));
          use(**files);
        });
  }

  // Puts on record what was done, and that the request was; `then` with the number of the last event. When
  // there is nothing to be put on record, of the last that is.
  void Record(std::vector<sessions::EventBody> bodies, std::function<void(uint64_t)> then) {
    Conclude(request_, bodies);
    if (bodies.empty()) return then(worker_.facts().last_seq());
    worker_.Add(std::move(bodies), [self = this->shared_from_this(),
                                    then = std::move(then)](const base::StatusOr<uint64_t>& seq) {
      seq.ok() ? then(*seq) : self->End(seq.status());
    });
  }

 private:
  SessionWorker& worker_;
  const Request request_;
  const std::function<void()> finish_;
  Done done_;
};

}  // namespace holdfast::agent::manager
