#include "server/session_waiters.h"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "server/session_proto.h"

namespace holdfast::server {
namespace {

constexpr size_t kWaitersMax = 4096;
constexpr int64_t kLookNs = base::kNsPerSecond;

}  // namespace

void SessionWaiters::Wait(std::string session, int64_t timeout_ms, absl::AnyInvocable<bool()> gone,
                          Answer answer) {
  if (!closed_.ok()) return answer(closed_);
  if (waiters_.size() >= kWaitersMax) {
    return answer(base::ResourceExhausted(std::to_string(kWaitersMax) + " calls wait already"));
  }
  const uint64_t id = next_id_++;
  waiters_[id] = {.session = std::move(session),
                  .due_ns = clock_.MonotonicNow().ns + timeout_ms * base::kNsPerMs,
                  .gone = std::move(gone),
                  .answer = std::move(answer)};
  Look(id);
  Arm(id);
}

void SessionWaiters::OnEvent(const std::string& session, const sessions::Event& event) {
  if (!std::holds_alternative<sessions::StateChanged>(event.body)) return;
  for (const auto& [id, waiter] : waiters_) {
    if (waiter.session == session) Look(id);
  }
}

void SessionWaiters::Close(base::Status status) {
  closed_ = std::move(status);
  while (!waiters_.empty()) End(waiters_.begin()->first, closed_);
}

void SessionWaiters::Look(uint64_t id) {
  store_.Get(waiters_.at(id).session, [this, id](const base::StatusOr<sessions::SessionRow>& row) {
    if (!waiters_.contains(id)) return;
    if (!row.ok()) return End(id, row.status());
    if (Rests(*row)) End(id, true);
  });
}

void SessionWaiters::Arm(uint64_t id) {
  const int64_t due_ns = std::min(waiters_.at(id).due_ns, clock_.MonotonicNow().ns + kLookNs);
  auto timer = executor_.PostAt({due_ns}, [this, id] {
    const auto found = waiters_.find(id);
    if (found == waiters_.end()) return;
    if (clock_.MonotonicNow().ns >= found->second.due_ns || found->second.gone()) return End(id, false);
    Arm(id);
  });
  if (!timer.ok()) End(id, timer.status());
}

void SessionWaiters::End(uint64_t id, base::StatusOr<bool> at_rest) {
  const auto found = waiters_.find(id);
  Answer answer = std::move(found->second.answer);
  waiters_.erase(found);
  answer(std::move(at_rest));
}

}  // namespace holdfast::server
