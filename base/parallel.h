// Parallel loops for compute kernels: a fixed set of threads and a barrier that costs about a microsecond.
//
//   ThreadPool pool(PhysicalCoreCount());
//   pool.ParallelFor(rows, [&](size_t row, int thread) { y[row] = Dot(w.row(row), x, scratch[thread]); });
//
// Which thread runs which task is not determined: a result must depend on `task` alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace holdfast::base {

enum class Pinning {
  kNone,
  kPhysicalCores,  // worker i stays on the i-th physical core, as far as there are; the caller is left alone
};

// Used by one caller at a time, from any thread; a second caller, or a task that calls ParallelFor on its own
// pool, is a programmer's error (CHECK).
class ThreadPool {
 public:
  // `threads` >= 1 counts the caller, so 1 starts no thread and runs every loop in place. Pinning that the
  // kernel refuses is done without.
  explicit ThreadPool(int threads, Pinning pinning = Pinning::kNone);

  // Joins the workers. No ParallelFor may be running.
  ~ThreadPool();

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(size_t task, int thread) once for each task in [0, tasks), tasks < 2^32, and returns when all are
  // done; `thread` is in [0, threads()), 0 is the caller, and is nobody else's meanwhile. Tasks are handed
  // out in ascending order to whoever is free. What was written before the call is visible to the tasks, what
  // they wrote is visible after it. `f` must not throw. Allocates nothing. Cost: two atomic operations a task
  // and, while the workers are awake (they spin for some 100 us after a loop), about a microsecond a loop;
  // some more to wake them. Give it 1 to 4 tasks a thread, of at least 2 us each.
  template <class F>
  void ParallelFor(size_t tasks, F&& f) {
    using Fn = std::remove_reference_t<F>;
    const auto call = [](void* context, size_t task, int thread) {
      (*static_cast<Fn*>(context))(task, thread);
    };
    Run({tasks, call, const_cast<void*>(static_cast<const void*>(std::addressof(f)))});
  }

 private:
  using Call = void (*)(void* context, size_t task, int thread);
  struct Loop {
    size_t tasks;
    Call call;
    void* context;
  };

  void Run(const Loop& loop);
  void Publish(const Loop& loop);
  uint32_t RunTasks(int thread);
  void WaitForAllTasks();
  void WorkerMain(int thread, int cpu);
  bool WaitForTasks();
  void FinishTasks(uint32_t count);
  bool HasTasks() const;
  void WakeWorkers();

  // Constant after construction.
  int spins_;
  std::vector<std::thread> workers_;

  // The running loop. `state_` is (loop number << 32 | tasks not handed out); the rest is written while no
  // task of any loop is left and read before a task is claimed by compare-and-swap on `state_`: the swap
  // succeeds only while that loop still runs, which proves that what was read belongs to it.
  alignas(64) std::atomic<uint64_t> state_{0};
  std::atomic<uint32_t> tasks_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};

  alignas(64) std::atomic<uint32_t> unfinished_{0};  // tasks of the running loop that have not returned
  std::atomic<bool> caller_parked_{false};
  std::atomic<bool> busy_{false};

  // Parking, for those who have spun in vain.
  alignas(64) std::atomic<int> parked_workers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mu_;  // held around every park and wake-up; guards no data
  std::condition_variable tasks_ready_;
  std::condition_variable all_done_;
};

}  // namespace holdfast::base
