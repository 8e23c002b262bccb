// The KV block store at size: attach, fork, write amplification, scan and space, beside the ceilings of this
// machine measured in the same run. KV is filled with plausible values instead of hours of prefill.
//
//   kv_bench --shape nano|flash4|flash --tokens N [--dir DIR] [--model CHECKPOINT]
//
// Shapes: nano (the model that ships), flash4 (four layers of DeepSeek-V4-Flash, ratios 0, 4, 128, 4), flash
// (all of it). With --model, also what persistence costs while that checkpoint reads a prompt.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/executor.h"
#include "base/hash.h"
#include "base/random.h"
#include "memory/block_store.h"
#include "model/engine.h"
#include "model/synth.h"
#include "model/virtual_kv.h"
#include "model/weights.h"
#include "sessions/kv_flusher.h"
#include "sessions/kv_timeline.h"

namespace holdfast {
namespace {

using memory::BlockStore;
using sessions::KvCache;
using sessions::KvTimeline;

struct Options {
  std::string shape = "nano";
  int64_t tokens = 131'072;
  std::string directory = "/tmp/holdfast_kv_bench";
  std::string model;
};

double Seconds() { return static_cast<double>(base::RealClock().MonotonicNow().ns) * 1e-9; }

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "kv_bench: %s\n", what.c_str());
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

template <class F>
double Timed(F&& work) {
  const double start = Seconds();
  work();
  return Seconds() - start;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Row(const std::string& what, double value, const char* unit, const std::string& bar = "") {
  std::printf("  %-58s %12.3f %-6s %s\n", what.c_str(), value, unit, bar.c_str());
  std::fflush(stdout);
}

model::ModelConfig ConfigOf(const Options& options) {
  if (options.shape == "nano") return Must(model::SynthConfig(model::SynthShape::kNano));
  if (options.shape == "flash") return Must(model::SynthConfig(model::SynthShape::kFlash));
  if (options.shape != "flash4") Die("--shape is nano, flash4 or flash");
  model::ModelConfig config =
      Must(model::SynthConfig(model::SynthShape::kFlash, {.layers = 4, .experts = 16, .vocab = 8192}));
  config.compress_ratios = {0, 4, 128, 4, 0};
  return config;
}

// --- Ceilings

double MemoryReadRate() {
  std::vector<uint64_t> buffer(size_t{32} << 20, 1);
  double best = 0;
  volatile uint64_t sink = 0;
  for (int round = 0; round < 3; ++round) {
    uint64_t sums[8] = {};
    const double seconds = Timed([&] {
      for (size_t i = 0; i < buffer.size(); i += 8)
        for (size_t j = 0; j < 8; ++j) sums[j] += buffer[i + j];
    });
    for (const uint64_t sum : sums) sink = sink + sum;
    best = std::max(best, static_cast<double>(buffer.size() * 8) / seconds);
  }
  return best;
}

std::vector<std::string> SegmentFiles(const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().extension() == ".kvb" || entry.path().extension() == ".kvt")
      paths.push_back(entry.path());
  return paths;
}

void DropFromCache(const std::string& directory) {
  for (const std::string& path : SegmentFiles(directory)) {
    const int fd = ::open(path.c_str(), O_RDONLY);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

// Reads all segment files from end to end; also what warms the page cache.
double FileReadRate(const std::string& directory) {
  std::vector<char> buffer(size_t{4} << 20);
  double bytes = 0;
  const double seconds = Timed([&] {
    for (const std::string& path : SegmentFiles(directory)) {
      const int fd = ::open(path.c_str(), O_RDONLY);
      for (ssize_t n = 1; n > 0; bytes += static_cast<double>(n))
        n = ::read(fd, buffer.data(), buffer.size());
      ::close(fd);
    }
  });
  return bytes / seconds;
}

// --- The store

struct Bench {
  Options options;
  model::ModelConfig config;
  model::KvLayout layout;
  int64_t tail_bytes = 0;
  memory::BlockKey root;
  std::vector<memory::BlockKey> keys;
  std::vector<int32_t> tokens;

  uint64_t block_bytes() const { return static_cast<uint64_t>(layout.block_bytes()); }
};

std::unique_ptr<BlockStore> Open(const Bench& bench, const std::string& directory) {
  return Must(
      BlockStore::Open(base::RealFileSystem(), {.directory = directory,
                                                .planes = sessions::PlanesOf(bench.layout),
                                                .tail_bytes = static_cast<uint32_t>(bench.tail_bytes)}));
}

void Fill(const Bench& bench, BlockStore& store) {
  memory::ChainRef end = store.Root(bench.root);
  double generated = 0;
  double synced = 0;
  const double all = Timed([&] {
    for (size_t b = 0; b < bench.keys.size(); ++b) {
      auto bytes = std::make_unique<std::byte[]>(bench.block_bytes());
      const int64_t position = static_cast<int64_t>(b + 1) * bench.layout.block_tokens;
      std::unique_ptr<std::byte[]> tail;
      generated += Timed([&] {
        model::FillVirtualBlock(bench.layout, 1, static_cast<int64_t>(b), {bytes.get(), bench.block_bytes()});
        if (position % 4096 != 0 && b + 1 != bench.keys.size()) return;
        tail = std::make_unique<std::byte[]>(static_cast<size_t>(bench.tail_bytes));
        model::FillVirtualTail(bench.config, bench.layout, 1, position,
                               {tail.get(), static_cast<size_t>(bench.tail_bytes)});
      });
      end = store.Append(end, bench.keys[b], std::move(bytes));
      if (tail != nullptr) store.PutTail(end, std::move(tail), /*periodic=*/true);
      if (b % 64 == 63) Must(store.Write());
    }
    synced = Timed([&] { Must(store.Sync()); });
  });
  const auto stats = store.Stats();
  std::printf("store\n");
  Row("blocks", static_cast<double>(stats.blocks), "");
  Row("write, without sync and filling",
      static_cast<double>(stats.written_bytes) / (all - generated - synced) / 1e6, "MB/s");
  Row("last sync", synced * 1e3, "ms");
  const double formula = static_cast<double>(bench.layout.block_bytes()) / bench.layout.block_tokens;
  const double tails = static_cast<double>(bench.tail_bytes) / 4096;
  const double tokens = static_cast<double>(bench.tokens.size());
  Row("bytes per token by the formula (blocks + tails / 4096)", formula + tails, "B");
  Row("  of which blocks", formula, "B");
  Row("bytes per token in used slots", static_cast<double>(stats.used_bytes) / tokens, "B");
  Row("bytes per token of files", static_cast<double>(stats.disk_bytes) / tokens, "B");
}

uint64_t ScannedBytes(const Bench& bench) {
  uint64_t bytes = 0;
  for (const model::Plane& plane : bench.layout.planes)
    if (plane.scanned) bytes += static_cast<uint64_t>(plane.block_bytes());
  return bytes * bench.keys.size();
}

// From request to the moment the first decode step can start.
void Attach(const Bench& bench, const char* title, double file_rate) {
  std::printf("%s\n", title);
  std::unique_ptr<BlockStore> store;
  Row("open the store", Timed([&] { store = Open(bench, bench.options.directory); }) * 1e3, "ms");
  KvCache cache(bench.config, bench.layout, *store, bench.root);
  std::vector<memory::BlockKey> keys;
  const double hashed =
      Timed([&] { keys = memory::KeysOfBlocks(bench.root, bench.tokens, bench.layout.block_tokens); });
  const double attached = Timed([&] {
    const KvTimeline line = cache.Attach(keys);
    if (line.position() != static_cast<int64_t>(bench.tokens.size())) Die("not all was attached");
  });
  Row("keys from tokens", hashed * 1e3, "ms");
  Row("attach by keys", attached * 1e3, "ms");
  Row("request to first step", (hashed + attached) * 1e3, "ms",
      bench.options.shape == "nano" ? "bar at 1M: 50" : "bar at 1M, flash4: 300");
  const double touched = static_cast<double>(ScannedBytes(bench)) + static_cast<double>(bench.tail_bytes);
  Row("bytes touched (scanned planes, tail)", touched / 1e6, "MB");
  Row("bytes touched / rate of reading the files end to end", touched / file_rate * 1e3, "ms");
  Row("attach / that", attached / (touched / file_rate), "x", file_rate < 5e9 ? "bar, cold: 1.2" : "");
  Row("attach again, checked before", Timed([&] { cache.Attach(keys); }) * 1e3, "ms");
}

void Feed(KvTimeline& line, const Bench& bench, int64_t count) {
  const std::vector<int32_t> tokens(bench.tokens.begin(),
                                    bench.tokens.begin() + static_cast<ptrdiff_t>(count));
  size_t at = 0;
  while (at < tokens.size()) {
    const int64_t left = static_cast<int64_t>(tokens.size() - at);
    const int64_t chunk = line.FeedLimit(left);
    line.sequence().Reserve(line.position() + chunk);
    line.sequence().Advance(chunk);
    line.Fed(std::span(tokens).subspan(at, static_cast<size_t>(chunk)), left - chunk);
    at += static_cast<size_t>(chunk);
  }
}

void ForkAndWrite(const Bench& bench) {
  const auto store = Open(bench, bench.options.directory);
  KvCache cache(bench.config, bench.layout, *store, bench.root);
  KvTimeline line = cache.Attach(bench.keys);
  std::printf("fork\n");
  std::vector<double> live;
  for (int i = 0; i < 51; ++i) live.push_back(Timed([&] { line.Fork(line.position()); }));
  Row("live position, median of 51", Median(live) * 1e3, "ms", "bar: 1");
  std::vector<double> stored;
  for (int i = 1; i <= 51; ++i) {
    const int64_t position = line.position() * i / 52;
    stored.push_back(Timed([&] { line.Fork(position); }));
  }
  Row("stored positions, tails on disk, median of 51", Median(stored) * 1e3, "ms");
  Row("stored positions, tails on disk, slowest", *std::max_element(stored.begin(), stored.end()) * 1e3,
      "ms");
  std::vector<double> again;
  for (int i = 1; i <= 51; ++i) {
    const int64_t position = line.position() * i / 52;
    again.push_back(Timed([&] { line.Fork(position); }));
  }
  Row("stored positions, tails in the page cache, median of 51", Median(again) * 1e3, "ms", "bar: 1");

  std::printf("16 forks, a block of their own each\n");
  const uint64_t before = store->Stats().disk_bytes;
  std::vector<KvTimeline> forks;
  for (int32_t i = 0; i < 16; ++i) {
    forks.push_back(line.Fork(line.position()));
    std::vector<int32_t> own(static_cast<size_t>(bench.layout.block_tokens), i);
    forks.back().sequence().Reserve(forks.back().position() + bench.layout.block_tokens);
    forks.back().sequence().Advance(bench.layout.block_tokens);
    forks.back().Fed(own, 0);
  }
  Must(store->Sync());
  Row("files / files of one", static_cast<double>(store->Stats().disk_bytes) / static_cast<double>(before),
      "x", "bar at 128K: 1.2");
  forks.clear();
  Must(store->Sync());

  std::printf("a turn of 1,024 tokens\n");
  for (const int64_t calls : {1, 16}) {
    KvTimeline turn = line.Fork(line.position());
    turn.Checkpoint();
    Must(store->Sync());
    const uint64_t written = store->Stats().written_bytes;
    double write = 0;
    for (int64_t c = 0; c < calls; ++c) {
      Feed(turn, bench, 1024 / calls);
      write += Timed([&] { Must(store->Write()); });
    }
    turn.Checkpoint();
    const double sync = Timed([&] { Must(store->Sync()); });
    const double bytes = static_cast<double>(store->Stats().written_bytes - written);
    const double needed =
        static_cast<double>(bench.block_bytes() * 8) + static_cast<double>(bench.tail_bytes);
    Row(std::to_string(calls) + " calls: written / (8 blocks + a tail)", bytes / needed, "x", "bar: 1.1");
    Row(std::to_string(calls) + " calls: writing", write * 1e3, "ms");
    Row(std::to_string(calls) + " calls: sync at the end", sync * 1e3, "ms");
    std::move(turn).Drop();
  }
}

uint64_t SumWords(const std::byte* at, size_t bytes) {
  uint64_t sums[4] = {};
  size_t i = 0;
  for (; i + 32 <= bytes; i += 32) {
    uint64_t words[4];
    std::memcpy(words, at + i, 32);
    for (size_t j = 0; j < 4; ++j) sums[j] += words[j];
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

void Scan(const Bench& bench) {
  const auto store = Open(bench, bench.options.directory);
  KvCache cache(bench.config, bench.layout, *store, bench.root);
  KvTimeline line = cache.Attach(bench.keys);
  int32_t layer = 0;
  while (bench.layout.index_plane[static_cast<size_t>(layer)] < 0) ++layer;
  const model::PlaneView view = line.sequence().index_keys(layer);
  const size_t run = static_cast<size_t>(view.entries_per_block) * static_cast<size_t>(view.entry_bytes);
  std::vector<std::byte> contiguous(run * bench.keys.size(), std::byte{1});
  volatile uint64_t sink = 0;
  std::vector<double> stored;
  std::vector<double> flat;
  for (int i = 0; i < 11; ++i) {
    stored.push_back(Timed([&] {
      for (size_t b = 0; b < bench.keys.size(); ++b) sink = sink + SumWords(view.blocks[b], run);
    }));
    flat.push_back(Timed([&] {
      for (size_t b = 0; b < bench.keys.size(); ++b) sink = sink + SumWords(contiguous.data() + b * run, run);
    }));
  }
  std::printf("index scan of one layer\n");
  Row("in the store's segments", Median(stored) * 1e3, "ms");
  Row("in one piece", Median(flat) * 1e3, "ms");
  Row("ratio", Median(stored) / Median(flat), "x", "bar at 1M: 1.2");
}

// --- What persistence costs a prefill: processor time of all threads, since wall time on a machine with
// other work says little about percents

double ProcessorSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

template <class F>
double ProcessorTimed(F&& work) {
  const double start = ProcessorSeconds();
  work();
  return ProcessorSeconds() - start;
}

double PrefillSeconds(model::Engine& engine, const std::vector<int32_t>& tokens, const std::string& directory,
                      bool persist) {
  std::filesystem::remove_all(directory);
  if (!persist) {
    model::Sequence sequence = engine.NewSequence();
    return ProcessorTimed([&] {
      for (size_t at = 0; at < tokens.size();) {
        const size_t n = std::min(tokens.size() - at, static_cast<size_t>(engine.max_rows()));
        const model::Feed feed{.sequence = &sequence, .tokens = std::span(tokens).subspan(at, n)};
        Must(engine.Forward({&feed, 1}));
        at += n;
      }
    });
  }
  const model::KvLayout& layout = engine.kv_layout();
  const auto tail = model::BoundaryTailBytes(engine.config(), layout.mode);
  const auto store =
      Must(BlockStore::Open(base::RealFileSystem(), {.directory = directory,
                                                     .planes = sessions::PlanesOf(layout),
                                                     .tail_bytes = static_cast<uint32_t>(tail)}));
  base::ThreadExecutor executor;
  sessions::KvFlusher flusher(executor, base::RealClock(), *store);
  KvCache cache(engine.config(), layout, *store, memory::BlockKey{});
  const double start = ProcessorSeconds();
  {
    KvTimeline line = cache.Attach(std::span<const int32_t>());
    const auto step = static_cast<size_t>(engine.max_rows());
    for (size_t at = 0; at < tokens.size(); at += step) {
      const size_t n = std::min(tokens.size() - at, step);
      Must(sessions::Prefill(engine, line, std::span(tokens).subspan(at, n), {}));
      flusher.Kick();
    }
    line.Checkpoint();
  }
  executor.Shutdown();
  Must(store->Sync());
  return ProcessorSeconds() - start;
}

void Persistence(const Options& options) {
  const auto checkpoint = Must(model::Checkpoint::Open(base::RealFileSystem(), options.model));
  const auto backend = model::MakeCpuBackend({.threads = 1});
  model::Engine engine(checkpoint->config(), checkpoint->weights(), *backend, {.max_rows = 512});
  std::vector<int32_t> tokens(static_cast<size_t>(std::min<int64_t>(options.tokens, 16'384)));
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>(base::RandomBits({.seed = 2, .position = i}, 0) %
                                     static_cast<uint64_t>(engine.config().vocab_size));
  const std::string directory = options.directory + "_prefill";
  std::vector<double> with;
  std::vector<double> without;
  PrefillSeconds(engine, {tokens.begin(), tokens.begin() + 512}, directory, false);  // warms the weights
  for (int i = 0; i < 5; ++i) {
    without.push_back(PrefillSeconds(engine, tokens, directory, false));
    with.push_back(PrefillSeconds(engine, tokens, directory, true));
  }
  std::filesystem::remove_all(directory);
  std::printf("prefill of %zu tokens of %s\n", tokens.size(), options.model.c_str());
  Row("processor time without a store, median of 5", Median(without), "s");
  Row("processor time with a store, written behind and synced", Median(with), "s");
  Row("cost of persistence", (Median(with) / Median(without) - 1) * 100, "%", "bar: 2");
}

int Run(const Options& options) {
  Bench bench{.options = options, .config = ConfigOf(options)};
  bench.layout = model::MakeKvLayout(bench.config, model::KvMode::kStored);
  bench.tail_bytes = model::BoundaryTailBytes(bench.config, model::KvMode::kStored);
  bench.tokens.resize(
      static_cast<size_t>(options.tokens / bench.layout.block_tokens * bench.layout.block_tokens));
  for (size_t i = 0; i < bench.tokens.size(); ++i)
    bench.tokens[i] = static_cast<int32_t>(base::RandomBits({.seed = 1, .position = i}, 0) & 0xFFF);
  bench.keys = memory::KeysOfBlocks(bench.root, bench.tokens, bench.layout.block_tokens);
  std::printf("%s, %zu tokens, block %lld B, tail %lld B\nceilings\n", options.shape.c_str(),
              bench.tokens.size(), static_cast<long long>(bench.layout.block_bytes()),
              static_cast<long long>(bench.tail_bytes));
  Row("memory, reading with one thread", MemoryReadRate() / 1e9, "GB/s");
  std::filesystem::remove_all(options.directory);
  {
    const auto store = Open(bench, options.directory);
    Fill(bench, *store);
  }
  DropFromCache(options.directory);
  const double cold = FileReadRate(options.directory);
  const double warm = FileReadRate(options.directory);
  std::printf("files, read end to end\n");
  Row("cold", cold / 1e6, "MB/s");
  Row("from the page cache", warm / 1e6, "MB/s");
  Attach(bench, "attach, from the page cache", warm);
  DropFromCache(options.directory);
  Attach(bench, "attach, cold", cold);
  ForkAndWrite(bench);
  Scan(bench);
  std::filesystem::remove_all(options.directory);
  if (!options.model.empty()) Persistence(options);
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  holdfast::Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc)
      holdfast::Die(
          "usage: kv_bench [--shape nano|flash4|flash] [--tokens N] [--dir DIR] "
          "[--model CHECKPOINT]");
    const std::string value = argv[i + 1];
    if (name == "--shape")
      options.shape = value;
    else if (name == "--tokens")
      options.tokens = std::stoll(value);
    else if (name == "--dir")
      options.directory = value;
    else if (name == "--model")
      options.model = value;
    else
      holdfast::Die("unknown option " + name);
  }
  if (options.tokens < 8192) holdfast::Die("--tokens is at least 8192");
  return holdfast::Run(options);
}
