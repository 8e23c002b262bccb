#include "workspace/apply/commit.h"

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr size_t kCopyBytes = 256 << 10;
constexpr uint32_t kStagingMode = 0700;

bool IsDirectory(const Version& version) { return version.kind == VersionKind::kDirectory; }

// Of one path the worst counts.
void Add(std::map<std::string, ApplyItem, PathLess>& items, const std::string& path, ApplyFate fate,
         std::string note) {
  auto [item, fresh] = items.try_emplace(path, ApplyItem{path, fate, note});
  if (!fresh && item->second.fate == ApplyFate::kApplied) item->second = {path, fate, std::move(note)};
}

// A file that makes room for a directory, or the other way round, and has done so.
bool GaveRoom(const ApplyStep& step, const Version& now) {
  return step.result.kind != VersionKind::kAbsent && IsDirectory(step.expected) != IsDirectory(step.result) &&
         IsDirectory(now) == IsDirectory(step.result);
}

}  // namespace

std::string Committer::StagedPath(const ApplyStep& step) const {
  return staging_ + "/" + std::to_string(step.staged);
}

base::Status Committer::StageFile(const std::string& path, const Version& version) {
  HF_ASSIGN_OR_RETURN(memory::BlobReader blob, blobs_.OpenBlob(*version.content));
  HF_ASSIGN_OR_RETURN(const auto file, user_.CreateFile(path, version.mode));
  std::vector<std::byte> buffer(kCopyBytes);
  for (uint64_t at = 0; at < blob.size();) {
    HF_ASSIGN_OR_RETURN(const size_t n, blob.ReadAt(at, buffer));
    HF_RETURN_IF_ERROR(file->WriteAt(at, std::span(buffer).first(n)));
    at += n;
    if (n == 0) return base::DataLoss(path + ": its content ends early");
  }
  return sync_all_ ? base::Status() : file->Sync();
}

base::Status Committer::SyncStaging() {
  if (sync_all_) return user_.SyncAll();
  HF_RETURN_IF_ERROR(user_.SyncDirectory(staging_));
  return user_.SyncDirectory("");
}

base::Status Committer::Stage(const ApplyStep& step) {
  const std::string path = StagedPath(step);
  if (step.result.kind == VersionKind::kSymlink) return user_.MakeLink(path, step.result.target);
  return base::Annotate(StageFile(path, step.result), "new content of " + step.path);
}

base::Status Committer::StageAll(const std::vector<ApplyStep>& steps) {
  sync_all_ = steps.size() >= sync_all_from_;
  HF_RETURN_IF_ERROR(user_.MakeDirectory(staging_, kStagingMode));
  for (const ApplyStep& step : steps) {
    if (step.kind == ApplyStepKind::kPut) HF_RETURN_IF_ERROR(Stage(step));
  }
  return SyncStaging();
}

base::Status Committer::StageMissing(const std::vector<ApplyStep>& steps) {
  sync_all_ = steps.size() >= sync_all_from_;
  const base::Status made = user_.MakeDirectory(staging_, kStagingMode);
  if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
  for (const ApplyStep& step : steps) {
    if (step.kind != ApplyStepKind::kPut) continue;
    std::string note;
    // Where it cannot be told yet (it lies under what still has to make room), it is wanted too.
    if (Look(step, note) == State::kDone) continue;
    const auto staged = ReadVersion(user_, StagedPath(step));
    if (staged.ok() && *staged == step.result) continue;
    HF_RETURN_IF_ERROR(RemoveAll(user_, StagedPath(step)));
    HF_RETURN_IF_ERROR(Stage(step));
  }
  return SyncStaging();
}

bool Committer::ParentIsDirectory(std::string_view path) {
  const auto stat = user_.Stat(Parent(path));
  return stat.ok() && stat->kind == EntryKind::kDirectory;
}

