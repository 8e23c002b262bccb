// A small block store on a simulated disk, with blocks whose bytes follow from their keys, so that whatever
// comes back can be told right from wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "memory/block_store.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::memory {

inline constexpr uint32_t kTestPlaneBytes[] = {48, 20, 100};  // the first two are scanned
inline constexpr uint32_t kTestBlockBytes = 168;
inline constexpr uint32_t kTestTailBytes = 96;

// Eight blocks to a segment at most, four in a first one.
BlockStoreOptions TestStoreOptions();

BlockKey TestRoot(int32_t number = 0);
BlockKey ChildOf(const BlockKey& parent, int32_t token);
// The keys of a chain below `root`, one for each token.
std::vector<BlockKey> ChainOf(const BlockKey& root, std::span<const int32_t> tokens);

std::unique_ptr<std::byte[]> BlockBytes(const BlockKey& key);
std::unique_ptr<std::byte[]> TailBytes(const BlockKey& key);

enum class Served { kRight, kDetected, kWrong };

// Reads all planes of a block as a session does: Lend, CheckPlane where told to, compare.
Served ReadBlock(BlockStore& store, BlockId block, const BlockKey& key);

// Attaches and reads all of it, the tail too. kWrong when anything served is not what was stored; else
// kDetected when damage was met on the way, or kRight. `blocks`: how many were attached.
Served ReadChain(BlockStore& store, const BlockKey& root, std::span<const BlockKey> keys, size_t* blocks);

// A store that can be closed, crashed and opened again.
class StoreWorld {
 public:
  explicit StoreWorld(test::SimDiskOptions disk = {}, BlockStoreOptions options = TestStoreOptions());

  base::Status Open();  // when it is not open
  void Close() { store.reset(); }
  // All references must be gone.
  base::Status CrashAndOpen();

  size_t EventCount(StoreEvent::Kind kind) const;

  test::SimClock clock;
  test::SimFileSystem fs;
  BlockStoreOptions options;
  std::vector<StoreEvent> events;
  std::unique_ptr<BlockStore> store;
};

// Appends blocks with the given keys behind `from`, and returns the end.
ChainRef AppendChain(BlockStore& store, const ChainRef& from, std::span<const BlockKey> keys);

}  // namespace holdfast::memory
