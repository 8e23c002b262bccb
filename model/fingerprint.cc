#include "model/fingerprint.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/coding.h"

namespace holdfast::model {
namespace {

using base::AsBytes;
using base::Sha256;
using base::Sha256Digest;
using base::Status;
using base::StatusOr;

// --- The configuration ---

class TextWriter {
 public:
  void Line(const char* name, int64_t value) { Text(name, std::to_string(value)); }
  void Line(const char* name, float value) {
    char bits[9];
    std::snprintf(bits, sizeof(bits), "%08x", std::bit_cast<uint32_t>(value));
    Text(name, bits);
  }
  void Line(const char* name, std::span<const int32_t> values) {
    std::string list;
    for (const int32_t v : values) list += (list.empty() ? "" : ",") + std::to_string(v);
    Text(name, list);
  }
  void Line(const std::string& name, const RopeConfig& rope) {
    const auto& [theta, factor, original_max_positions, beta_fast, beta_slow] = rope;
    Line((name + ".theta").c_str(), theta);
    Line((name + ".factor").c_str(), factor);
    Line((name + ".original_max_positions").c_str(), int64_t{original_max_positions});
    Line((name + ".beta_fast").c_str(), beta_fast);
    Line((name + ".beta_slow").c_str(), beta_slow);
  }
  std::string Take() { return std::move(text_); }

 private:
  void Text(const char* name, const std::string& value) { text_ += std::string(name) + "=" + value + "\n"; }
  std::string text_;
};

// --- Shards ---

constexpr size_t kPageBytes = 4096;
constexpr size_t kSampledPages = 256;
constexpr size_t kChunkBytes = size_t{4} << 20;
constexpr uint64_t kAheadBytes = uint64_t{32} << 20;

// Hashes a shard and tells how far it is.
class ShardReader {
 public:
  ShardReader(const WeightShard& shard, const WeightsHashOptions& options, uint64_t& done, uint64_t total)
      : shard_(shard), bytes_(shard.mapping->bytes()), options_(options), done_(done), total_(total) {}

  StatusOr<Sha256Digest> Full() {
    hash_.Update(AsBytes("holdfast shard, all\n"));
    HF_RETURN_IF_ERROR(Add(0, bytes_.size()));
    return hash_.Finish();
  }

  // The header names and places every tensor; the pages are spread evenly over what follows it.
  StatusOr<Sha256Digest> Sampled() {
    const size_t header = HeaderBytes(bytes_);
    const auto pages = SampledPages(bytes_.size(), header);
    for (const size_t page : pages) shard_.mapping->WillNeed(page, kPageBytes);
    std::string size;
    base::PutFixed64(size, bytes_.size());
    hash_.Update(AsBytes("holdfast shard, sampled\n"));
    hash_.Update(AsBytes(size));
    HF_RETURN_IF_ERROR(Add(0, header));
    for (const size_t page : pages) HF_RETURN_IF_ERROR(Add(page, kPageBytes));
    return hash_.Finish();
  }

  static uint64_t SampledBytes(std::span<const std::byte> bytes) {
    const size_t header = HeaderBytes(bytes);
    return header + SampledPages(bytes.size(), header).size() * kPageBytes;
  }

 private:
  // Checkpoint::Open has checked it.
  static size_t HeaderBytes(std::span<const std::byte> bytes) {
    HF_CHECK(bytes.size() >= 8);
    const auto header = base::LoadLittle<uint64_t>(bytes.data());
    return static_cast<size_t>(std::min<uint64_t>(header, bytes.size() - 8) + 8);
  }

  static std::vector<size_t> SampledPages(size_t size, size_t header) {
    std::vector<size_t> pages;
    if (size < header + kPageBytes) return pages;
    const size_t last = size - kPageBytes;
    for (size_t i = 0; i < kSampledPages; ++i) {
      pages.push_back(header + static_cast<size_t>(uint64_t{last - header} * i / (kSampledPages - 1)));
    }
    return pages;
  }

  Status Add(size_t offset, size_t count) {
    for (size_t at = offset; at < offset + count;) {
      if (options_.stop.stop_requested()) return absl::CancelledError("hashing of the weights was stopped");
      const size_t n = std::min(kChunkBytes, offset + count - at);
      if (count > kChunkBytes) shard_.mapping->WillNeed(at + n, kAheadBytes);
      hash_.Update(bytes_.subspan(at, n));
      at += n;
      done_ += n;
      if (options_.progress) options_.progress(done_, total_);
    }
    return {};
  }

