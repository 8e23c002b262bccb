#include "memory/block_store.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>

#include "base/check.h"
#include "memory/kv/store_state.h"
#include "memory/kv/store_writer.h"

namespace holdfast::memory {

using kv::Node;
using kv::NodeId;
using kv::Payload;
using kv::PayloadKind;
using kv::PayloadState;

namespace {

NodeId ToNode(BlockId id) { return static_cast<NodeId>(id); }
BlockId ToBlock(NodeId id) { return static_cast<BlockId>(id); }

constexpr std::string_view kDiffers = "damaged, or the same tokens gave other bytes than those stored";
constexpr std::string_view kOtherLayout = "stored in another layout";

base::Status CheckOptions(const BlockStoreOptions& options) {
  if (options.directory.empty()) return base::InvalidArgument("kv store: no directory was given");
  if (options.segment_slots_first == 0 || options.segment_slots_first > 1024)
    return base::InvalidArgument("kv store: segment_slots_first is 1 to 1024");
  if (options.planes.empty()) return absl::OkStatus();
  std::vector<uint32_t> bytes;
  for (const PlaneSpec& plane : options.planes) bytes.push_back(plane.bytes);
  HF_RETURN_IF_ERROR(kv::MakeGeometry(kv::SegmentKind::kBlocks, 1, 1, bytes).status());
  return kv::MakeGeometry(kv::SegmentKind::kTails, 1, 1, {&options.tail_bytes, 1}).status();
}

}  // namespace

class BlockStore::Impl {
 public:
  Impl(base::FileSystem& fs, BlockStoreOptions options) : state(fs, std::move(options)), writer(state) {}

  // A stored plane that was not compared with its checksum yet.
  struct Unchecked {
    NodeId id;
    kv::Location at;
    uint64_t sums_hash;
  };
  std::vector<NodeId> FindRun(const BlockKey& root, std::span<const BlockKey> keys);
  size_t DeepestTail(std::span<const NodeId> run) const;
  std::vector<Unchecked> ScannedToCheck(std::span<const NodeId> blocks);
  void AskForScanned(std::span<const Unchecked> blocks) const;
  bool CheckScanned(std::span<const NodeId> blocks);
  void AskForTail(NodeId id);
  bool CopyTail(NodeId id, std::vector<std::byte>& out);
  void PutInPlace(NodeId id, NodeId parent);
  void Offer(NodeId id, PayloadKind kind, std::unique_ptr<std::byte[]> bytes);
  std::optional<kv::Location> ToCompare(NodeId id, PayloadKind kind, const std::byte* bytes);
  bool SameBytes(kv::Location at, uint64_t sums_hash, const std::byte* bytes);
  void BeginRead(NodeId id, PayloadKind kind);
  bool EndRead(NodeId id, PayloadKind kind, kv::Location at);
  void VerifySlot(kv::Location at, VerifyReport& report);

