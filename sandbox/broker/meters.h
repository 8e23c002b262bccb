// What a job uses, measured from outside: processes, memory and CPU time by walking /proc; disk by walking
// the layer.
#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace holdfast::sandbox {

struct ProcessUsage {
  uint64_t processes = 0;
  uint64_t resident_bytes = 0;  // pages shared by several processes count for each
  uint64_t cpu_us = 0;          // of the living, and of the dead they have waited for
};

// Of `root` and all its descendants, which for process 1 of a job is all of it. Costs some 30 us a process;
// stops after `processes_max` of them.
ProcessUsage MeasureTree(pid_t root, size_t processes_max);

// Memory of the tree as its share of each page, without file pages: exact, and some 0.5 ms a process.
uint64_t MeasureTreeMemoryExactly(pid_t root, size_t processes_max);

// MemAvailable of the machine; UINT64_MAX when the kernel does not say.
uint64_t MachineMemoryAvailable();

// Free space of the file system at `path`.
struct FreeSpace {
  uint64_t bytes = UINT64_MAX;
  uint64_t inodes = UINT64_MAX;
};
FreeSpace MeasureFreeSpace(const char* path);

// Adds up a directory tree that somebody else is changing, some entries at a time. Links are not followed.
class TreeWalk {
 public:
  explicit TreeWalk(const std::string& path);
  ~TreeWalk();
  TreeWalk(const TreeWalk&) = delete;
  TreeWalk& operator=(const TreeWalk&) = delete;

  // Looks at about `entries` more; true when the whole tree has been seen.
  bool Step(size_t entries);

  uint64_t bytes() const { return bytes_; }  // allocated on disk; a file with several names counts for each
  uint64_t inodes() const { return inodes_; }
  // False when a directory could not be read or lay too deep: the sums are then too small.
  bool complete() const { return complete_; }

 private:
  std::vector<DIR*> stack_;
  uint64_t bytes_ = 0;
  uint64_t inodes_ = 0;
  bool complete_ = true;
};

// Removes what is in the directory `path` but for its entry `kept`, making directories readable that are not;
// leaves the directory itself. Links are not followed beneath it.
void RemoveTree(const std::string& path, const std::string& kept);

// Disk use of a session's layer: now and then the layer is walked, in between the free space of the file
// system tells how much it can have grown. Whoever else writes there makes the estimate too high, so an
// excess counts only once a walk has confirmed it.
class DiskMeter {
 public:
  // An empty path means that there is no layer to walk (direct mode): then the estimate is all there is.
  DiskMeter(std::string layer, std::string file_system);

  // A step of work; call it every `tick`. `now_ns` is monotonic.
  void Tick(int64_t now_ns, uint64_t bytes_limit, uint64_t inodes_limit);

  uint64_t bytes() const { return exact_bytes_; }  // confirmed
  uint64_t inodes() const { return exact_inodes_; }

  // Whether there is a figure from after `ns`; in direct mode there always is.
  bool MeasuredSince(int64_t ns) const { return layer_.empty() || exact_began_ns_ >= ns; }
  // What the confirmed figures were when the file system had so much free.
  uint64_t BytesAt(const FreeSpace& free) const;
  uint64_t InodesAt(const FreeSpace& free) const;

  const std::string& file_system() const { return file_system_; }

  // The file system itself is nearly full.
  bool nearly_full() const { return nearly_full_; }

 private:
  const std::string layer_;
  const std::string file_system_;
  std::unique_ptr<TreeWalk> walk_;
  FreeSpace free_at_walk_;  // when the walk that gave the exact figures began; in direct mode when measured
  int64_t exact_began_ns_ = INT64_MIN;
  FreeSpace free_at_start_;
  FreeSpace free_at_next_;
  uint64_t exact_bytes_ = 0;
  uint64_t exact_inodes_ = 0;
  int64_t walked_ns_ = INT64_MIN / 2;
  int64_t walk_cost_ns_ = 0;
  int64_t walk_began_ns_ = 0;
  bool nearly_full_ = false;
};

}  // namespace holdfast::sandbox
