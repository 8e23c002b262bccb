#include "tests/sandbox/sandbox_testing.h"

#include <dirent.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <utility>

#include "base/clock.h"

namespace holdfast::sandbox {

ScratchDirectory::ScratchDirectory() {
  const char* root = std::getenv("TMPDIR");
  path_ = std::string(root != nullptr && access(root, W_OK) == 0 ? root : "/tmp") + "/hf-sandbox-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) std::abort();
}

ScratchDirectory::~ScratchDirectory() {
  // A guest may have made directories that even their owner cannot read.
  std::error_code error;
  for (int attempt = 0; attempt < 2; ++attempt) {
    using std::filesystem::recursive_directory_iterator;
    const auto skip = std::filesystem::directory_options::skip_permission_denied;
    std::filesystem::remove_all(path_, error);
    if (!error) return;
    for (auto it = recursive_directory_iterator(path_, skip, error);
         !error && it != recursive_directory_iterator(); it.increment(error)) {
      if (it->is_directory(error) && !it->is_symlink(error)) chmod(it->path().c_str(), 0700);
    }
  }
}

std::string ReadFileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteFileText(const std::string& path, std::string_view text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream file(path, std::ios::binary);
  file << text;
}

bool Exists(const std::string& path) {
  struct stat stat;
  return lstat(path.c_str(), &stat) == 0;
}

std::string BrokerPath() { return HOLDFAST_SANDBOX_BROKER; }
std::string GuestPath() { return HOLDFAST_SANDBOX_GUEST; }

SandboxTest::SandboxTest() { std::filesystem::create_directories(tree()); }

Policy SandboxTest::DefaultPolicy() const {
  Policy policy;
  policy.workspace.host = tree();
  policy.workspace.inside = "/workspace";
  policy.workspace.mode = GetParam();
  if (overlay()) policy.workspace.layer = scratch() + "/layer";
  policy.mounts.push_back({.host = GuestPath(), .inside = kGuest});
  policy.limits.wall_ms = 20'000;
  policy.limits.memory_bytes = 512 * kMiB;
  policy.limits.kill_grace_ms = 100;
  policy.tmp_bytes = 32 * kMiB;
  policy.tmp_inodes = 2000;
  policy.setup_ms_max = 10'000;  // a machine busy with other tests
  return policy;
}

Sandbox& SandboxTest::StartSandbox(SandboxOptions options) {
  if (sandbox_ == nullptr) {
    options.broker_path = BrokerPath();
    auto sandbox = Sandbox::Start(std::move(options));
    if (!sandbox.ok()) {
      ADD_FAILURE() << sandbox.status();
      std::abort();
    }
    sandbox_ = *std::move(sandbox);
  }
  return *sandbox_;
}

Session& SandboxTest::OpenSession(Policy policy) {
  if (session_ == nullptr) {
    auto session = StartSandbox().Open(std::move(policy));
    if (!session.ok()) {
      ADD_FAILURE() << session.status();
      std::abort();
    }
    session_ = *std::move(session);
  }
  return *session_;
}

Outcome SandboxTest::Run(const Command& command, RunOptions options) {
  auto outcome = OpenSession().Run(command, std::move(options));
  EXPECT_TRUE(outcome.ok()) << outcome.status();
  return outcome.ok() ? *std::move(outcome) : Outcome();
}

Outcome SandboxTest::Guest(std::vector<std::string> arguments, RunOptions options) {
  Command command;
  command.argv = std::move(arguments);
  command.argv.insert(command.argv.begin(), kGuest);
  return Run(command, std::move(options));
}

std::string SandboxTest::Written(const std::string& name) const {
  return (overlay() ? scratch() + "/layer/upper/" : tree() + "/") + name;
}

std::string ModeName(const testing::TestParamInfo<WorkspaceMode>& info) {
  return info.param == WorkspaceMode::kOverlay ? "Overlay" : "Direct";
}

std::vector<int> ProcessesWith(std::string_view marker) {
  std::vector<int> pids;
  DIR* proc = opendir("/proc");
  while (const dirent* entry = readdir(proc)) {
    const int pid = std::atoi(entry->d_name);
    if (pid <= 0 || pid == getpid()) continue;
    const std::string arguments = ReadFileText("/proc/" + std::to_string(pid) + "/cmdline");
    if (arguments.find(marker) != std::string::npos) pids.push_back(pid);
  }
  closedir(proc);
  return pids;
}

bool Eventually(int ms, const std::function<bool()>& done) {
  const int64_t end = base::RealClock().MonotonicNow().ns + int64_t{ms} * base::kNsPerMs;
  while (!done()) {
    if (base::RealClock().MonotonicNow().ns > end) return false;
    poll(nullptr, 0, 5);
  }
  return true;
}

}  // namespace holdfast::sandbox
