#include "sessions/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sessions/kv_testing.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::sessions {
namespace {

using test::SeededRandom;
using test::TestSeeds;

// What an order brought.
class Collector final : public OrderListener {
 public:
  void OnPrefill(const PrefillProgress& progress) override {
    EXPECT_FALSE(end.has_value());
    EXPECT_TRUE(ids.empty()) << "prefill after the first token";
    EXPECT_LE(progress.done, progress.total);
    progresses.push_back(progress);
  }
  void OnTokens(std::vector<int32_t> more) override {
    EXPECT_FALSE(end.has_value());
    ids.insert(ids.end(), more.begin(), more.end());
    if (on_tokens) on_tokens();
  }
  void OnEnd(const OrderEnd& ended) override {
    EXPECT_FALSE(end.has_value()) << "ended twice";
    end = ended;
  }

  std::vector<int32_t> ids;
  std::vector<PrefillProgress> progresses;
  std::optional<OrderEnd> end;
  std::function<void()> on_tokens;
};

// Never two tokens of the same parity in a row; nothing after `length` of them.
class ParityConstraint final : public TokenConstraint {
 public:
  explicit ParityConstraint(size_t length) : length_(length) {}
  const model::TokenMask* Mask() override {
    mask_ = model::TokenMask(61);
    for (int32_t id = static_cast<int32_t>(taken_ % 2); id < 61; id += 2) mask_.Add(id);
    return &mask_;
  }
  base::Status Accept(int32_t id) override {
    if (!mask_.Has(id)) return base::InvalidArgument("parity");
    ++taken_;
    return {};
  }
  bool IsDone() const override { return taken_ >= length_; }

 private:
  const size_t length_;
  size_t taken_ = 0;
  model::TokenMask mask_;
};

Decode Sampled(int64_t count, uint64_t seed = 1) {
  return {.sampler = {.temperature = 1.0f}, .seed = seed, .tokens_max = count};
}

class SchedulerTest : public testing::Test {
 protected:
  void Open(const SchedulerOptions& options = {}, uint64_t seed = 1) {
    scheduler_.reset();
    executor_.reset();
    opened_.reset();
    opened_ = OpenSmallStore(fs_, engine_.engine());
    executor_ = std::make_unique<test::SimExecutor>(clock_, test::SimExecutor::Options{.seed = seed});
    scheduler_ =
        std::make_unique<Scheduler>(*executor_, clock_, engine_.engine(), *opened_->cache, nullptr, options);
  }
  void TearDown() override {
    scheduler_.reset();
    executor_.reset();
  }

  OrderId Submit(Order order, Collector& to) {
    const auto id = scheduler_->Submit(std::move(order), to);
    EXPECT_TRUE(id.ok()) << id.status();
    return *id;
  }
  void Run() { executor_->RunUntilIdle(); }

