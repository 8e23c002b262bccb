// Single operations against the official code's: every file of the golden units, on both backends. (The
// rotary tables are in rope_test.cc.) The bound is on rms(difference) / rms(expected); for the CPU backend it
// follows from what it rounds: activations of quantised products, and KV entries to FP8 and BF16.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "model/engine.h"
#include "model/number_formats.h"
#include "tests/model/golden_testing.h"

namespace holdfast::model {
namespace {

enum class Kind { kReference, kCpu };

constexpr double kExact = 2e-6;           // float32 sums in another order
constexpr double kActivation = 0.04;      // activations with 3 mantissa bits on one side or the other
constexpr double kTwoActivations = 0.06;  // one after the other
constexpr double kEntry = 0.03;           // KV entries in FP8 and BF16

double RelativeRms(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2.0);
    size += std::pow(static_cast<double>(want[i]), 2.0);
  }
  return std::sqrt(difference / size);
}

Matrix F32Matrix(std::span<const float> values, int64_t rows, int64_t cols) {
  return {.rows = rows, .cols = cols, .data = reinterpret_cast<const std::byte*>(values.data())};
}

Matrix Fp8Matrix(const TensorView& codes, std::span<const float> scales) {
  return {.format = MatrixFormat::kFp8,
          .scale_format = ScaleFormat::kF32,
          .rows = codes.shape[0],
          .cols = codes.shape[1],
          .data = codes.data.data(),
          .scales = reinterpret_cast<const std::byte*>(scales.data()),
          .block_rows = 128,
          .block_cols = 128};
}

// Powers of two as UE8M0.
std::vector<std::byte> ScaleBytes(std::span<const float> scales) {
  std::vector<std::byte> bytes;
  for (const float s : scales) bytes.push_back(static_cast<std::byte>(std::bit_cast<uint32_t>(s) >> 23));
  return bytes;
}

Matrix Fp4Matrix(const std::byte* codes, const std::byte* scales, int64_t rows, int64_t cols) {
  return {.format = MatrixFormat::kFp4,
          .scale_format = ScaleFormat::kE8m0,
          .rows = rows,
          .cols = cols,
          .data = codes,
          .scales = scales,
          .block_cols = 32};
}

Vector ToVector(std::span<const float> values) { return {values.begin(), values.end()}; }

void Rotate(float* x, std::span<const float> cos, std::span<const float> sin, float sign) {
  for (size_t i = 0; i < cos.size(); ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - sign * b * sin[i];
    x[2 * i + 1] = sign * a * sin[i] + b * cos[i];
  }
}

void Hadamard(std::span<float> x) {
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    double sum = 0;
    for (size_t j = 0; j < x.size(); ++j) sum += (std::popcount(i & j) % 2 == 0 ? 1.0 : -1.0) * x[j];
    y[i] = static_cast<float>(sum / std::sqrt(static_cast<double>(x.size())));
  }
  std::copy(y.begin(), y.end(), x.begin());
}

class UnitsTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GoldenDirectory().empty()) GTEST_SKIP() << "golden data not present";
    backend_ = MakeOne();
  }
  std::unique_ptr<Backend> MakeOne() const {
    return reference() ? MakeReferenceBackend({}) : MakeCpuBackend({.threads = 2, .pin_threads = false});
  }
  bool reference() const { return GetParam() == Kind::kReference; }
  KvMode mode() const { return backend_->kv_mode(); }
  void Load(const std::string& name) {
    file_ = TensorFile::Open(GoldenDirectory() + "/units/unit_" + name + ".safetensors");
    if (file_->Has("dims")) dims_ = file_->Ints("dims");
  }
  std::span<const float> F(const std::string& name) const { return file_->Floats(name); }
  void ExpectClose(std::span<const float> got, std::span<const float> want, double reference_bound,
                   double cpu_bound) const {
    const double error = RelativeRms(got, want);
    RecordProperty("relative_rms", std::to_string(error));
    EXPECT_LE(error, reference() ? reference_bound : cpu_bound);
  }
  std::vector<float> Linear(std::span<const float> x, int32_t n, const Matrix& w) {
    std::vector<float> out(static_cast<size_t>(n * w.rows));
    const LinearProduct product[] = {{&w, out.data()}};
    backend_->Linear({n, static_cast<int32_t>(w.cols), x.data(), product});
    return out;
  }
  // Entries of one fresh sequence from given rows: pooled, normalised, rotated.
  std::vector<std::byte> Compress(std::span<const float> kv, std::vector<float> score, int32_t n, int32_t d,
                                  const Compressor& weights, bool index_keys, const RopeTable& rope) {
    const EntryCodec entry_codec(mode(), d, 2 * rope.pairs());
    const IndexCodec index_codec(mode(), d);
    const int32_t bytes = index_keys ? index_codec.bytes() : entry_codec.bytes();
    std::vector<std::byte> out(static_cast<size_t>(n / 4 * bytes));
    std::byte* const blocks[] = {out.data()};
    std::vector<float> pending(static_cast<size_t>(2 * 8 * 2 * d));
    const CompressSegment segment{
        {0, n, 0}, {pending.data(), pending.data() + 8 * 2 * d}, {blocks, n / 4, bytes}};
    backend_->Compress({.segments = {&segment, 1},
                        .ratio = 4,
                        .d = d,
                        .index_keys = index_keys,
                        .kv = kv.data(),
                        .score = score.data(),
                        .weights = weights,
                        .eps = 1e-6f,
                        .rope_dim = 2 * rope.pairs(),
                        .rope = rope,
                        .entry_codec = entry_codec,
                        .index_codec = index_codec});
    return out;
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<TensorFile> file_;
  std::vector<int32_t> dims_;
};

