// A session as a file that goes to a client in pieces, as fast as he takes them: the record with its blobs
// (sessions/session_export.h), or what happened as Markdown for people.
//
// One step at a time: a page of events, or a piece of a blob, is read, written into a buffer, and sent; the
// next step begins when all of it has gone out. So it takes the memory of a page (some 16 MiB), and lanes are
// held for one step each. Events are read as the session goes on: those that were there when it began are
// sent.
//
// Threads: Begin and End on the control lane; destroyed there, or when no task of the executor runs any more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "model/tokenizer.h"
#include "server/stream_reactor.h"
#include "sessions/session_export.h"
#include "sessions/session_store.h"

namespace holdfast::server {

class SessionExportStream final : private StreamOwner {
 public:
  enum class Format : uint8_t { kRecord, kMarkdown };
  struct Parts {
    base::Executor& executor;
    base::Clock& clock;
    sessions::SessionStore& store;
    memory::BlobStore& blobs;
    const model::Tokenizer& tokenizer;
  };
  // The call has ended, and nothing of the stream is under way: control lane, once.
  using Over = std::function<void(const base::Status&, int64_t took_ns)>;

  // All of `parts` outlive the stream.
  SessionExportStream(const Parts& parts, std::string session, Format format, Over over);

  // gRPC's, until it is over.
  StreamReactor* reactor() { return reactor_; }
  void Begin();
  void End(base::Status status) { reactor_->End(std::move(status)); }

 private:
  enum class Step : uint8_t { kScan, kManifests, kObjects, kEvents, kEnd };

  // StreamOwner
  void OnDrained(uint64_t id) override;
  void OnDone(std::unique_ptr<StreamReactor> reactor) override;

  void Go();
  void ReadPage();
  void TakePage(const std::vector<sessions::Event>& events);
  // On the tools lane: reads blobs.
  void WorkOnBlobs(absl::AnyInvocable<base::Status()> work);
  base::Status ExpandManifests();
  base::Status WriteObjectPart();
  base::Status FinishFile();
  // Sends what is in the buffer; the next step follows.
  void Flush();
  // Back on the control lane after a step; true when the call has ended meanwhile, and this with it.
  bool Ended();
  // Tells that it is over; this is no more then.
  void TellOver();

  const Parts parts_;
  const std::string session_;
  const Format format_;
  Over over_;
  StreamReactor* reactor_;  // gRPC's
  std::unique_ptr<StreamReactor> done_;

  // Control lane, and the tools lane while `busy_`.
  bool busy_ = false;
  Step step_;
  uint64_t after_seq_ = 0;
  uint64_t last_seq_ = 0;  // when it began
  std::string buffer_;
  std::optional<sessions::ExportWriter> writer_;
  std::set<memory::BlobId> named_;  // that are in the store
  std::set<memory::BlobId> manifests_;
  std::optional<memory::BlobReader> object_;
  uint64_t object_at_ = 0;
};

}  // namespace holdfast::server
