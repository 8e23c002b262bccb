// A real tree, a real agent that does things to it in a real sandbox, and what comes of that: for tests of
// diff, apply and branch, as root and as an ordinary user.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "gtest/gtest.h"
#include "sandbox/sandbox.h"
#include "tests/workspace/change_testing.h"
#include "tests/workspace/workspace_testing.h"
#include "workspace/diff.h"
#include "workspace/manifest.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

class AgentTest : public testing::Test {
 protected:
  AgentTest() {
    auto started = sandbox::Sandbox::Start({.broker_path = HOLDFAST_SANDBOX_BROKER});
    HF_CHECK(started.ok());
    sandbox_ = *std::move(started);
    std::filesystem::create_directories(tree_path());
    std::filesystem::create_directories(state() + "/layer");
    OpenUser();
  }
  ~AgentTest() override { session_.reset(); }

  std::string tree_path() const { return scratch_.path() + "/tree"; }
  std::string state() const { return scratch_.path() + "/state"; }
  std::string file(std::string_view name) const { return tree_path() + "/" + std::string(name); }
  Tree& user() { return *user_; }

  void OpenUser() {
    auto opened = OpenTree(tree_path());
    HF_CHECK(opened.ok());
    user_ = *std::move(opened);
  }

  // What the user himself does, in his tree: no overlay, nothing protected.
  std::string AsUser(const std::string& script) {
    sandbox::Policy policy;
    policy.workspace = {
        .host = tree_path(), .inside = kInside, .mode = sandbox::WorkspaceMode::kDirect, .layer = {}};
    policy.protected_paths.clear();
    auto session = sandbox_->Open(std::move(policy));
    HF_CHECK(session.ok());
    return Run(**session, script);
  }

  // What the agent does, in its layer. Several calls go on in the same session.
  std::string AsAgent(const std::string& script) {
    if (session_ == nullptr) {
      base_ = Read(*user_);
      sandbox::Policy policy;
      policy.workspace = {.host = tree_path(),
                          .inside = kInside,
                          .mode = sandbox::WorkspaceMode::kOverlay,
                          .layer = state() + "/layer"};
      auto session = sandbox_->Open(std::move(policy));
      EXPECT_TRUE(session.ok()) << session.status();
      if (!session.ok()) return {};
      session_ = *std::move(session);
    }
    return Run(*session_, script);
  }

  // The layer against the tree.
  Diff Compare() {
    auto root = session_->OpenWorkspace();
    HF_CHECK(root.ok());
    auto merged =
        OpenTree(root->Release(), {.identity = TreeIdentity{session_->host_uid(), session_->host_gid()}});
    HF_CHECK(merged.ok());
    const World ours = Read(**merged);
    manifest_ = ManifestOf(base_, ours, blobs_);
    auto diff = DiffThreeWays(manifest_, *user_);
    HF_CHECK(diff.ok());
    return *std::move(diff);
  }

  // A repository with one commit: src/main.c, README, run.sh.
  void MakeRepository(const std::string& more = "") {
    AsUser(std::string(kGit) + R"sh(
git init -q -b main . && mkdir src && echo 'int main() {}' > src/main.c && echo hello > README
printf '#!/bin/sh\n' > run.sh && chmod +x run.sh
git add -A && git commit -q -m base
)sh" + more);
  }

  static constexpr char kInside[] = "/tree";
  // An identity, and no configuration of whoever runs the tests.
  static constexpr std::string_view kGit =
      "export HOME=/tmp GIT_AUTHOR_NAME=u GIT_AUTHOR_EMAIL=u@x GIT_COMMITTER_NAME=u GIT_COMMITTER_EMAIL=u@x\n"
      "git config --global safe.directory '*'\n";

  // Standard output; the test fails when the command does.
  static std::string Run(sandbox::Session& session, const std::string& script) {
    sandbox::Command command = sandbox::ShellCommand("set -e\n" + script);
    command.directory = kInside;
    command.error_stream = sandbox::ErrorStream::kSeparate;
    const auto outcome = session.Run(command);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    if (!outcome.ok()) return {};
    EXPECT_TRUE(outcome->ok()) << script << "\n"
                               << Describe(*outcome) << "\n"
                               << Render(outcome->error_output);
    return Render(outcome->output);
  }

  ScratchDirectory scratch_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<sandbox::Session> session_;
  std::unique_ptr<Tree> user_;
  Blobs blobs_;
  World base_;
  Manifest manifest_;
};

}  // namespace holdfast::workspace