TEST_P(UnitsTest, ActQuantIsTheEntryCodec) {
  Load("act_quant");
  const EntryCodec codec(KvMode::kStored, dims_[1] + 2, 2);
  const auto width = static_cast<size_t>(dims_[1]);
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes()));
  for (size_t r = 0; r < static_cast<size_t>(dims_[0]); ++r) {
    std::vector<float> row = ToVector(F("x").subspan(r * width, width));
    row.resize(width + 2);
    codec.Encode(row.data(), bytes.data());
    codec.Decode(bytes.data(), row.data());
    EXPECT_EQ(MaxAbsDifference(std::span(row).first(width), F("y_ref").subspan(r * width, width)), 0);
  }
}

TEST_P(UnitsTest, ActQuantFp4IsTheIndexCodec) {
  Load("act_quant_fp4");
  const IndexCodec codec(KvMode::kStored, dims_[1]);
  const auto width = static_cast<size_t>(dims_[1]);
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes()));
  std::vector<float> row(width);
  for (size_t r = 0; r < static_cast<size_t>(dims_[0]); ++r) {
    codec.Encode(&F("x")[r * width], bytes.data());
    codec.Decode(bytes.data(), row.data());
    EXPECT_EQ(MaxAbsDifference(row, F("y_ref").subspan(r * width, width)), 0);
  }
}

TEST_P(UnitsTest, Fp8AndFp4Products) {
  for (const std::string name : {"fp8_gemm", "fp4_gemm"}) {
    // Only experts are FP4, and the CPU backend takes them in Experts alone: see ExpertsSum.
    if (name == "fp4_gemm" && !reference()) continue;
    Load(name);
    backend_ = MakeOne();  // a matrix may be remembered by its address, which the new file may reuse
    const auto n = dims_[0];
    const auto k = static_cast<size_t>(dims_[2]);
    const TensorView& a = file_->Tensor("A_fp8");
    std::vector<float> x(a.data.size());
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = E4m3ToF32(static_cast<uint8_t>(a.data[i])) * F("a_s")[i / k * (k / 128) + i % k / 128];
    }
    std::vector<std::byte> scales;
    Matrix w;
    if (name == "fp8_gemm") {
      w = Fp8Matrix(file_->Tensor("B_fp8"), F("b_s"));
    } else {
      scales = ScaleBytes(F("b_s"));
      w = Fp4Matrix(file_->Tensor("B_fp4").data.data(), scales.data(), dims_[1], dims_[2]);
    }
    ExpectClose(Linear(x, n, w), F("C_ref"), kExact, kActivation);
  }
}

TEST_P(UnitsTest, GroupedProduct) {
  Load("ogroup_gemm");
  const Matrix w = F32Matrix(F("wo_a"), dims_[1] * dims_[2], dims_[3]);
  std::vector<float> out(static_cast<size_t>(dims_[0] * w.rows));
  backend_->GroupedLinear({dims_[0], dims_[1], F("o").data(), w, out.data()});
  ExpectClose(out, F("out_ref"), kExact, kExact);
}

