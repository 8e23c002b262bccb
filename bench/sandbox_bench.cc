// What isolation costs: the time from asking for a command to having its result, medians side by side.
//
//   sandbox_bench --broker PATH [--rounds N] [--print-bwrap]
//
// The command is /bin/true. Cases take turns, so that noise of the machine falls on all of them:
//   spawn       posix_spawn and waitpid, no isolation
//   bwrap       bubblewrap with full isolation (--print-bwrap shows its command line), started by posix_spawn
//   fresh       a session made for the one command and ended after it, overlay workspace
//   fresh direct  the same, direct workspace
//   standing    a command in a session that is there already
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "sandbox/broker/filter.h"
#include "sandbox/sandbox.h"

namespace {

namespace base = holdfast::base;
namespace sb = holdfast::sandbox;

struct Case {
  const char* name;
  std::function<void()> run;
  std::vector<double> ms = {};

  double Quantile(double q) {
    std::sort(ms.begin(), ms.end());
    return ms[static_cast<size_t>(q * static_cast<double>(ms.size() - 1))];
  }
};

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "sandbox_bench: %s\n", why.c_str());
  std::exit(1);
}

void SpawnAndWait(const std::vector<std::string>& argv) {
  std::vector<char*> pointers;
  for (const std::string& argument : argv) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  char* environment[] = {nullptr};
  pid_t pid = -1;
  int status = 0;
  if (posix_spawn(&pid, pointers[0], nullptr, nullptr, pointers.data(), environment) != 0 ||
      waitpid(pid, &status, 0) != pid || status != 0) {
    Die("cannot run " + argv[0]);
  }
}

// The same filter as ours, in a file that bwrap reads to its end.
int FilterFile() {
  std::vector<sock_filter> program;
  if (!sb::BuildFilter({}, program).ok()) Die("cannot build the filter");
  const int fd = memfd_create("filter", 0);
  const size_t bytes = program.size() * sizeof(sock_filter);
  if (fd < 0 || write(fd, program.data(), bytes) != static_cast<ssize_t>(bytes)) Die("memfd");
  return fd;
}

std::vector<std::string> BwrapCommand(const std::string& tree, int filter) {
  return {"/usr/bin/bwrap",
          "--unshare-all",
          "--unshare-user",
          "--uid",
          "1000",
          "--gid",
          "1000",
          "--disable-userns",
          "--die-with-parent",
          "--new-session",
          "--hostname",
          "sandbox",
          "--cap-drop",
          "ALL",
          "--clearenv",
          "--setenv",
          "PATH",
          "/usr/bin:/bin",
          "--ro-bind",
          "/usr",
          "/usr",
          "--symlink",
          "usr/bin",
          "/bin",
          "--symlink",
          "usr/lib",
          "/lib",
          "--symlink",
          "usr/lib64",
          "/lib64",
          "--symlink",
          "usr/sbin",
          "/sbin",
          "--ro-bind",
          "/etc",
          "/etc",
          "--dev",
          "/dev",
          "--proc",
          "/proc",
          "--ro-bind",
          "/proc/sys",
          "/proc/sys",
          "--size",
          "536870912",
          "--tmpfs",
          "/tmp",
          "--size",
          "536870912",
          "--tmpfs",
          "/var/tmp",
          "--size",
          "67108864",
          "--tmpfs",
          "/agent",
          "--bind",
          tree,
          "/workspace",
          "--remount-ro",
          "/",
          "--chdir",
          "/workspace",
          "--seccomp",
          std::to_string(filter),
          "--",
          "/bin/true"};
}

sb::Policy PolicyFor(const std::string& scratch, sb::WorkspaceMode mode) {
  sb::Policy policy;
  policy.workspace.host = scratch + "/tree";
  policy.workspace.inside = "/workspace";
  policy.workspace.mode = mode;
  if (mode == sb::WorkspaceMode::kOverlay) policy.workspace.layer = scratch + "/layer";
  return policy;
}

void RunIn(sb::Session& session) {
  sb::Command command;
  command.argv = {"/bin/true"};
  const auto outcome = session.Run(command);
  if (!outcome.ok() || !outcome->ok()) Die("command: " + std::string(outcome.status().message()));
}

