#include "base/faults.h"

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>

#include "base/check.h"

namespace holdfast::base {
namespace {

struct Arming {
  std::mutex mu;
  std::string kill_name;   // empty: none
  uint64_t hits_left = 0;  // until the kill
  FaultHandler handler = nullptr;
  void* context = nullptr;
};

Arming& TheArming() {
  static Arming& arming = *new Arming;
  return arming;
}

void SetHandler(FaultHandler handler, void* context) {
  Arming& arming = TheArming();
  const std::lock_guard<std::mutex> lock(arming.mu);
  HF_CHECK((arming.handler == nullptr) != (handler == nullptr));
  arming.handler = handler;
  arming.context = context;
  internal::fault_points_armed.store(handler != nullptr || !arming.kill_name.empty());
}

void KillThisProcess() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

}  // namespace

namespace internal {

constinit std::atomic<bool> fault_points_armed{false};

void HitFaultPoint(std::string_view name) {
  Arming& arming = TheArming();
  std::unique_lock<std::mutex> lock(arming.mu);
  if (name == arming.kill_name && --arming.hits_left == 0) KillThisProcess();
  const FaultHandler handler = arming.handler;
  void* const context = arming.context;
  lock.unlock();  // the handler may do what hits further points
  if (handler != nullptr) handler(context, name);
}

}  // namespace internal

Status ArmFaultPointFromEnvironment() {
  const char* const value = std::getenv(kFaultPointVariable);
  if (value == nullptr) return absl::OkStatus();
  const std::string_view text = value;
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  uint64_t hits = 1;
  if (colon != std::string_view::npos) {
    const char* const end = text.data() + text.size();
    const auto result = std::from_chars(text.data() + colon + 1, end, hits);
    if (result.ec != std::errc() || result.ptr != end) hits = 0;
  }
  if (name.empty() || hits == 0) {
    return InvalidArgument(std::string(kFaultPointVariable) + "=" + value + ": want name or name:N, N >= 1");
  }
  Arming& arming = TheArming();
  const std::lock_guard<std::mutex> lock(arming.mu);
  arming.kill_name = name;
  arming.hits_left = hits;
  internal::fault_points_armed.store(true);
  return absl::OkStatus();
}

ScopedFaultHandler::ScopedFaultHandler(FaultHandler handler, void* context) {
  HF_CHECK(handler != nullptr);
  SetHandler(handler, context);
}

ScopedFaultHandler::~ScopedFaultHandler() { SetHandler(nullptr, nullptr); }

}  // namespace holdfast::base