TEST_P(UnitsTest, RmsNorm) {
  Load("rmsnorm");
  std::vector<float> y(F("x").size());
  backend_->RmsNorm({dims_[0], dims_[1], F("x").data(), F("weight").data(), F("eps")[0], y.data()});
  ExpectClose(y, F("y_w"), kExact, kExact);
  const std::vector<float> ones(static_cast<size_t>(dims_[1]), 1.0f);
  backend_->RmsNorm({dims_[0], dims_[1], F("x").data(), ones.data(), F("eps")[0], y.data()});
  ExpectClose(y, F("y_now"), kExact, kExact);
}

// Query normalises first: the rotation of x is its rms times what comes out.
TEST_P(UnitsTest, RotaryForward) {
  Load("rope");
  const int32_t n = dims_[0];
  const int32_t d = dims_[1];
  std::vector<float> q = ToVector(F("x"));
  backend_->Query({n, 1, d, d, 0.0f, F("cos").data(), F("sin").data(), q.data()});
  for (int32_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int32_t c = 0; c < d; ++c) sum += std::pow(F("x")[size_t(i * d + c)], 2.0);
    for (int32_t c = 0; c < d; ++c) q[size_t(i * d + c)] *= static_cast<float>(std::sqrt(sum / d));
  }
  ExpectClose(q, F("y_fwd"), kExact, kExact);
}

// Attention to one's own row alone gives that row, rotated back.
TEST_P(UnitsTest, RotaryInverse) {
  Load("rope");
  const int32_t n = dims_[0];
  const int32_t rope = dims_[1];
  const int32_t d = rope + 64;
  const EntryCodec codec(mode(), d, rope);
  std::vector<std::byte> rows(static_cast<size_t>(n * codec.bytes()));
  std::vector<AttentionSegment> segments;
  for (int32_t i = 0; i < n; ++i) {
    std::vector<float> row(static_cast<size_t>(d));
    std::copy_n(&F("x")[size_t(i * rope)], rope, row.begin() + 64);
    codec.Encode(row.data(), &rows[size_t(i * codec.bytes())]);
    segments.push_back({.segment = {i, 1, 0}});
  }
  const std::vector<float> q(static_cast<size_t>(n * d), 0.5f);
  const float sink[] = {-1e30f};
  std::vector<float> o(q.size());
  const std::vector<int32_t> none(static_cast<size_t>(n));
  backend_->Attention({.segments = segments,
                       .heads = 1,
                       .window = 8,
                       .ratio = 0,
                       .topk = 0,
                       .selected = nullptr,
                       .selected_count = none.data(),
                       .q = q.data(),
                       .rows = rows.data(),
                       .codec = codec,
                       .sink = sink,
                       .cos = F("cos").data(),
                       .sin = F("sin").data(),
                       .o = o.data()});
  std::vector<float> got;
  for (int32_t i = 0; i < n; ++i) got.insert(got.end(), o.begin() + i * d + 64, o.begin() + (i + 1) * d);
  ExpectClose(got, F("y_inv"), kExact, 0x1p-8);  // rotated dims are BF16
}

TEST_P(UnitsTest, HadamardOfIndexQueries) {
  Load("hadamard");
  const int32_t n = dims_[0];
  const int32_t d = dims_[1];
  const IndexCodec codec(mode(), d);
  const std::vector<float> cos(static_cast<size_t>(n * 32), 1.0f);
  const std::vector<float> sin(cos.size(), 0.0f);
  std::vector<float> q = ToVector(F("x"));
  std::vector<std::byte> rows(static_cast<size_t>(n * codec.bytes()));
  backend_->IndexQuery({n, 1, 64, cos.data(), sin.data(), q.data(), codec, rows.data()});
  std::vector<float> got(q.size());
  std::vector<float> want(q.size());
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes()));
  for (int32_t i = 0; i < n; ++i) {
    codec.Decode(&rows[size_t(i * codec.bytes())], &got[size_t(i * d)]);
    codec.Encode(&F("y")[size_t(i * d)], bytes.data());
    codec.Decode(bytes.data(), &want[size_t(i * d)]);
  }
  ExpectClose(got, want, kExact, 0.01);  // a code or two may flip at a tie
}

