#include "workspace/layer/record.h"

#include <algorithm>
#include <utility>

#include "base/coding.h"
#include "base/hash.h"

namespace holdfast::workspace {
namespace {

constexpr std::string_view kRecordMagic = "HFWORK01";
constexpr std::string_view kStateMagic = "HFSTATE1";
constexpr size_t kMagicBytes = 8, kChecksumBytes = 8;
constexpr uint64_t kFileBytesMax = 1 << 16;
constexpr char kBootIdPath[] = "/proc/sys/kernel/random/boot_id";

std::string Sealed(std::string_view magic, const std::string& body) {
  std::string out = std::string(magic) + body;
  base::PutFixed64(out, base::Xxh3(base::AsBytes(out)));
  return out;
}

// The body of a sealed file; nothing when it is not whole.
std::optional<std::string_view> Open(std::string_view magic, std::string_view bytes) {
  if (bytes.size() < kMagicBytes + kChecksumBytes || !bytes.starts_with(magic)) return std::nullopt;
  const std::string_view sealed = bytes.substr(0, bytes.size() - kChecksumBytes);
  const auto sum = base::LoadLittle<uint64_t>(base::AsBytes(bytes).data() + sealed.size());
  if (sum != base::Xxh3(base::AsBytes(sealed))) return std::nullopt;
  return sealed.substr(kMagicBytes);
}

}  // namespace

base::Status WriteRecord(base::FileSystem& fs, const std::string& directory, const WorkspaceRecord& record) {
  std::string body;
  base::PutLengthPrefixed(body, record.tree);
  base::PutFixed8(body, static_cast<uint8_t>(record.mode));
  base::PutFixed8(body, static_cast<uint8_t>(record.snapshot));
  base::PutLengthPrefixed(body, record.head);
  base::PutFixed64(body, static_cast<uint64_t>(record.opened.ns));
  return base::WriteFileAtomically(fs, directory + "/record", base::AsBytes(Sealed(kRecordMagic, body)));
}

base::StatusOr<std::optional<WorkspaceRecord>> ReadRecord(base::FileSystem& fs,
                                                          const std::string& directory) {
  const std::string path = directory + "/record";
  const auto bytes = fs.ReadFile(path, kFileBytesMax);
  if (absl::IsNotFound(bytes.status())) return std::optional<WorkspaceRecord>();
  if (!bytes.ok()) return bytes.status();
  const auto body = Open(kRecordMagic, *bytes);
  if (!body.has_value()) return base::DataLoss(path + ": not the record of a workspace, or damaged");
  base::Decoder in(base::AsBytes(*body));
  WorkspaceRecord record;
  record.tree = in.LengthPrefixed(kFileBytesMax);
  const uint8_t mode = in.Fixed8(), snapshot = in.Fixed8();
  record.head = in.LengthPrefixed(128);
  record.opened = {static_cast<int64_t>(in.Fixed64())};
  HF_RETURN_IF_ERROR(in.Finish(path));
  if (mode > 1 || snapshot > 1) return base::DataLoss(path + ": an unknown mode");
  record.mode = static_cast<sandbox::WorkspaceMode>(mode);
  record.snapshot = static_cast<Snapshot>(snapshot);
  return std::optional(std::move(record));
}

base::Status WriteState(base::FileSystem& fs, const std::string& directory, const WorkspaceState& state) {
  std::string body;
  base::PutLengthPrefixed(body, state.boot_id);
  base::PutFixed8(body, state.restoring ? 1 : 0);
  body += base::AsText(state.current);
  return WriteUnsynced(fs, directory + "/state", Sealed(kStateMagic, body));
}

std::optional<WorkspaceState> ReadState(base::FileSystem& fs, const std::string& directory) {
  const auto bytes = fs.ReadFile(directory + "/state", kFileBytesMax);
  if (!bytes.ok()) return std::nullopt;
  const auto body = Open(kStateMagic, *bytes);
  if (!body.has_value()) return std::nullopt;
  base::Decoder in(base::AsBytes(*body));
  WorkspaceState state;
  state.boot_id = in.LengthPrefixed(64);
  state.restoring = in.Fixed8() != 0;
  const auto id = in.Bytes(state.current.size());
  if (!in.Finish("state").ok()) return std::nullopt;
  std::copy(id.begin(), id.end(), state.current.begin());
  return state;
}

base::Status WriteUnsynced(base::FileSystem& fs, const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp";
  {
    HF_ASSIGN_OR_RETURN(const auto file, fs.Open(temporary, base::OpenMode::kTruncate));
    HF_RETURN_IF_ERROR(file->WriteAt(0, base::AsBytes(bytes)));
  }
  return fs.Rename(temporary, path);
}

base::StatusOr<std::string> BootId(base::FileSystem& fs) {
  auto id = fs.ReadFile(kBootIdPath, 64);
  if (!id.ok() || id->size() < 36) {
    return base::FailedPrecondition(std::string(kBootIdPath) +
                                    " cannot be read: whether the machine was restarted is not to be told");
  }
  return id->substr(0, 36);
}

}  // namespace holdfast::workspace
