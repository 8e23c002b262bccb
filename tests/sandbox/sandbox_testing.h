// A session for a test, in a scratch directory of its own, and the guest program inside it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "sandbox/sandbox.h"

namespace holdfast::sandbox {

inline constexpr char kGuest[] = "/run/guest";  // where commands see it

// A directory that is removed with all in it, whatever a guest made of it.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string ReadFileText(const std::string& path);  // empty when absent
void WriteFileText(const std::string& path, std::string_view text);
bool Exists(const std::string& path);

// The paths of the programs under test.
std::string BrokerPath();
std::string GuestPath();

// Every test with a workspace runs in overlay and in direct mode.
class SandboxTest : public testing::TestWithParam<WorkspaceMode> {
 protected:
  SandboxTest();

  // A policy of the mode under test: workspace scratch/tree, layer scratch/layer, the guest at kGuest, limits
  // small enough for a test.
  Policy DefaultPolicy() const;
  bool overlay() const { return GetParam() == WorkspaceMode::kOverlay; }

  // Starts the broker and opens a session; later calls give the same one.
  Session& OpenSession() { return OpenSession(DefaultPolicy()); }
  Session& OpenSession(Policy policy);
  Sandbox& StartSandbox(SandboxOptions options = {});
  void CloseSession() { session_.reset(); }
  void StopSandbox() {
    session_.reset();
    sandbox_.reset();
  }

  // Runs to the end; the outcome must come (else the test fails, and an empty one is returned).
  Outcome Run(const Command& command, RunOptions options = {});
  Outcome Shell(std::string script, RunOptions options = {}) {
    return Run(ShellCommand(std::move(script)), std::move(options));
  }
  Outcome Guest(std::vector<std::string> arguments, RunOptions options = {});

  // Where what a command wrote to `name` in the workspace is on the host: in the layer, or in the tree.
  std::string Written(const std::string& name) const;
  std::string tree() const { return scratch_.path() + "/tree"; }
  const std::string& scratch() const { return scratch_.path(); }

 private:
  ScratchDirectory scratch_;
  std::unique_ptr<Sandbox> sandbox_;
  std::unique_ptr<Session> session_;
};

std::string ModeName(const testing::TestParamInfo<WorkspaceMode>& info);

// All of /proc on this machine: the ids of processes whose arguments hold `marker`, this one apart. The
// scratch directory is a marker that no other test has.
std::vector<int> ProcessesWith(std::string_view marker);

// Waits until `done` holds, at most `ms`.
bool Eventually(int ms, const std::function<bool()>& done);

}  // namespace holdfast::sandbox

#define INSTANTIATE_SANDBOX_TEST(suite)                                                  \
  INSTANTIATE_TEST_SUITE_P(, suite,                                                      \
                           testing::Values(::holdfast::sandbox::WorkspaceMode::kOverlay, \
                                           ::holdfast::sandbox::WorkspaceMode::kDirect), \
                           ::holdfast::sandbox::ModeName)