// The whole compressor, main form. The file brings its own angles, so ours are turned back first.
TEST_P(UnitsTest, CompressorMakesMainEntries) {
  Load("compressor_full");
  const int32_t d = dims_[2];
  const RopeTable rope({}, dims_[4]);
  const Compressor weights{.ape = ToVector(F("ape")), .norm = ToVector(F("norm_w"))};
  const auto kv = Linear(F("x"), dims_[0], F32Matrix(F("wkv"), 2 * d, dims_[1]));
  const auto score = Linear(F("x"), dims_[0], F32Matrix(F("wgate"), 2 * d, dims_[1]));
  const auto entries = Compress(kv, score, dims_[0], d, weights, false, rope);
  const EntryCodec codec(mode(), d, dims_[4]);
  const EntryCodec quantised(KvMode::kQuantised, d, dims_[4]);
  std::vector<float> got(F("out").size());
  std::vector<float> cos(32);
  std::vector<float> sin(32);
  for (size_t e = 0; e < 2; ++e) {
    float* row = &got[e * static_cast<size_t>(d)];
    codec.Decode(&entries[e * static_cast<size_t>(codec.bytes())], row);
    rope.Fill(static_cast<int64_t>(4 * e), cos.data(), sin.data());
    Rotate(row + codec.nope(), cos, sin, -1.0f);
    Rotate(row + codec.nope(), F("cos").subspan(e * 32, 32), F("sin").subspan(e * 32, 32), 1.0f);
    std::vector<std::byte> bytes(static_cast<size_t>(quantised.bytes()));
    quantised.Encode(row, bytes.data());
    quantised.Decode(bytes.data(), row);
  }
  ExpectClose(got, F("out"), 0x1p-8, 0x1p-8);  // the file's rotated dims are float32 or BF16
}

// The indexer's form: Hadamard and FP4 at the end.
TEST_P(UnitsTest, CompressorMakesIndexKeys) {
  if (!reference()) GTEST_SKIP() << "FP4 keys cannot be turned to the file's angles";
  Load("compressor_full_rotate");
  const int32_t d = dims_[2];
  const RopeTable rope({}, dims_[4]);
  const Compressor weights{.ape = ToVector(F("ape")), .norm = ToVector(F("norm_w"))};
  const auto kv = Linear(F("x"), dims_[0], F32Matrix(F("wkv"), 2 * d, dims_[1]));
  const auto score = Linear(F("x"), dims_[0], F32Matrix(F("wgate"), 2 * d, dims_[1]));
  const auto entries = Compress(kv, score, dims_[0], d, weights, true, rope);
  const IndexCodec quantised(KvMode::kQuantised, d);
  std::vector<float> got(F("out").size());
  std::vector<float> cos(32);
  std::vector<float> sin(32);
  for (size_t e = 0; e < 2; ++e) {
    const std::span<float> row = std::span(got).subspan(e * size_t(d), size_t(d));
    IndexCodec(KvMode::kF32, d).Decode(&entries[e * size_t(d) * 4], row.data());
    Hadamard(row);  // its own inverse
    rope.Fill(static_cast<int64_t>(4 * e), cos.data(), sin.data());
    Rotate(row.data() + d - 64, cos, sin, -1.0f);
    Rotate(row.data() + d - 64, F("cos").subspan(e * 32, 32), F("sin").subspan(e * 32, 32), 1.0f);
    Hadamard(row);
    std::vector<std::byte> bytes(static_cast<size_t>(quantised.bytes()));
    quantised.Encode(row.data(), bytes.data());
    quantised.Decode(bytes.data(), row.data());
  }
  ExpectClose(got, F("out"), kExact, kExact);
}

// Pooling alone: what Compress normalises, up to the row's rms.
TEST_P(UnitsTest, PoolingWithOverlap) {
  if (!reference()) GTEST_SKIP() << "64 channels leave no room for a stored entry's parts";
  Load("compressor_overlap");
  const int32_t d = dims_[1];
  const RopeTable rope({}, 2);
  const Compressor weights{.ape = ToVector(F("ape")), .norm = Vector(size_t(d), 1.0f)};
  const auto entries = Compress(F("kv"), ToVector(F("score")), dims_[0], d, weights, false, rope);
  std::vector<float> want = ToVector(F("pooled"));
  std::vector<float> got(want.size());
  std::memcpy(got.data(), entries.data(), entries.size());
  float cos = 1;
  float sin = 0;
  for (size_t e = 0; e < 2; ++e) {
    double sum = 0;
    for (size_t c = 0; c < size_t(d); ++c) sum += std::pow(want[e * size_t(d) + c], 2.0);
    for (size_t c = 0; c < size_t(d); ++c)
      want[e * size_t(d) + c] /= static_cast<float>(std::sqrt(sum / d + 1e-6));
    rope.Fill(static_cast<int64_t>(4 * e), &cos, &sin);
    Rotate(&got[(e + 1) * size_t(d) - 2], {&cos, 1}, {&sin, 1}, -1.0f);
  }
  ExpectClose(got, want, kExact, kExact);
}

