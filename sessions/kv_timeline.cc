#include "sessions/kv_timeline.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/mapping_faults.h"

namespace holdfast::sessions {
namespace {

constexpr size_t kCheckpointTails = 2;

int64_t RoundDown(int64_t value, int64_t to) { return value / to * to; }
int64_t RoundUp(int64_t value, int64_t to) { return RoundDown(value + to - 1, to); }

}  // namespace

std::vector<memory::PlaneSpec> PlanesOf(const model::KvLayout& layout) {
  std::vector<memory::PlaneSpec> planes;
  for (const model::Plane& plane : layout.planes)
    planes.push_back({.bytes = static_cast<uint32_t>(plane.block_bytes()), .scanned = plane.scanned});
  return planes;
}

// Checks stored planes when the engine first needs them.
class KvTimeline::Guard final : public model::BlockGuard {
 public:
  Guard(memory::BlockStore& store, const model::KvLayout& layout) : store_(store), layout_(layout) {}

  // The timeline may move; what is checked may not.
  void Watch(const model::Sequence* sequence, std::vector<memory::BlockId> blocks) {
    sequence_ = sequence;
    blocks_ = std::move(blocks);
  }

  base::Status Check(int64_t block, int32_t plane) override {
    const model::Plane& p = layout_.planes[static_cast<size_t>(plane)];
    const model::PlaneView view =
        p.kind == model::PlaneKind::kEntries ? sequence_->entries(p.layer) : sequence_->index_keys(p.layer);
    return store_.CheckPlane(blocks_[static_cast<size_t>(block)], static_cast<size_t>(plane),
                             view.blocks[block]);
  }

  base::Status CheckMappings() override {
    if (!store_.QuarantineDamaged()) return absl::OkStatus();
    return base::DataLoss("a page of a kv segment could not be read");
  }

