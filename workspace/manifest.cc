#include "workspace/manifest.h"

#include <algorithm>
#include <utility>

#include "base/coding.h"
#include "workspace/manifest_format.h"
#include "workspace/path.h"
#include "workspace/tree.h"

namespace holdfast::workspace {
namespace {

namespace format = manifest_format;

std::string Quoted(std::string_view path) { return path.empty() ? "the root" : std::string(path); }

// Null, or what is wrong with a version.
const char* Problem(const Version& version, bool may_lack_content) {
  const bool file = version.kind == VersionKind::kFile;
  const bool link = version.kind == VersionKind::kSymlink;
  if (version.mode > format::kModeMax) return "a mode beyond 07777";
  if (version.mode != 0 && !file && version.kind != VersionKind::kDirectory)
    return "a mode where there is none";
  if (version.size_bytes != 0 && !file) return "a size where there is none";
  if (version.content.has_value() && !file) return "content where there is none";
  if (file && !version.content.has_value() && !may_lack_content) return "a file without content";
  if (link != !version.target.empty()) return "a link without a target, or the other way round";
  if (version.target.size() > format::kTargetBytesMax) return "a target that is too long";
  if (version.target.find('\0') != std::string::npos) return "a target with a NUL byte";
  return nullptr;
}

// Null, or what is wrong with an entry below `parent` (null: the root).
const char* Problem(const ManifestEntry& entry, const ManifestEntry* parent) {
  if (const char* problem = Problem(entry.now, false)) return problem;
  if (const char* problem = Problem(entry.base, true)) return problem;
  if (entry.opaque && entry.now.kind != VersionKind::kDirectory)
    return "an opaque mark on what is no directory";
  if (entry.hidden && entry.now.kind != VersionKind::kAbsent) return "a hidden entry that is there";
  if (entry.hidden && entry.base.kind == VersionKind::kAbsent) return "a hidden entry without a base";
  const bool root_or_stands = parent == nullptr || parent->now.kind == VersionKind::kDirectory;
  if (!root_or_stands && !entry.hidden) return "an entry in what is no directory";
  if (entry.hidden && (parent == nullptr || parent->base.kind != VersionKind::kDirectory)) {
    return "a hidden entry in what was no directory";
  }
  return nullptr;
}

void PutDigest(std::string& out, const BlobId& id) { out += base::AsText(id); }

void PutVersion(std::string& out, const Version& version, bool is_base) {
  switch (version.kind) {
    case VersionKind::kAbsent:
      return;
    case VersionKind::kFile:
      base::PutVarint64(out, version.mode);
      base::PutVarint64(out, version.size_bytes);
      if (is_base) base::PutFixed8(out, version.content.has_value() ? 1 : 0);
      if (version.content.has_value()) PutDigest(out, *version.content);
      return;
    case VersionKind::kDirectory:
      base::PutVarint64(out, version.mode);
      return;
    case VersionKind::kSymlink:
      base::PutLengthPrefixed(out, version.target);
      return;
  }
}

// Encodes the entries [begin, end), which are all that lies beneath one directory.
class Encoder {
 public:
  Encoder(const Manifest& manifest, const NodeSink& sink) : entries_(manifest.entries), sink_(sink) {}

  base::StatusOr<BlobId> Node(size_t begin, size_t end, const ManifestEntry* parent) {
    const size_t prefix = parent == nullptr ? 0 : parent->path.size() + 1;
    std::string rows;
    uint64_t count = 0;
    for (size_t at = begin; at < end; ++count) {
      const ManifestEntry& entry = entries_[at];
      HF_RETURN_IF_ERROR(Check(at, prefix, parent));
      size_t next = at + 1;
      while (next < end && IsBeneath(entries_[next].path, entry.path)) ++next;
      base::PutLengthPrefixed(rows, std::string_view(entry.path).substr(prefix));
      base::PutFixed8(rows, Flags(entry, next > at + 1));
      PutVersion(rows, entry.now, false);
      PutVersion(rows, entry.base, true);
      if (next > at + 1) {
        HF_ASSIGN_OR_RETURN(const BlobId child, Node(at + 1, next, &entry));
        PutDigest(rows, child);
      }
      at = next;
    }
    std::string node(format::kMagic);
    base::PutVarint64(node, count);
    node += rows;
    return sink_(base::AsBytes(node));
  }