// Without overlap: a first block has only its own half, so each block is one.
TEST_P(UnitsTest, PoolingWithoutOverlap) {
  Load("compressor");
  const int32_t d = dims_[2];
  const auto narrow_kv = Linear(F("x"), dims_[0], F32Matrix(F("wkv"), d, dims_[1]));
  const auto narrow_score = Linear(F("x"), dims_[0], F32Matrix(F("wgate"), d, dims_[1]));
  Compressor weights{.norm = Vector(size_t(d), 1.0f)};
  weights.ape.resize(size_t(4 * 2 * d));
  for (size_t r = 0; r < 4; ++r) {
    std::copy_n(&F("ape")[r * size_t(d)], d, &weights.ape[(2 * r + 1) * size_t(d)]);
  }
  const EntryCodec codec(mode(), d, 64);
  std::vector<float> got;
  std::vector<float> want = ToVector(F("pooled"));
  for (size_t block = 0; block < 2; ++block) {
    std::vector<float> kv(size_t(4 * 2 * d));
    std::vector<float> score(kv.size());
    for (size_t r = 0; r < 4; ++r) {
      std::copy_n(&narrow_kv[(4 * block + r) * size_t(d)], d, &kv[(2 * r + 1) * size_t(d)]);
      std::copy_n(&narrow_score[(4 * block + r) * size_t(d)], d, &score[(2 * r + 1) * size_t(d)]);
    }
    const auto entry = Compress(kv, score, 4, d, weights, false, RopeTable({}, 64));  // position 0: no turn
    std::vector<float> row(static_cast<size_t>(d));
    codec.Decode(entry.data(), row.data());
    got.insert(got.end(), row.begin(), row.end());
    double sum = 0;
    for (size_t c = 0; c < size_t(d); ++c) sum += std::pow(want[block * size_t(d) + c], 2.0);
    for (size_t c = 0; c < size_t(d); ++c) want[block * size_t(d) + c] /= float(std::sqrt(sum / d));
  }
  ExpectClose(got, want, kExact, kEntry);
}

// Scores are not handed out: the k best of every row are, for every k.
void ExpectSelections(Backend& backend, const IndexSelectArgs& base, std::span<const float> scores,
                      int32_t entries) {
  for (int32_t topk = 1; topk <= entries; ++topk) {
    const size_t n = base.segments.size();
    std::vector<int32_t> selected(n * size_t(topk));
    std::vector<int32_t> count(n);
    IndexSelectArgs args = base;
    args.topk = topk;
    args.selected = selected.data();
    args.selected_count = count.data();
    backend.IndexSelect(args);
    for (size_t i = 0; i < n; ++i) {
      const auto row = scores.subspan(i * size_t(entries), size_t(entries));
      const auto visible = std::count_if(row.begin(), row.end(), [](float s) { return s > -1e29f; });
      std::vector<int32_t> order(static_cast<size_t>(visible));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return row[size_t(a)] > row[size_t(b)]; });
      order.resize(std::min(order.size(), size_t(topk)));
      std::sort(order.begin(), order.end());
      ASSERT_EQ(count[i], static_cast<int32_t>(order.size()));
      EXPECT_TRUE(std::equal(order.begin(), order.end(), selected.begin() + int64_t(i) * topk))
          << "row " << i << " top " << topk;
    }
  }
}

