#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/sandbox/guest.h"

namespace guest {
namespace {

constexpr size_t kMiB = 1 << 20;

size_t Number(const Arguments& arguments, size_t index, size_t otherwise) {
  return index < arguments.size() ? std::strtoull(arguments[index].c_str(), nullptr, 10) : otherwise;
}

[[noreturn]] void Forever() {
  while (true) pause();
}

// Forks without end, in every process it makes.
int ForkBomb(const Arguments&) {
  while (true) {
    if (fork() < 0) poll(nullptr, 0, 1);
  }
}

// Forks until refused, then says how often it could.
int CountForks(const Arguments&) {
  int forks = 0;
  while (true) {
    const pid_t child = fork();
    if (child < 0) break;
    if (child == 0) Forever();
    ++forks;
  }
  std::printf("forks=%d\nerror=%s\n", forks, strerrorname_np(errno));
  std::fflush(stdout);
  kill(0, SIGKILL);
  return 0;
}

void TakeMemory(size_t mib) {
  for (size_t i = 0; i < mib; ++i) {
    void* page = mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) break;
    std::memset(page, 1, kMiB);
  }
}

// memory-bomb [PROCESSES [MIB_EACH]]: allocates without end, or so much in each of several processes.
int MemoryBomb(const Arguments& arguments) {
  const size_t processes = Number(arguments, 0, 1);
  const size_t mib = Number(arguments, 1, 1 << 20);
  for (size_t i = 1; i < processes; ++i) {
    if (fork() == 0) break;
  }
  TakeMemory(mib);
  Forever();
}

// Memory that no process maps.
int MemfdBomb(const Arguments&) {
  std::vector<char> block(kMiB, 1);
  size_t written = 0;
  for (int files = 0; files < 1000; ++files) {
    const int fd = memfd_create("bomb", 0);
    if (fd < 0) {
      Report("memfd_create", -1);
      break;
    }
    for (int i = 0; i < 64; ++i) {
      if (write(fd, block.data(), block.size()) != static_cast<ssize_t>(block.size())) break;
      ++written;
    }
  }
  std::printf("mib=%zu\n", written);
  return 0;
}

int SharedMemoryBomb(const Arguments&) {
  size_t taken = 0;
  for (int i = 0; i < 4096; ++i) {
    const int id = shmget(IPC_PRIVATE, 64 * kMiB, 0600);
    if (id < 0) {
      Report("shmget", -1);
      break;
    }
    void* at = shmat(id, nullptr, 0);
    if (at == reinterpret_cast<void*>(-1)) break;
    std::memset(at, 1, 64 * kMiB);
    shmdt(at);
    taken += 64;
  }
  std::printf("mib=%zu\n", taken);
  return 0;
}

// fill PATH [FILES]: writes until refused.
int Fill(const Arguments& arguments) {
  std::vector<char> block(kMiB, 1);
  size_t written = 0;
  for (int file = 0;; ++file) {
    const int fd = open((arguments[0] + "/fill" + std::to_string(file)).c_str(), O_WRONLY | O_CREAT, 0600);
    if (fd < 0) {
      Report("open", -1);
      break;
    }
    ssize_t n = 0;
    for (int i = 0; i < 64 && (n = write(fd, block.data(), block.size())) > 0; ++i) ++written;
    close(fd);
    if (n <= 0) {
      Report("write", -1);
      break;
    }
  }
  std::printf("mib=%zu\n", written);
  return 0;
}

int FillInodes(const Arguments& arguments) {
  size_t made = 0;
  const size_t most = Number(arguments, 1, 10'000'000);
  for (; made < most; ++made) {
    const int fd = open((arguments[0] + "/i" + std::to_string(made)).c_str(), O_WRONLY | O_CREAT, 0600);
    if (fd < 0) {
      Report("open", -1);
      break;
    }
    close(fd);
  }
  std::printf("files=%zu\n", made);
  return 0;
}

// Hides what it writes in directories that it then closes to everybody.
int FillHidden(const Arguments& arguments) {
  const std::string directory = arguments[0] + "/hidden";
  mkdir(directory.c_str(), 0700);
  std::vector<char> block(kMiB, 1);
  const int fd = open((directory + "/file").c_str(), O_WRONLY | O_CREAT, 0600);
  chmod(directory.c_str(), 0);
  for (size_t i = 0; i < Number(arguments, 1, 100'000); ++i) {
    if (write(fd, block.data(), block.size()) <= 0) break;
  }
  Forever();
}

// flood BYTES: prints so much, in lines of 64.
int Flood(const Arguments& arguments) {
  const size_t bytes = Number(arguments, 0, 1);
  std::string block(64 * 1024, 'y');
  for (size_t i = 63; i < block.size(); i += 64) block[i] = '\n';
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = write(1, block.data(), std::min(block.size(), bytes - done));
    if (n <= 0) return 1;
    done += static_cast<size_t>(n);
  }
  return 0;
}

int Spin(const Arguments&) {
  for (volatile unsigned i = 0;;) i = i + 1;
}

int Sleep(const Arguments&) { Forever(); }

int IgnoreTerm(const Arguments&) {
  for (int signal = 1; signal < 32; ++signal) ::signal(signal, SIG_IGN);
  std::puts("ignoring");
  std::fflush(stdout);
  Forever();
}

int StopSelf(const Arguments&) {
  raise(SIGSTOP);
  Forever();
}

// A child that has left: in a session of its own, its parent gone, deaf to hang-ups, its streams kept.
// daemon KIND, where KIND is setsid, double-fork, nohup or vfork.
int Daemon(const Arguments& arguments) {
  const std::string kind = arguments.empty() ? "setsid" : arguments[0];
  if (fork() == 0) {
    if (kind != "nohup") setsid();
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    if (kind == "double-fork" && fork() != 0) _exit(0);
    if (kind == "vfork" && vfork() == 0) Forever();
    Forever();
  }
  std::puts("started");
  return 0;
}

int FileTooLarge(const Arguments& arguments) {
  const int fd = open(arguments[0].c_str(), O_WRONLY | O_CREAT, 0600);
  std::vector<char> block(kMiB, 1);
  while (write(fd, block.data(), block.size()) > 0) {
  }
  return 1;
}

// Prints exactly its standard input's bytes, and how many there were on standard error.
int Echo(const Arguments&) {
  char buffer[4096];
  size_t total = 0;
  ssize_t n;
  while ((n = read(0, buffer, sizeof(buffer))) > 0) {
    total += static_cast<size_t>(n);
    if (write(1, buffer, static_cast<size_t>(n)) != n) return 1;
  }
  std::fprintf(stderr, "bytes=%zu\n", total);
  return 0;
}

int OpenMany(const Arguments&) {
  int count = 0;
  while (dup(0) >= 0) ++count;
  std::printf("opened=%d\nerror=%s\n", count, strerrorname_np(errno));
  return 0;
}

}  // namespace

const std::vector<Attempt> kResourceAttempts = {
    {"fork-bomb", ForkBomb},
    {"count-forks", CountForks},
    {"memory-bomb", MemoryBomb},
    {"memfd-bomb", MemfdBomb},
    {"shared-memory-bomb", SharedMemoryBomb},
    {"fill", Fill},
    {"fill-inodes", FillInodes},
    {"fill-hidden", FillHidden},
    {"flood", Flood},
    {"spin", Spin},
    {"sleep", Sleep},
    {"ignore-term", IgnoreTerm},
    {"stop-self", StopSelf},
    {"daemon", Daemon},
    {"file-too-large", FileTooLarge},
    {"echo", Echo},
    {"open-many", OpenMany},
};

}  // namespace guest
