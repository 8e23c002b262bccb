#include "cli/tool_box.h"

#include <algorithm>
#include <future>
#include <optional>
#include <utility>

#include "agent/control_tools.h"
#include "base/coding.h"
#include "base/file.h"
#include "tools/blob_spill.h"
#include "tools/built_in_tools.h"
#include "tools/tool_data.h"

namespace holdfast::cli {
namespace {

constexpr char kInside[] = "/workspace";
constexpr size_t kEntriesMax = 1'000'000;
constexpr size_t kReadBytes = 1 << 20;

// All regular files beneath the root, by the bytes of their paths.
base::StatusOr<std::vector<std::string>> FilesOf(workspace::Tree& tree) {
  std::vector<std::string> paths;
  HF_RETURN_IF_ERROR(tree.Walk("", kEntriesMax, [&](std::string_view path, const workspace::EntryStat& stat) {
    if (stat.kind == workspace::EntryKind::kFile) paths.emplace_back(path);
    return workspace::WalkStep::kContinue;
  }));
  std::sort(paths.begin(), paths.end());
  return paths;
}

void HashLength(base::Sha256& hash, uint64_t length) {
  std::string bytes;
  base::PutFixed64(bytes, length);
  hash.Update(base::AsBytes(bytes));
}

base::Status HashFile(base::Sha256& hash, workspace::Tree& tree, const std::string& path) {
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<base::File> file, tree.OpenFile(path));
  HF_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  HashLength(hash, path.size());
  hash.Update(base::AsBytes(path));
  HashLength(hash, size);
  std::vector<std::byte> buffer(static_cast<size_t>(std::min<uint64_t>(size, kReadBytes)));
  for (uint64_t offset = 0; offset < size;) {
    HF_ASSIGN_OR_RETURN(const size_t read, file->ReadAt(offset, buffer));
    if (read == 0) return base::FailedPrecondition(path + ": became shorter while it was read");
    hash.Update(std::span(buffer).first(read));
    offset += read;
  }
  return absl::OkStatus();
}

// Whether both trees hold a file of the same bytes and mode there.
bool SameFile(workspace::Tree& a, workspace::Tree& b, const std::string& path) {
  const auto stat_a = a.Stat(path), stat_b = b.Stat(path);
  if (!stat_a.ok() || !stat_b.ok() || stat_a->kind != stat_b->kind || stat_a->mode != stat_b->mode ||
      stat_a->size_bytes != stat_b->size_bytes || stat_a->kind != workspace::EntryKind::kFile) {
    return false;
  }
  base::Sha256 hash_a, hash_b;
  return HashFile(hash_a, a, path).ok() && HashFile(hash_b, b, path).ok() &&
         hash_a.Finish() == hash_b.Finish();
}

}  // namespace

base::StatusOr<std::unique_ptr<ToolBox>> ToolBox::Open(ToolBoxOptions options) {
  std::unique_ptr<ToolBox> box(new ToolBox(std::move(options)));
  HF_RETURN_IF_ERROR(box->Prepare());
  HF_RETURN_IF_ERROR(box->OpenSession());
  return box;
}

base::Status ToolBox::Prepare() {
  HF_RETURN_IF_ERROR(tools::AddBuiltInTools(registry_));
  HF_ASSIGN_OR_RETURN(tools::Profile profile, tools::Profile::Load(options_.profile));
  std::erase_if(profile.tools, agent::IsControlTool);
  HF_ASSIGN_OR_RETURN(tools_, registry_.Select(profile.tools));
  HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(options_.directory));
  HF_ASSIGN_OR_RETURN(
      blobs_, memory::BlobStore::Open(base::RealFileSystem(), {.directory = options_.directory + "/blobs"}));
  HF_ASSIGN_OR_RETURN(sandbox_, sandbox::Sandbox::Start({.broker_path = options_.broker}));
  return absl::OkStatus();
}