TEST_P(UnitsTest, IndexScoresOrderTheEntries) {
  if (!reference()) GTEST_SKIP() << "the CPU backend scores FP4 keys; see Indexer";
  Load("index_score");
  const int32_t n = dims_[0];
  const int32_t entries = dims_[3];
  const IndexCodec codec(KvMode::kF32, dims_[2]);
  std::vector<std::byte> keys(F("kv").size_bytes());
  std::memcpy(keys.data(), F("kv").data(), keys.size());
  std::byte* const blocks[] = {keys.data()};
  std::vector<IndexSelectSegment> segments;
  for (int32_t i = 0; i < n; ++i)
    segments.push_back({{i, 1, 4 * entries - 1}, {blocks, entries, codec.bytes()}});
  ExpectSelections(*backend_,
                   {.segments = segments,
                    .heads = dims_[1],
                    .ratio = 4,
                    .topk = 0,
                    .q = reinterpret_cast<const std::byte*>(F("q").data()),
                    .weights = F("weights").data(),
                    .codec = codec,
                    .selected = nullptr,
                    .selected_count = nullptr},
                   F("score"), entries);
}

// Queries and keys in FP4. The keys come from the reference, turned to the file's angles.
TEST_P(UnitsTest, IndexerOrdersTheEntries) {
  Load("indexer");
  const int32_t n = dims_[0];
  const int32_t heads = dims_[3];
  const int32_t d = dims_[4];
  const int32_t entries = n / 4;
  auto exact = MakeReferenceBackend({});
  std::swap(backend_, exact);
  const RopeTable rope({}, 64);
  const Compressor weights{.ape = ToVector(F("c_ape")), .norm = ToVector(F("c_norm"))};
  const auto kv = Linear(F("x"), n, F32Matrix(F("c_wkv"), 2 * d, dims_[1]));
  const auto score = Linear(F("x"), n, F32Matrix(F("c_wgate"), 2 * d, dims_[1]));
  const auto raw = Compress(kv, score, n, d, weights, true, rope);
  std::swap(backend_, exact);

  const IndexCodec codec(reference() ? KvMode::kQuantised : KvMode::kStored, d);
  std::vector<std::byte> keys(size_t(entries * codec.bytes()));
  std::vector<float> cos(32);
  std::vector<float> sin(32);
  for (size_t e = 0; e < size_t(entries); ++e) {
    std::vector<float> row(static_cast<size_t>(d));
    std::memcpy(row.data(), &raw[e * size_t(d) * 4], size_t(d) * 4);
    Hadamard(row);
    rope.Fill(static_cast<int64_t>(4 * e), cos.data(), sin.data());
    Rotate(row.data() + d - 64, cos, sin, -1.0f);
    Rotate(row.data() + d - 64, F("c_cos").subspan(e * 32, 32), F("c_sin").subspan(e * 32, 32), 1.0f);
    Hadamard(row);
    codec.Encode(row.data(), &keys[e * size_t(codec.bytes())]);
  }
  // wq_b takes activations in E4M3 with a power-of-two scale per 128.
  std::vector<float> qr = ToVector(F("qr"));
  for (size_t i = 0; i < qr.size(); i += 128) {
    float amax = kE4m3AmaxFloor;
    for (size_t j = i; j < i + 128; ++j) amax = std::max(amax, std::fabs(qr[j]));
    const float s = std::ldexp(1.0f, ScaleExponent(amax, 1.0f / kE4m3Max));
    for (size_t j = i; j < i + 128; ++j) qr[j] = E4m3ToF32(F32ToE4m3(qr[j] / s)) * s;
  }
  std::vector<float> q = Linear(qr, n, Fp8Matrix(file_->Tensor("wq_b"), F("wq_b_s")));
  const auto w = Linear(F("x"), n, F32Matrix(F("weights_proj"), heads, dims_[1]));
  std::vector<std::byte> rows(size_t(n * heads * codec.bytes()));
  backend_->IndexQuery({n, heads, 64, F("q_cos").data(), F("q_sin").data(), q.data(), codec, rows.data()});
  std::byte* const blocks[] = {keys.data()};
  std::vector<IndexSelectSegment> segments;
  for (int32_t i = 0; i < n; ++i) segments.push_back({{i, 1, i}, {blocks, entries, codec.bytes()}});
  ExpectSelections(*backend_,
                   {.segments = segments,
                    .heads = heads,
                    .ratio = 4,
                    .topk = 0,
                    .q = rows.data(),
                    .weights = w.data(),
                    .codec = codec,
                    .selected = nullptr,
                    .selected_count = nullptr},
                   F("index_score"), entries);
}

