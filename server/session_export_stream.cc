#include "server/session_export_stream.h"

#include <algorithm>
#include <span>
#include <utility>
#include <variant>

#include "agent/agent_event.h"
#include "base/coding.h"
#include "holdfast/v1/session_service.pb.h"
#include "server/session_markdown.h"
#include "workspace/manifest.h"

namespace holdfast::server {
namespace {

constexpr size_t kMessageBytesMax = size_t{64} << 10;
constexpr size_t kObjectPartBytes = size_t{1} << 20;
constexpr size_t kPageEvents = 256;
// A page with its encoding; nothing else waits then.
constexpr StreamBounds kBounds = {.messages_max = 4096, .bytes_max = size_t{256} << 20};

grpc::ByteBuffer Serialize(std::string_view data) {
  v1::ExportSessionResponse response;
  response.set_data(std::string(data));
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

SessionExportStream::SessionExportStream(const Parts& parts, std::string session, Format format, Over over)
    : parts_(parts),
      session_(std::move(session)),
      format_(format),
      over_(std::move(over)),
      reactor_(new StreamReactor(*this, 0, kBounds, parts.clock.MonotonicNow())),
      step_(format == Format::kRecord ? Step::kScan : Step::kEvents) {}

void SessionExportStream::Begin() {
  busy_ = true;
  parts_.store.Get(session_, [this](const base::StatusOr<sessions::SessionRow>& row) {
    if (Ended()) return;
    if (!row.ok()) return reactor_->End(row.status());
    last_seq_ = row->last_seq;
    if (format_ == Format::kRecord) {
      writer_.emplace(
          [this](std::span<const std::byte> bytes) {
            buffer_ += base::AsText(bytes);
            return base::Status();
          },
          sessions::ExportHeader{.id = row->id, .uid = row->uid});
    } else {
      buffer_ = "# " + row->id + "\n";
    }
    Go();
  });
}

void SessionExportStream::OnDrained(uint64_t) {
  parts_.executor.PostResult(base::Lane::kControl, [this] {
    if (done_ == nullptr && !busy_) Go();
  });
}

void SessionExportStream::OnDone(std::unique_ptr<StreamReactor> reactor) {
  parts_.executor.PostResult(base::Lane::kControl, [this, reactor = std::move(reactor)]() mutable {
    done_ = std::move(reactor);
    if (!busy_) TellOver();
  });
}

bool SessionExportStream::Ended() {
  busy_ = false;
  if (done_ == nullptr) return false;
  TellOver();
  return true;
}

void SessionExportStream::TellOver() {
  const Over over = std::move(over_);  // it outlives this
  over(done_->status(), parts_.clock.MonotonicNow().ns - done_->began().ns);
}

void SessionExportStream::Go() {
  switch (step_) {
    case Step::kScan:
    case Step::kEvents:
      return ReadPage();
    case Step::kManifests:
      return WorkOnBlobs([this] { return ExpandManifests(); });
    case Step::kObjects:
      return WorkOnBlobs([this] { return WriteObjectPart(); });
    case Step::kEnd:
      return reactor_->End({});
  }
}

// --- Events

void SessionExportStream::ReadPage() {
  busy_ = true;
  const auto count = static_cast<size_t>(std::min<uint64_t>(kPageEvents, last_seq_ - after_seq_));
  parts_.store.ReadEvents(
      session_, after_seq_, count, [this](const base::StatusOr<std::vector<sessions::Event>>& events) {
        if (Ended()) return;
        if (!events.ok()) return reactor_->End(events.status());
        if (events->empty()) {
          return reactor_->End(base::DataLoss("event " + std::to_string(after_seq_ + 1) + " is missing"));
        }
        TakePage(*events);
      });
}

void SessionExportStream::TakePage(const std::vector<sessions::Event>& events) {
  after_seq_ = events.back().seq;
  const bool is_last = after_seq_ >= last_seq_;
  if (step_ == Step::kScan) {
    sessions::NamedObjects named;
    for (const sessions::Event& event : events) AddAllNamedObjects(event.body, named);
    named_.insert(named.blobs.begin(), named.blobs.end());
    manifests_.insert(named.manifests.begin(), named.manifests.end());
    if (is_last) step_ = Step::kManifests;
    return Go();
  }
  for (const sessions::Event& event : events) {
    if (format_ == Format::kMarkdown) {
      AppendMarkdown(event, parts_.tokenizer, buffer_);
    } else if (base::Status added = writer_->AddEvent(event); !added.ok()) {
      return reactor_->End(std::move(added));
    }
  }
  if (is_last) {
    if (base::Status finished = FinishFile(); !finished.ok()) return reactor_->End(std::move(finished));
  }
  Flush();
}

base::Status SessionExportStream::FinishFile() {
  step_ = Step::kEnd;
  return writer_.has_value() ? writer_->Finish() : base::Status();
}

// --- Blobs

void SessionExportStream::WorkOnBlobs(absl::AnyInvocable<base::Status()> work) {
  busy_ = true;
  parts_.executor.PostResult(base::Lane::kTools, [this, work = std::move(work)]() mutable {
    base::Status status = work();
    parts_.executor.PostResult(base::Lane::kControl, [this, status = std::move(status)] {
      if (Ended()) return;
      status.ok() ? Flush() : reactor_->End(status);
    });
  });
}

// What is not in the store any more is left out, as for the command line.
base::Status SessionExportStream::ExpandManifests() {
  std::erase_if(named_, [this](const memory::BlobId& blob) { return !parts_.blobs.Contains(blob); });
  for (const memory::BlobId& manifest : manifests_) {
    if (manifest == workspace::EmptyManifestId() || !parts_.blobs.Contains(manifest)) continue;
    HF_RETURN_IF_ERROR(workspace::VisitBlobs(
        manifest,
        [this](const memory::BlobId& node, size_t bytes_max) { return parts_.blobs.Read(node, bytes_max); },
        [this](const memory::BlobId& blob) {
          return parts_.blobs.Contains(blob) && named_.insert(blob).second;
        }));
  }
  step_ = Step::kObjects;
  return {};
}

base::Status SessionExportStream::WriteObjectPart() {
  if (!object_.has_value()) {
    if (named_.empty()) {
      step_ = Step::kEvents;
      after_seq_ = 0;
      return {};
    }
    const memory::BlobId id = *named_.begin();
    HF_ASSIGN_OR_RETURN(memory::BlobReader reader, parts_.blobs.OpenBlob(id));
    object_.emplace(std::move(reader));
    object_at_ = 0;
    HF_RETURN_IF_ERROR(writer_->BeginObject(id, object_->size()));
  }
  if (object_at_ < object_->size()) {
    std::vector<std::byte> part(
        static_cast<size_t>(std::min<uint64_t>(kObjectPartBytes, object_->size() - object_at_)));
    HF_ASSIGN_OR_RETURN(const size_t got, object_->ReadAt(object_at_, part));
    HF_RETURN_IF_ERROR(writer_->AddBytes(std::span(part).first(got)));
    object_at_ += got;
  }
  if (object_at_ == object_->size()) {
    object_.reset();
    named_.erase(named_.begin());
  }
  return {};
}

void SessionExportStream::Flush() {
  for (size_t at = 0; at < buffer_.size(); at += kMessageBytesMax) {
    if (!reactor_->Push(Serialize(std::string_view(buffer_).substr(at, kMessageBytesMax)), after_seq_)) {
      return reactor_->End(base::Internal("a page of events does not fit"));
    }
  }
  buffer_.clear();
  reactor_->AskWhenDrained();
}

}  // namespace holdfast::server