base::Status ToolBox::OpenSession() {
  sandbox::Policy policy;
  policy.workspace.host = options_.tree;
  policy.workspace.inside = kInside;
  policy.workspace.layer = options_.directory + "/layer";
  policy.limits.wall_ms = 600'000;
  HF_ASSIGN_OR_RETURN(session_, sandbox_->Open(std::move(policy)));
  HF_ASSIGN_OR_RETURN(base::Descriptor root, session_->OpenWorkspace());
  HF_ASSIGN_OR_RETURN(
      files_,
      workspace::OpenTree(root.Release(), {.links = workspace::Links::kWithin,
                                           .identity = workspace::TreeIdentity{
                                               .uid = session_->host_uid(), .gid = session_->host_gid()}}));
  versions_ = std::make_unique<tools::FileVersions>();
  jobs_ = std::make_unique<tools::BackgroundJobs>();
  OnControl([this] {
    dispatcher_ = std::make_unique<tools::Dispatcher>(executor_, base::RealClock(), tools_, permissions_,
                                                      approvals_, tools::Dispatcher::Options{});
  });
  touched_ = false;
  return absl::OkStatus();
}

void ToolBox::CloseSession() {
  OnControl([this] { dispatcher_.reset(); });
  executor_.Drain();
  jobs_.reset();
  files_.reset();
  session_.reset();
}

ToolBox::~ToolBox() {
  CloseSession();
  sandbox_.reset();
}

void ToolBox::OnControl(absl::AnyInvocable<void()> task) {
  std::promise<void> ran;
  executor_.PostResult(base::Lane::kControl, [&] {
    task();
    ran.set_value();
  });
  ran.get_future().wait();
}

tools::ToolContext ToolBox::Context() {
  return {.executor = &executor_,
          .clock = &base::RealClock(),
          .session = session_.get(),
          .files = files_.get(),
          .inside = kInside,
          .blobs = blobs_.get(),
          .versions = versions_.get(),
          .jobs = jobs_.get()};
}

base::StatusOr<tools::ToolResult> ToolBox::Call(std::string_view tool, std::string_view arguments) {
  if (session_ == nullptr) return base::FailedPrecondition("the last reset failed");
  std::promise<tools::ToolResult> result;
  OnControl([&] {
    const tools::ToolContext context = Context();
    tools::Prepared call = dispatcher_->Prepare(context, tool, arguments);
    touched_ = touched_ || (!call.error.has_value() && call.traits.effect != tools::Effect::kReadOnly);
    dispatcher_->Start(std::move(call), context,
                       [&result](tools::ToolResult r) { result.set_value(std::move(r)); });
  });
  return result.get_future().get();
}

base::Status ToolBox::Reset() {
  if (session_ != nullptr && !touched_) {
    versions_ = std::make_unique<tools::FileVersions>();
    return absl::OkStatus();
  }
  if (session_ != nullptr) CloseSession();
  HF_ASSIGN_OR_RETURN(
      const std::unique_ptr<workspace::Tree> layer,
      workspace::OpenTree(options_.directory + "/layer",
                          {.owner_access = workspace::OwnerAccess::kForced, .name = "layer"}));
  for (const char* part : {"upper", "work"}) HF_RETURN_IF_ERROR(workspace::RemoveAll(*layer, part));
  return OpenSession();
}

base::StatusOr<base::Sha256Digest> ToolBox::TreeHash() {
  if (session_ == nullptr) return base::FailedPrecondition("the last reset failed");
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> paths, FilesOf(*files_));
  base::Sha256 hash;
  for (const std::string& path : paths) HF_RETURN_IF_ERROR(HashFile(hash, *files_, path));
  return hash.Finish();
}

base::StatusOr<std::vector<LayerChange>> ToolBox::Changes() {
  if (session_ == nullptr) return base::FailedPrecondition("the last reset failed");
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<workspace::Tree> tree, workspace::OpenTree(options_.tree));
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> before, FilesOf(*tree));
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> now, FilesOf(*files_));
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<workspace::Tree> upper,
                      workspace::OpenTree(options_.directory + "/layer/upper",
                                          {.owner_access = workspace::OwnerAccess::kForced}));
  std::vector<LayerChange> changes;
  const auto add = [&](LayerChange::Kind kind, const std::string& path) {
    changes.push_back({.kind = kind, .path = path});
  };
  for (size_t b = 0, n = 0; b < before.size() || n < now.size();) {
    if (n == now.size() || (b < before.size() && before[b] < now[n])) {
      add(LayerChange::Kind::kRemoved, before[b++]);
    } else if (b == before.size() || now[n] < before[b]) {
      add(LayerChange::Kind::kAdded, now[n++]);
    } else {
      // Only what is in the layer can differ.
      if (upper->Stat(now[n]).ok() && !SameFile(*tree, *files_, now[n]))
        add(LayerChange::Kind::kChanged, now[n]);
      ++b, ++n;
    }
  }
  return changes;
}

}  // namespace holdfast::cli
