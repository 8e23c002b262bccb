#include "sandbox/client/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <cstring>

#include "base/file.h"

namespace holdfast::sandbox {
namespace {

constexpr char kName[] = "holdfast-sandbox";
constexpr int kChannel = 3;

// Owns the two option objects.
struct SpawnOptions {
  SpawnOptions() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnOptions() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnOptions(const SpawnOptions&) = delete;
  SpawnOptions& operator=(const SpawnOptions&) = delete;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

std::string OwnDirectory() {
  std::string path(4096, '\0');
  const ssize_t n = readlink("/proc/self/exe", path.data(), path.size());
  path.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return base::ParentDirectory(path);
}

}  // namespace

base::StatusOr<std::string> FindBroker(const std::string& wanted) {
  if (!wanted.empty()) {
    if (wanted[0] == '/') return wanted;
    return base::InvalidArgument("sandbox: broker_path `" + wanted + "` is not absolute");
  }
  const std::string own = OwnDirectory();
  const std::string beside = own + "/" + kName;
  const std::string installed = own + "/../libexec/holdfast/" + kName;
  for (const std::string& path : {beside, installed}) {
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return base::NotFound("sandbox: no " + std::string(kName) + " at " + beside + " or " + installed +
                        "; reinstall Holdfast, or build the target holdfast-sandbox");
}

base::StatusOr<pid_t> SpawnBroker(const std::string& path, const Descriptor& channel) {
  SpawnOptions options;
  posix_spawn_file_actions_addopen(&options.actions, 0, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_adddup2(&options.actions, 0, 1);
  posix_spawn_file_actions_adddup2(&options.actions, 0, 2);
  posix_spawn_file_actions_adddup2(&options.actions, channel.get(), kChannel);
  posix_spawn_file_actions_addclosefrom_np(&options.actions, kChannel + 1);
  posix_spawn_file_actions_addchdir_np(&options.actions, "/");
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&options.attributes, &all);
  posix_spawnattr_setsigmask(&options.attributes, &none);
  posix_spawnattr_setflags(&options.attributes,
                           POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
  std::string name = kName, mode = "broker";
  char* argv[] = {name.data(), mode.data(), nullptr};
  char* environment[] = {nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, path.c_str(), &options.actions, &options.attributes, argv, environment);
  if (error != 0) {
    return base::FailedPrecondition("sandbox: cannot start " + path + ": " + std::strerror(error) +
                                    "; it must be a program this user may run. Nothing was run.");
  }
  return pid;
}

}  // namespace holdfast::sandbox