  kv::StoreState state;
  std::mutex io_mu;  // taken before state.mu
  kv::StoreWriter writer;
};

ChainRef& ChainRef::operator=(ChainRef&& other) noexcept {
  if (this != &other) {
    Reset();
    store_ = std::exchange(other.store_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

void ChainRef::Reset() {
  if (BlockStore* const store = std::exchange(store_, nullptr)) store->Unref(id_);
}

TailRef& TailRef::operator=(TailRef&& other) noexcept {
  if (this != &other) {
    Reset();
    store_ = std::exchange(other.store_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

void TailRef::Reset() {
  if (BlockStore* const store = std::exchange(store_, nullptr)) store->Unkeep(id_);
}

BlockStore::BlockStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

BlockStore::~BlockStore() { HF_CHECK(impl_->state.index.references() == 0); }

base::StatusOr<std::unique_ptr<BlockStore>> BlockStore::Open(base::FileSystem& fs,
                                                             BlockStoreOptions options) {
  HF_RETURN_IF_ERROR(CheckOptions(options));
  auto impl = std::make_unique<Impl>(fs, std::move(options));
  HF_RETURN_IF_ERROR(kv::OpenStore(impl->state));
  impl->state.DeliverEvents();
  return std::unique_ptr<BlockStore>(new BlockStore(std::move(impl)));
}

// --- Chains

ChainRef BlockStore::Root(const BlockKey& root) {
  const std::lock_guard guard(impl_->state.mu);
  const NodeId id = impl_->state.index.FindOrAdd(root);
  impl_->state.index.AddReference(id);
  return ChainRef(this, ToBlock(id));
}

ChainRef BlockStore::Share(const ChainRef& chain) {
  HF_CHECK(chain.store_ == this);
  const std::lock_guard guard(impl_->state.mu);
  impl_->state.index.AddReference(ToNode(chain.id_));
  return ChainRef(this, chain.id_);
}

void BlockStore::Unref(BlockId id) {
  const std::lock_guard guard(impl_->state.mu);
  impl_->state.index.DropReference(ToNode(id), ++impl_->state.now);
}

void BlockStore::Unkeep(BlockId id) {
  kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  Node& node = state.index.at(ToNode(id));
  HF_CHECK(node.tail_keepers > 0);
  if (--node.tail_keepers == 0 && !node.periodic_tail) state.tails_let_go.push_back(node.key);
  state.index.Settle(ToNode(id));
}

// The nodes of the longest run of keys that can be read.
std::vector<NodeId> BlockStore::Impl::FindRun(const BlockKey& root, std::span<const BlockKey> keys) {
  std::vector<NodeId> run;
  run.reserve(keys.size());
  NodeId above = state.index.FindOrAdd(root);
  for (const BlockKey& key : keys) {
    const auto id = state.index.Find(key);
    if (!id.has_value() || state.index.at(*id).parent != above) break;
    if (!state.Usable(state.index.at(*id).block, PayloadKind::kBlock)) break;
    run.push_back(*id);
    above = *id;
  }
  return run;
}

size_t BlockStore::Impl::DeepestTail(std::span<const NodeId> run) const {
  size_t blocks = run.size();
  while (blocks > 0 && !state.Usable(state.index.at(run[blocks - 1]).tail, PayloadKind::kTail)) --blocks;
  return blocks;
}

std::vector<BlockStore::Impl::Unchecked> BlockStore::Impl::ScannedToCheck(std::span<const NodeId> blocks) {
  const std::lock_guard guard(state.mu);
  std::vector<Unchecked> unchecked;
  for (const NodeId id : blocks) {
    Node& node = state.index.at(id);
    if (node.block.heap != nullptr) continue;
    if (node.checked == nullptr) node.checked = std::make_unique<uint8_t[]>(state.block_planes.size());
    for (size_t p = 0; p < state.block_planes.size(); ++p) {
      if (!state.options.planes[p].scanned || node.checked[p] != 0) continue;
      unchecked.push_back({id, node.block.at, node.block.sums_hash});
      break;
    }
  }
  for (const Unchecked& block : unchecked)
    if (!state.MapOrQuarantine(block.at)) break;  // some of the blocks are gone: the caller looks again
  return unchecked;
}

void BlockStore::Impl::AskForScanned(std::span<const Unchecked> blocks) const {
  for (size_t first = 0; first < blocks.size();) {
    size_t last = first;
    while (last + 1 < blocks.size() && blocks[last + 1].at.segment == blocks[first].at.segment &&
           blocks[last + 1].at.slot == blocks[last].at.slot + 1)
      ++last;
    const kv::Segment& segment = *state.segments.at(blocks[first].at.segment).file;
    segment.WillNeedSums(blocks[first].at.slot, blocks[last].at.slot);
    for (size_t p = 0; p < state.block_planes.size(); ++p)
      if (state.options.planes[p].scanned) segment.WillNeed(blocks[first].at.slot, blocks[last].at.slot, p);
    first = last + 1;
  }
}

// False when a block was damaged and is quarantined now.
bool BlockStore::Impl::CheckScanned(std::span<const NodeId> blocks) {
  const std::vector<Unchecked> unchecked = ScannedToCheck(blocks);
  {
    const std::lock_guard guard(state.mu);
    for (const NodeId id : blocks)
      if (!state.Usable(state.index.at(id).block, PayloadKind::kBlock)) return false;
    AskForScanned(unchecked);
  }
  for (const Unchecked& block : unchecked) {
    const kv::Segment* segment = nullptr;
    {
      const std::lock_guard guard(state.mu);
      segment = &state.SegmentOf(block.at);
    }
    bool good = segment->CheckSums(block.at.slot, block.sums_hash);
    for (size_t p = 0; good && p < state.block_planes.size(); ++p)
      if (state.options.planes[p].scanned)
        good = segment->CheckPlane(block.at.slot, p, segment->plane(block.at.slot, p));
    const std::lock_guard guard(state.mu);
    Node& node = state.index.at(block.id);
    if (!node.block.stored() || node.block.at != block.at) return false;
    if (!good) {
      state.Quarantine(block.id, PayloadKind::kBlock, "checksum mismatch");
      return false;
    }
    for (size_t p = 0; p < state.block_planes.size(); ++p)
      if (state.options.planes[p].scanned) node.checked[p] = 1;
  }
  return true;
}

void BlockStore::Impl::BeginRead(NodeId id, PayloadKind kind) {
  ++state.index.at(id).payload(kind).readers;
  state.index.Settle(id);  // not to be evicted meanwhile
}

// False when the payload is no longer what it was at `at`. BeginRead keeps it from being discarded, but not
// from being quarantined; then its slot is never used again.
bool BlockStore::Impl::EndRead(NodeId id, PayloadKind kind, kv::Location at) {
  Payload& payload = state.index.at(id).payload(kind);
  if (!payload.stored() || payload.at != at) return false;
  --payload.readers;
  state.index.Settle(id);
  return true;
}

void BlockStore::Impl::AskForTail(NodeId id) {
  const std::lock_guard guard(state.mu);
  const Payload& tail = state.index.at(id).tail;
  if (!tail.stored() || tail.heap != nullptr || !state.SegmentOf(tail.at).Map().ok()) return;
  const kv::Segment& segment = state.SegmentOf(tail.at);
  segment.WillNeedSums(tail.at.slot, tail.at.slot);
  segment.WillNeed(tail.at.slot, tail.at.slot, 0);
}

// False when the tail is not there any more, or was damaged and is quarantined now.
bool BlockStore::Impl::CopyTail(NodeId id, std::vector<std::byte>& out) {
  kv::Location at;
  uint64_t sums_hash = 0;
  const kv::Segment* segment = nullptr;
  out.resize(state.options.tail_bytes);
  {
    const std::lock_guard guard(state.mu);
    const Payload& tail = state.index.at(id).tail;
    if (!state.Usable(tail, PayloadKind::kTail)) return false;
    if (tail.heap != nullptr) {
      std::memcpy(out.data(), tail.heap.get(), out.size());
      return true;
    }
    at = tail.at;
    sums_hash = tail.sums_hash;
    if (!state.MapOrQuarantine(at)) return false;
    segment = &state.SegmentOf(at);
    BeginRead(id, PayloadKind::kTail);
  }
  std::memcpy(out.data(), segment->plane(at.slot, 0), out.size());
  const bool good = segment->CheckSums(at.slot, sums_hash) && segment->CheckPlane(at.slot, 0, out.data());
  const std::lock_guard guard(state.mu);
  if (EndRead(id, PayloadKind::kTail, at) && !good)
    state.Quarantine(id, PayloadKind::kTail, "checksum mismatch");
  return good;
}

Attachment BlockStore::Attach(const BlockKey& root, std::span<const BlockKey> keys) {
  kv::StoreState& state = impl_->state;
  HF_CHECK(!state.block_planes.empty());
  // Every turn that finds damage has taken a block or a tail away, so this ends.
  for (;;) {
    Attachment found;
    std::vector<NodeId> run;
    {
      const std::lock_guard guard(state.mu);
      run = impl_->FindRun(root, keys);
      found.blocks_stored = run.size();
      run.resize(impl_->DeepestTail(run));
      const NodeId end = run.empty() ? state.index.FindOrAdd(root) : run.back();
      state.index.AddReference(end);
      found.end = ChainRef(this, ToBlock(end));
    }
    if (!run.empty()) impl_->AskForTail(run.back());
    const bool good = run.empty() || (impl_->CheckScanned(run) && impl_->CopyTail(run.back(), found.tail));
    state.DeliverEvents();
    if (!good) continue;
    for (const NodeId id : run) found.blocks.push_back(ToBlock(id));
    return found;
  }
}

Attachment BlockStore::BackTo(std::span<const BlockId> chain) {
  kv::StoreState& state = impl_->state;
  for (;;) {
    Attachment found;
    std::vector<NodeId> run;
    {
      const std::lock_guard guard(state.mu);
      for (const BlockId id : chain) {
        if (!state.Usable(state.index.at(ToNode(id)).block, PayloadKind::kBlock)) break;
        run.push_back(ToNode(id));
      }
      found.blocks_stored = run.size();
      run.resize(impl_->DeepestTail(run));
      if (run.empty()) return found;
      state.index.AddReference(run.back());
      found.end = ChainRef(this, ToBlock(run.back()));
    }
    const bool good = impl_->CopyTail(run.back(), found.tail);
    state.DeliverEvents();
    if (!good) continue;
    found.blocks.assign(chain.begin(), chain.begin() + static_cast<ptrdiff_t>(run.size()));
    return found;
  }
}

BlockStore::Presence BlockStore::Look(const BlockKey& key) const {
  const kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  const auto id = state.index.Find(key);
  if (!id.has_value()) return {};
  const Node& node = state.index.at(*id);
  return {.block = node.block.state != PayloadState::kAbsent,
          .block_durable = node.block.state == PayloadState::kDurable,
          .tail = node.tail.state != PayloadState::kAbsent,
          .tail_durable = node.tail.state == PayloadState::kDurable};
}

ChainRef BlockStore::Pin(const BlockKey& key) {
  kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  const auto id = state.index.Find(key);
  if (!id.has_value() || state.index.at(*id).block.state == PayloadState::kAbsent) return ChainRef();
  state.index.AddReference(*id);
  return ChainRef(this, ToBlock(*id));
}

TailRef BlockStore::PinTail(const BlockKey& key) {
  kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  const auto id = state.index.Find(key);
  if (!id.has_value() || state.index.at(*id).tail.state == PayloadState::kAbsent) return TailRef();
  ++state.index.at(*id).tail_keepers;
  state.index.Settle(*id);
  return TailRef(this, ToBlock(*id));
}

// Links a node that is being appended below `parent`. What a record said otherwise was forged.
void BlockStore::Impl::PutInPlace(NodeId id, NodeId parent) {
  HF_CHECK(id != parent);
  Node& node = state.index.at(id);
  if (node.parent != parent) {
    if (node.parent != kv::kNoNode) {
      HF_CHECK(node.block.heap == nullptr);  // one key has one parent
      if (node.block.stored()) state.Quarantine(id, PayloadKind::kBlock, "stored below another block");
      state.index.Unlink(id);
    }
    state.index.Link(id, state.index.at(parent).key);
  }
  state.index.at(id).depth = state.index.at(parent).depth + 1;
}

// Where the store's own copy has to be read to compare it with `bytes`; none when there is no copy, or when
// it is in memory and was compared here.
std::optional<kv::Location> BlockStore::Impl::ToCompare(NodeId id, PayloadKind kind, const std::byte* bytes) {
  const Payload& payload = state.index.at(id).payload(kind);
  if (payload.heap != nullptr) {
    // Somebody may read there, so it stays.
    if (std::memcmp(payload.heap.get(), bytes, state.BytesOf(kind)) != 0)
      state.AddEvent(StoreEvent::Kind::kQuarantined,
                     "block " + ShortName(state.index.at(id).key) + ": " + std::string(kDiffers));
    return std::nullopt;
  }
  if (!payload.stored()) return std::nullopt;
  const kv::Location at = payload.at;
  if (!state.Usable(payload, kind)) {
    state.Quarantine(id, kind, kOtherLayout);
    return std::nullopt;
  }
  if (!state.MapOrQuarantine(at)) return std::nullopt;
  return at;
}

// Its checksums are looked at too: a good copy that is taken for damaged after a restart would be lost.
bool BlockStore::Impl::SameBytes(kv::Location at, uint64_t sums_hash, const std::byte* bytes) {
  const kv::Segment* segment = nullptr;
  {
    const std::lock_guard guard(state.mu);
    segment = &state.SegmentOf(at);
  }
  if (!segment->CheckSums(at.slot, sums_hash)) return false;
  const std::vector<uint32_t>& planes = segment->geometry().plane_bytes;
  for (size_t p = 0; p < planes.size(); ++p) {
    if (std::memcmp(segment->plane(at.slot, p), bytes, planes[p]) != 0) return false;
    if (!segment->CheckPlane(at.slot, p, bytes)) return false;
    bytes += planes[p];
  }
  return true;
}

// Makes `bytes` the payload of a node, unless it has it: a copy from before a crash may be torn, so it is
// compared. Somebody refers to the node or keeps its tail, so that nothing discards the payload meanwhile.
void BlockStore::Impl::Offer(NodeId id, PayloadKind kind, std::unique_ptr<std::byte[]> bytes) {
  std::optional<kv::Location> at;
  uint64_t sums_hash = 0;
  {
    const std::lock_guard guard(state.mu);
    at = ToCompare(id, kind, bytes.get());
    sums_hash = state.index.at(id).payload(kind).sums_hash;
  }
  const bool same = at.has_value() && SameBytes(*at, sums_hash, bytes.get());
  {
    const std::lock_guard guard(state.mu);
    Node& node = state.index.at(id);
    const Payload& payload = node.payload(kind);
    if (at.has_value() && payload.stored() && payload.at == *at) {
      if (!same) {
        state.Quarantine(id, kind, kDiffers);
      } else if (kind == PayloadKind::kBlock) {
        node.checked = std::make_unique<uint8_t[]>(state.block_planes.size());
        std::fill_n(node.checked.get(), state.block_planes.size(), uint8_t{1});
      }
    }
    if (payload.state == PayloadState::kAbsent) state.Enqueue(id, kind, std::move(bytes));
    state.index.Settle(id);
  }
  state.DeliverEvents();
}

ChainRef BlockStore::Append(const ChainRef& parent, const BlockKey& key, std::unique_ptr<std::byte[]> bytes) {
  kv::StoreState& state = impl_->state;
  HF_CHECK(parent.store_ == this && !state.block_planes.empty());
  ChainRef chain;
  {
    const std::lock_guard guard(state.mu);
    const NodeId id = state.index.FindOrAdd(key);
    state.index.AddReference(id);
    chain = ChainRef(this, ToBlock(id));
    impl_->PutInPlace(id, ToNode(parent.id_));
  }
  impl_->Offer(ToNode(chain.id_), PayloadKind::kBlock, std::move(bytes));
  return chain;
}

TailRef BlockStore::PutTail(const ChainRef& at, std::unique_ptr<std::byte[]> bytes, bool periodic) {
  kv::StoreState& state = impl_->state;
  HF_CHECK(at.store_ == this && state.options.tail_bytes > 0);
  TailRef tail;
  {
    const std::lock_guard guard(state.mu);
    Node& node = state.index.at(ToNode(at.id_));
    ++node.tail_keepers;
    tail = TailRef(this, at.id_);
    state.index.Settle(ToNode(at.id_));
    if (node.tail.state == PayloadState::kAbsent) {
      node.periodic_tail = periodic;
    } else if (periodic && !node.periodic_tail) {
      node.periodic_tail = true;
      if (node.tail.at.valid()) state.to_renew.push_back(node.tail.at);
    }
  }
  impl_->Offer(ToNode(at.id_), PayloadKind::kTail, std::move(bytes));
  return tail;
}

void BlockStore::Drop(ChainRef chain) {
  HF_CHECK(chain.store_ == this);
  kv::StoreState& state = impl_->state;
  NodeId id = ToNode(chain.id());
  chain.Reset();
  const std::lock_guard guard(state.mu);
  while (id != kv::kNoNode) {
    const Node& node = state.index.at(id);
    if (!node.has_payload() || node.references > 0 || node.children > 0 || node.tail_keepers > 0 ||
        node.block.busy() || node.tail.busy())
      return;
    const NodeId above = node.parent;
    const bool tail = node.tail.state != PayloadState::kAbsent;
    const bool block = node.block.state != PayloadState::kAbsent;
    if (tail) state.Discard(id, PayloadKind::kTail);
    if (block) state.Discard(id, PayloadKind::kBlock);
    id = above;
  }
}

// --- Reading

bool BlockStore::Lend(BlockId block, std::span<const std::byte*> planes, std::span<uint8_t> unchecked) {
  kv::StoreState& state = impl_->state;
  HF_CHECK(planes.size() == state.block_planes.size() && unchecked.size() == planes.size());
  std::fill(planes.begin(), planes.end(), nullptr);
  std::fill(unchecked.begin(), unchecked.end(), uint8_t{1});
  const std::lock_guard guard(state.mu);
  Node& node = state.index.at(ToNode(block));
  HF_CHECK(node.references > 0 || node.children > 0);
  if (!state.Usable(node.block, PayloadKind::kBlock)) return false;
  const bool durable = node.block.state == PayloadState::kDurable;
  if (node.block.heap == nullptr && !state.MapOrQuarantine(node.block.at)) return false;
  if (durable && state.SegmentOf(node.block.at).mapped()) {
    const kv::Segment& segment = state.SegmentOf(node.block.at);
    for (size_t p = 0; p < planes.size(); ++p) {
      planes[p] = segment.plane(node.block.at.slot, p);
      unchecked[p] = node.checked == nullptr || node.checked[p] == 0 ? 1 : 0;
    }
    return false;
  }
  ++node.block.heap_users;
  size_t at = 0;
  for (size_t p = 0; p < planes.size(); ++p) {
    planes[p] = node.block.heap.get() + at;
    unchecked[p] = 0;
    at += state.block_planes[p];
  }
  state.index.Settle(ToNode(block));
  return true;
}

void BlockStore::ReleaseHeap(BlockId block) {
  kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  Payload& payload = state.index.at(ToNode(block)).block;
  HF_CHECK(payload.heap_users > 0);
  --payload.heap_users;
  state.TrimHeap(payload, PayloadKind::kBlock);
  state.index.Settle(ToNode(block));
}

bool BlockStore::IsDurable(BlockId block) const {
  const kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  const Payload& payload = state.index.at(ToNode(block)).block;
  return payload.state == PayloadState::kDurable && state.segments.at(payload.at.segment).file->mapped();
}

base::Status BlockStore::CheckPlane(BlockId block, size_t plane, const std::byte* at) {
  kv::StoreState& state = impl_->state;
  const auto lost = [] { return base::DataLoss("a kv block was quarantined while it was in use"); };
  const NodeId id = ToNode(block);
  kv::Location where;
  uint64_t sums_hash = 0;
  const kv::Segment* segment = nullptr;
  {
    const std::lock_guard guard(state.mu);
    const Payload& payload = state.index.at(id).block;
    if (!payload.stored() || !state.Usable(payload, PayloadKind::kBlock)) return lost();
    if (plane >= state.block_planes.size() || !state.SegmentOf(payload.at).mapped()) return lost();
    where = payload.at;
    sums_hash = payload.sums_hash;
    segment = &state.SegmentOf(where);
    if (segment->plane(where.slot, plane) != at) return lost();
  }
  const bool good = segment->CheckSums(where.slot, sums_hash) && segment->CheckPlane(where.slot, plane, at);
  base::Status status;
  {
    const std::lock_guard guard(state.mu);
    Node& node = state.index.at(id);
    if (!node.block.stored() || node.block.at != where) return lost();
    if (good) {
      if (node.checked == nullptr) node.checked = std::make_unique<uint8_t[]>(state.block_planes.size());
      node.checked[plane] = 1;
    } else {
      status = base::DataLoss(segment->path() + ": slot " + std::to_string(where.slot) + ", plane " +
                              std::to_string(plane) + ": checksum mismatch");
      state.Quarantine(id, PayloadKind::kBlock, "plane " + std::to_string(plane) + ": checksum mismatch");
    }
  }
  state.DeliverEvents();
  return status;
}

bool BlockStore::QuarantineDamaged() {
  kv::StoreState& state = impl_->state;
  bool any = false;
  {
    const std::lock_guard guard(state.mu);
    for (uint32_t n = 0; n < state.segments.count(); ++n) {
      const kv::SegmentState& segment = state.segments.at(n);
      if (segment.file == nullptr || !segment.file->damaged()) continue;
      any = true;
      state.QuarantineSegment(n, "a page of the file could not be read");
    }
  }
  state.DeliverEvents();
  return any;
}

// --- Disk

base::Status BlockStore::Write(uint64_t bytes_max) {
  base::Status status;
  {
    const std::lock_guard io(impl_->io_mu);
    status = impl_->writer.Write(bytes_max);
  }
  impl_->state.DeliverEvents();
  return status;
}

base::Status BlockStore::Sync() {
  base::Status status;
  {
    const std::lock_guard io(impl_->io_mu);
    status = impl_->writer.Sync();
  }
  impl_->state.DeliverEvents();
  return status;
}

base::Status BlockStore::persistence() const {
  const std::lock_guard guard(impl_->state.mu);
  return impl_->state.persistence();
}

base::Status BlockStore::EvictTo(uint64_t bytes) {
  const std::lock_guard io(impl_->io_mu);
  return impl_->writer.EvictTo(bytes);
}

void BlockStore::DropUnkeptTails() {
  kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  state.index.ForEach([&](NodeId, const Node& node) {
    if (node.tail.state != PayloadState::kAbsent && node.tail_keepers == 0 && !node.periodic_tail)
      state.tails_let_go.push_back(node.key);
  });
}

void BlockStore::Impl::VerifySlot(kv::Location at, VerifyReport& report) {
  const kv::Segment* segment = nullptr;
  NodeId id = kv::kNoNode;
  uint64_t sums_hash = 0;
  PayloadKind kind = PayloadKind::kBlock;
  {
    const std::lock_guard guard(state.mu);
    const kv::SegmentState& entry = state.segments.at(at.segment);
    if (entry.file == nullptr || entry.owner[at.slot] >= kv::kBadSlot) return;
    id = entry.owner[at.slot];
    segment = entry.file.get();
    kind = kv::PayloadOf(segment->geometry().kind);
    const Payload& payload = state.index.at(id).payload(kind);
    if (payload.state != PayloadState::kDurable) return;
    sums_hash = payload.sums_hash;
    const uint32_t used = entry.used;
    if (!state.MapOrQuarantine(at)) {
      report.damaged += used;
      return;
    }
    BeginRead(id, kind);
  }
  bool good = segment->CheckSums(at.slot, sums_hash);
  for (size_t p = 0; good && p < segment->geometry().plane_bytes.size(); ++p)
    good = segment->CheckPlane(at.slot, p, segment->plane(at.slot, p));
  ++report.slots;
  report.bytes += segment->geometry().slot_bytes;
  const std::lock_guard guard(state.mu);
  if (!EndRead(id, kind, at) || good) return;
  ++report.damaged;
  state.Quarantine(id, kind, "checksum mismatch");
}

// What is removed meanwhile is passed over, and what is added too.
base::StatusOr<VerifyReport> BlockStore::Verify(const std::function<void(uint64_t, uint64_t)>& progress,
                                                std::stop_token stop) {
  kv::StoreState& state = impl_->state;
  const uint64_t all = Stats().used_bytes;
  VerifyReport report;
  const auto slots_of = [&state](uint32_t n) -> std::optional<uint32_t> {
    const std::lock_guard guard(state.mu);
    if (n >= state.segments.count()) return std::nullopt;
    return static_cast<uint32_t>(state.segments.at(n).owner.size());
  };
  for (uint32_t n = 0; const auto slots = slots_of(n); ++n) {
    for (uint32_t slot = 0; slot < *slots; ++slot) {
      impl_->VerifySlot({n, slot}, report);
      if (!stop.stop_requested()) continue;
      state.DeliverEvents();
      return absl::CancelledError("the check was stopped");
    }
    state.DeliverEvents();
    if (progress) progress(report.bytes, all);
  }
  return report;
}

// --- Looking

StoreStats BlockStore::Stats() const {
  const kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  StoreStats stats;
  state.index.ForEach([&](NodeId, const Node& node) {
    stats.blocks += node.block.state != PayloadState::kAbsent ? 1 : 0;
    stats.tails += node.tail.state != PayloadState::kAbsent ? 1 : 0;
  });
  for (uint32_t n = 0; n < state.segments.count(); ++n) {
    const kv::SegmentState& segment = state.segments.at(n);
    if (segment.file == nullptr) continue;
    stats.slots_used += segment.used;
    stats.used_bytes += segment.used * segment.file->geometry().slot_bytes;
  }
  stats.references = state.index.references();
  stats.slots_quarantined = state.quarantined;
  stats.disk_bytes = state.segments.file_bytes();
  stats.foreign_bytes = state.foreign_bytes;
  stats.heap_bytes = state.heap_bytes;
  stats.pending_bytes = state.pending_bytes;
  stats.segments = state.segments.files();
  stats.written_bytes = state.written_bytes;
  stats.evicted_blocks = state.evicted_blocks;
  return stats;
}

std::vector<SegmentInfo> BlockStore::Segments() const {
  const kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  std::vector<SegmentInfo> infos;
  for (uint32_t n = 0; n < state.segments.count(); ++n) {
    const kv::SegmentState& segment = state.segments.at(n);
    if (segment.file == nullptr) continue;
    const kv::SegmentGeometry& g = segment.file->geometry();
    infos.push_back({.path = segment.file->path(),
                     .tails = g.kind == kv::SegmentKind::kTails,
                     .slots = g.slots,
                     .used = segment.used,
                     .slot_bytes = g.slot_bytes,
                     .file_bytes = g.file_bytes});
  }
  return infos;
}

std::vector<ChainInfo> BlockStore::Chains(size_t max) const {
  const kv::StoreState& state = impl_->state;
  const std::lock_guard guard(state.mu);
  std::vector<std::pair<uint64_t, NodeId>> ends;
  state.index.ForEach([&](NodeId id, const Node& node) {
    if (node.children == 0 && node.block.state != PayloadState::kAbsent) ends.emplace_back(node.last_use, id);
  });
  std::sort(ends.rbegin(), ends.rend());
  if (ends.size() > max) ends.resize(max);
  std::vector<ChainInfo> chains;
  for (const auto& [use, end] : ends) {
    ChainInfo chain{.key = state.index.at(end).key};
    uint64_t from_tail = 0;  // blocks from the deepest tail to the end
    bool tail_seen = false;
    NodeId id = end;
    // A forged store could link blocks in a ring.
    while (id != kv::kNoNode && chain.blocks < state.index.size()) {
      const Node& node = state.index.at(id);
      if (node.block.state == PayloadState::kAbsent) break;
      tail_seen |= node.tail.state != PayloadState::kAbsent;
      if (!tail_seen) ++from_tail;
      ++chain.blocks;
      chain.complete = node.depth == 1;
      id = node.parent;
    }
    if (id != kv::kNoNode) {
      chain.top = state.index.at(id).key;
    }
    chain.deepest_tail = tail_seen ? chain.blocks - from_tail : 0;
    chains.push_back(chain);
  }
  return chains;
}

}  // namespace holdfast::memory
