// What the simulated disk is made of: files and directories that know which of their changes are durable, and
// what a crash may leave of the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "tests/support/seeded_random.h"

namespace holdfast::test {

inline constexpr uint64_t kSimSectorBytes = 512;

// Address space for one file: it never moves, so mappings see later writes. Memory is used when touched.
class SimRegion {
 public:
  explicit SimRegion(uint64_t bytes_max);
  ~SimRegion();
  SimRegion(const SimRegion&) = delete;
  SimRegion& operator=(const SimRegion&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::byte* const data_;
  const uint64_t bytes_max_;
};

struct SimInode {
  SimInode(uint64_t inode_id, base::FileKind inode_kind) : id(inode_id), kind(inode_kind) {}
  virtual ~SimInode() = default;

  const uint64_t id;
  const base::FileKind kind;
  base::UtcTime changed;
};

class SimFileNode;
class SimDirectoryNode;

// shared_ptr: directories (now, durably, and in pending changes), open files and mappings all own an inode.
using SimInodePtr = std::shared_ptr<SimInode>;
using SimFilePtr = std::shared_ptr<SimFileNode>;            // shared_ptr: as above
using SimDirectoryPtr = std::shared_ptr<SimDirectoryNode>;  // shared_ptr: as above

// A file. What is written goes to the content at once and is pending until a sync. A crash keeps, for each
// sector, the changes to it up to some moment; other sectors have other moments, and so has the size. That is
// every outcome of dropped, torn and reordered writes a page cache can produce.
class SimFileNode final : public SimInode {
 public:
  static SimFilePtr New(uint64_t inode_id, uint64_t bytes_max) {
    return std::make_shared<SimFileNode>(inode_id, bytes_max);  // shared: see SimInodePtr
  }
  SimFileNode(uint64_t inode_id, uint64_t bytes_max)
      : SimInode(inode_id, base::FileKind::kRegular), region_(bytes_max) {}

  uint64_t size() const { return size_; }
  std::span<const std::byte> content() const { return {region_.data(), static_cast<size_t>(size_)}; }
  const std::string& durable() const { return durable_; }

  // A lost write is never on the disk, whatever is synced; only the file size is.
  void Write(uint64_t offset, std::span<const std::byte> bytes, bool lost = false);
  void Resize(uint64_t size);

  // All changes so far are durable.
  void Sync();

  // A sync has failed: the changes stay visible, and no later sync saves them.
  void LosePending() { pending_.clear(); }

  // The bytes found after a crash.
  std::string AfterCrash(SeededRandom& random) const;

  // The disk forgets what it was told: one bit of the durable and the visible content.
  void FlipBit(uint64_t bit);

  // As found after a crash: visible and durable.
  void Restore(std::string content);

 private:
  struct Change {
    bool truncates;  // bytes are the zeros in place of what was cut off
    bool lost;
    uint64_t offset;
    std::string bytes;
    uint64_t size_after;
  };
  static void Apply(const Change& change, std::string& image);
  static void ApplyKept(const Change& change, size_t index, std::span<const size_t> sector_cuts,
                        std::string& image);

  SimRegion region_;
  uint64_t size_ = 0;
  std::string durable_;
  std::vector<Change> pending_;
};

// A directory. Its changes are kept by a crash in order, up to some moment, and those of a rename together.
class SimDirectoryNode final : public SimInode {
 public:
  using Entries = std::map<std::string, SimInodePtr>;

  // One atomic change; a null inode removes the name. A rename into another directory is a change in both:
  // the removal here must not outlive the loss of the arrival there, which has the same id.
  struct Change {
    Entries entries;
    uint64_t id = 0;
    std::weak_ptr<SimDirectoryNode> arrival_in;  // empty but for a rename
  };

  static SimDirectoryPtr New(uint64_t inode_id) {
    return std::make_shared<SimDirectoryNode>(inode_id);  // shared: see SimInodePtr
  }
  explicit SimDirectoryNode(uint64_t inode_id) : SimInode(inode_id, base::FileKind::kDirectory) {}

  const Entries& entries() const { return entries_; }
  SimInodePtr Find(const std::string& name) const;

  void Make(Change change);
  void Sync();

  // A crash in two steps: first every directory picks how many of its changes survive, then those that would
  // lose a renamed file give way until LowerCut says no more.
  // Every directory reachable from this one, itself included, now or after some crash.
  void Collect(std::vector<SimDirectoryNode*>& all);
  void PickCut(SeededRandom& random);
  bool LowerCut();
  Entries AfterCrash() const;

  void Restore(Entries entries);

 private:
  static void Apply(const Change& change, Entries& entries);
  bool Survives(uint64_t change_id) const;

  Entries entries_;
  Entries durable_;
  std::vector<Change> pending_;
  size_t cut_ = 0;  // changes that survive
};

}  // namespace holdfast::test
