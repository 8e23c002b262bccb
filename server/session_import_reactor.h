// A session that comes from a client as a file (sessions/session_export.h), taken over whole or not at all.
// What comes is put into a file that has no name, piece by piece as the disk takes it; when all is there, it
// is checked and taken over from there. So it takes 1 MiB of memory, and disk.
//
// Threads: gRPC's; work on the tools, storage and control lanes. It is gRPC's until it is done, then it
// deletes itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/file.h"
#include "base/status.h"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/session_service.pb.h"
#include "memory/blob_store.h"
#include "server/call_gate.h"
#include "sessions/session_export.h"
#include "sessions/session_store.h"

namespace holdfast::server {

class SessionImportReactor final : public grpc::ServerReadReactor<v1::ImportSessionRequest> {
 public:
  struct Parts {
    CallGate& gate;
    base::Executor& executor;
    sessions::SessionStore& store;
    memory::BlobStore& blobs;
    std::string directory;  // for the file
    // Fills in the answer; control lane.
    std::function<void(const std::string& id, server::Finish finish)> answer;
  };

  explicit SessionImportReactor(Parts parts);

 private:
  void OnReadDone(bool ok) override;
  void OnDone() override { delete this; }

  // Tools lane.
  base::Status Put(const v1::ImportSessionRequest& request);
  void TakeOver();
  base::Status ReadObjects();
  // Control lane.
  void Import();

  void End(const base::Status& status);

  const Parts parts_;
  const int64_t began_ns_;
  v1::ImportSessionRequest request_;
  std::string id_;  // asked for; empty: the one it had
  std::unique_ptr<base::File> file_;
  uint64_t size_ = 0;
  uint64_t read_at_ = 0;
  std::unique_ptr<sessions::ExportReader> reader_;
  std::unique_ptr<memory::BlobBatch> batch_;  // keeps the blobs until the session names them
};

}  // namespace holdfast::server