TEST_P(UnitsTest, RouterChoosesAndWeighs) {
  Load("router");
  const int32_t n = dims_[0];
  const auto k = static_cast<size_t>(dims_[3]);
  const auto gate = Linear(F("x"), n, F32Matrix(F("gate_w"), dims_[2], dims_[1]));
  MoeWeights moe;
  moe.bias = ToVector(F("bias"));
  moe.experts.resize(static_cast<size_t>(dims_[2]));
  const std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::vector<int32_t> experts(size_t(n) * k);
  std::vector<float> weights(experts.size());
  backend_->Route({tokens, moe, dims_[3], F("route_scale")[0], gate.data(), experts.data(), weights.data()});
  const auto want = file_->Ints("indices_ref");
  for (size_t i = 0; i < size_t(n); ++i) {
    for (size_t j = 0; j < k; ++j) {
      const auto* at = std::find(&experts[i * k], &experts[i * k] + k, want[i * k + j]);
      ASSERT_NE(at, &experts[i * k] + k) << i;
      EXPECT_NEAR(weights[size_t(at - experts.data())], F("weights_ref")[i * k + j], 1e-5) << i;
    }
  }
}

TEST_P(UnitsTest, ExpertsSum) {
  Load("moe");
  const int32_t n = dims_[0];
  const int32_t width = dims_[1];
  const int32_t inter = dims_[2];
  MoeWeights moe;
  moe.bias = ToVector(F("bias"));
  const auto w1s = ScaleBytes(F("w1s"));
  const auto w2s = ScaleBytes(F("w2s"));
  const auto w3s = ScaleBytes(F("w3s"));
  for (int64_t e = 0; e < dims_[3]; ++e) {
    const int64_t codes = int64_t{width} * inter / 2 * e;
    const int64_t scales = int64_t{width} * inter / 32 * e;
    moe.experts.push_back(
        {.w1 = Fp4Matrix(file_->Tensor("w1").data.data() + codes, w1s.data() + scales, inter, width),
         .w2 = Fp4Matrix(file_->Tensor("w2").data.data() + codes, w2s.data() + scales, width, inter),
         .w3 = Fp4Matrix(file_->Tensor("w3").data.data() + codes, w3s.data() + scales, inter, width)});
  }
  moe.shared = {.w1 = Fp8Matrix(file_->Tensor("sw1"), F("sw1s")),
                .w2 = Fp8Matrix(file_->Tensor("sw2"), F("sw2s")),
                .w3 = Fp8Matrix(file_->Tensor("sw3"), F("sw3s"))};
  const auto gate = Linear(F("x"), n, F32Matrix(F("gate_w"), dims_[3], width));
  const std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::vector<int32_t> experts(size_t(n * dims_[4]));
  std::vector<float> weights(experts.size());
  backend_->Route({tokens, moe, dims_[4], F("rs")[0], gate.data(), experts.data(), weights.data()});
  std::vector<float> y(F("y_ref").size());
  backend_->Experts(
      {n, width, inter, dims_[4], F("lim")[0], moe, F("x").data(), experts.data(), weights.data(), y.data()});
  ExpectClose(y, F("y_ref"), kTwoActivations,
              kTwoActivations);  // the file's activations are quantised, twice
}

