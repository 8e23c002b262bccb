#include "sessions/session_export.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include "base/coding.h"

namespace holdfast::sessions {
namespace {

constexpr std::string_view kMagic = "HFSESSN\n";
constexpr uint32_t kVersion = 1;
constexpr size_t kIdBytesMax = 63;
constexpr size_t kBufferBytes = size_t{64} << 10;
constexpr uint64_t kObjectBytesMax = (uint64_t{1} << 32) - 1;  // memory/blob_store.h
constexpr size_t kObjectHeadBytes = 32 + 8;
constexpr size_t kEventHeadBytes = 8 + 8 + 2 + 32 + 4;

constexpr uint8_t kEnd = 0;
constexpr uint8_t kObject = 1;
constexpr uint8_t kEvent = 2;

template <size_t kBytes>
void Copy(std::span<const std::byte> from, std::array<std::byte, kBytes>& to) {
  std::copy_n(from.begin(), kBytes, to.begin());
}

}  // namespace

void AddNamedObjects(const EventBody& body, NamedObjects& named) {
  const auto add = [&named](const std::optional<base::Sha256Digest>& manifest) {
    if (manifest.has_value()) named.manifests.push_back(*manifest);
  };
  if (const auto* intent = std::get_if<CallIntent>(&body)) {
    add(intent->workspace_before);
  } else if (const auto* outcome = std::get_if<CallOutcome>(&body)) {
    add(outcome->workspace_after);
    named.blobs.insert(named.blobs.end(), outcome->blobs.begin(), outcome->blobs.end());
  } else if (const auto* changed = std::get_if<WorkspaceChanged>(&body)) {
    add(changed->manifest);
  }
}

// --- Writing

ExportWriter::ExportWriter(ByteSink sink, ExportHeader header) : sink_(std::move(sink)) {
  buffer_ = kMagic;
  base::PutFixed32(buffer_, kVersion);
  base::PutFixed8(buffer_, static_cast<uint8_t>(std::min(header.id.size(), kIdBytesMax)));
  buffer_ += header.id.substr(0, kIdBytesMax);
  buffer_ += base::AsText(header.uid);
}

base::Status ExportWriter::Flush() {
  hash_.Update(base::AsBytes(buffer_));
  const base::Status status = sink_(base::AsBytes(buffer_));
  buffer_.clear();
  return status;
}

base::Status ExportWriter::Put(std::span<const std::byte> bytes) {
  buffer_ += base::AsText(bytes);
  return buffer_.size() < kBufferBytes ? base::Status() : Flush();
}

base::Status ExportWriter::BeginObject(const base::Sha256Digest& digest, uint64_t size) {
  if (has_events_ || object_left_ > 0) return base::FailedPrecondition("an object out of its place");
  if (size > kObjectBytesMax) return base::InvalidArgument("an object of 4 GiB or more");
  object_left_ = size;
  std::string head;
  base::PutFixed8(head, kObject);
  head += base::AsText(digest);
  base::PutFixed64(head, size);
  return Put(base::AsBytes(head));
}

base::Status ExportWriter::AddBytes(std::span<const std::byte> bytes) {
  if (bytes.size() > object_left_) return base::FailedPrecondition("more bytes than the object has");
  object_left_ -= bytes.size();
  return Put(bytes);
}

base::Status ExportWriter::AddEvent(const Event& event) {
  if (object_left_ > 0) return base::FailedPrecondition("an event within an object");
  has_events_ = true;
  const std::string body = EncodeBody(event.body);
  std::string record;
  base::PutFixed8(record, kEvent);
  base::PutFixed64(record, event.seq);
  base::PutFixed64(record, static_cast<uint64_t>(event.utc_ms));
  base::PutFixed16(record, KindOf(event.body));
  record += base::AsText(event.chain);
  base::PutFixed32(record, static_cast<uint32_t>(body.size()));
  record += body;
  return Put(base::AsBytes(record));
}

base::Status ExportWriter::Finish() {
  if (!has_events_ || object_left_ > 0) return base::FailedPrecondition("an export that is not whole");
  base::PutFixed8(buffer_, kEnd);
  HF_RETURN_IF_ERROR(Flush());
  return sink_(hash_.Finish());
}

// --- Reading

base::Status ExportReader::Damaged(const std::string& what) const {
  return base::DataLoss("session export: at offset " + std::to_string(offset_) + ": " + what);
}

base::StatusOr<std::unique_ptr<ExportReader>> ExportReader::Open(ByteSource source) {
  auto reader = std::unique_ptr<ExportReader>(new ExportReader(std::move(source)));
  HF_RETURN_IF_ERROR(reader->ReadHeader());
  return reader;
}

base::Status ExportReader::Read(std::span<std::byte> out, const char* what) {
  HF_ASSIGN_OR_RETURN(const size_t got, source_(out));
  if (got < out.size()) return Damaged("the file ends inside " + std::string(what));
  hash_.Update(out);
  offset_ += got;
  return {};
}

base::Status ExportReader::ReadHeader() {
  std::array<std::byte, kMagic.size() + 4 + 1> head;
  HF_RETURN_IF_ERROR(Read(head, "its header"));
  base::Decoder in(head);
  if (base::AsText(in.Bytes(kMagic.size())) != kMagic) {
    return base::FailedPrecondition("this is no exported session");
  }
  if (const uint32_t version = in.Fixed32(); version != kVersion) {
    return base::FailedPrecondition("an exported session of version " + std::to_string(version) +
                                    "; this program reads version " + std::to_string(kVersion));
  }
  const size_t id_bytes = in.Fixed8();
  if (id_bytes > kIdBytesMax) return Damaged("an id of " + std::to_string(id_bytes) + " bytes");
  header_.id.resize(id_bytes);
  HF_RETURN_IF_ERROR(Read(std::as_writable_bytes(std::span(header_.id)), "its header"));
  HF_RETURN_IF_ERROR(Read(header_.uid, "its header"));
  return ReadTag();
}

base::Status ExportReader::ReadTag() {
  std::array<std::byte, 1> tag;
  HF_RETURN_IF_ERROR(Read(tag, "its records"));
  tag_ = static_cast<uint8_t>(tag[0]);
  if (tag_ > kEvent) return Damaged("a record of kind " + std::to_string(tag_));
  if (tag_ == kObject && last_seq_ > 0) return Damaged("an object behind events");
  return {};
}

base::StatusOr<std::optional<ExportedObject>> ExportReader::NextObject() {
  std::vector<std::byte> rest(object_checked_ ? 0 : kBufferBytes);
  while (!object_checked_) {
    HF_RETURN_IF_ERROR(ReadObject(rest).status());
  }
  if (tag_ != kObject || ended_) return std::optional<ExportedObject>();
  std::array<std::byte, kObjectHeadBytes> head;
  HF_RETURN_IF_ERROR(Read(head, "an object"));
  base::Decoder in(head);
  Copy(in.Bytes(32), object_.digest);
  object_.size = in.Fixed64();
  if (object_.size > kObjectBytesMax) return Damaged("an object of 4 GiB or more");
  object_left_ = object_.size;
  object_checked_ = false;
  return std::optional(object_);
}

base::StatusOr<size_t> ExportReader::ReadObject(std::span<std::byte> out) {
  if (object_checked_) return size_t{0};
  const auto part = out.first(static_cast<size_t>(std::min<uint64_t>(out.size(), object_left_)));
  HF_RETURN_IF_ERROR(Read(part, "an object"));
  object_hash_.Update(part);
  object_left_ -= part.size();
  if (object_left_ > 0) return part.size();
  if (object_hash_.Finish() != object_.digest) {
    return Damaged("object " + base::ToHex(object_.digest) + " is not what it is called");
  }
  object_checked_ = true;
  HF_RETURN_IF_ERROR(ReadTag());
  return part.size();
}

base::StatusOr<std::vector<Event>> ExportReader::NextEvents(size_t bytes_max) {
  for (bool more = true; more;) {
    HF_ASSIGN_OR_RETURN(const std::optional<ExportedObject> object, NextObject());
    more = object.has_value();
  }
  std::vector<Event> events;
  const uint64_t begin = offset_;
  while (!ended_ && tag_ == kEvent && (events.empty() || offset_ - begin < bytes_max)) {
    HF_ASSIGN_OR_RETURN(Event event, ReadEvent());
    events.push_back(std::move(event));
    HF_RETURN_IF_ERROR(ReadTag());
  }
  if (events.empty() && !ended_) HF_RETURN_IF_ERROR(ReadEnd());
  return events;
}

base::StatusOr<Event> ExportReader::ReadEvent() {
  std::array<std::byte, kEventHeadBytes> head;
  HF_RETURN_IF_ERROR(Read(head, "an event"));
  base::Decoder in(head);
  Event event{.seq = in.Fixed64(), .utc_ms = static_cast<int64_t>(in.Fixed64())};
  const uint16_t kind = in.Fixed16();
  Copy(in.Bytes(event.chain.size()), event.chain);
  const uint32_t size = in.Fixed32();
  if (size > kEventBytesMax) return Damaged("an event of more than 8 MiB");
  // Grows with what is there: a size alone takes no memory.
  std::string body;
  while (body.size() < size) {
    const size_t at = body.size();
    body.resize(std::min<size_t>(size, at + kBufferBytes));
    HF_RETURN_IF_ERROR(Read(std::as_writable_bytes(std::span(body).subspan(at)), "an event"));
  }
  auto decoded = DecodeBody(kind, base::AsBytes(body));
  if (!decoded.ok())
    return Damaged("event " + std::to_string(event.seq) + ": " + base::Message(decoded.status()));
  event.body = *std::move(decoded);
  HF_RETURN_IF_ERROR(CheckEvent(event, base::AsBytes(body)));
  return event;
}

base::Status ExportReader::CheckEvent(const Event& event, std::span<const std::byte> body) {
  const std::string name = "event " + std::to_string(event.seq);
  if (event.seq != last_seq_ + 1) return Damaged(name + " after event " + std::to_string(last_seq_));
  if (const auto* created = std::get_if<SessionCreated>(&event.body)) {
    const bool goes_on =
        created->parent.has_value() && *created->parent == uid_ && created->parent_seq == last_seq_;
    if (last_seq_ > 0 && !goes_on) return Damaged(name + " does not go on from what is before it");
    uid_ = created->uid;
    chain_ = ChainRoot(uid_);
  } else if (last_seq_ == 0) {
    return Damaged("the first event is " + KindName(KindOf(event.body)));
  }
  chain_ = NextChain(chain_, event.seq, event.utc_ms, KindOf(event.body), body);
  if (chain_ != event.chain) return Damaged(name + " is not what was written (its chain does not hold)");
  last_seq_ = event.seq;
  return {};
}

base::Status ExportReader::ReadEnd() {
  if (last_seq_ == 0) return Damaged("there are no events");
  if (uid_ != header_.uid) return Damaged("the events are of another session than the header");
  const base::Sha256Digest wanted = hash_.Finish();
  base::Sha256Digest found;
  HF_RETURN_IF_ERROR(Read(found, "its checksum"));
  if (found != wanted) return Damaged("the checksum of the file does not match");
  std::array<std::byte, 1> more;
  HF_ASSIGN_OR_RETURN(const size_t got, source_(more));
  if (got > 0) return Damaged("there is something behind the end");
  ended_ = true;
  return {};
}

}  // namespace holdfast::sessions
