#include "base/mapping_faults.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

#include "base/check.h"

namespace holdfast::base {

// One entry of the registry. The handler reads it while others write: a version that is odd, or that has
// changed, marks a range that must not be believed. The range of a fault never changes meanwhile, because
// nobody may end a watch under a reader; so what the handler cannot believe is not what it looks for.
struct WatchedMapping {
  std::atomic<uint32_t> version{0};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};  // 0: free
  std::atomic<uint32_t> faults{0};
  WatchedMapping* next_free = nullptr;  // guarded by the registry's lock
};

namespace {

// The registry grows by chunks that stay for ever, so that the handler can walk it at any moment.
struct Chunk {
  static constexpr size_t kEntries = 128;
  WatchedMapping entries[kEntries];
  Chunk* next = nullptr;  // constant once the chunk is reachable
};

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free &&
              std::atomic<Chunk*>::is_always_lock_free);

// What the handler reads.
std::atomic<uint64_t> fault_count{0};
std::atomic<Chunk*> chunks{nullptr};
uintptr_t page_bytes = 0;  // constant after Install, as the next
struct sigaction previous = {};

// Whether [begin, end) of the entry holds the address, read as a whole.
bool Holds(const WatchedMapping& entry, uintptr_t address, uintptr_t& begin, uintptr_t& end) {
  const uint32_t version = entry.version.load();
  begin = entry.begin.load();
  end = entry.end.load();
  return version % 2 == 0 && entry.version.load() == version && begin <= address && address < end;
}

// mmap by its number: sanitizers wrap the function, and their wrappers are no code for a signal handler.
bool ReplaceByZeros(uintptr_t begin, uintptr_t bytes) {
  return syscall(SYS_mmap, begin, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                 -1, 0) == static_cast<long>(begin);
}

// False when the address is in no watched mapping, or nothing can be put in its place.
bool Repair(uintptr_t address) {
  for (Chunk* chunk = chunks.load(); chunk != nullptr; chunk = chunk->next) {
    for (WatchedMapping& entry : chunk->entries) {
      uintptr_t begin = 0;
      uintptr_t end = 0;
      if (!Holds(entry, address, begin, end)) continue;
      // The whole is tried too when the page fails: a mapping that cannot be split can still be replaced.
      const bool page_wise = entry.faults.fetch_add(1) < kMappingFaultsMax;
      fault_count.fetch_add(1);
      return (page_wise && ReplaceByZeros(address / page_bytes * page_bytes, page_bytes)) ||
             ReplaceByZeros(begin, end - begin);
    }
  }
  return false;
}

// As if our handler were not there.
void PassOn(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
    return;
  }
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
    return;
  }
  const bool sent = info->si_code <= 0;  // by kill or raise, not by a read
  if (sent && previous.sa_handler == SIG_IGN) return;
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  sigaction(SIGBUS, &standard, nullptr);
  if (sent) raise(SIGBUS);  // else the read is made again on return, and ends the process where it stands
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool of_memory = info->si_code > 0;
  if (!of_memory || !Repair(reinterpret_cast<uintptr_t>(info->si_addr))) PassOn(signal, info, context);
  errno = saved_errno;
}

void Install() {
  page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  // The old one is read first: a fault may come as soon as ours is in place.
  HF_CHECK(sigaction(SIGBUS, nullptr, &previous) == 0);
  HF_CHECK(sigaction(SIGBUS, &action, nullptr) == 0);
}

std::mutex mu;  // guards what follows, and who may write entries and chunks
WatchedMapping* free_entries = nullptr;
bool installed = false;

void AddChunk() {
  auto* const chunk = new Chunk;
  for (WatchedMapping& entry : chunk->entries) {
    entry.next_free = free_entries;
    free_entries = &entry;
  }
  chunk->next = chunks.load();
  chunks.store(chunk);
}

void SetRange(WatchedMapping& entry, uintptr_t begin, uintptr_t end) {
  entry.version.fetch_add(1);
  entry.begin.store(begin);
  entry.end.store(end);
  entry.version.fetch_add(1);
}

WatchedMapping* AddMapping(std::span<const std::byte> memory) {
  if (memory.empty()) return nullptr;
  const std::lock_guard<std::mutex> lock(mu);
  if (!installed) Install();
  installed = true;
  if (free_entries == nullptr) AddChunk();
  WatchedMapping* const entry = free_entries;
  free_entries = entry->next_free;
  entry->faults.store(0);
  // To the end of the last page: what mmap returned is whole pages.
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  HF_CHECK(begin % page_bytes == 0);
  SetRange(*entry, begin, (begin + memory.size() + page_bytes - 1) / page_bytes * page_bytes);
  return entry;
}

}  // namespace

uint64_t MappingFaultCount() { return fault_count.load(); }

MappingWatch::MappingWatch(std::span<const std::byte> memory) : mapping_(AddMapping(memory)) {}

MappingWatch::~MappingWatch() {
  if (mapping_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(mu);
  SetRange(*mapping_, 0, 0);
  mapping_->next_free = free_entries;
  free_entries = mapping_;
}

bool MappingWatch::damaged() const { return mapping_ != nullptr && mapping_->faults.load() > 0; }

}  // namespace holdfast::base
