#include "base/parallel.h"

#include <limits>

#include "base/check.h"
#include "base/process.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace holdfast::base {
namespace {

// 30 to 100 us: a pause takes 40 to 140 cycles on current x86.
constexpr int kSpins = 1500;

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

// Whether `done` became true within `spins` looks.
template <class F>
bool Spin(int spins, F&& done) {
  for (int i = 0; i < spins; ++i) {
    if (done()) return true;
    Pause();
  }
  return done();
}

constexpr uint64_t State(uint64_t loop, uint32_t tasks_left) { return loop << 32 | tasks_left; }
constexpr uint64_t LoopOf(uint64_t state) { return state >> 32; }
constexpr uint32_t TasksLeft(uint64_t state) { return static_cast<uint32_t>(state); }

}  // namespace

ThreadPool::ThreadPool(int threads, Pinning pinning) {
  HF_CHECK(threads >= 1);
  const std::vector<int> allowed = AllowedCpus();
  // More threads than CPUs: a spinning thread would keep the one it waits for from running.
  spins_ = threads <= static_cast<int>(allowed.size()) ? kSpins : 0;
  std::vector<int> cores;
  if (pinning == Pinning::kPhysicalCores) cores = PhysicalCores(allowed);
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) {
    const int cpu = i < static_cast<int>(cores.size()) ? cores[static_cast<size_t>(i)] : -1;
    workers_.emplace_back([this, i, cpu] { WorkerMain(i, cpu); });
  }
}

ThreadPool::~ThreadPool() {
  HF_CHECK(!busy_.load());
  stop_.store(true);
  WakeWorkers();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(const Loop& loop) {
  HF_CHECK(loop.tasks <= std::numeric_limits<uint32_t>::max());
  HF_CHECK(!busy_.exchange(true, std::memory_order_acquire));
  if (workers_.empty() || loop.tasks <= 1) {
    for (size_t task = 0; task < loop.tasks; ++task) loop.call(loop.context, task, 0);
  } else {
    Publish(loop);
    FinishTasks(RunTasks(0));
    WaitForAllTasks();
  }
  busy_.store(false, std::memory_order_release);
}

void ThreadPool::Publish(const Loop& loop) {
  const auto tasks = static_cast<uint32_t>(loop.tasks);
  tasks_.store(tasks, std::memory_order_relaxed);
  call_.store(loop.call, std::memory_order_relaxed);
  context_.store(loop.context, std::memory_order_relaxed);
  unfinished_.store(tasks, std::memory_order_relaxed);
  state_.store(State(LoopOf(state_.load(std::memory_order_relaxed)) + 1, tasks));
  // Sequentially consistent with WaitForTasks: either we see it parked, or it sees our tasks.
  if (parked_workers_.load() > 0) WakeWorkers();
}

// Runs tasks until none is left to hand out; returns how many.
uint32_t ThreadPool::RunTasks(int thread) {
  uint32_t count = 0;
  uint64_t state = state_.load(std::memory_order_acquire);
  while (TasksLeft(state) > 0) {
    const uint32_t tasks = tasks_.load(std::memory_order_relaxed);
    const Call call = call_.load(std::memory_order_relaxed);
    void* const context = context_.load(std::memory_order_relaxed);
    if (!state_.compare_exchange_weak(state, state - 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
      continue;
    }
    call(context, tasks - TasksLeft(state), thread);
    ++count;
    state = state_.load(std::memory_order_acquire);
  }
  return count;
}

void ThreadPool::FinishTasks(uint32_t count) {
  if (count == 0 || unfinished_.fetch_sub(count) != count) return;
  if (!caller_parked_.load()) return;
  const std::lock_guard<std::mutex> lock(mu_);
  all_done_.notify_one();
}

void ThreadPool::WaitForAllTasks() {
  const auto done = [this] { return unfinished_.load() == 0; };
  if (Spin(spins_, done)) return;
  std::unique_lock<std::mutex> lock(mu_);
  caller_parked_.store(true);
  all_done_.wait(lock, done);
  caller_parked_.store(false);
}

void ThreadPool::WorkerMain(int thread, int cpu) {
  if (cpu >= 0) PinThisThread(cpu).IgnoreError();
  while (WaitForTasks()) FinishTasks(RunTasks(thread));
}

bool ThreadPool::HasTasks() const { return TasksLeft(state_.load()) > 0; }

// False when the pool is going down.
bool ThreadPool::WaitForTasks() {
  const auto ready = [this] { return HasTasks() || stop_.load(); };
  if (!Spin(spins_, ready)) {
    std::unique_lock<std::mutex> lock(mu_);
    parked_workers_.fetch_add(1);
    tasks_ready_.wait(lock, ready);
    parked_workers_.fetch_sub(1);
  }
  return !stop_.load();
}

void ThreadPool::WakeWorkers() {
  const std::lock_guard<std::mutex> lock(mu_);
  tasks_ready_.notify_all();
}

}  // namespace holdfast::base
