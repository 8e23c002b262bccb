// Prefill and decode of a checkpoint beside the machine's own ceilings, measured in the same run.
//
//   model_bench DIR [--prefill 512] [--decode 32] [--threads N]
//
// Prints: read bandwidth and float32 FMA rate with the same threads; prefill in one chunk and token by token,
// and their ratio; decode; what share of a ceiling that is. Bytes of a decoded token: every weight that it
// touches, once.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/parallel.h"
#include "base/process.h"
#include "base/random.h"
#include "model/engine.h"

namespace holdfast {
namespace {

struct Options {
  std::string directory;
  int32_t prefill = 512;
  int32_t decode = 32;
  int threads = 0;
};

double Seconds() { return static_cast<double>(base::RealClock().MonotonicNow().ns) * 1e-9; }

// Bytes per second of summing a buffer far larger than the caches.
double ReadBandwidth(base::ThreadPool& pool) {
  std::vector<uint64_t> buffer(size_t{64} << 20, 1);  // 512 MiB
  const size_t tasks = 64;
  const size_t chunk = buffer.size() / tasks;
  std::vector<uint64_t> sums(tasks * 8);
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    const double start = Seconds();
    pool.ParallelFor(tasks, [&](size_t t, int) {
      uint64_t s[8] = {};
      for (size_t i = t * chunk; i < (t + 1) * chunk; i += 8) {
        for (size_t j = 0; j < 8; ++j) s[j] += buffer[i + j];
      }
      for (size_t j = 0; j < 8; ++j) sums[t * 8 + j] = s[j];
    });
    best = std::max(best, static_cast<double>(buffer.size() * 8) / (Seconds() - start));
  }
  return best;
}

// Float32 multiply-adds per second of the product kernel on one block that stays in cache: its own best case.
double FmaRate(model::Backend& backend) {
  const int32_t n = 64;
  const int32_t k = 1024;
  std::vector<float> w(size_t{1024} * k, 0.5f);
  std::vector<float> x(static_cast<size_t>(n) * k, 0.25f);
  std::vector<float> out(static_cast<size_t>(n) * 1024);
  const model::Matrix m{.format = model::MatrixFormat::kF32,
                        .rows = 1024,
                        .cols = k,
                        .data = reinterpret_cast<const std::byte*>(w.data())};
  const model::LinearProduct product[] = {{&m, out.data()}};
  backend.Linear({n, k, x.data(), product});
  const double start = Seconds();
  int rounds = 0;
  while (Seconds() - start < 0.5) {
    backend.Linear({n, k, x.data(), product});
    ++rounds;
  }
  return static_cast<double>(rounds) * n * k * 1024 / (Seconds() - start);
}

// What one decoded token reads, and how many multiply-adds it takes, from the matrices of the checkpoint.
struct Work {
  double bytes = 0;
  double multiply_adds = 0;
};

class WorkCounter : public model::WeightVisitor {
 public:
  explicit WorkCounter(const model::ModelConfig& config) : c_(config) {}
  base::Status Visit(const model::TensorSpec& spec, model::TensorSlot) override {
    if (spec.cols == 0 || spec.part == model::Part::kDraft || spec.part == model::Part::kEmbedding) return {};
    const double elements = static_cast<double>(spec.rows) * static_cast<double>(spec.cols);
    switch (spec.kind) {
      case model::TensorKind::kMatrix:
        Add(elements, 2.0);
        break;
      case model::TensorKind::kF32Matrix:
        Add(elements, 4.0);
        break;
      case model::TensorKind::kQuantised:
        Add(elements, 1.0);
        break;
      case model::TensorKind::kExpertMatrix:
        Add(elements * c_.experts_per_token / c_.num_experts, 0.53125);
        break;
      default:
        break;
    }
    return {};
  }
  Work work;

 private:
  void Add(double elements, double bytes_each) {
    work.bytes += elements * bytes_each;
    work.multiply_adds += elements;
  }
  const model::ModelConfig& c_;
};

std::vector<int32_t> RandomTokens(int32_t count, int32_t vocab) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] =
        static_cast<int32_t>(base::RandomBits({.seed = 1, .position = i}, 0) % static_cast<uint64_t>(vocab));
  }
  return tokens;
}

