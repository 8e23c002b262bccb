#include "server/session_import_reactor.h"

#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/coding.h"
#include "base/hash.h"
#include "base/random.h"
#include "server/grpc_status.h"
#include "server/proto_value.h"
#include "server/session_proto.h"

namespace holdfast::server {
namespace {

constexpr size_t kPartBytes = size_t{1} << 20;
constexpr uint64_t kFileBytesMax = uint64_t{64} << 30;

}  // namespace

SessionImportReactor::SessionImportReactor(Parts parts)
    : parts_(std::move(parts)), began_ns_(base::RealClock().MonotonicNow().ns) {
  if (const base::Status admitted = parts_.gate.Admit(); !admitted.ok()) {
    End(admitted);
    return;
  }
  StartRead(&request_);
}

void SessionImportReactor::End(const base::Status& status) {
  const int64_t took_ns = base::RealClock().MonotonicNow().ns - began_ns_;
  parts_.gate.Report({.method = "ImportSession", .status = status, .took_ns = took_ns});
  Finish(ToGrpc(status));
}

// The lanes go on until no call is left (Daemon), so no step is dropped.
void SessionImportReactor::OnReadDone(bool ok) {
  parts_.executor.PostResult(base::Lane::kTools, [this, ok] {
    if (!ok) return TakeOver();
    if (const base::Status put = Put(request_); !put.ok()) return End(put);
    StartRead(&request_);
  });
}

base::Status SessionImportReactor::Put(const v1::ImportSessionRequest& request) {
  if (file_ == nullptr) {
    base::FileSystem& fs = base::RealFileSystem();
    id_ = request.session_id();
    if (!id_.empty()) HF_RETURN_IF_ERROR(CheckSessionId(id_, "session_id"));
    const uint64_t word = base::RealEntropy().Next64();
    const std::string path = parts_.directory + "/import-" + base::ToHex(std::as_bytes(std::span(&word, 1)));
    HF_ASSIGN_OR_RETURN(file_, fs.Open(path, base::OpenMode::kCreateNew));
    HF_RETURN_IF_ERROR(fs.Remove(path));
  } else if (!request.session_id().empty()) {
    return FieldError("session_id", "belongs into the first message");
  }
  if (size_ + request.data().size() > kFileBytesMax) {
    return base::ResourceExhausted("the file has more than 64 GiB");
  }
  HF_RETURN_IF_ERROR(file_->WriteAt(size_, base::AsBytes(request.data())));
  size_ += request.data().size();
  return {};
}

void SessionImportReactor::TakeOver() {
  if (file_ == nullptr) return End(base::InvalidArgument("the file is empty"));
  auto reader = sessions::ExportReader::Open([this](std::span<std::byte> out) -> base::StatusOr<size_t> {
    HF_ASSIGN_OR_RETURN(const size_t got, file_->ReadAt(read_at_, out));
    read_at_ += got;
    return got;
  });
  if (!reader.ok()) return End(reader.status());
  reader_ = *std::move(reader);
  if (const base::Status read = ReadObjects(); !read.ok()) return End(read);
  parts_.executor.PostResult(base::Lane::kControl, [this] { Import(); });
}

base::Status SessionImportReactor::ReadObjects() {
  std::vector<std::byte> part(kPartBytes);
  for (;;) {
    HF_ASSIGN_OR_RETURN(const auto object, reader_->NextObject());
    if (!object.has_value()) return batch_ == nullptr ? base::Status() : batch_->Commit();
    if (batch_ == nullptr) batch_ = parts_.blobs.NewBatch();
    for (size_t got = 1; got > 0;) {
      HF_ASSIGN_OR_RETURN(got, reader_->ReadObject(part));
      HF_RETURN_IF_ERROR(batch_->Append(std::span(part).first(got)));
    }
    HF_RETURN_IF_ERROR(batch_->Finish().status());
  }
}

void SessionImportReactor::Import() {
  const std::string id = id_.empty() ? reader_->header().id : id_;
  parts_.store.Import(
      id, reader_->header().uid, [this] { return reader_->NextEvents(kPartBytes); },
      [this](const base::StatusOr<sessions::SessionRow>& row) {
        if (!row.ok()) return End(WithReasonOf(row.status()));
        parts_.answer(row->id, server::Finish([this](const base::Status& status) { End(status); }));
      });
}

}  // namespace holdfast::server
