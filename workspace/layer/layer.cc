#include "workspace/layer/layer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr size_t kTimesMax = 4096;
constexpr size_t kReportedPathsMax = 10'000;
constexpr size_t kPieceBytes = 1 << 20;
constexpr std::string_view kMemoryMagic = "HFSTAT01";
constexpr size_t kChecksumBytes = 8;

bool Stands(const ManifestEntry& entry) { return !entry.hidden; }

// Whether two entries look the same to a command.
bool LooksSame(const ManifestEntry& a, const ManifestEntry& b) {
  return a.hidden == b.hidden && a.now == b.now && a.opaque == b.opaque;
}

void PutDigest(std::string& out, const BlobId& id) { out += base::AsText(id); }

BlobId TakeDigest(base::Decoder& in) {
  BlobId id{};
  const auto bytes = in.Bytes(id.size());
  std::copy(bytes.begin(), bytes.end(), id.begin());
  return id;
}

void Note(const std::string& path, RestoreResult& result) {
  ++result.changed_count;
  if (result.changed.size() < kReportedPathsMax) result.changed.push_back(path);
}

}  // namespace

NodeSource NodesOf(memory::BlobStore& blobs) {
  return [&blobs](const BlobId& id, size_t bytes_max) { return blobs.Read(id, bytes_max); };
}

std::vector<std::string> ChangedPaths(const Manifest& before, const Manifest& after) {
  std::vector<std::string> changed;
  auto a = before.entries.begin();
  auto b = after.entries.begin();
  while (a != before.entries.end() || b != after.entries.end()) {
    const int order = a == before.entries.end()  ? 1
                      : b == after.entries.end() ? -1
                                                 : ComparePaths(a->path, b->path);
    // A directory that stands as underneath is there for its content, and hidden paths for their bases.
    const auto counts = [](const ManifestEntry& e) { return Stands(e) && (e.Changed() || e.opaque); };
    if (order < 0) {
      if (counts(*a)) changed.push_back(a->path);
      ++a;
    } else if (order > 0) {
      if (counts(*b)) changed.push_back(b->path);
      ++b;
    } else {
      if (!LooksSame(*a, *b)) changed.push_back(a->path);
      ++a, ++b;
    }
  }
  return changed;
}

Layer::Layer(LayerParts parts, base::UtcTime opened)
    : parts_(parts),
      current_(EmptyManifestId()),
      memory_{.derived = DerivedIndex(parts.upper, parts.clock, parts.limits.directory_entries_max),
              .indexes = {}},
      last_checkpoint_(opened) {}

void Layer::NoteTime(const ManifestId& id, base::UtcTime time) {
  std::erase_if(times_, [&](const auto& item) { return item.first == id; });
  times_.emplace_back(id, time);
  if (times_.size() > kTimesMax) times_.pop_front();
}

base::StatusOr<CheckpointResult> Layer::Checkpoint() {
  const base::UtcTime started = parts_.clock.UtcNow();
  const auto batch = parts_.blobs.NewBatch();
  HF_ASSIGN_OR_RETURN(ScanResult scan, Scan(parts_, {.before = manifest_,
                                                     .known = known_,
                                                     .last_checkpoint = last_checkpoint_,
                                                     .batch = batch.get(),
                                                     .memory = memory_}));
  HF_ASSIGN_OR_RETURN(
      const ManifestId id,
      EncodeManifest(scan.manifest, [&](std::span<const std::byte> node) { return batch->Add(node); }));
  CheckpointResult result{.id = id, .bytes_stored = batch->new_bytes()};
  if (batch->new_blobs() > 0) HF_RETURN_IF_ERROR(batch->Commit());
  result.changed = ChangedPaths(manifest_, scan.manifest);
  result.dropped = std::move(scan.dropped);
  result.unstable = std::move(scan.unstable);
  result.derived = std::move(scan.derived);
  result.entries = scan.manifest.entries.size();
  result.files_read = scan.files_read;
  manifest_ = std::move(scan.manifest);
  known_ = std::move(scan.files);
  current_ = id;
  last_checkpoint_ = started;
  NoteTime(id, started);
  return result;
}

base::StatusOr<Manifest> Layer::Load(const ManifestId& id) const {
  if (id == EmptyManifestId()) return Manifest();
  return DecodeManifest(id, NodesOf(parts_.blobs));
}

// --- Restore ---