class Bench {
 public:
  Bench(const model::Checkpoint& checkpoint, const Options& options)
      : checkpoint_(checkpoint),
        options_(options),
        threads_(options.threads > 0 ? options.threads : base::PhysicalCoreCount()),
        backend_(model::MakeCpuBackend({.threads = threads_})),
        engine_(checkpoint.config(), checkpoint.weights(), *backend_,
                {.max_rows = std::max(options.prefill, 1)}),
        logits_(static_cast<size_t>(checkpoint.config().vocab_size)) {}

  base::Status Run() {
    double bandwidth = 0;
    {
      base::ThreadPool pool(threads_);
      bandwidth = ReadBandwidth(pool);
    }
    const double fma = FmaRate(*backend_);
    WorkCounter counter(checkpoint_.config());
    model::ModelWeights scratch;
    HF_RETURN_IF_ERROR(model::WalkWeights(checkpoint_.config(), scratch, counter));
    const Work& work = counter.work;
    std::printf("threads %d   read %.1f GB/s   float32 kernel %.1f G multiply-adds/s\n", threads_,
                bandwidth * 1e-9, fma * 1e-9);
    std::printf("a decoded token: %.1f MB of weights, %.2f G multiply-adds\n", work.bytes * 1e-6,
                work.multiply_adds * 1e-9);
    const auto tokens = RandomTokens(options_.prefill + options_.decode, checkpoint_.config().vocab_size);
    const auto prompt = std::span(tokens).first(static_cast<size_t>(options_.prefill));
    model::Sequence warm = engine_.NewSequence();
    HF_RETURN_IF_ERROR(Feed(warm, prompt));  // touches the weights
    model::Sequence sequence = engine_.NewSequence();
    double start = Seconds();
    HF_RETURN_IF_ERROR(Feed(sequence, prompt));
    const double prefill = options_.prefill / (Seconds() - start);
    start = Seconds();
    for (int32_t i = 0; i < options_.decode; ++i) {
      HF_RETURN_IF_ERROR(
          Feed(sequence, std::span(tokens).subspan(prompt.size() + static_cast<size_t>(i), 1)));
    }
    const double decode = options_.decode / (Seconds() - start);
    const double decode_bound = bandwidth / work.bytes;
    const double prefill_bound = fma / work.multiply_adds;
    std::printf("prefill %4d  %9.1f tok/s   %5.1f%% of %.1f (float32 multiply-adds)\n", options_.prefill,
                prefill, 100 * prefill / prefill_bound, prefill_bound);
    std::printf("decode  %4d  %9.1f tok/s   %5.1f%% of %.1f (bytes)\n", options_.decode, decode,
                100 * decode / decode_bound, decode_bound);
    std::printf("prefill in one chunk is %.1f times as fast as token by token\n", prefill / decode);
    return {};
  }

 private:
  base::Status Feed(model::Sequence& sequence, std::span<const int32_t> tokens) {
    const model::Feed feed{
        .sequence = &sequence, .tokens = tokens, .logits = model::LogitRows::kLast, .logits_out = logits_};
    return engine_.Forward({&feed, 1});
  }

  const model::Checkpoint& checkpoint_;
  const Options& options_;
  const int threads_;
  std::unique_ptr<model::Backend> backend_;
  model::Engine engine_;
  std::vector<float> logits_;
};

int Usage() {
  std::fprintf(stderr, "usage: model_bench DIR [--prefill 512] [--decode 32] [--threads N]\n");
  return 2;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg.rfind("--", 0) != 0) {
      options.directory = arg;
      continue;
    }
    const int value = i + 1 < argc ? std::atoi(argv[++i]) : 0;
    if (value < 1) return Usage();
    if (arg == "--prefill") {
      options.prefill = value;
    } else if (arg == "--decode") {
      options.decode = value;
    } else if (arg == "--threads") {
      options.threads = value;
    } else {
      return Usage();
    }
  }
  if (options.directory.empty()) return Usage();
  auto checkpoint = model::Checkpoint::Open(base::RealFileSystem(), options.directory);
  const base::Status status = checkpoint.ok() ? Bench(**checkpoint, options).Run() : checkpoint.status();
  if (!status.ok()) std::fprintf(stderr, "model_bench: %s\n", base::Message(status).c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::Main(argc, argv); }