  const WeightShard& shard_;
  const std::span<const std::byte> bytes_;
  const WeightsHashOptions& options_;
  uint64_t& done_;
  const uint64_t total_;
  Sha256 hash_;
};

// --- The cache ---

constexpr std::string_view kCacheTitle = "holdfast weights hashes 1\n";
constexpr uint64_t kCacheBytesMax = 1 << 20;
constexpr size_t kCacheEntriesMax = 4096;

struct CacheKey {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size_bytes = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  bool sampled = false;
  auto operator<=>(const CacheKey&) const = default;
};
using CacheEntries = std::map<CacheKey, Sha256Digest>;

CacheKey KeyOf(const WeightShard& shard, bool sampled) {
  const base::FileStat& s = shard.stat;
  return {s.device, s.inode, s.size_bytes, s.mtime_ns, s.ctime_ns, sampled};
}

std::string ChecksumLine(std::string_view text) {
  char line[32];
  std::snprintf(line, sizeof(line), "xxh3 %016llx\n",
                static_cast<unsigned long long>(base::Xxh3(AsBytes(text))));
  return line;
}

std::string FormatCache(const CacheEntries& entries) {
  std::string text(kCacheTitle);
  for (const auto& [k, digest] : entries) {
    text += std::to_string(k.device) + " " + std::to_string(k.inode) + " " + std::to_string(k.size_bytes) +
            " " + std::to_string(k.mtime_ns) + " " + std::to_string(k.ctime_ns) +
            (k.sampled ? " sampled " : " all ") + base::ToHex(digest) + "\n";
  }
  return text + ChecksumLine(text);
}

// Empty when there is none or any of it is not as it was written: the checksum vouches for the lines.
CacheEntries ReadCache(const WeightsHashCache& cache) {
  CacheEntries entries;
  if (cache.fs == nullptr) return entries;
  const auto content = cache.fs->ReadFile(cache.path, kCacheBytesMax);
  if (!content.ok()) return entries;
  const size_t checksum_bytes = ChecksumLine("").size();
  if (content->size() < checksum_bytes || !content->starts_with(kCacheTitle)) return entries;
  const std::string text = content->substr(0, content->size() - checksum_bytes);
  if (content->substr(text.size()) != ChecksumLine(text)) return entries;
  for (size_t at = kCacheTitle.size(); at < text.size();) {
    const size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    unsigned long long device = 0;
    unsigned long long inode = 0;
    unsigned long long size = 0;
    long long mtime = 0;
    long long ctime = 0;
    char kind[8];
    char hex[65];
    if (std::sscanf(line.c_str(), "%llu %llu %llu %lld %lld %7s %64s", &device, &inode, &size, &mtime, &ctime,
                    kind, hex) != 7) {
      return {};
    }
    const auto digest = base::Sha256FromHex(hex);
    if (!digest.ok()) return {};
    entries[{device, inode, size, mtime, ctime, std::string_view(kind) == "sampled"}] = *digest;
  }
  return entries;
}

// Added to what the file has now. Without room for all, older entries of other checkpoints go: they are the
// ones that can be had again.
void AddToCache(const WeightsHashCache& cache, const CacheEntries& added) {
  if (cache.fs == nullptr || added.empty()) return;
  CacheEntries entries = added;
  for (const auto& entry : ReadCache(cache)) {
    if (entries.size() < kCacheEntriesMax) entries.insert(entry);
  }
  // A hash that is not kept is computed again.
  WriteFileAtomically(*cache.fs, cache.path, AsBytes(FormatCache(entries))).IgnoreError();
}

// --- All shards ---

struct ShardJob {
  const WeightShard* shard;
  bool sampled;
};

std::vector<ShardJob> JobsOf(const ModelWeights& weights, HashDepth depth, uint64_t sample_above_bytes) {
  std::vector<ShardJob> jobs;
  for (const WeightShard& shard : weights.shards) {
    const bool large = shard.mapping->bytes().size() > sample_above_bytes;
    jobs.push_back({&shard, depth == HashDepth::kSampled && large});
  }
  return jobs;
}

WeightsHash Combine(std::span<const ShardJob> jobs, const CacheEntries& digests) {
  Sha256 hash;
  hash.Update(AsBytes("holdfast weights\n"));
  WeightsHash result;
  for (const ShardJob& job : jobs) {
    hash.Update(digests.at(KeyOf(*job.shard, job.sampled)));
    result.provisional |= job.sampled;
  }
  result.digest = hash.Finish();
  return result;
}

}  // namespace

// The bindings name every field, so that a new one does not compile until somebody has decided about it.
std::string ConfigText(const ModelConfig& config) {
  const auto& [vocab_size, max_positions, hidden_size, num_layers, bos_token_id, eos_token_id, num_heads,
               head_dim, rope_dim, q_lora_rank, o_lora_rank, o_groups, sliding_window, compress_ratios,
               index_heads, index_head_dim, index_topk, window_rope, compress_rope, num_experts,
               experts_per_token, num_hash_layers, moe_inter_size, routed_scale, swiglu_limit, hc_mult,
               hc_sinkhorn_iters, hc_eps, rms_eps, fp8_block_rows, fp8_block_cols, draft, num_draft_stages,
               dspark_markov_rank, dspark_target_layers] = config;
  TextWriter w;
  w.Line("vocab_size", int64_t{vocab_size});
  w.Line("hidden_size", int64_t{hidden_size});
  w.Line("num_layers", int64_t{num_layers});
  w.Line("num_heads", int64_t{num_heads});
  w.Line("head_dim", int64_t{head_dim});
  w.Line("rope_dim", int64_t{rope_dim});
  w.Line("q_lora_rank", int64_t{q_lora_rank});
  w.Line("o_lora_rank", int64_t{o_lora_rank});
  w.Line("o_groups", int64_t{o_groups});
  w.Line("sliding_window", int64_t{sliding_window});
  w.Line("compress_ratios", std::span(compress_ratios).first(static_cast<size_t>(num_layers)));
  w.Line("index_heads", int64_t{index_heads});
  w.Line("index_head_dim", int64_t{index_head_dim});
  w.Line("index_topk", int64_t{index_topk});
  w.Line("window_rope", window_rope);
  w.Line("compress_rope", compress_rope);
  w.Line("num_experts", int64_t{num_experts});
  w.Line("experts_per_token", int64_t{experts_per_token});
  w.Line("num_hash_layers", int64_t{num_hash_layers});
  w.Line("moe_inter_size", int64_t{moe_inter_size});
  w.Line("routed_scale", routed_scale);
  w.Line("swiglu_limit", swiglu_limit);
  w.Line("hc_mult", int64_t{hc_mult});
  w.Line("hc_sinkhorn_iters", int64_t{hc_sinkhorn_iters});
  w.Line("hc_eps", hc_eps);
  w.Line("rms_eps", rms_eps);
  w.Line("fp8_block_rows", int64_t{fp8_block_rows});
  w.Line("fp8_block_cols", int64_t{fp8_block_cols});
  return w.Take();
}

StatusOr<WeightsHash> HashWeights(const ModelWeights& weights, HashDepth depth,
                                  const WeightsHashOptions& options) {
  const std::vector<ShardJob> jobs = JobsOf(weights, depth, options.sample_above_bytes);
  CacheEntries digests = ReadCache(options.cache);
  std::vector<ShardJob> missing;
  uint64_t total = 0;
  for (const ShardJob& job : jobs) {
    if (digests.contains(KeyOf(*job.shard, job.sampled))) continue;
    missing.push_back(job);
    const auto bytes = job.shard->mapping->bytes();
    total += job.sampled ? ShardReader::SampledBytes(bytes) : bytes.size();
  }
  uint64_t done = 0;
  for (const ShardJob& job : missing) {
    ShardReader reader(*job.shard, options, done, total);
    const StatusOr<Sha256Digest> digest = job.sampled ? reader.Sampled() : reader.Full();
    HF_RETURN_IF_ERROR(CheckShards(weights));  // what was hashed may be zeros that the file does not hold
    HF_RETURN_IF_ERROR(digest.status());
    const CacheKey key = KeyOf(*job.shard, job.sampled);
    digests[key] = *digest;
    AddToCache(options.cache, {{key, *digest}});
  }
  return Combine(jobs, digests);
}

std::optional<WeightsHash> CachedWeightsHash(const ModelWeights& weights, const WeightsHashCache& cache) {
  const std::vector<ShardJob> jobs = JobsOf(weights, HashDepth::kFull, 0);
  const CacheEntries digests = ReadCache(cache);
  for (const ShardJob& job : jobs) {
    if (!digests.contains(KeyOf(*job.shard, job.sampled))) return std::nullopt;
  }
  return Combine(jobs, digests);
}

Sha256Digest RootKey(std::string_view config_text, const Sha256Digest& weights_hash,
                     int32_t kv_layout_version, std::string_view numerics_id) {
  std::string text = "holdfast kv root\n";
  base::PutLengthPrefixed(text, config_text);
  base::PutLengthPrefixed(text, base::AsText(weights_hash));
  base::PutFixed32(text, static_cast<uint32_t>(kv_layout_version));
  base::PutLengthPrefixed(text, numerics_id);
  return base::Sha256Of(AsBytes(text));
}

}  // namespace holdfast::model