  // The tokens that an order must bring: nothing stored, nothing shared, one at a time.
  std::vector<int32_t> Alone(const Order& order) {
    const Decode& decode = *order.decode;
    auto sampler = *model::Sampler::Make(decode.sampler);
    const auto constraint = decode.make_constraint ? decode.make_constraint() : nullptr;
    std::vector<int32_t> tokens = order.tokens;
    std::vector<int32_t> ids;
    model::Sequence sequence = engine_.engine().NewSequence();
    std::vector<float> logits(61);
    while (static_cast<int64_t>(ids.size()) < decode.tokens_max) {
      while (sequence.position() < static_cast<int64_t>(tokens.size())) {
        const auto rest = std::span(tokens).subspan(static_cast<size_t>(sequence.position()));
        const model::Feed feed{.sequence = &sequence,
                               .tokens = rest.first(std::min<size_t>(rest.size(), 200)),
                               .logits = model::LogitRows::kLast,
                               .logits_out = logits};
        EXPECT_TRUE(engine_.engine().Forward({&feed, 1}).ok());
      }
      const base::RandomPoint point = {
          .seed = decode.seed, .stream = decode.stream, .position = tokens.size()};
      const int32_t id = *sampler.Sample(logits, constraint ? constraint->Mask() : nullptr, point);
      EXPECT_TRUE(!constraint || constraint->Accept(id).ok());
      ids.push_back(id);
      tokens.push_back(id);
      if (std::count(decode.stop_ids.begin(), decode.stop_ids.end(), id) > 0) break;
      if (constraint && constraint->IsDone()) break;
    }
    return ids;
  }

  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
  SmallEngine engine_;
  std::unique_ptr<OpenedStore> opened_;
  std::unique_ptr<test::SimExecutor> executor_;
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, OneOrderBringsTheTokensOfAPlainLoop) {
  Open();
  const Order order{.session = "a", .tokens = SmallTokens(1, 300), .decode = Sampled(20)};
  Collector got;
  Submit(order, got);
  Run();
  ASSERT_TRUE(got.end.has_value());
  EXPECT_EQ(got.end->reason, EndReason::kTokensMax);
  EXPECT_EQ(got.ids, Alone(order));
  EXPECT_EQ(got.end->cost.attached, 0u);
  EXPECT_EQ(got.end->cost.prefilled, 300u);
  EXPECT_EQ(got.end->cost.decoded, 20u);
  ASSERT_FALSE(got.progresses.empty());
  EXPECT_EQ(got.progresses.back().total, 299);
}

TEST_F(SchedulerTest, TurnEndsAtAStopTokenOrWithItsConstraint) {
  Open();
  Order order{.session = "a", .tokens = SmallTokens(1, 40), .decode = Sampled(100)};
  const std::vector<int32_t> all = Alone(order);
  order.decode->stop_ids = {all[7]};
  Collector stopped;
  Submit(order, stopped);
  Run();
  EXPECT_EQ(stopped.end->reason, EndReason::kStopToken);
  EXPECT_EQ(stopped.ids, Alone(order));
  EXPECT_LE(stopped.ids.size(), 8u);

  order.decode = Sampled(100);
  order.decode->make_constraint = [] { return std::make_unique<ParityConstraint>(9); };
  Collector constrained;
  Submit(order, constrained);
  Run();
  EXPECT_EQ(constrained.end->reason, EndReason::kConstraint);
  ASSERT_EQ(constrained.ids.size(), 9u);
  EXPECT_EQ(constrained.ids, Alone(order));
}

TEST_F(SchedulerTest, NextOrderOfASessionFeedsOnlyWhatIsNew) {
  Open();
  Order order{.session = "a", .tokens = SmallTokens(1, 300), .decode = Sampled(5)};
  Collector first;
  Submit(order, first);
  Run();
  order.tokens.insert(order.tokens.end(), first.ids.begin(), first.ids.end());
  const std::vector<int32_t> more = SmallTokens(2, 10);
  order.tokens.insert(order.tokens.end(), more.begin(), more.end());
  Collector second;
  Submit(order, second);
  Run();
  EXPECT_EQ(second.ids, Alone(order));
  EXPECT_EQ(second.end->cost.attached, 304u) << "all but the last token that was sampled";
  EXPECT_EQ(second.end->cost.prefilled, 11u);
}

TEST_F(SchedulerTest, AnotherHistoryOfASessionIsTakenUpFromWhatIsStored) {
  Open();
  Order order{.session = "a", .tokens = SmallTokens(1, 1500), .decode = Sampled(5)};
  Collector first;
  Submit(order, first);
  Run();
  order.tokens.resize(1200);  // a rewind: 1,024 has a tail
  order.tokens.push_back(3);
  Collector second;
  Submit(order, second);
  Run();
  EXPECT_EQ(second.ids, Alone(order));
  EXPECT_EQ(second.end->cost.attached, 1024u);
}

TEST_F(SchedulerTest, PrefillWithoutDecodeEndsWhenAllIsThere) {
  Open();
  const Order order{.session = "a", .tokens = SmallTokens(1, 256)};
  for (const uint64_t expected : {256u, 0u}) {
    Collector got;
    Submit(order, got);
    Run();
    ASSERT_TRUE(got.end.has_value());
    EXPECT_EQ(got.end->reason, EndReason::kPrefilled);
    EXPECT_EQ(got.end->cost.prefilled, expected);
  }
}

// Wherever the last chunk before the end of what they share begins.
TEST_F(SchedulerTest, EqualPrefixesArePrefilledOnce) {
  for (const uint32_t size : {1000u, 1050u, 1100u}) {
    SCOPED_TRACE(size);
    Open();
    const std::vector<int32_t> shared = SmallTokens(size, size);
    std::vector<std::unique_ptr<Collector>> got;
    std::vector<Order> orders;
    for (uint32_t i = 0; i < 6; ++i) {
      Order order{.session = std::to_string(i), .tokens = shared, .decode = Sampled(3)};
      const std::vector<int32_t> own = SmallTokens(10 + i, 30);
      order.tokens.insert(order.tokens.end(), own.begin(), own.end());
      got.push_back(std::make_unique<Collector>());
      Submit(order, *got.back());
      orders.push_back(std::move(order));
    }
    Run();
    uint64_t prefilled = 0;
    for (size_t i = 0; i < orders.size(); ++i) {
      ASSERT_TRUE(got[i]->end.has_value());
      EXPECT_EQ(got[i]->ids, Alone(orders[i]));
      prefilled += got[i]->end->cost.prefilled;
    }
    const uint64_t boundary = size / 128 * 128;
    EXPECT_EQ(prefilled, boundary + 6 * (size + 30 - boundary));
  }
}

TEST_F(SchedulerTest, DecodingGoesOnBesideALongPrefill) {
  Open({.step_ns_max = 1, .prefill_rows_min = 32});
  Collector decoding;
  Submit({.session = "a", .tokens = SmallTokens(1, 10), .decode = Sampled(40)}, decoding);
  Collector warmup;  // lets the loop measure what a row costs
  ASSERT_TRUE(executor_->RunUntil([&] { return !decoding.ids.empty(); }));
  Collector prefill;
  Submit({.session = "b", .tokens = SmallTokens(2, 1280)}, prefill);
  size_t tokens_during_prefill = 0;
  decoding.on_tokens = [&] { tokens_during_prefill += prefill.end.has_value() ? 0 : 1; };
  Run();
  EXPECT_TRUE(prefill.end.has_value());
  EXPECT_EQ(decoding.ids.size(), 40u);
  EXPECT_GE(tokens_during_prefill, 6u);  // at most 200 rows a step, however fast the simulated clock says
}

TEST_F(SchedulerTest, InteractiveOrderTakesThePlaceOfABackgroundOne) {
  Open({.places_max = 1});
  Order slow{.session = "a",
             .priority = Priority::kBackground,
             .tokens = SmallTokens(1, 2000),
             .decode = Sampled(4)};
  Collector background;
  Submit(slow, background);
  ASSERT_TRUE(executor_->RunUntil([&] { return background.progresses.size() > 2; }));
  Order quick{
      .session = "b", .priority = Priority::kInteractive, .tokens = SmallTokens(2, 50), .decode = Sampled(4)};
  Collector interactive;
  Submit(quick, interactive);
  ASSERT_TRUE(executor_->RunUntil([&] { return interactive.end.has_value(); }));
  EXPECT_FALSE(background.end.has_value());
  Run();
  EXPECT_EQ(scheduler_->stats().preemptions, 1u);
  EXPECT_EQ(background.ids, Alone(slow));
  EXPECT_EQ(interactive.ids, Alone(quick));
}

TEST_F(SchedulerTest, EqualsShareOnePlaceByTheQuantum) {
  Open({.places_max = 1, .quantum_tokens = 300});
  std::vector<Order> orders;
  std::vector<std::unique_ptr<Collector>> got;
  for (uint32_t i = 0; i < 3; ++i) {
    orders.push_back({.session = std::to_string(i), .tokens = SmallTokens(i, 1200), .decode = Sampled(3)});
    got.push_back(std::make_unique<Collector>());
    Submit(orders.back(), *got.back());
  }
  // All have been served before any has ended.
  ASSERT_TRUE(executor_->RunUntil([&] {
    return std::all_of(got.begin(), got.end(), [](const auto& g) { return g->progresses.size() > 1; });
  }));
  EXPECT_TRUE(std::none_of(got.begin(), got.end(), [](const auto& g) { return g->end.has_value(); }));
  Run();
  for (size_t i = 0; i < orders.size(); ++i) EXPECT_EQ(got[i]->ids, Alone(orders[i]));
}

TEST_F(SchedulerTest, BackgroundIsServedUnderASteadyLoadOfOthers) {
  Open({.places_max = 1, .aging_ns = 10 * base::kNsPerMs, .quantum_tokens = 100});
  Collector background;
  Submit({.session = "low", .priority = Priority::kBackground, .tokens = SmallTokens(1, 100)}, background);
  std::vector<std::unique_ptr<Collector>> others;
  int sent = 0;
  const auto refill = [&] {
    while (others.size() < 400 && (others.empty() || others.back()->end.has_value())) {
      others.push_back(std::make_unique<Collector>());
      Submit({.session = "s" + std::to_string(sent),
              .tokens = SmallTokens(50 + static_cast<uint32_t>(sent), 150)},
             *others.back());
      ++sent;
    }
  };
  refill();
  EXPECT_TRUE(executor_->RunUntil([&] {
    refill();
    return background.end.has_value();
  }));
  EXPECT_LT(sent, 400);
  Run();
}

TEST_F(SchedulerTest, CancelledOrderEndsOnce) {
  Open({.places_max = 1});
  Collector running;
  Collector waiting;
  const OrderId first =
      Submit({.session = "a", .tokens = SmallTokens(1, 900), .decode = Sampled(50)}, running);
  const OrderId second =
      Submit({.session = "b", .tokens = SmallTokens(2, 900), .decode = Sampled(50)}, waiting);
  ASSERT_TRUE(executor_->RunUntil([&] { return running.ids.size() == 5; }));
  scheduler_->Cancel(second);
  scheduler_->Cancel(first);
  scheduler_->Cancel(first);
  Run();
  scheduler_->Cancel(first);
  Run();
  EXPECT_EQ(running.end->reason, EndReason::kCancelled);
  EXPECT_EQ(waiting.end->reason, EndReason::kCancelled);
  EXPECT_TRUE(waiting.ids.empty());
  // The session can go on with what was sampled.
  Order order{.session = "a", .tokens = SmallTokens(1, 900), .decode = Sampled(3)};
  order.tokens.insert(order.tokens.end(), running.ids.begin(), running.ids.end());
  Collector again;
  Submit(order, again);
  Run();
  EXPECT_EQ(again.ids, Alone(order));
}

TEST_F(SchedulerTest, IdleSessionsHoldNothingOnceReleased) {
  Open();
  Collector got;
  Submit({.session = "a", .tokens = SmallTokens(1, 600)}, got);
  Run();
  EXPECT_EQ(scheduler_->stats().warm, 1u);
  scheduler_->Release("a");
  Run();
  EXPECT_EQ(scheduler_->stats().warm, 0u);
  ASSERT_TRUE(opened_->store->Sync().ok());
  EXPECT_EQ(opened_->store->Stats().heap_bytes, 0u);
  EXPECT_GT(opened_->store->Stats().references, 0u) << "pinned";
  scheduler_->Forget("a");
  Run();
  EXPECT_EQ(opened_->store->Stats().references, 0u);
}

TEST_F(SchedulerTest, DamageInTheStoreCostsTimeAndNoToken) {
  Open();
  const Order stored{.session = "a", .tokens = SmallTokens(1, 700), .decode = Sampled(5)};
  Collector before;
  Submit(stored, before);
  Run();
  ASSERT_TRUE(opened_->store->Sync().ok());
  Open();
  // A byte of the selected entries of the first block, which are checked when first used.
  const model::KvLayout& layout = engine_.engine().kv_layout();
  for (const memory::SegmentInfo& segment : opened_->store->Segments()) {
    const uint64_t plane = static_cast<uint64_t>(layout.planes.back().block_bytes()) * segment.slots;
    if (!segment.tails) fs_.FlipBit(segment.path, (segment.file_bytes - 4096 - plane + 5000) * 8);
  }
  const Order beside{.session = "b", .tokens = SmallTokens(2, 300), .decode = Sampled(8)};
  Collector other;
  Collector again;
  Submit(beside, other);
  Submit(stored, again);
  Run();
  EXPECT_EQ(again.ids, before.ids);
  EXPECT_EQ(other.ids, Alone(beside));
  EXPECT_GT(again.end->cost.prefilled + again.end->cost.attached, 700u) << "something was done twice";
  EXPECT_FALSE(opened_->events.empty());
}

TEST_F(SchedulerTest, OrdersThatCannotBeServedAreRefused) {
  Open({.orders_max = 2});
  Collector sink;
  const auto refused = [&](Order order) { return scheduler_->Submit(std::move(order), sink).status(); };
  EXPECT_TRUE(absl::IsInvalidArgument(refused({.session = "a"})));
  EXPECT_TRUE(absl::IsInvalidArgument(refused({.session = "a", .tokens = {61}})));
  EXPECT_TRUE(absl::IsInvalidArgument(refused({.session = "a", .tokens = {-1}})));
  EXPECT_TRUE(absl::IsInvalidArgument(refused({.session = "a", .tokens = {1}, .decode = Sampled(0)})));
  EXPECT_TRUE(absl::IsInvalidArgument(refused({.session = "a", .tokens = {1}, .decode = Sampled(1 << 20)})));
  Decode bad = Sampled(1);
  bad.sampler.temperature = -1;
  EXPECT_TRUE(absl::IsInvalidArgument(refused({.session = "a", .tokens = {1}, .decode = bad})));
  Collector a;
  Collector b;
  Submit({.session = "a", .tokens = {1}}, a);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused({.session = "a", .tokens = {1}})));
  Submit({.session = "b", .tokens = {1}}, b);
  EXPECT_TRUE(absl::IsResourceExhausted(refused({.session = "c", .tokens = {1}})));
  Run();
  EXPECT_TRUE(a.end.has_value());
  EXPECT_TRUE(b.end.has_value());
}