// Reads what is there in full: a stat does not tell two writes within one tick of the clock, and what a read
// costs is little beside the syncs.
Committer::State Committer::Look(const ApplyStep& step, std::string& note) {
  const auto now = ReadVersion(user_, step.path);
  if (!now.ok()) {
    note = base::Message(now.status());
    // What made room with all above it: something else stands there now.
    const bool gone = step.kind == ApplyStepKind::kRemove && absl::IsFailedPrecondition(now.status()) &&
                      !ParentIsDirectory(step.path);
    return gone ? State::kDone : State::kElse;
  }
  note = "changed in the tree while it was being applied";
  switch (step.kind) {
    case ApplyStepKind::kPut:
    case ApplyStepKind::kSetMode:
      if (*now == step.result) return State::kDone;
      break;
    case ApplyStepKind::kRemove:
      if (now->kind == VersionKind::kAbsent || GaveRoom(step, *now)) return State::kDone;
      break;
    case ApplyStepKind::kMakeDirectory:
      if (IsDirectory(*now)) return State::kDone;
      break;
  }
  return *now == step.expected ? State::kReady : State::kElse;
}

base::Status Committer::Do(const ApplyStep& step) {
  switch (step.kind) {
    case ApplyStepKind::kRemove:
      return user_.Remove(step.path);
    case ApplyStepKind::kMakeDirectory:
      return user_.MakeDirectory(step.path, step.result.mode);
    case ApplyStepKind::kPut:
      return user_.Rename(StagedPath(step), step.path,
                          step.expected.kind == VersionKind::kAbsent ? Replace::kNo : Replace::kYes);
    case ApplyStepKind::kSetMode:
      HF_RETURN_IF_ERROR(user_.SetMode(step.path, step.result.mode));
      return SyncMode(step);
  }
  return base::Internal("a step of no kind");
}

// A mode belongs to the file, not to its name. Of a file that may not be read any more it is left to the
// system when it gets to the disk.
base::Status Committer::SyncMode(const ApplyStep& step) {
  if (sync_all_ || IsDirectory(step.result)) return {};  // SyncDirectories does it
  const auto file = user_.OpenFile(step.path);
  return file.ok() ? (*file)->Sync() : base::Status();
}

base::Status Committer::Run(const std::vector<ApplyStep>& steps, std::vector<ApplyItem>& items) {
  std::map<std::string, ApplyItem, PathLess> told;
  for (const ApplyStep& step : steps) {
    std::string note;
    const State state = Look(step, note);
    base::Status done;
    if (state == State::kReady) done = Do(step);
    if (absl::IsUnavailable(done)) return done;  // nothing can be known of the steps to come
    if (state == State::kElse || absl::IsAlreadyExists(done)) {
      Add(told, step.path, ApplyFate::kConflict, std::move(note));
    } else if (!done.ok()) {
      Add(told, step.path, ApplyFate::kFailed, base::Message(done));
    } else {
      Add(told, step.path, ApplyFate::kApplied, {});
    }
  }
  for (auto& [path, item] : told) items.push_back(std::move(item));
  return SyncDirectories(steps);
}

base::Status Committer::SyncDirectories(const std::vector<ApplyStep>& steps) {
  if (sync_all_) return user_.SyncAll();
  std::set<std::string, PathLess> directories;
  for (const ApplyStep& step : steps) {
    directories.emplace(Parent(step.path));
    if (IsDirectory(step.result)) directories.insert(step.path);
  }
  for (const std::string& path : directories) {
    const base::Status status = user_.SyncDirectory(path);
    // One that went, or never came; what it held went with it.
    if (!status.ok() && !absl::IsNotFound(status) && !absl::IsFailedPrecondition(status)) return status;
  }
  return {};
}

base::Status Committer::Clean() {
  HF_RETURN_IF_ERROR(RemoveAll(user_, staging_));
  return user_.SyncDirectory("");
}

}  // namespace holdfast::workspace
