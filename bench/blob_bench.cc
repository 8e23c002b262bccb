// What a commit to the blob store costs, beside appending the same bytes to a file and syncing it, in turns
// in the same run; and what opening, reading, merging and streaming cost.
//
//   blob_bench [--dir DIR] [--rounds N] [--packs N] [--stream_mib N]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/coding.h"
#include "base/file.h"
#include "base/process.h"
#include "base/random.h"
#include "memory/blob_store.h"

namespace holdfast {
namespace {

using memory::BlobId;
using memory::BlobStore;

struct Options {
  std::string directory = "/tmp/holdfast_blob_bench";
  int rounds = 200;
  int packs = 10'000;
  int stream_mib = 1024;
};

double Milliseconds() { return static_cast<double>(base::RealClock().MonotonicNow().ns) * 1e-6; }

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "blob_bench: %s\n", what.c_str());
  std::exit(1);
}

template <class T>
T Must(base::StatusOr<T> value) {
  if (!value.ok()) Die(base::Message(value.status()));
  return *std::move(value);
}
void Must(const base::Status& status) {
  if (!status.ok()) Die(base::Message(status));
}

double Percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p * static_cast<double>(values.size() - 1))];
}

// Bytes that were not seen before.
std::string Fresh(size_t size) {
  static uint64_t position = 0;
  std::string out;
  out.reserve(size + 8);
  while (out.size() < size) base::PutFixed64(out, base::RandomBits({.seed = 1, .position = position++}, 0));
  out.resize(size);
  return out;
}

std::unique_ptr<BlobStore> OpenStore(const std::string& directory) {
  return Must(BlobStore::Open(base::RealFileSystem(), {.directory = directory}));
}

struct Shape {
  int blobs;
  size_t bytes;  // of each
};

void CommitRow(const Options& options, const Shape& shape) {
  const int rounds = std::max(3, options.rounds / std::max(1, shape.blobs / 100));
  const auto store = OpenStore(options.directory + "/commit");
  const auto bare = Must(base::RealFileSystem().Open(options.directory + "/bare", base::OpenMode::kTruncate));
  std::vector<double> ours, theirs, hashing;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::string> blobs;
    for (int i = 0; i < shape.blobs; ++i) blobs.push_back(Fresh(shape.bytes));
    std::string all;
    for (const std::string& blob : blobs) all += blob;
    const auto batch_time = [&] {
      const double start = Milliseconds();
      const auto batch = store->NewBatch();
      for (const std::string& blob : blobs) Must(batch->Add(base::AsBytes(blob)).status());
      Must(batch->Commit());
      ours.push_back(Milliseconds() - start);
    };
    const auto bare_time = [&] {
      const double start = Milliseconds();
      Must(bare->Append(base::AsBytes(all)));
      Must(bare->DataSync());
      theirs.push_back(Milliseconds() - start);
    };
    const double start = Milliseconds();
    for (const std::string& blob : blobs) static_cast<void>(base::Sha256Of(base::AsBytes(blob)));
    hashing.push_back(Milliseconds() - start);
    if (round % 2 == 0) {
      batch_time();
      bare_time();
    } else {
      bare_time();
      batch_time();
    }
  }
  const double bare_median = Percentile(theirs, 0.5);
  std::printf("| %6d x %5zu | %9.3f | %9.3f | %5.2f | %9.3f | %9.3f | %9.3f |\n", shape.blobs, shape.bytes,
              Percentile(ours, 0.5), bare_median, Percentile(ours, 0.5) / bare_median,
              Percentile(hashing, 0.5), Percentile(ours, 0.95), Percentile(theirs, 0.95));
  std::fflush(stdout);
}

void Commits(const Options& options) {
  std::printf(
      "Commits, ms (bare: append the same bytes to one file, fdatasync; SHA-256: of the same bytes)\n");
  std::printf("|          blobs |    median |      bare | ratio |   SHA-256 |       p95 |  bare p95 |\n");
  for (const Shape& shape : {Shape{1, 4096}, Shape{10, 4096}, Shape{1000, 4096}, Shape{60'000, 1024}})
    CommitRow(options, shape);
}

void Packs(const Options& options) {
  const std::string directory = options.directory + "/packs";
  // A batch that has begun a file gets a pack of its own, however small it ends up.
  {
    const auto store = Must(
        BlobStore::Open(base::RealFileSystem(), {.directory = directory, .batch_memory_bytes_max = 4096}));
    const double start = Milliseconds();
    for (int i = 0; i < options.packs; ++i) {
      const auto batch = store->NewBatch();
      Must(batch->Add(base::AsBytes(Fresh(5000))).status());
      Must(batch->Commit());
    }
    std::printf("%d batches, each a pack of its own: %.2f ms each\n", options.packs,
                (Milliseconds() - start) / options.packs);
  }
  for (int round = 0; round < 3; ++round) {
    const double start = Milliseconds();
    const auto store = OpenStore(directory);
    std::printf("open with %llu packs: %.1f ms\n", static_cast<unsigned long long>(store->Stats().packs),
                Milliseconds() - start);
    if (round != 1) continue;
    const double merge = Milliseconds();
    while (Must(store->Compact(uint64_t{1} << 30)).more) continue;
    std::printf("merged into %llu: %.1f ms\n", static_cast<unsigned long long>(store->Stats().packs),
                Milliseconds() - merge);
  }
}

void Stream(const Options& options) {
  const auto store = OpenStore(options.directory + "/stream");
  const std::string piece = Fresh(1 << 20);
  const uint64_t resident = base::PeakResidentBytes();
  double start = Milliseconds();
  const auto batch = store->NewBatch();
  for (int i = 0; i < options.stream_mib; ++i) Must(batch->Append(base::AsBytes(piece)));
  const BlobId id = Must(batch->Finish());
  Must(batch->Commit());
  const double wrote = Milliseconds() - start;
  start = Milliseconds();
  std::string window(1 << 20, '\0');
  auto reader = Must(store->OpenBlob(id));
  for (uint64_t at = 0; at < reader.size();)
    at += Must(reader.ReadAt(at, std::as_writable_bytes(std::span(window))));
  std::printf(
      "one blob of %d MiB: %.0f MiB/s in (SHA-256, sync included), %.0f MiB/s out; %.1f MiB of memory\n",
      options.stream_mib, options.stream_mib / wrote * 1000,
      options.stream_mib / (Milliseconds() - start) * 1000,
      static_cast<double>(base::PeakResidentBytes() - resident) / (1 << 20));
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--dir") options.directory = argv[i + 1];
    if (name == "--rounds") options.rounds = std::atoi(argv[i + 1]);
    if (name == "--packs") options.packs = std::atoi(argv[i + 1]);
    if (name == "--stream_mib") options.stream_mib = std::atoi(argv[i + 1]);
  }
  std::filesystem::remove_all(options.directory);
  Must(base::RealFileSystem().CreateDirectories(options.directory));
  const auto info = Must(base::RealFileSystem().Info(options.directory));
  std::printf("%s on %s\n", options.directory.c_str(), info.type.c_str());
  Commits(options);
  Packs(options);
  Stream(options);
  std::filesystem::remove_all(options.directory);
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::Main(argc, argv); }