base::StatusOr<RestoreResult> Layer::Restore(const ManifestId& id, Trust trust) {
  HF_ASSIGN_OR_RETURN(Manifest target, Load(id));
  // Before anything is touched: a manifest with a content that is gone is refused, not half restored.
  for (const ManifestEntry& entry : target.entries) {
    if (entry.now.content.has_value() && !parts_.blobs.Contains(*entry.now.content)) {
      return base::DataLoss(entry.path + ": its content " + base::ToHex(*entry.now.content) +
                            " is not in the store");
    }
  }
  RestoreResult result;
  ScanResult scan;
  if (trust == Trust::kNothing) {
    HF_RETURN_IF_ERROR(Clear(result));
    times_.clear();
  } else {
    std::vector<std::pair<std::string, Stamp>> derived;
    const DerivedVisitor keep = [&](const std::string& path, const EntryStat& stat) {
      derived.emplace_back(path, Stamp::Of(stat));
    };
    HF_ASSIGN_OR_RETURN(scan, Scan(parts_, {.before = manifest_,
                                            .known = known_,
                                            .last_checkpoint = last_checkpoint_,
                                            .memory = memory_,
                                            .each_derived = keep}));
    HF_RETURN_IF_ERROR(RemoveDerivedSince(id, scan, derived, result));
    HF_RETURN_IF_ERROR(RemoveOthers(target, scan.manifest, result));
  }
  known_ = std::move(scan.files);
  for (const ManifestEntry& entry : target.entries) {
    if (entry.hidden) continue;
    const ManifestEntry* present = scan.manifest.Find(entry.path);
    if (present != nullptr && present->hidden) present = nullptr;
    HF_RETURN_IF_ERROR(Put(entry, present, result));
  }
  // Modes of directories last: one without the right to write would keep its own content out.
  for (auto it = target.entries.rbegin(); it != target.entries.rend(); ++it) {
    if (it->hidden || it->now.kind != VersionKind::kDirectory) continue;
    HF_ASSIGN_OR_RETURN(const EntryStat stat, parts_.upper.Stat(it->path));
    if (stat.mode != it->now.mode) HF_RETURN_IF_ERROR(parts_.upper.SetMode(it->path, it->now.mode));
  }
  std::sort(result.changed.begin(), result.changed.end(), PathLess());
  result.changed.erase(std::unique(result.changed.begin(), result.changed.end()), result.changed.end());
  manifest_ = std::move(target);
  current_ = id;
  last_checkpoint_ = parts_.clock.UtcNow();
  NoteTime(id, last_checkpoint_);
  return result;
}

base::Status Layer::Clear(RestoreResult& result) {
  HF_ASSIGN_OR_RETURN(const auto names, parts_.upper.Names("", parts_.limits.directory_entries_max));
  for (const NamedKind& name : names) HF_RETURN_IF_ERROR(RemoveAll(parts_.upper, name.name));
  result.changed_count += names.size();
  return {};
}

// A derived file is kept when nothing has touched it since the layer was seen to hold this manifest: a half
// written object file with a new time would pass for a good one.
base::Status Layer::RemoveDerivedSince(const ManifestId& id, const ScanResult& scan,
                                       const std::vector<std::pair<std::string, Stamp>>& derived,
                                       RestoreResult& result) {
  const auto time =
      std::find_if(times_.begin(), times_.end(), [&](const auto& item) { return item.first == id; });
  for (const auto& [path, stamp] : derived) {
    if (time != times_.end() && IsOlder(stamp, time->second)) continue;
    HF_RETURN_IF_ERROR(RemoveAll(parts_.upper, path));
    ++result.derived_removed;
  }
  for (const std::string& path : scan.dropped) {
    if (ValidatePath(path).ok()) HF_RETURN_IF_ERROR(RemoveAll(parts_.upper, path));
  }
  return {};
}

// What stands where the target has nothing, or another kind of thing.
base::Status Layer::RemoveOthers(const Manifest& target, const Manifest& present, RestoreResult& result) {
  std::string removed;  // a directory that is gone with all beneath it
  for (const ManifestEntry& entry : present.entries) {
    if (entry.hidden) continue;
    if (!removed.empty() && entry.path.starts_with(removed) && entry.path[removed.size()] == '/') continue;
    const ManifestEntry* const wanted = target.Find(entry.path);
    if (wanted != nullptr && !wanted->hidden && wanted->now.kind == entry.now.kind) continue;
    // One that shows what is underneath may stay for the derived files in it.
    if (wanted == nullptr && entry.now.kind == VersionKind::kDirectory && !entry.opaque) {
      const auto lower = parts_.lower.Stat(entry.path);
      if (lower.ok() && lower->kind == EntryKind::kDirectory) {
        if (lower->mode == entry.now.mode) continue;
        Note(entry.path, result);
        HF_RETURN_IF_ERROR(parts_.upper.SetMode(entry.path, lower->mode));
        continue;
      }
    }
    Note(entry.path, result);
    HF_RETURN_IF_ERROR(RemoveAll(parts_.upper, entry.path));
    removed = entry.path;
  }
  return {};
}

