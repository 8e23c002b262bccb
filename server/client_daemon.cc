#include "server/client_daemon.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <climits>

#include "base/clock.h"
#include "base/errno.h"
#include "base/file.h"
#include "holdfast/v1/server_service.pb.h"

extern char** environ;

namespace holdfast::server {
namespace {

using base::Status;
using base::StatusOr;

constexpr int64_t kTryMs = 200;
constexpr int64_t kTellMs = 500;
constexpr uint64_t kLogEndBytes = 4096;
constexpr int64_t kOtherDaemonMs = 60'000;  // for one that was started by somebody else at the same time

uint64_t SizeOf(const std::string& path) {
  const auto stat = base::RealFileSystem().Stat(path);
  return stat.ok() ? stat->size_bytes : 0;
}

// What was written behind `from`, at most the last 4 KiB of it.
std::string LogFrom(const std::string& path, uint64_t from) {
  const auto file = base::RealFileSystem().Open(path, base::OpenMode::kRead);
  const uint64_t size = SizeOf(path);
  if (!file.ok() || size <= from) return {};
  if (size - from > kLogEndBytes) from = size - kLogEndBytes;
  std::string text(size - from, '\0');
  const auto got = (*file)->ReadAt(from, std::as_writable_bytes(std::span(text)));
  text.resize(got.value_or(0));
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

StatusOr<pid_t> Spawn(const DaemonStart& start) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, start.log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                   0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  // Not in the way of whoever unmounts or removes the directory it was started from.
  posix_spawn_file_actions_addchdir_np(&actions, "/");
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::vector<std::string> words = {start.program};
  words.insert(words.end(), start.arguments.begin(), start.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, start.program.c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return base::ErrnoStatus(error, start.program);
  return pid;
}

// Not only that something listens: it answers.
StatusOr<std::unique_ptr<Client>> TryConnect(const ClientOptions& options, int64_t wait_ms) {
  ClientOptions once = options;
  once.connect_ms = wait_ms;
  HF_ASSIGN_OR_RETURN(auto client, Client::Connect(std::move(once)));
  HF_RETURN_IF_ERROR(client->Call(v1::GetServerInfoRequest()).status());
  return client;
}

std::string LastLine(const std::string& text) { return text.substr(text.rfind('\n') + 1); }

}  // namespace

StatusOr<std::string> OwnProgram() {
  std::array<char, PATH_MAX> path;
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size());
  if (size < 0) return base::ErrnoStatus(errno, "/proc/self/exe");
  return std::string(path.data(), static_cast<size_t>(size));
}

StatusOr<std::unique_ptr<Client>> StartDaemon(DaemonStart start) {
  const uint64_t log_from = SizeOf(start.log);
  HF_ASSIGN_OR_RETURN(const pid_t pid, Spawn(start));
  const int64_t begun = base::RealClock().MonotonicNow().ns;
  int64_t told_ms = 0, ended_ms = -1;
  for (;;) {
    auto client = TryConnect(start.client, kTryMs);
    if (client.ok() || absl::IsCancelled(client.status())) return client;
    if (!absl::IsUnavailable(client.status())) return client.status();
    const int64_t waited_ms = (base::RealClock().MonotonicNow().ns - begun) / base::kNsPerMs;
    int status = 0;
    if (ended_ms < 0 && waitpid(pid, &status, WNOHANG) == pid) ended_ms = waited_ms;
    const std::string log = LogFrom(start.log, log_from);
    const bool other = log.find("in use") != std::string::npos || log.find("held by") != std::string::npos;
    if (ended_ms >= 0 && (!other || waited_ms - ended_ms > kOtherDaemonMs)) {
      return base::FailedPrecondition("the daemon did not start: " + (log.empty() ? "it said nothing" : log));
    }
    if (start.on_wait && waited_ms - told_ms >= kTellMs) {
      told_ms = waited_ms;
      start.on_wait(waited_ms, LastLine(log));
    }
  }
}

}  // namespace holdfast::server
