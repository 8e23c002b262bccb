#include "memory/blob/maintenance.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "base/faults.h"
#include "base/hash.h"
#include "memory/blob/frame_builder.h"
#include "memory/blob/pack_reader.h"

namespace holdfast::memory::blob {
namespace {

using PackInfo = StoreState::PackInfo;

constexpr uint64_t kCopyBytes = 1 << 20;  // memory of a copy
constexpr size_t kDamagedIdsMax = 1000;

base::Status Cancelled() { return absl::CancelledError("blob store: stopped on request"); }

// Head and tail of the one frame that is left do not count.
bool MostlyGarbage(const PackInfo& pack) { return pack.used_bytes + 2 * kUnit < pack.file_bytes / 2; }

// The blobs of some packs, by pack and position.
std::vector<Placed> BlobsOf(const StoreState& state, const std::set<uint32_t>& packs) {
  std::vector<Placed> blobs = state.Snapshot(false);
  std::erase_if(blobs, [&](const Placed& p) { return !packs.contains(p.place.at.pack); });
  return blobs;
}

// Copies one blob. DataLoss when it is damaged; nothing of it is in the frame then.
base::Status CopyBlob(base::File& from, const BlobEntry& entry, FrameBuilder& to) {
  to.Begin();
  base::Sha256 hash;
  std::vector<std::byte> window(std::min(entry.size, kCopyBytes));
  for (uint64_t done = 0; done < entry.size; done += window.size()) {
    window.resize(std::min(entry.size - done, kCopyBytes));
    const auto n = from.ReadAt(entry.offset + done, window);
    if (!n.ok() || *n != window.size()) {
      to.Cancel();
      return n.ok() ? base::DataLoss("the file ends inside it") : n.status();
    }
    hash.Update(window);
    HF_RETURN_IF_ERROR(to.Write(window));
  }
  if (hash.Finish() == entry.id) return to.End(entry.id);
  to.Cancel();
  return base::DataLoss("its bytes have another SHA-256");
}

// Copies the blobs of some packs into one new pack, and removes those that are empty then. Those in which
// damage was found stay, with what is damaged.
class Rewriter {
 public:
  explicit Rewriter(StoreState& state)
      : state_(state),
        builder_(state.fs, {.directory = state.options.directory,
                            .memory_bytes_max = 0,
                            .take_pack_id = [&state] { return state.TakePackId(); },
                            // The budget does not hold here: this makes room in the end.
                            .room = [](uint64_t) { return absl::OkStatus(); }}) {}

  base::Status Run(const std::set<uint32_t>& packs, const std::stop_token& stop) {
    for (const Placed& blob : BlobsOf(state_, packs)) {
      if (stop.stop_requested()) return Cancelled();
      HF_RETURN_IF_ERROR(Copy(blob));
    }
    if (!moves_.empty()) HF_RETURN_IF_ERROR(Finish());
    HF_FAULT_POINT("memory.blob.before_remove");
    for (const uint32_t id : packs) {
      HF_ASSIGN_OR_RETURN(const bool removed, state_.RemoveIfEmpty(id));
      removed_ += removed ? 1 : 0;
    }
    return absl::OkStatus();
  }

  uint64_t bytes() const { return moves_.empty() ? 0 : builder_.frame_bytes(); }
  uint64_t removed() const { return removed_; }
  uint64_t made() const { return moves_.empty() ? 0 : 1; }

 private:
  base::Status Copy(const Placed& blob) {
    const Location& at = blob.place.at;
    HF_ASSIGN_OR_RETURN(const auto file, state_.FileOf(at.pack));
    const base::Status copied = CopyBlob(*file, at.entry(blob.id), builder_);
    if (absl::IsDataLoss(copied)) {
      state_.MarkDamaged(blob.id, at, base::Message(copied));
      return absl::OkStatus();
    }
    HF_RETURN_IF_ERROR(copied);
    moves_.push_back(blob);
    return absl::OkStatus();
  }

  base::Status Finish() {
    HF_RETURN_IF_ERROR(builder_.FinishFile());
    state_.AddPack(builder_.pack_id(), builder_.frame_bytes(), 1);
    for (size_t i = 0; i < moves_.size(); ++i) {
      const BlobEntry& entry = builder_.entries()[i];
      const Location to{.pack = builder_.pack_id(),
                        .unit = static_cast<uint32_t>(entry.offset / kUnit),
                        .size = static_cast<uint32_t>(entry.size)};
      state_.Relocate(moves_[i].id, moves_[i].place.at, to);
    }
    state_.DropWriter(builder_.pack_id());
    return absl::OkStatus();
  }

  StoreState& state_;
  FrameBuilder builder_;
  std::vector<Placed> moves_;  // as the entries of the builder
  uint64_t removed_ = 0;
};

uint64_t DiskBytes(const StoreState& state) { return state.Stats().disk_bytes; }

// Packs worth rewriting, until `budget_bytes` would be copied.
struct Choice {
  std::set<uint32_t> packs;
  bool more = false;
};

Choice Choose(const StoreState& state, uint64_t budget_bytes, bool merge) {
  const uint64_t target = state.options.pack_bytes_target;
  Choice choice;
  uint64_t bytes = 0;
  uint64_t small = 0;
  for (const PackInfo& pack : state.QuietPacks()) {
    const bool is_small = merge && pack.file_bytes < target / 4;
    if (pack.has_damage || (!is_small && !MostlyGarbage(pack) && pack.blobs > 0)) continue;
    if (!choice.packs.empty() && bytes + pack.used_bytes > std::min(budget_bytes, target)) {
      choice.more = true;
      break;
    }
    choice.packs.insert(pack.id);
    bytes += pack.used_bytes;
    small += is_small && !MostlyGarbage(pack) ? 1 : 0;
  }
  // One small pack alone stays as it is: there is nothing to merge it with.
  if (small == 1 && choice.packs.size() == 1) return {};
  return choice;
}

class Verifier {
 public:
  Verifier(StoreState& state, const std::function<void(uint64_t, uint64_t)>& progress)
      : state_(state), progress_(progress) {}

