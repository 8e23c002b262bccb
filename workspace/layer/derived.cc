#include "workspace/layer/derived.h"

#include <algorithm>
#include <utility>

namespace holdfast::workspace {
namespace {

constexpr size_t kRootsMax = 1000;
constexpr size_t kSample = 500;

}  // namespace

void DerivedIndex::Begin() {
  ++pass_;
  summary_ = {};
  stats_left_ = kStatsMax;
}

void DerivedIndex::NoteRoot(const std::string& path) {
  if (summary_.roots.size() < kRootsMax) summary_.roots.push_back(path);
}

void DerivedIndex::AddFile(const std::string& path, const EntryStat& stat) {
  NoteRoot(path);
  ++summary_.files;
  if (stat.kind == EntryKind::kFile) summary_.bytes += stat.size_bytes;
}

base::Status DerivedIndex::AddDirectory(const std::string& path, const EntryStat& stat) {
  NoteRoot(path);
  std::vector<std::pair<std::string, EntryStat>> todo = {{path, stat}};
  while (!todo.empty()) {
    const auto [here, here_stat] = std::move(todo.back());
    todo.pop_back();
    Directory& directory = directories_[here];
    if (const base::Status status = Refresh(here, here_stat, directory); !status.ok()) {
      directories_.erase(here);
      // It vanished, or is deeper than a path can say.
      if (absl::IsNotFound(status) || absl::IsInvalidArgument(status)) continue;
      return status;
    }
    ++summary_.directories;
    for (const std::string& name : directory.directories) {
      std::string child = here + "/" + name;
      const auto child_stat = tree_.Stat(child);
      if (child_stat.ok()) todo.emplace_back(std::move(child), *child_stat);
    }
  }
  return {};
}

base::Status DerivedIndex::Refresh(const std::string& path, const EntryStat& stat, Directory& directory) {
  const Stamp stamp = Stamp::Of(stat);
  directory.pass = pass_;
  if (directory.stamp == stamp && !directory.racy) return {};
  const base::UtcTime now = clock_.UtcNow();
  HF_ASSIGN_OR_RETURN(const auto names, tree_.Names(path, directory_entries_max_));
  const uint64_t files_before = directory.files;
  directory.directories.clear();
  for (const NamedKind& name : names) {
    if (name.kind == EntryKind::kDirectory) directory.directories.push_back(name.name);
  }
  directory.files = names.size() - directory.directories.size();
  directory.stamp = stamp;
  directory.racy = IsRacy(stamp, now);
  if (directory.files == 0) directory.bytes = 0;
  directory.measured = directory.files == 0;
  // An estimate serves until a tenth of the files is others.
  const uint64_t difference = directory.files - std::min(directory.files, files_before) +
                              (files_before - std::min(directory.files, files_before));
  if (directory.files > kStatsMax && directory.measured_pass != 0 && difference * 10 < files_before) {
    directory.bytes = directory.bytes / files_before * directory.files;
  } else {
    directory.measured_pass = 0;
  }
  return {};
}

base::Status DerivedIndex::Measure(const std::string& path, Directory& directory) {
  directory.measured_pass = pass_;
  if (directory.files > kStatsMax) return Estimate(path, directory);
  stats_left_ -= std::min<size_t>(stats_left_, directory.files);
  HF_ASSIGN_OR_RETURN(const auto entries, tree_.List(path, directory_entries_max_));
  directory.bytes = 0;
  for (const Entry& entry : entries) {
    if (entry.stat.kind == EntryKind::kFile) directory.bytes += entry.stat.size_bytes;
  }
  directory.measured = true;
  return {};
}

// From some of the files, evenly spread.
base::Status DerivedIndex::Estimate(const std::string& path, Directory& directory) {
  stats_left_ -= std::min(stats_left_, kSample);
  HF_ASSIGN_OR_RETURN(const auto names, tree_.Names(path, directory_entries_max_));
  uint64_t bytes = 0, looked = 0;
  for (size_t at = 0; at < names.size(); at += names.size() / kSample) {
    if (names[at].kind != EntryKind::kFile) continue;
    const auto stat = tree_.Stat(path + "/" + names[at].name);
    if (!stat.ok()) continue;
    ++looked;
    bytes += stat->size_bytes;
  }
  if (looked > 0) directory.bytes = bytes / looked * directory.files;
  return {};
}

DerivedSummary DerivedIndex::End() {
  std::erase_if(directories_, [&](const auto& item) { return item.second.pass != pass_; });
  // Those never measured first, then those measured longest ago.
  std::vector<std::pair<const std::string*, Directory*>> order;
  for (auto& [path, directory] : directories_) {
    if (directory.files > 0) order.emplace_back(&path, &directory);
  }
  const auto rank = [](const auto& item) {
    return item.second->measured ? item.second->measured_pass + 1 : 0;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  for (const auto& [path, directory] : order) {
    if (stats_left_ == 0) break;
    // A large one costs its list of names: not more often than pays.
    if (directory->measured_pass != 0 &&
        pass_ - directory->measured_pass < directory->files / (kStatsMax / 4)) {
      continue;
    }
    Measure(*path, *directory).IgnoreError();  // it vanished: the next pass sees that
  }
  for (const auto& [path, directory] : directories_) {
    summary_.files += directory.files;
    summary_.bytes += directory.bytes;
    summary_.bytes_complete = summary_.bytes_complete && directory.measured;
  }
  return std::move(summary_);
}

}  // namespace holdfast::workspace
