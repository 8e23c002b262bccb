// holdfast audit, export, import, backup: the record of sessions, proved and taken elsewhere. Through the
// daemon that has it; without one as cli/session_audit.cc and cli/session_transfer.cc do it.
#include "cli/record.h"

#include <cstdio>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/data_directory.h"
#include "cli/exit_status.h"
#include "cli/interrupts.h"
#include "cli/session_name.h"
#include "cli/session_text.h"
#include "cli/terminal.h"
#include "holdfast/v1/server_service.pb.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;

constexpr size_t kPartBytes = 64 << 10;

struct BackupOptions {
  DaemonChoice daemon;
  std::string directory;
};

Status Backup(const BackupOptions& options) {
  CountInterrupts();
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::BackupServerRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_directory(), FromRoot(options.directory));
  StatusLine line;
  v1::BackupServerResponse last;
  HF_RETURN_IF_ERROR(client->Stream(request, [&](const v1::BackupServerResponse& response) {
    last = response;
    line.Show("copied " + HumanBytes(static_cast<double>(response.bytes_done())) + " of " +
              HumanBytes(static_cast<double>(response.bytes_total())));
    return true;
  }));
  line.Clear();
  if (!last.ended()) return base::DataLoss(request.directory() + ": the backup is not whole");
  if (options.daemon.json) {
    PrintJson(last);
  } else {
    std::printf("%s: %s\n", request.directory().c_str(),
                HumanBytes(static_cast<double>(last.bytes_done())).c_str());
  }
  return {};
}

}  // namespace

Status AuditThroughDaemon(server::Client& client, const std::string& given, bool json) {
  v1::AuditSessionRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(client, given));
  StatusLine line;
  v1::AuditSessionResponse last;
  const Status ended = client.Stream(request, [&](const v1::AuditSessionResponse& response) {
    last = response;
    line.Show("auditing: " + GroupDigits(response.tokens_done()) + " of " +
              GroupDigits(response.tokens_total()) + " tokens");
    return true;
  });
  line.Clear();
  if (absl::IsUnimplemented(ended)) {
    return base::FailedPrecondition(
        "this daemon makes no audits; stop it, and audit without it: holdfast stop, then holdfast audit. Its "
        "sessions rest meanwhile, and go on with the next one");
  }
  HF_RETURN_IF_ERROR(ended);
  if (!last.ended()) return base::DataLoss("the audit did not come to its end");
  if (json) {
    PrintJson(last);
  } else {
    std::printf("%s\n", ForTerminal(last.report()).c_str());
  }
  return last.proven() ? Status() : ExitWith(Exit::kError, "not all is proven; what differs stands above");
}

Status ExportThroughDaemon(server::Client& client, const std::string& given, const std::string& path,
                           bool markdown) {
  v1::ExportSessionRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(client, given));
  request.set_format(markdown ? v1::ExportSessionRequest::FORMAT_MARKDOWN
                              : v1::ExportSessionRequest::FORMAT_RECORD);
  base::FileSystem& fs = base::RealFileSystem();
  if (fs.Stat(path).ok()) return base::FailedPrecondition(path + " is there already");
  const std::string part = path + ".part";
  HF_ASSIGN_OR_RETURN(const auto file, fs.Open(part, base::OpenMode::kTruncate));
  uint64_t written = 0;
  Status wrote;
  HF_RETURN_IF_ERROR(client.Stream(request, [&](const v1::ExportSessionResponse& response) {
    wrote = file->WriteAt(written, std::as_bytes(std::span(response.data())));
    written += response.data().size();
    return wrote.ok();
  }));
  HF_RETURN_IF_ERROR(wrote);
  HF_RETURN_IF_ERROR(file->Sync());
  HF_RETURN_IF_ERROR(fs.Rename(part, path));
  HF_RETURN_IF_ERROR(fs.SyncDirectory(base::ParentDirectory(path)));
  std::printf("%s: %s\n", path.c_str(), HumanBytes(static_cast<double>(written)).c_str());
  return {};
}

Status ImportThroughDaemon(server::Client& client, const std::string& path, const std::string& as,
                           bool json) {
  HF_ASSIGN_OR_RETURN(const auto file, base::RealFileSystem().Open(path, base::OpenMode::kRead));
  uint64_t at = 0;
  const auto next = [&](v1::ImportSessionRequest& request) -> StatusOr<bool> {
    request.set_session_id(at == 0 ? as : std::string());
    std::string part(kPartBytes, '\0');
    HF_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(at, std::as_writable_bytes(std::span(part))));
    part.resize(got);
    at += got;
    request.set_data(std::move(part));
    return got > 0;
  };
  HF_ASSIGN_OR_RETURN(const v1::ImportSessionResponse imported,
                      client.Upload<v1::ImportSessionRequest>(next));
  const v1::Session& session = imported.session();
  if (json) {
    PrintJson(session);
  } else {
    std::printf("%s: %s events, %s\n", IdOf(session.name()).c_str(),
                GroupDigits(static_cast<int64_t>(session.last_sequence())).c_str(),
                StateText(session).c_str());
  }
  return {};
}

void AddBackup(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<BackupOptions>();  // shared: CLI11 copies the callback that owns it
  CLI::App* app = parent.add_subcommand(
      "backup",
      "Copies the record and the blobs into a new directory, while work goes on. KV is computed again.");
  AddDaemonOptions(*app, options->daemon);
  app->add_option("DIRECTORY", options->directory, "Is made; must not exist")->required();
  app->final_callback([options, &result] { result = Backup(*options); });
}

}  // namespace holdfast::cli
