// A session in one file: all events of its history, its parents' among them, and the blobs that they name, so
// that it stands alone. It is read back as one history with the chains that it had.
//
//   ExportWriter writer(sink, {.id = "fix-tests", .uid = uid});
//   writer.BeginObject(id, size), writer.AddBytes(...);         // as often as wanted
//   writer.AddEvent(event);                                     // from 1 on
//   writer.Finish();
//
//   HF_ASSIGN_OR_RETURN(const auto reader, ExportReader::Open(source));
//   reader->NextObject() ... reader->ReadObject(buffer) ...     // until there are no more
//   reader->NextEvents(bytes) ...                               // until there are no more
//
// A file that was cut off, altered or made up is DataLoss with the offset, before or at its end: nothing of
// it may be believed until NextEvents has given nothing more. Objects are checked by their SHA-256, events by
// their numbers and chain, all of it by a SHA-256 at the end. Whether the events make sense together is for
// SessionStore::Import to say.
//
// Memory: 64 KiB; of events what is asked for, at least one (8 MiB). One thread at a time.
// Format: docs/formats/session_export.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "sessions/event.h"

namespace holdfast::sessions {

// Takes bytes, all of them or none.
using ByteSink = std::function<base::Status(std::span<const std::byte>)>;
// Fills `out`; fewer bytes only at the end.
using ByteSource = std::function<base::StatusOr<size_t>(std::span<std::byte> out)>;

struct ExportHeader {
  std::string id;  // that it had; at most 63 bytes
  SessionUid uid = {};
};

// What events name that is not in them. A manifest names more, which is for who knows manifests.
struct NamedObjects {
  std::vector<base::Sha256Digest> blobs;
  std::vector<base::Sha256Digest> manifests;
};
// Adds what an event of the timeline's names; the agent's are bytes here.
void AddNamedObjects(const EventBody& body, NamedObjects& named);

// After an error the file is worth nothing.
class ExportWriter {
 public:
  ExportWriter(ByteSink sink, ExportHeader header);

  // An object of `size` bytes, which AddBytes gives. Before the first event.
  base::Status BeginObject(const base::Sha256Digest& digest, uint64_t size);
  base::Status AddBytes(std::span<const std::byte> bytes);

  base::Status AddEvent(const Event& event);

  // Writes the end. FailedPrecondition when there is no event, or an object that is not whole.
  base::Status Finish();

 private:
  base::Status Put(std::span<const std::byte> bytes);
  base::Status Flush();

  const ByteSink sink_;
  base::Sha256 hash_;
  std::string buffer_;
  uint64_t object_left_ = 0;
  bool has_events_ = false;
};

struct ExportedObject {
  base::Sha256Digest digest = {};
  uint64_t size = 0;
};

class ExportReader {
 public:
  // Reads the header. FailedPrecondition for a file of a later version, or of another kind.
  static base::StatusOr<std::unique_ptr<ExportReader>> Open(ByteSource source);

  const ExportHeader& header() const { return header_; }

  // The next object; what is left of the one before is read over. None: events follow.
  base::StatusOr<std::optional<ExportedObject>> NextObject();
  // Bytes of the object. 0: that was all of it, and it is what it is called.
  base::StatusOr<size_t> ReadObject(std::span<std::byte> out);

  // The next events, of some `bytes_max` in all; objects that are left are read over. None: the end, and all
  // was as it was written.
  base::StatusOr<std::vector<Event>> NextEvents(size_t bytes_max);

 private:
  explicit ExportReader(ByteSource source) : source_(std::move(source)) {}
  base::Status ReadHeader();
  base::Status Read(std::span<std::byte> out, const char* what);
  base::Status ReadTag();
  base::StatusOr<Event> ReadEvent();
  base::Status CheckEvent(const Event& event, std::span<const std::byte> body);
  base::Status ReadEnd();
  base::Status Damaged(const std::string& what) const;

  const ByteSource source_;
  ExportHeader header_;
  base::Sha256 hash_;  // of all that was read
  uint64_t offset_ = 0;
  uint8_t tag_ = 0;  // of the record that follows
  bool ended_ = false;

  ExportedObject object_;
  uint64_t object_left_ = 0;
  base::Sha256 object_hash_;
  bool object_checked_ = true;

  uint64_t last_seq_ = 0;
  SessionUid uid_ = {};  // of the part of the history that is being read
  base::Sha256Digest chain_ = {};
};

}  // namespace holdfast::sessions
