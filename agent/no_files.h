// For a session without a workspace: there is nothing to store, to go back to or to take over.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "agent/session_files.h"
#include "base/clock.h"
#include "base/executor.h"

namespace holdfast::agent {

class NoFiles final : public SessionFiles {
 public:
  NoFiles(base::Executor& executor, base::Clock& clock) : executor_(executor), clock_(clock) {}

  base::Sha256Digest current() const override { return {}; }
  void Checkpoint(Checked done) override { Answer(std::move(done), base::Sha256Digest{}); }
  tools::ToolContext context() override { return {.executor = &executor_, .clock = &clock_}; }
  const std::optional<base::Sha256Digest>& found() const override { return found_; }
  void Restore(std::optional<base::Sha256Digest> /*manifest*/, Ended done) override {
    Answer(std::move(done), base::Status());
  }
  void RunCheck(const GoalCheck& /*check*/,
                absl::AnyInvocable<void(base::StatusOr<CheckRan>)> done) override {
    Answer(std::move(done), base::StatusOr<CheckRan>(None()));
  }
  void Fork(std::optional<base::Sha256Digest> /*manifest*/, std::string /*directory*/, Ended done) override {
    Answer(std::move(done), base::Status());
  }
  void Apply(ApplyRequest /*request*/, absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) override {
    Answer(std::move(done), base::StatusOr<FilesReport>(None()));
  }
  void Diff(DiffRequest /*request*/, absl::AnyInvocable<void(base::StatusOr<FilesDiff>)> done) override {
    Answer(std::move(done), base::StatusOr<FilesDiff>(None()));
  }
  void ChangesUnderneath(absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) override {
    Answer(std::move(done), base::StatusOr<FilesReport>(FilesReport{}));
  }
  void Close(Ended done) override { Answer(std::move(done), base::Status()); }

 private:
  static base::Status None() { return base::FailedPrecondition("the session has no workspace"); }
  template <class Done, class T>
  void Answer(Done done, T value) {
    executor_.PostResult(base::Lane::kControl, [done = std::move(done), value = std::move(value)]() mutable {
      done(std::move(value));
    });
  }

  base::Executor& executor_;
  base::Clock& clock_;
  std::optional<base::Sha256Digest> found_;
};

}  // namespace holdfast::agent