void RunFresh(sb::Sandbox& sandbox, const sb::Policy& policy) {
  const auto session = sandbox.Open(policy);
  if (!session.ok()) Die("session: " + std::string(session.status().message()));
  RunIn(**session);
}

struct Options {
  std::string broker;
  int rounds = 200;
  bool print_bwrap = false;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--broker") == 0 && i + 1 < argc) {
      options.broker = argv[++i];
    } else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
      options.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (std::strcmp(argv[i], "--print-bwrap") == 0) {
      options.print_bwrap = true;
    } else {
      Die("usage: sandbox_bench --broker PATH [--rounds N] [--print-bwrap]");
    }
  }
  return options;
}

void Measure(std::vector<Case>& cases, int rounds) {
  for (int round = -3; round < rounds; ++round) {  // the first three warm up
    for (Case& c : cases) {
      const int64_t start_ns = base::RealClock().MonotonicNow().ns;
      c.run();
      const int64_t took_ns = base::RealClock().MonotonicNow().ns - start_ns;
      if (round >= 0) c.ms.push_back(static_cast<double>(took_ns) / base::kNsPerMs);
    }
  }
}

int Bench(const Options& options, const std::string& scratch) {
  std::filesystem::create_directories(scratch + "/tree");
  const int filter = FilterFile();
  const std::vector<std::string> bwrap = BwrapCommand(scratch + "/tree", filter);
  if (options.print_bwrap) {
    for (const std::string& word : bwrap) std::printf("%s ", word.c_str());
    std::printf("\n");
  }
  auto sandbox = sb::Sandbox::Start({.broker_path = options.broker});
  if (!sandbox.ok()) Die(std::string(sandbox.status().message()));
  const sb::Policy overlay = PolicyFor(scratch, sb::WorkspaceMode::kOverlay);
  const sb::Policy direct = PolicyFor(scratch, sb::WorkspaceMode::kDirect);
  sb::Policy standing_policy = overlay;
  standing_policy.workspace.layer = scratch + "/standing";
  auto standing = (*sandbox)->Open(standing_policy);
  if (!standing.ok()) Die(std::string(standing.status().message()));
  std::vector<Case> cases = {{"spawn", [] { SpawnAndWait({"/bin/true"}); }},
                             {"fresh", [&] { RunFresh(**sandbox, overlay); }},
                             {"fresh direct", [&] { RunFresh(**sandbox, direct); }},
                             {"standing", [&] { RunIn(**standing); }}};
  if (access("/usr/bin/bwrap", X_OK) == 0) {
    cases.insert(cases.begin() + 1, {"bwrap", [&] {
                                       lseek(filter, 0, SEEK_SET);
                                       SpawnAndWait(bwrap);
                                     }});
  }
  Measure(cases, options.rounds);
  std::printf("%-14s %8s %8s %8s   (ms, %d rounds, %s)\n", "case", "median", "p10", "p90", options.rounds,
              (*sandbox)->host().root ? "root" : "ordinary user");
  double reference = 0;
  for (Case& c : cases) {
    std::printf("%-14s %8.2f %8.2f %8.2f", c.name, c.Quantile(0.5), c.Quantile(0.1), c.Quantile(0.9));
    if (std::strcmp(c.name, "bwrap") == 0) reference = c.Quantile(0.5);
    if (reference > 0) std::printf("   %3.0f %% of bwrap", 100 * c.Quantile(0.5) / reference);
    std::printf("\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  std::string scratch = (std::filesystem::temp_directory_path() / "hf-sandbox-bench-XXXXXX").string();
  if (mkdtemp(scratch.data()) == nullptr) Die("no scratch directory");
  const int result = Bench(options, scratch);
  // overlayfs leaves directories that nobody may read.
  for (const auto& entry : std::filesystem::recursive_directory_iterator(scratch)) {
    if (entry.is_directory()) std::filesystem::permissions(entry.path(), std::filesystem::perms::owner_all);
  }
  std::filesystem::remove_all(scratch);
  return result;
}