// Each query's first key becomes its own window row, the others compressed entries.
TEST_P(UnitsTest, SparseAttention) {
  Load("sparse_attn");
  const int32_t n = dims_[1];
  const int32_t heads = dims_[2];
  const int32_t d = dims_[3];
  const int32_t keys = dims_[4];
  const auto topk = static_cast<size_t>(dims_[5]);
  const EntryCodec codec(mode(), d, 64);
  const auto bytes = static_cast<size_t>(codec.bytes());
  std::vector<std::byte> entries(size_t(keys) * bytes);
  for (size_t e = 0; e < size_t(keys); ++e) codec.Encode(&F("kv")[e * size_t(d)], &entries[e * bytes]);
  std::byte* const blocks[] = {entries.data()};
  const auto idx = file_->Ints("topk_idxs");
  std::vector<std::byte> rows(size_t(n) * bytes);
  std::vector<int32_t> selected(size_t(n) * topk);
  std::vector<int32_t> count(static_cast<size_t>(n));
  std::vector<AttentionSegment> segments;
  for (size_t i = 0; i < size_t(n); ++i) {
    std::vector<int32_t> mine;
    for (size_t j = 0; j < topk; ++j) {
      if (idx[i * topk + j] >= 0) mine.push_back(idx[i * topk + j]);
    }
    std::sort(mine.begin(), mine.end());
    std::memcpy(&rows[i * bytes], &entries[size_t(mine[0]) * bytes], bytes);
    std::copy(mine.begin() + 1, mine.end(), &selected[i * topk]);
    count[i] = static_cast<int32_t>(mine.size()) - 1;
    segments.push_back({.segment = {int32_t(i), 1, 4 * keys}, .entries = {blocks, keys, codec.bytes()}});
  }
  const std::vector<float> cos(size_t(n) * 32, 1.0f);
  const std::vector<float> sin(cos.size(), 0.0f);
  std::vector<float> o(F("o_ref").size());
  backend_->Attention({.segments = segments,
                       .heads = heads,
                       .window = 1,
                       .ratio = 4,
                       .topk = int32_t(topk),
                       .selected = selected.data(),
                       .selected_count = count.data(),
                       .q = F("q").data(),
                       .rows = rows.data(),
                       .codec = codec,
                       .sink = F("attn_sink").data(),
                       .cos = cos.data(),
                       .sin = sin.data(),
                       .o = o.data()});
  ExpectClose(o, F("o_ref"), 0x1p-8, kActivation);  // the file's outputs are BF16
}

TEST_P(UnitsTest, HyperConnection) {
  Load("hc");
  const int32_t n = dims_[0];
  const int32_t s = dims_[1];
  const int32_t width = dims_[2];
  const HyperConnection hc{.fn = F32Matrix(F("hc_fn"), (2 + s) * s, s * width),
                           .base = ToVector(F("hc_base")),
                           .scale = ToVector(F("hc_scale"))};
  std::vector<float> y(size_t(n * width));
  std::vector<float> post(size_t(n * s));
  std::vector<float> comb(size_t(n * s * s));
  backend_->HcPre(
      {n, s, width, F("x").data(), hc, dims_[3], 1e-6f, 1e-6f, y.data(), post.data(), comb.data()});
  ExpectClose(y, F("y_pre"), kExact, kExact);
  ExpectClose(post, F("post"), kExact, kExact);
  ExpectClose(comb, F("comb"), 1e-5, 1e-5);
  std::vector<float> h = ToVector(F("x"));
  backend_->HcPost({n, s, width, F("x_new").data(), post.data(), comb.data(), h.data()});
  ExpectClose(h, F("y_post"), 1e-5, 1e-5);
}

// The mixes are given: a state, padded with zeros, whose product with a scaled unit matrix is them.
TEST_P(UnitsTest, Sinkhorn) {
  Load("hc_sinkhorn");
  const auto params = file_->Ints("params");
  const int32_t s = params[1];
  const auto m = static_cast<size_t>((2 + s) * s);
  const auto width = static_cast<size_t>(s * 32);
  std::vector<float> post(size_t(params[0] * s));
  std::vector<float> comb(size_t(params[0] * s * s));
  for (size_t i = 0; i < size_t(params[0]); ++i) {
    std::vector<float> h(width);
    std::copy_n(&F("mixes")[i * m], m, h.begin());
    double sum = 0;
    for (const float v : h) sum += static_cast<double>(v) * v;
    std::vector<float> fn(m * width);
    for (size_t j = 0; j < m; ++j) fn[j * width + j] = float(std::sqrt(sum / double(width) + 1e-6));
    const HyperConnection hc{.fn = F32Matrix(fn, int64_t(m), int64_t(width)),
                             .base = ToVector(F("hc_base")),
                             .scale = ToVector(F("hc_scale"))};
    std::vector<float> y(32);
    // A backend of its own: it may remember a matrix by its address.
    const auto backend = MakeOne();
    backend->HcPre({1, s, 32, h.data(), hc, params[2], 1e-6f, 1e-6f, y.data(), &post[i * size_t(s)],
                    &comb[i * size_t(s * s)]});
  }
  ExpectClose(post, F("post"), kExact, kExact);
  ExpectClose(comb, F("comb"), 1e-5, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Backends, UnitsTest, ::testing::Values(Kind::kReference, Kind::kCpu),
                         [](const auto& instance) {
                           return instance.param == Kind::kReference ? "Reference" : "Cpu";
                         });

}  // namespace
}  // namespace holdfast::model
