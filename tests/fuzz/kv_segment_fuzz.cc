// A segment file from anywhere, in a store that is opened, read, verified and emptied: nothing crashes, hangs
// or takes more memory than the file is long, and afterwards nothing is left.
//
// The first byte says how the rest becomes a file: bit 0 makes it one of tails, bit 1 makes all checksums
// right, so that the parsing gets deep.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/coding.h"
#include "base/hash.h"
#include "memory/block_store.h"
#include "memory/kv/kv_segment_format.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::memory {
namespace {

constexpr uint64_t kId = 7;
constexpr size_t kFileBytesMax = 1 << 20;

std::byte* At(std::string& file, uint64_t offset) { return reinterpret_cast<std::byte*>(&file[offset]); }
std::span<const std::byte> Part(const std::string& file, uint64_t offset, uint64_t size) {
  return base::AsBytes(std::string_view(file).substr(offset, size));
}

void FixRecord(std::string& file, const kv::SegmentGeometry& g, uint32_t slot) {
  const uint64_t at = g.record_offset(slot);
  if (file.substr(at, kv::kRecordBytes).find_first_not_of('\0') == std::string::npos) return;
  const std::string row(base::AsText(Part(file, g.sums_offset(slot), g.sums_bytes())));
  base::StoreLittle<uint64_t>(At(file, at + 72), base::Xxh3(base::AsBytes(row)));
  base::StoreLittle<uint64_t>(At(file, at + 64), base::LoadLittle<uint64_t>(At(file, at + 64)) >> 1);
  base::StoreLittle<uint32_t>(At(file, at + 80), base::LoadLittle<uint32_t>(At(file, at + 80)) & 1);
  std::fill_n(file.begin() + static_cast<ptrdiff_t>(at) + 88, 32, '\0');
  std::string place;
  base::PutFixed64(place, g.id);
  base::PutFixed32(place, static_cast<uint32_t>(g.kind));
  base::PutFixed32(place, slot);
  place += file.substr(at, kv::kRecordBytes - 8);
  base::StoreLittle<uint64_t>(At(file, at + kv::kRecordBytes - 8), base::Xxh3(base::AsBytes(place)));
}

void FixChecksums(std::string& file, kv::SegmentKind kind) {
  if (file.size() < kv::kHeaderBytes) return;
  base::StoreLittle<uint32_t>(At(file, 12), static_cast<uint32_t>(kind));
  base::StoreLittle<uint64_t>(At(file, 16), kId);
  base::StoreLittle<uint64_t>(At(file, kv::kHeaderBytes - 8),
                              base::Xxh3(Part(file, 0, kv::kHeaderBytes - 8)));
  const auto g = kv::DecodeHeader(Part(file, 0, kv::kHeaderBytes), file.size());
  if (!g.ok()) return;
  for (uint32_t slot = 0; slot < g->slots; ++slot) {
    for (size_t p = 0; p < g->plane_bytes.size(); ++p)
      base::StoreLittle<uint64_t>(At(file, g->sums_offset(slot) + p * 8),
                                  base::Xxh3(Part(file, g->slot_offset(slot, p), g->plane_bytes[p])));
    FixRecord(file, *g, slot);
  }
}

// The keys that the records speak of, with their parents, each as a chain of one block.
std::vector<std::pair<BlockKey, BlockKey>> KeysIn(const std::string& file) {
  std::vector<std::pair<BlockKey, BlockKey>> keys;
  for (uint64_t at = kv::kHeaderBytes; at + kv::kRecordBytes <= file.size() && keys.size() < 64;
       at += kv::kRecordBytes) {
    BlockKey key, parent;
    std::copy_n(Part(file, at, 32).begin(), 32, key.digest.begin());
    std::copy_n(Part(file, at + 32, 32).begin(), 32, parent.digest.begin());
    keys.emplace_back(key, parent);
  }
  return keys;
}

void Read(BlockStore& store, const std::vector<std::pair<BlockKey, BlockKey>>& keys, size_t planes_count) {
  std::vector<const std::byte*> planes(planes_count);
  std::vector<uint8_t> unchecked(planes_count);
  for (const auto& [key, parent] : keys) {
    const Attachment found = store.Attach(parent, {&key, 1});
    const ChainRef pin = store.Pin(key);
    if (!pin.valid()) continue;
    store.Lend(pin.id(), planes, unchecked);
    for (size_t p = 0; p < planes_count; ++p)
      if (unchecked[p] != 0) store.CheckPlane(pin.id(), p, planes[p]).IgnoreError();
  }
}

void AppendBehind(BlockStore& store, const std::vector<std::pair<BlockKey, BlockKey>>& keys,
                  size_t block_bytes, size_t tail_bytes) {
  const ChainRef root = store.Root(KeyOfBlock({}, {}));  // not what the records say
  for (size_t i = 0; i < keys.size(); i += 3) {
    const ChainRef block = store.Append(root, keys[i].first, std::make_unique<std::byte[]>(block_bytes));
    store.PutTail(block, std::make_unique<std::byte[]>(tail_bytes), i % 2 == 0);
  }
}

void RunOn(const std::string& file, kv::SegmentKind kind) {
  test::SimClock clock;
  test::SimFileSystem fs(clock, {.file_bytes_max = 2 * kFileBytesMax});
  BlockStoreOptions options{.directory = "/kv", .planes = {{48, true}, {20, true}, {100}}, .tail_bytes = 96};
  HF_CHECK(fs.CreateDirectories("/kv").ok());
  const std::string path = "/kv/" + kv::SegmentFileName(kind, kId);
  HF_CHECK(base::WriteFileAtomically(fs, path, base::AsBytes(file)).ok());
  auto store = BlockStore::Open(fs, options);
  HF_CHECK(store.ok());
  const StoreStats stats = (*store)->Stats();
  HF_CHECK(stats.blocks + stats.tails <= file.size() / kv::kRecordBytes);
  const auto keys = KeysIn(file);
  for (const ChainInfo& chain : (*store)->Chains(100)) HF_CHECK(chain.blocks <= stats.blocks);
  Read(**store, keys, options.planes.size());
  HF_CHECK((*store)->Verify().ok());
  AppendBehind(**store, keys, 168, 96);
  HF_CHECK((*store)->Sync().ok());
  Read(**store, keys, options.planes.size());
  HF_CHECK((*store)->EvictTo(0).ok());
  HF_CHECK((*store)->Sync().ok());
  const StoreStats left = (*store)->Stats();
  HF_CHECK(left.blocks == 0 && left.tails == 0 && left.references == 0 && left.slots_used == 0);
  HF_CHECK(left.heap_bytes == 0 && left.pending_bytes == 0);
  store->reset();
  HF_CHECK(BlockStore::Open(fs, options).ok());
}

}  // namespace
}  // namespace holdfast::memory

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace kv = holdfast::memory::kv;
  if (size == 0 || size > holdfast::memory::kFileBytesMax) return 0;
  std::string file(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto kind = (data[0] & 1) != 0 ? kv::SegmentKind::kTails : kv::SegmentKind::kBlocks;
  if ((data[0] & 2) != 0) holdfast::memory::FixChecksums(file, kind);
  holdfast::memory::RunOn(file, kind);
  return 0;
}