 private:
  static bool IsBeneath(std::string_view path, std::string_view directory) {
    return path.size() > directory.size() && path[directory.size()] == '/' && path.starts_with(directory);
  }

  static uint8_t Flags(const ManifestEntry& entry, bool children) {
    uint8_t flags = static_cast<uint8_t>(entry.now.kind);
    flags |= static_cast<uint8_t>(static_cast<uint8_t>(entry.base.kind) << format::kBaseKindShift);
    if (entry.opaque) flags |= format::kOpaque;
    if (entry.hidden) flags |= format::kHidden;
    if (entry.certainty == BaseCertainty::kUncertain) flags |= format::kUncertain;
    if (children) flags |= format::kHasChildren;
    return flags;
  }

  base::Status Check(size_t at, size_t prefix, const ManifestEntry* parent) const {
    const std::string& path = entries_[at].path;
    const auto bad = [&](std::string_view what) {
      return base::InvalidArgument("manifest: " + Quoted(path) + ": " + std::string(what));
    };
    HF_RETURN_IF_ERROR(ValidatePath(path));
    if (path.empty()) return bad("the root is no entry");
    if (path.find('/', prefix) != path.npos) return bad("its directory is missing");
    if (at > 0 && ComparePaths(entries_[at - 1].path, path) >= 0) return bad("out of order");
    if (const char* problem = Problem(entries_[at], parent)) return bad(problem);
    return {};
  }

  const std::vector<ManifestEntry>& entries_;
  const NodeSink& sink_;
};

Version TakeVersion(base::Decoder& in, VersionKind kind, bool is_base) {
  Version version{.kind = kind};
  if (kind == VersionKind::kFile || kind == VersionKind::kDirectory) {
    version.mode = static_cast<uint32_t>(std::min<uint64_t>(in.Varint64(), UINT32_MAX));
  }
  if (kind == VersionKind::kFile) {
    version.size_bytes = in.Varint64();
    const uint8_t has_content = is_base ? in.Fixed8() : 1;
    if (has_content > 1) version.mode = UINT32_MAX;  // refused by Problem
    if (has_content == 1) {
      BlobId& id = version.content.emplace();
      const auto bytes = in.Bytes(id.size());
      std::copy(bytes.begin(), bytes.end(), id.begin());
    }
  } else if (kind == VersionKind::kSymlink) {
    version.target = in.LengthPrefixed(format::kTargetBytesMax);
  }
  return version;
}

struct Row {
  ManifestEntry entry;  // its path is the name
  std::optional<BlobId> children;
};

// One node, of whose own rows everything is checked but what depends on the parent.
base::StatusOr<std::vector<Row>> DecodeNode(std::string_view bytes, const std::string& where) {
  base::Decoder in(base::AsBytes(bytes));
  const bool magic = base::AsText(in.Bytes(format::kMagic.size())) == format::kMagic;
  const uint64_t count = in.Varint64();
  if (!magic || !in.ok() || count > in.remaining())
    return base::DataLoss(where + ": not a node of a manifest");
  std::vector<Row> rows;
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    Row row;
    row.entry.path = in.LengthPrefixed(kNameBytesMax);
    const uint8_t flags = in.Fixed8();
    row.entry.opaque = (flags & format::kOpaque) != 0;
    row.entry.hidden = (flags & format::kHidden) != 0;
    row.entry.certainty =
        (flags & format::kUncertain) != 0 ? BaseCertainty::kUncertain : BaseCertainty::kCertain;
    row.entry.now = TakeVersion(in, static_cast<VersionKind>(flags & format::kNowKindMask), false);
    row.entry.base = TakeVersion(in, static_cast<VersionKind>(flags >> format::kBaseKindShift & 3), true);
    if ((flags & format::kHasChildren) != 0) {
      BlobId& id = row.children.emplace();
      const auto digest = in.Bytes(id.size());
      std::copy(digest.begin(), digest.end(), id.begin());
    }
    if (!in.ok()) break;
    const std::string& name = row.entry.path;
    const bool one_part = !name.empty() && name.find('/') == name.npos && ValidatePath(name).ok();
    if (!one_part || (!rows.empty() && rows.back().entry.path >= name)) {
      return base::DataLoss(where + ": a name that is none, or out of order");
    }
    rows.push_back(std::move(row));
  }
  HF_RETURN_IF_ERROR(in.Finish(where));
  return rows;
}

class Reader {
 public:
  Reader(const NodeSource& source, const ManifestLimits& limits) : source_(source), limits_(limits) {}

