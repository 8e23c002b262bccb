// A pack of blobs from anywhere, in a store that is opened, read, verified, merged and emptied: nothing
// crashes, hangs or takes more memory than the file is long, nothing is served under a name that is not its
// hash, and afterwards nothing is left.
//
// The first byte says how the rest becomes a file: bit 0 makes the checksums of heads, tails and entries
// right, bit 1 also gives each blob its true name, so that the parsing gets deep.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/coding.h"
#include "base/hash.h"
#include "memory/blob/blob_pack_format.h"
#include "memory/blob_store.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::memory {
namespace {

constexpr uint32_t kPack = 7;
constexpr size_t kFileBytesMax = 1 << 20;

std::byte* At(std::string& file, uint64_t offset) { return reinterpret_cast<std::byte*>(&file[offset]); }
std::span<const std::byte> Part(const std::string& file, uint64_t offset, uint64_t size) {
  return base::AsBytes(std::string_view(file).substr(offset, size));
}

void FixEntries(std::string& file, const blob::Frame& frame, bool names) {
  for (uint64_t at = frame.table_offset(); at < frame.tail_offset(); at += blob::kUnit) {
    blob::DecodedEntry decoded = blob::DecodeEntry(Part(file, at, blob::kUnit), frame, at);
    if (names && decoded.in_frame)
      decoded.entry.id = base::Sha256Of(Part(file, decoded.entry.offset, decoded.entry.size));
    file.replace(at, blob::kUnit, blob::EncodeEntry(kPack, at, decoded.entry));
  }
}

void FixChecksums(std::string& file, bool names) {
  uint64_t hashed = 0;  // names cost a hash each: enough is enough
  for (uint64_t at = 0; at + blob::kUnit <= file.size(); at += blob::kUnit) {
    if (!file.substr(at, 6).starts_with("HFBLOB")) continue;
    base::StoreLittle<uint32_t>(At(file, at + 16), kPack);
    base::StoreLittle<uint64_t>(At(file, at + 56), base::Xxh3(Part(file, at, 56)));
    const auto frame =
        blob::DecodeFrame(Part(file, at, blob::kUnit), kPack, at, file.size(), blob::FrameEnd::kHead);
    if (frame.ok()) FixEntries(file, *frame, names && ++hashed < 8);
  }
}

void RunOn(const std::string& file) {
  test::SimClock clock;
  test::SimFileSystem fs(clock, {.file_bytes_max = 4 * kFileBytesMax});
  const BlobStoreOptions options{
      .directory = "/blobs", .batch_memory_bytes_max = 8 << 10, .pack_bytes_target = 4 << 20};
  HF_CHECK(fs.CreateDirectories("/blobs").ok());
  const std::string path = "/blobs/" + blob::PackFileName(kPack);
  HF_CHECK(base::WriteFileAtomically(fs, path, base::AsBytes(file)).ok());
  std::vector<BlobId> seen;
  {
    auto store = BlobStore::Open(fs, options, clock);
    HF_CHECK(store.ok());
    HF_CHECK((*store)->Stats().blobs <= file.size() / blob::kUnit);
    const auto note = [&](const BlobId& id) {
      seen.push_back(id);
      return true;
    };
    clock.Advance(base::kNsPerSecond);
    HF_CHECK((*store)->Sweep({1 << 20}, note, 0).ok());
    for (const BlobId& id : seen) {
      const auto read = (*store)->Read(id, kFileBytesMax);
      HF_CHECK(!read.ok() || base::Sha256Of(base::AsBytes(*read)) == id);
      std::byte part[100];
      (*store)->ReadAt(id, seen.size() % 70'000, part).status().IgnoreError();
    }
    HF_CHECK((*store)->Verify().ok());
    for (int i = 0; i < 4; ++i) HF_CHECK((*store)->Compact(1 << 20).ok());
    const auto batch = (*store)->NewBatch();
    HF_CHECK(batch->Add(base::AsBytes("more")).ok());
    HF_CHECK(batch->Commit().ok());
  }
  auto store = BlobStore::Open(fs, options, clock);
  HF_CHECK(store.ok() && (*store)->Contains(base::Sha256Of(base::AsBytes("more"))));
  const auto none = [](const BlobId&) { return false; };
  HF_CHECK((*store)->Sweep({1 << 20}, none, 0).ok());
  HF_CHECK((*store)->Stats().blobs == 0 && (*store)->Stats().used_bytes == 0);
}

}  // namespace
}  // namespace holdfast::memory

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > holdfast::memory::kFileBytesMax) return 0;
  std::string file(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 1) != 0) holdfast::memory::FixChecksums(file, (data[0] & 2) != 0);
  holdfast::memory::RunOn(file);
  return 0;
}