  base::StatusOr<BlobVerifyReport> Run(const std::stop_token& stop) {
    const std::vector<Placed> blobs = state_.Snapshot(true);
    for (const Placed& blob : blobs) total_ += blob.place.at.size;
    for (size_t begin = 0, end = 0; begin < blobs.size(); begin = end) {
      const uint32_t pack = blobs[begin].place.at.pack;
      while (end < blobs.size() && blobs[end].place.at.pack == pack) ++end;
      HF_RETURN_IF_ERROR(CheckPack(pack, std::span(blobs).subspan(begin, end - begin), stop));
    }
    return std::move(report_);
  }

 private:
  base::Status CheckPack(uint32_t pack, std::span<const Placed> blobs, const std::stop_token& stop) {
    const auto file = state_.FileOf(pack);
    if (absl::IsUnavailable(file.status())) return file.status();  // no descriptors: says nothing
    const std::set<uint64_t> listed = file.ok() ? ListedIn(**file, pack) : std::set<uint64_t>();
    for (const Placed& blob : blobs) {
      if (stop.stop_requested()) return Cancelled();
      const Location& at = blob.place.at;
      base::Status status = file.ok() ? CheckContent(**file, at.entry(blob.id)) : file.status();
      if (!status.ok() && Moved(blob)) continue;
      ++report_.blobs;
      report_.bytes += at.size;
      if (!status.ok()) {
        Damaged(blob.id);
        state_.MarkDamaged(blob.id, at, base::Message(status));
      } else if (!listed.contains(at.unit)) {
        Damaged(blob.id);  // can be read now, and will not be found by the next process
        state_.Report(BlobEvent::Kind::kDamaged,
                      state_.PathOf(pack) + ": blob " + base::ToHex(blob.id) + ": its entry is damaged");
      }
      if (progress_) progress_(report_.bytes, total_);
    }
    return absl::OkStatus();
  }

  // Freed, or rewritten elsewhere, since the snapshot.
  bool Moved(const Placed& blob) const {
    const auto now = state_.Find(blob.id);
    return absl::IsNotFound(now.status()) || (now.ok() && *now != blob.place.at);
  }

  // Where contents start, in units, by what the pack says now.
  static std::set<uint64_t> ListedIn(base::File& file, uint32_t pack) {
    std::set<uint64_t> units;
    const auto contents = ReadPack(file, pack);
    if (!contents.ok()) return units;
    for (const BlobEntry& entry : contents->entries) units.insert(entry.offset / kUnit);
    return units;
  }

  void Damaged(const BlobId& id) {
    ++report_.damaged;
    if (report_.damaged_ids.size() < kDamagedIdsMax) report_.damaged_ids.push_back(id);
  }

  StoreState& state_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  uint64_t total_ = 0;
  BlobVerifyReport report_;
};

}  // namespace

base::StatusOr<SweepReport> Sweep(StoreState& state, int32_t until_seconds,
                                  absl::FunctionRef<bool(const BlobId&)> live, const std::stop_token& stop) {
  SweepReport report;
  const uint64_t before = DiskBytes(state);
  for (const Placed& blob : state.Snapshot(false)) {
    if (stop.stop_requested()) return Cancelled();
    if (blob.place.touched_seconds >= until_seconds || live(blob.id)) continue;
    report.blobs_freed += state.FreeUnlessKept(blob, until_seconds) ? 1 : 0;
  }
  for (const PackInfo& pack : state.QuietPacks()) {
    if (stop.stop_requested()) return Cancelled();
    HF_ASSIGN_OR_RETURN(const bool removed, state.RemoveIfEmpty(pack.id));
    report.packs_removed += removed ? 1 : 0;
    if (!removed && pack.has_damage && MostlyGarbage(pack)) ++report.packs_kept_damaged;
  }
  for (bool more = true; more;) {
    const Choice choice = Choose(state, UINT64_MAX, false);
    if (choice.packs.empty()) break;
    Rewriter rewriter(state);
    HF_RETURN_IF_ERROR(rewriter.Run(choice.packs, stop));
    report.packs_rewritten += rewriter.removed();
    more = choice.more && rewriter.removed() > 0;
  }
  const uint64_t after = DiskBytes(state);
  report.bytes_freed = before > after ? before - after : 0;
  return report;
}

base::StatusOr<CompactReport> Compact(StoreState& state, uint64_t budget_bytes, const std::stop_token& stop) {
  CompactReport report;
  const Choice choice = Choose(state, budget_bytes, true);
  if (choice.packs.empty()) return report;
  Rewriter rewriter(state);
  HF_RETURN_IF_ERROR(rewriter.Run(choice.packs, stop));
  report.packs_before = rewriter.removed();
  report.packs_after = rewriter.made();
  report.bytes_copied = rewriter.bytes();
  report.more = choice.more;
  return report;
}

base::StatusOr<BlobVerifyReport> Verify(StoreState& state,
                                        const std::function<void(uint64_t, uint64_t)>& progress,
                                        const std::stop_token& stop) {
  return Verifier(state, progress).Run(stop);
}

}  // namespace holdfast::memory::blob