  base::Status Node(const BlobId& id, const ManifestEntry* parent, Manifest& out) {
    const std::string directory = parent == nullptr ? std::string() : parent->path;
    const std::string where = "manifest " + base::ToHex(id).substr(0, 16) + " of " + Quoted(directory);
    HF_ASSIGN_OR_RETURN(const std::string bytes, source_(id, limits_.node_bytes_max));
    HF_ASSIGN_OR_RETURN(std::vector<Row> rows, DecodeNode(bytes, where));
    if (rows.empty() && parent != nullptr) return base::DataLoss(where + ": a directory of nothing");
    // The entry may move when the list grows.
    const std::optional<ManifestEntry> above = parent == nullptr ? std::nullopt : std::optional(*parent);
    for (Row& row : rows) {
      if (!directory.empty()) row.entry.path = directory + "/" + row.entry.path;
      path_bytes_ += row.entry.path.size();
      if (row.entry.path.size() > kPathBytesMax) return base::DataLoss(where + ": a path of over 4096 bytes");
      if (const char* problem = Problem(row.entry, above.has_value() ? &*above : nullptr)) {
        return base::DataLoss(where + ": " + row.entry.path + ": " + problem);
      }
      if (out.entries.size() == limits_.entries_max || path_bytes_ > limits_.path_bytes_max) {
        return base::DataLoss(where + ": more than a manifest may hold");
      }
      out.entries.push_back(std::move(row.entry));
      if (!row.children.has_value()) continue;
      const ManifestEntry self = out.entries.back();
      HF_RETURN_IF_ERROR(Node(*row.children, &self, out));
    }
    return {};
  }

 private:
  const NodeSource& source_;
  const ManifestLimits& limits_;
  uint64_t path_bytes_ = 0;
};

}  // namespace

bool ManifestEntry::Changed() const { return now != base; }

const ManifestEntry* Manifest::Find(std::string_view path) const& {
  const auto it = std::lower_bound(
      entries.begin(), entries.end(), path,
      [](const ManifestEntry& e, std::string_view p) { return ComparePaths(e.path, p) < 0; });
  return it != entries.end() && it->path == path ? &*it : nullptr;
}

base::StatusOr<ManifestId> EncodeManifest(const Manifest& manifest, const NodeSink& sink) {
  return Encoder(manifest, sink).Node(0, manifest.entries.size(), nullptr);
}

base::StatusOr<ManifestId> IdOf(const Manifest& manifest) {
  return EncodeManifest(manifest, [](std::span<const std::byte> node) -> base::StatusOr<BlobId> {
    return base::Sha256Of(node);
  });
}

base::StatusOr<Manifest> DecodeManifest(const ManifestId& id, const NodeSource& source,
                                        const ManifestLimits& limits) {
  Manifest manifest;
  HF_RETURN_IF_ERROR(Reader(source, limits).Node(id, nullptr, manifest));
  return manifest;
}

base::Status VisitBlobs(const ManifestId& id, const NodeSource& source,
                        const std::function<bool(const BlobId&)>& visit, const ManifestLimits& limits) {
  std::vector<BlobId> nodes = {id};
  while (!nodes.empty()) {
    const BlobId node = nodes.back();
    nodes.pop_back();
    if (!visit(node)) continue;
    HF_ASSIGN_OR_RETURN(const std::string bytes, source(node, limits.node_bytes_max));
    HF_ASSIGN_OR_RETURN(const std::vector<Row> rows, DecodeNode(bytes, "manifest node " + base::ToHex(node)));
    for (const Row& row : rows) {
      if (row.entry.now.content.has_value()) visit(*row.entry.now.content);
      if (row.entry.base.content.has_value()) visit(*row.entry.base.content);
      if (row.children.has_value()) nodes.push_back(*row.children);
    }
  }
  return {};
}

ManifestId EmptyManifestId() {
  std::string node(format::kMagic);
  base::PutVarint64(node, 0);
  return base::Sha256Of(base::AsBytes(node));
}

}  // namespace holdfast::workspace
