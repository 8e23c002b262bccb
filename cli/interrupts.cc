#include "cli/interrupts.h"

#include <atomic>
#include <csignal>

namespace holdfast::cli {
namespace {

std::atomic<int> count = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // may be used in a handler

}  // namespace

void CountInterrupts() {
  std::signal(SIGINT, [](int) { ++count; });
  std::signal(SIGTERM, [](int) { count += 2; });  // leaves at once
}

void StopCountingInterrupts() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

int Interrupts() { return count; }

}  // namespace holdfast::cli