 private:
  memory::BlockStore& store_;
  const model::KvLayout& layout_;
  const model::Sequence* sequence_ = nullptr;
  std::vector<memory::BlockId> blocks_;  // those that were attached
};

KvTimeline::KvTimeline(KvCache& cache)
    : cache_(&cache), guard_(std::make_unique<Guard>(cache.store_, cache.layout_)) {}

KvTimeline::KvTimeline(KvTimeline&&) noexcept = default;

KvTimeline& KvTimeline::operator=(KvTimeline&& other) noexcept {
  if (this == &other) return *this;
  ReleaseBlocks();
  cache_ = other.cache_;
  sequence_ = std::move(other.sequence_);  // before the guard that it points to
  guard_ = std::move(other.guard_);
  position_ = other.position_;
  blocks_stored_ = other.blocks_stored_;
  end_ = std::move(other.end_);
  keys_ = std::move(other.keys_);
  blocks_ = std::move(other.blocks_);
  started_ = std::move(other.started_);
  in_memory_ = std::move(other.in_memory_);
  wanted_tails_ = std::move(other.wanted_tails_);
  newest_ = std::move(other.newest_);
  kept_ = std::move(other.kept_);
  return *this;
}

KvTimeline::~KvTimeline() { ReleaseBlocks(); }

void KvTimeline::ReleaseBlocks() {
  sequence_.reset();
  for (const int64_t block : std::exchange(in_memory_, {}))
    cache_->store_.ReleaseHeap(blocks_[static_cast<size_t>(block)]);
}

// --- Taking up what is stored

void KvTimeline::AttachTo(std::span<const memory::BlockKey> keys) {
  // A page that goes bad after it was checked, and before the sequence is there to be asked, is looked for
  // here.
  for (uint64_t faults = ~base::MappingFaultCount(); faults != base::MappingFaultCount();) {
    faults = base::MappingFaultCount();
    TakeUp(cache_->store_.Attach(cache_->root_, keys), keys);
    if (faults != base::MappingFaultCount()) cache_->store_.QuarantineDamaged();
  }
}

void KvTimeline::TakeUp(memory::Attachment found, std::span<const memory::BlockKey> keys) {
  ReleaseBlocks();
  sequence_ = std::make_unique<model::Sequence>(cache_->config_, cache_->layout_);
  end_ = std::move(found.end);
  blocks_ = std::move(found.blocks);
  keys_.assign(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(blocks_.size()));
  blocks_stored_ = static_cast<int64_t>(found.blocks_stored);
  for (size_t b = 0; b < blocks_.size(); ++b) LendFromStore(static_cast<int64_t>(b), /*append=*/true);
  position_ = sequence_->position();
  // The size is what the store was opened with, and the position is that of the blocks.
  if (!blocks_.empty()) HF_CHECK(sequence_->RestoreTail(position_, found.tail).ok());
  guard_->Watch(sequence_.get(), blocks_);
  sequence_->set_guard(guard_.get());
  started_.clear();
  newest_ = BoundaryTail{};
  wanted_tails_.erase(wanted_tails_.begin(), wanted_tails_.upper_bound(position_));
}

bool KvTimeline::LendFromStore(int64_t block, bool append) {
  const size_t planes = cache_->layout_.planes.size();
  std::vector<const std::byte*>& addresses = cache_->addresses_;
  std::vector<uint8_t>& unchecked = cache_->unchecked_;
  addresses.resize(planes);
  unchecked.resize(planes);
  const memory::BlockId id = blocks_[static_cast<size_t>(block)];
  bool in_memory = cache_->store_.Lend(id, addresses, unchecked);
  // A block that moves is looked at in its new place first. When it is damaged there, it is still in memory.
  for (size_t p = 0; !append && p < planes; ++p)
    if (unchecked[p] != 0 && !cache_->store_.CheckPlane(id, p, addresses[p]).ok())
      in_memory = cache_->store_.Lend(id, addresses, unchecked);
  if (in_memory) in_memory_.push_back(block);
  // A lost block has no addresses, and all of its planes are unchecked: the guard will say so.
  if (append) {
    sequence_->AppendLentBlock(addresses, unchecked);
  } else if (addresses.front() != nullptr) {
    sequence_->LendBlock(block, addresses);
  }
  return addresses.front() != nullptr;
}

void KvTimeline::Reattach() {
  StoreTail();
  const std::vector<memory::BlockKey> keys = std::move(keys_);
  AttachTo(keys);
}

void KvTimeline::Rewind(int64_t position) {
  HF_CHECK(position >= 0 && position <= position_);
  if (position == position_) return;
  StoreTail();
  std::erase_if(kept_, [position](const StoredTail& tail) { return tail.position > position; });
  if (!CutTo(position)) AttachTo({});
}

bool KvTimeline::CutTo(int64_t position) {
  const auto blocks = static_cast<size_t>(position / cache_->layout_.block_tokens);
  memory::Attachment found = cache_->store_.BackTo(std::span(blocks_).first(blocks));
  const auto count = static_cast<int64_t>(found.blocks.size());
  if (count == 0) return false;
  for (const int64_t block : in_memory_)
    if (block >= count) cache_->store_.ReleaseHeap(blocks_[static_cast<size_t>(block)]);
  std::erase_if(in_memory_, [count](int64_t block) { return block >= count; });
  sequence_->TruncateToBlocks(count);
  position_ = sequence_->position();
  HF_CHECK(sequence_->RestoreTail(position_, found.tail).ok());
  end_ = std::move(found.end);
  blocks_ = std::move(found.blocks);
  keys_.resize(blocks_.size());
  started_.clear();
  newest_ = BoundaryTail{};
  return true;
}

KvTimeline KvTimeline::Fork(int64_t position) {
  HF_CHECK(position >= 0 && position <= position_);
  StoreTail();
  KvTimeline copy(*cache_);
  copy.sequence_ = std::make_unique<model::Sequence>(sequence_->Fork());
  copy.end_ = cache_->store_.Share(end_);
  copy.position_ = position_;
  copy.keys_ = keys_;
  copy.blocks_ = blocks_;
  copy.started_ = started_;
  copy.guard_->Watch(copy.sequence_.get(), blocks_);
  copy.sequence_->set_guard(copy.guard_.get());
  for (const int64_t block : in_memory_) copy.LendFromStore(block, /*append=*/false);
  if (position < position_ && !copy.CutTo(position)) copy.AttachTo({});
  copy.blocks_stored_ = static_cast<int64_t>(copy.blocks_.size());
  // Both keep the tail of the fork point.
  if (memory::TailRef tail = cache_->store_.PinTail(copy.end_key()); tail.valid())
    copy.Keep({copy.end_key(), static_cast<int64_t>(copy.blocks_.size()) * cache_->layout_.block_tokens,
               std::move(tail)});
  return copy;
}

// --- Feeding

bool KvTimeline::TailWanted(int64_t position) const {
  return position % cache_->tail_interval_ == 0 || wanted_tails_.contains(position);
}

int64_t KvTimeline::FeedLimit(int64_t tokens) const {
  HF_CHECK(tokens > 0);
  const int64_t end = position_ + tokens;
  int64_t limit = end;
  const auto stop_at = [&](int64_t at) {
    if (at > position_) limit = std::min(limit, at);
  };
  stop_at(RoundDown(end, cache_->layout_.block_tokens));
  stop_at(RoundUp(position_ + 1, cache_->tail_interval_));
  if (const auto next = wanted_tails_.upper_bound(position_); next != wanted_tails_.end()) stop_at(*next);
  return limit - position_;
}

void KvTimeline::Fed(std::span<const int32_t> tokens, int64_t remaining) {
  position_ += static_cast<int64_t>(tokens.size());
  HF_CHECK(sequence_->position() == position_);
  started_.insert(started_.end(), tokens.begin(), tokens.end());
  if (static_cast<int64_t>(started_.size()) < cache_->layout_.block_tokens) return;
  Settle();
  Seal();
  TakeTail(remaining);
}

void KvTimeline::Seal() {
  const auto size = static_cast<size_t>(cache_->layout_.block_tokens);
  newest_ = BoundaryTail{};  // is no longer at the end
  size_t at = 0;
  for (; at + size <= started_.size(); at += size) {
    const auto block = static_cast<int64_t>(blocks_.size());
    keys_.push_back(memory::KeyOfBlock(keys_.empty() ? cache_->root_ : keys_.back(),
                                       std::span(started_).subspan(at, size)));
    end_ = cache_->store_.Append(end_, keys_.back(), sequence_->TakeBlock(block));
    blocks_.push_back(end_.id());
    if (!LendFromStore(block, /*append=*/false)) return Reattach();
  }
  started_.erase(started_.begin(), started_.begin() + static_cast<ptrdiff_t>(at));
}

void KvTimeline::TakeTail(int64_t remaining) {
  if (!started_.empty() || !sequence_->has_tail() || position_ == 0) return;
  const bool wanted = TailWanted(position_);
  if (!wanted && remaining >= cache_->layout_.block_tokens) return;
  auto bytes = std::make_unique<std::byte[]>(static_cast<size_t>(cache_->tail_bytes_));
  sequence_->SaveTail({bytes.get(), static_cast<size_t>(cache_->tail_bytes_)});
  wanted_tails_.erase(position_);
  if (wanted) {
    cache_->store_.PutTail(end_, std::move(bytes), /*periodic=*/true);
  } else {
    newest_ = {position_, std::move(bytes)};
  }
}

void KvTimeline::WantTail(int64_t position) {
  const int64_t boundary = RoundDown(position, cache_->layout_.block_tokens);
  if (boundary > position_) wanted_tails_.insert(boundary);
}

void KvTimeline::StoreTail() {
  if (newest_.bytes == nullptr) return;
  HF_CHECK(newest_.position == static_cast<int64_t>(blocks_.size()) * cache_->layout_.block_tokens);
  Keep({end_key(), newest_.position,
        cache_->store_.PutTail(end_, std::move(newest_.bytes), /*periodic=*/false)});
  newest_ = BoundaryTail{};
}

void KvTimeline::Keep(StoredTail tail) {
  kept_.push_back(std::move(tail));
  if (kept_.size() > kCheckpointTails) kept_.pop_front();
}

void KvTimeline::Checkpoint() { StoreTail(); }

void KvTimeline::Settle() {
  std::vector<int64_t> waiting = std::exchange(in_memory_, {});
  for (const int64_t block : waiting) {
    const memory::BlockId id = blocks_[static_cast<size_t>(block)];
    if (!cache_->store_.IsDurable(id)) {
      in_memory_.push_back(block);
      continue;
    }
    LendFromStore(block, /*append=*/false);
    cache_->store_.ReleaseHeap(id);
  }
}

// --- Ending

KvPin KvTimeline::Park() && {
  StoreTail();
  ReleaseBlocks();
  KvPin pin{.end = std::move(end_)};
  for (StoredTail& tail : kept_) pin.tails.push_back(std::move(tail.ref));
  kept_.clear();
  return pin;
}

void KvTimeline::Drop() && {
  ReleaseBlocks();
  kept_.clear();
  cache_->store_.Drop(std::move(end_));
}

memory::BlockKey KvTimeline::end_key() const { return keys_.empty() ? cache_->root_ : keys_.back(); }

std::vector<memory::BlockKey> KvTimeline::tail_keys() const {
  std::vector<memory::BlockKey> keys;
  for (const StoredTail& tail : kept_) keys.push_back(tail.key);
  return keys;
}

// --- The cache

KvCache::KvCache(const model::ModelConfig& config, const model::KvLayout& layout, memory::BlockStore& store,
                 const memory::BlockKey& root, const KvCacheOptions& options)
    : config_(config),
      layout_(layout),
      store_(store),
      root_(root),
      tail_bytes_(model::BoundaryTailBytes(config, layout.mode)),
      tail_interval_(RoundUp(std::max<int64_t>(options.tail_interval_tokens, 1), layout.block_tokens)) {}

KvTimeline KvCache::Attach(std::span<const int32_t> tokens) {
  return Attach(memory::KeysOfBlocks(root_, tokens, layout_.block_tokens));
}

KvTimeline KvCache::Attach(std::span<const memory::BlockKey> keys) {
  KvTimeline timeline(*this);
  timeline.AttachTo(keys);
  return timeline;
}

KvPin KvCache::Pin(const memory::BlockKey& end, std::span<const memory::BlockKey> tails) {
  KvPin pin{.end = store_.Pin(end)};
  for (const memory::BlockKey& key : tails)
    if (memory::TailRef tail = store_.PinTail(key); tail.valid()) pin.tails.push_back(std::move(tail));
  return pin;
}

base::Status Prefill(model::Engine& engine, KvTimeline& timeline, std::span<const int32_t> tokens,
                     std::span<float> logits_out) {
  const int64_t begin = timeline.position();
  const int64_t end = begin + static_cast<int64_t>(tokens.size());
  while (timeline.position() < end) {
    if (timeline.position() < begin)
      return base::DataLoss("a stored kv block was damaged; feed again from position " +
                            std::to_string(timeline.position()));
    const int64_t left = end - timeline.position();
    const int64_t count = std::min<int64_t>(timeline.FeedLimit(left), engine.max_rows());
    const auto chunk =
        tokens.subspan(static_cast<size_t>(timeline.position() - begin), static_cast<size_t>(count));
    const bool last = count == left && !logits_out.empty();
    const model::Feed feed{.sequence = &timeline.sequence(),
                           .tokens = chunk,
                           .logits = last ? model::LogitRows::kLast : model::LogitRows::kNone,
                           .logits_out = last ? logits_out : std::span<float>()};
    HF_RETURN_IF_ERROR(engine.Forward({&feed, 1}));
    timeline.Fed(chunk, left - count);
  }
  return absl::OkStatus();
}

}  // namespace holdfast::sessions