// Any mix of orders, priorities, places, quanta and cancellations: the tokens of each are those it would have
// brought alone, or the first of them.
TEST_F(SchedulerTest, CompanyChangesNoToken) {
  for (const uint64_t seed : TestSeeds(12)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SeededRandom random(seed);
    Open({.places_max = 1 + random.Below(4),
          .warm_max = random.Below(3),
          .aging_ns = random.Between(1, 50) * base::kNsPerMs,
          .quantum_tokens = random.Between(1, 600),
          .prefill_rows_min = random.Between(1, 64)},
         seed);
    struct Sent {
      Order order;
      Collector got;
      OrderId id{};
      bool cancelled = false;
    };
    std::vector<std::unique_ptr<Sent>> sent;
    for (uint32_t i = 0; i < 10; ++i) {
      auto one = std::make_unique<Sent>();
      one->order = {.session = std::to_string(i),
                    .priority = static_cast<Priority>(random.Below(3)),
                    .tokens = SmallTokens(static_cast<uint32_t>(random.Below(2)), 1 + random.Below(700)),
                    .decode = Sampled(random.Between(1, 12), random.Next())};
      if (random.Percent(30)) {
        one->order.decode->make_constraint = [] { return std::make_unique<ParityConstraint>(6); };
      }
      one->id = Submit(one->order, one->got);
      for (uint64_t n = random.Below(40); n > 0; --n) executor_->RunOne(clock_.MonotonicNow());
      if (random.Percent(15)) {
        scheduler_->Cancel(one->id);
        one->cancelled = true;
      }
      sent.push_back(std::move(one));
    }
    Run();
    for (const auto& one : sent) {
      ASSERT_TRUE(one->got.end.has_value());
      std::vector<int32_t> alone = Alone(one->order);
      if (one->got.end->reason == EndReason::kCancelled) {
        EXPECT_TRUE(one->cancelled);
        ASSERT_LE(one->got.ids.size(), alone.size());
        alone.resize(one->got.ids.size());
      }
      EXPECT_EQ(one->got.ids, alone);
    }
  }
}

}  // namespace
}  // namespace holdfast::sessions