base::Status Layer::Put(const ManifestEntry& entry, const ManifestEntry* present, RestoreResult& result) {
  const bool stands = present != nullptr && present->now.kind == entry.now.kind;
  if (stands && LooksSame(*present, entry)) return {};
  Note(entry.path, result);
  Tree& upper = parts_.upper;
  // What no scan shows: a directory that is as underneath.
  if (!stands && entry.now.kind != VersionKind::kDirectory) HF_RETURN_IF_ERROR(RemoveAll(upper, entry.path));
  switch (entry.now.kind) {
    case VersionKind::kAbsent:
      return upper.MakeWhiteout(entry.path);
    case VersionKind::kSymlink:
      if (stands) HF_RETURN_IF_ERROR(upper.Remove(entry.path));
      return upper.MakeLink(entry.path, entry.now.target);
    case VersionKind::kDirectory: {
      const base::Status made = stands ? base::Status() : upper.MakeDirectory(entry.path, 0700);
      if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
      HF_ASSIGN_OR_RETURN(const bool opaque, upper.IsOpaque(entry.path));
      return opaque == entry.opaque ? base::Status() : upper.SetOpaque(entry.path, entry.opaque);
    }
    case VersionKind::kFile:
      if (stands && present->now.content == entry.now.content)
        return upper.SetMode(entry.path, entry.now.mode);
      if (stands) HF_RETURN_IF_ERROR(upper.Remove(entry.path));
      known_.erase(entry.path);
      return PutFile(entry);
  }
  return {};
}

base::Status Layer::PutFile(const ManifestEntry& entry) {
  HF_ASSIGN_OR_RETURN(memory::BlobReader blob, parts_.blobs.OpenBlob(*entry.now.content));
  if (blob.size() != entry.now.size_bytes) return base::DataLoss(entry.path + ": a content of another size");
  HF_ASSIGN_OR_RETURN(const auto file, parts_.upper.CreateFile(entry.path, entry.now.mode));
  std::vector<std::byte> buffer(static_cast<size_t>(std::min<uint64_t>(blob.size(), kPieceBytes)));
  for (uint64_t at = 0; at < blob.size();) {
    HF_ASSIGN_OR_RETURN(const size_t read, blob.ReadAt(at, buffer));
    if (read == 0) return base::DataLoss(entry.path + ": its content ends early");
    HF_RETURN_IF_ERROR(file->WriteAt(at, std::span(buffer).first(read)));
    at += read;
  }
  return {};
}

// --- Memory ---

// magic, manifest, last checkpoint, times, known files; then XXH3 of all that.
std::string Layer::EncodeMemory() const {
  std::string out(kMemoryMagic);
  PutDigest(out, current_);
  base::PutFixed64(out, static_cast<uint64_t>(last_checkpoint_.ns));
  base::PutVarint64(out, times_.size());
  for (const auto& [id, time] : times_) {
    PutDigest(out, id);
    base::PutFixed64(out, static_cast<uint64_t>(time.ns));
  }
  std::string files;
  uint64_t count = 0;
  for (const ManifestEntry& entry : manifest_.entries) {  // for a fixed order
    const auto known = known_.find(entry.path);
    if (known == known_.end()) continue;
    ++count;
    base::PutLengthPrefixed(files, known->first);
    PutStamp(files, known->second.stamp);
    PutDigest(files, known->second.content);
  }
  base::PutVarint64(out, count);
  out += files;
  base::PutFixed64(out, base::Xxh3(base::AsBytes(out)));
  return out;
}

void Layer::DecodeMemory(std::string_view bytes, const ManifestId& id) {
  if (bytes.size() < kMemoryMagic.size() + kChecksumBytes) return;
  const std::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  const auto sum = base::LoadLittle<uint64_t>(base::AsBytes(bytes).data() + body.size());
  if (sum != base::Xxh3(base::AsBytes(body)) || !body.starts_with(kMemoryMagic)) return;
  base::Decoder in(base::AsBytes(body.substr(kMemoryMagic.size())));
  if (TakeDigest(in) != id) return;
  const base::UtcTime last{static_cast<int64_t>(in.Fixed64())};
  decltype(times_) times;
  for (uint64_t n = in.Varint64(); n > 0 && in.ok() && times.size() <= kTimesMax; --n) {
    const ManifestId manifest = TakeDigest(in);
    times.emplace_back(manifest, base::UtcTime{static_cast<int64_t>(in.Fixed64())});
  }
  KnownFiles known;
  for (uint64_t n = in.Varint64(); n > 0 && in.ok(); --n) {
    std::string path(in.LengthPrefixed(kPathBytesMax));
    const Stamp stamp = TakeStamp(in);
    known[std::move(path)] = {stamp, TakeDigest(in)};
  }
  auto manifest = Load(id);
  if (!in.Finish("the memory of a layer").ok() || !manifest.ok()) return;
  manifest_ = std::move(*manifest);
  current_ = id;
  last_checkpoint_ = last;
  times_ = std::move(times);
  known_ = std::move(known);
}

}  // namespace holdfast::workspace
