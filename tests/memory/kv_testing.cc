#include "tests/memory/kv_testing.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/random.h"

namespace holdfast::memory {
namespace {

std::unique_ptr<std::byte[]> BytesFor(const BlockKey& key, uint32_t stream, size_t size) {
  auto bytes = std::make_unique<std::byte[]>(size);
  const auto seed = base::LoadLittle<uint64_t>(key.digest.data());
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(base::RandomBits({.seed = seed, .stream = stream, .position = i}, 0));
  return bytes;
}

}  // namespace

BlockStoreOptions TestStoreOptions() {
  BlockStoreOptions options;
  options.directory = "/kv";
  for (const uint32_t bytes : kTestPlaneBytes) options.planes.push_back({bytes, bytes < 100});
  options.tail_bytes = kTestTailBytes;
  options.segment_bytes_target = uint64_t{8} * kTestBlockBytes;
  options.segment_slots_first = 4;
  return options;
}

BlockKey TestRoot(int32_t number) { return KeyOfBlock({}, {&number, 1}); }

BlockKey ChildOf(const BlockKey& parent, int32_t token) { return KeyOfBlock(parent, {&token, 1}); }

std::vector<BlockKey> ChainOf(const BlockKey& root, std::span<const int32_t> tokens) {
  return KeysOfBlocks(root, tokens, 1);
}

std::unique_ptr<std::byte[]> BlockBytes(const BlockKey& key) { return BytesFor(key, 1, kTestBlockBytes); }
std::unique_ptr<std::byte[]> TailBytes(const BlockKey& key) { return BytesFor(key, 2, kTestTailBytes); }

Served ReadBlock(BlockStore& store, BlockId block, const BlockKey& key) {
  constexpr size_t kPlanes = std::size(kTestPlaneBytes);
  const std::byte* planes[kPlanes] = {};
  uint8_t unchecked[kPlanes] = {};
  const bool in_heap = store.Lend(block, planes, unchecked);
  const auto want = BlockBytes(key);
  Served served = Served::kRight;
  for (size_t p = 0, at = 0; p < kPlanes; at += kTestPlaneBytes[p], ++p) {
    if (unchecked[p] != 0 && !store.CheckPlane(block, p, planes[p]).ok()) {
      served = Served::kDetected;
      break;
    }
    if (std::memcmp(planes[p], want.get() + at, kTestPlaneBytes[p]) == 0) continue;
    served = Served::kWrong;
    break;
  }
  if (in_heap) store.ReleaseHeap(block);
  return served;
}

Served ReadChain(BlockStore& store, const BlockKey& root, std::span<const BlockKey> keys, size_t* blocks) {
  const Attachment found = store.Attach(root, keys);
  *blocks = found.blocks.size();
  if (found.blocks.empty()) return Served::kRight;
  const auto tail = TailBytes(keys[found.blocks.size() - 1]);
  if (found.tail.size() != kTestTailBytes) return Served::kWrong;
  if (std::memcmp(found.tail.data(), tail.get(), kTestTailBytes) != 0) return Served::kWrong;
  Served all = Served::kRight;
  for (size_t b = 0; b < found.blocks.size(); ++b) {
    const Served served = ReadBlock(store, found.blocks[b], keys[b]);
    if (served == Served::kWrong) return served;
    if (served == Served::kDetected) all = served;
  }
  return all;
}

StoreWorld::StoreWorld(test::SimDiskOptions disk, BlockStoreOptions store_options)
    : fs(clock, disk), options(std::move(store_options)) {
  options.on_event = [this](const StoreEvent& event) { events.push_back(event); };
}

base::Status StoreWorld::Open() {
  HF_ASSIGN_OR_RETURN(store, BlockStore::Open(fs, options));
  return absl::OkStatus();
}

base::Status StoreWorld::CrashAndOpen() {
  fs.Crash();
  Close();
  fs.Restart();
  return Open();
}

size_t StoreWorld::EventCount(StoreEvent::Kind kind) const {
  return static_cast<size_t>(
      std::count_if(events.begin(), events.end(), [kind](const StoreEvent& e) { return e.kind == kind; }));
}

ChainRef AppendChain(BlockStore& store, const ChainRef& from, std::span<const BlockKey> keys) {
  ChainRef end = store.Share(from);
  for (const BlockKey& key : keys) end = store.Append(end, key, BlockBytes(key));
  return end;
}

}  // namespace holdfast::memory
