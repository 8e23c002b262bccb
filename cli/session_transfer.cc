// holdfast export, import: a session in one file, and back.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "agent/agent_event.h"
#include "base/coding.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/record.h"
#include "cli/session_data.h"
#include "cli/terminal.h"
#include "sessions/session_export.h"
#include "workspace/manifest.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using memory::BlobId;
using model::Json;
using sessions::Event;

constexpr size_t kPartBytes = size_t{1} << 20;

struct Options {
  DaemonChoice daemon;
  std::string id;
  std::string file;
  std::string as;  // import: id
  bool markdown = false;
};

// Blobs that a session names, and those that are not in the store any more.
struct Objects {
  std::set<BlobId> blobs;
  uint64_t missing = 0;
};

Status AddManifest(memory::BlobStore& store, const BlobId& id, Objects& objects) {
  if (id == workspace::EmptyManifestId()) return {};
  if (!store.Contains(id)) {
    ++objects.missing;
    return {};
  }
  return workspace::VisitBlobs(
      id, [&store](const BlobId& node, size_t bytes_max) { return store.Read(node, bytes_max); },
      [&](const BlobId& blob) {
        if (store.Contains(blob)) return objects.blobs.insert(blob).second;
        ++objects.missing;
        return false;
      });
}

StatusOr<Objects> ObjectsOf(const Options& options, SessionData& data, memory::BlobStore& store) {
  Objects objects;
  std::set<BlobId> manifests;
  for (uint64_t after = 0;;) {
    HF_ASSIGN_OR_RETURN(const std::vector<Event> events, data.ReadEvents(options.id, after));
    if (events.empty()) break;
    after = events.back().seq;
    sessions::NamedObjects named;
    for (const Event& event : events) {
      sessions::AddNamedObjects(event.body, named);
      const auto* body = std::get_if<sessions::AgentEvent>(&event.body);
      const auto decoded = body == nullptr ? std::nullopt : agent::Decode(*body).value_or(std::nullopt);
      const auto* check = decoded.has_value() ? std::get_if<agent::CheckRan>(&*decoded) : nullptr;
      if (check == nullptr) continue;
      named.blobs.insert(named.blobs.end(), check->blobs.begin(), check->blobs.end());
      if (check->manifest.has_value()) named.manifests.push_back(*check->manifest);
    }
    for (const BlobId& blob : named.blobs) {
      store.Contains(blob) ? void(objects.blobs.insert(blob)) : void(++objects.missing);
    }
    manifests.insert(named.manifests.begin(), named.manifests.end());
  }
  for (const BlobId& manifest : manifests) HF_RETURN_IF_ERROR(AddManifest(store, manifest, objects));
  return objects;
}

Status WriteObjects(const Objects& objects, memory::BlobStore& store, sessions::ExportWriter& writer) {
  std::vector<std::byte> part(kPartBytes);
  for (const BlobId& id : objects.blobs) {
    HF_ASSIGN_OR_RETURN(auto reader, store.OpenBlob(id));
    HF_RETURN_IF_ERROR(writer.BeginObject(id, reader.size()));
    for (uint64_t at = 0; at < reader.size();) {
      HF_ASSIGN_OR_RETURN(const size_t got, reader.ReadAt(at, part));
      HF_RETURN_IF_ERROR(writer.AddBytes(std::span(part).first(got)));
      at += got;
    }
  }
  return {};
}

// Into `path`.part, which becomes `path` when it is whole and durable.
Status ExportHere(const Options& options) {
  if (options.markdown)
    return base::FailedPrecondition("--markdown needs a daemon; start one with: holdfast serve");
  base::FileSystem& fs = base::RealFileSystem();
  if (fs.Stat(options.file).ok()) return base::FailedPrecondition(options.file + " is there already");
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.daemon.data, SessionData::Absent::kRefuse));
  HF_ASSIGN_OR_RETURN(const sessions::SessionRow row, data->Ask<sessions::SessionRow>([&](auto done) {
    data->store().Get(options.id, std::move(done));
  }));
  const std::string part = options.file + ".part";
  HF_ASSIGN_OR_RETURN(const auto file, fs.Open(part, base::OpenMode::kTruncate));
  uint64_t written = 0;
  sessions::ExportWriter writer(
      [&](std::span<const std::byte> bytes) {
        HF_RETURN_IF_ERROR(file->WriteAt(written, bytes));
        written += bytes.size();
        return Status();
      },
      {.id = row.id, .uid = row.uid});
  HF_ASSIGN_OR_RETURN(memory::BlobStore* const blobs, data->Blobs(SessionData::Absent::kRefuse));
  Objects objects;
  if (blobs != nullptr) {
    HF_ASSIGN_OR_RETURN(objects, ObjectsOf(options, *data, *blobs));
    HF_RETURN_IF_ERROR(WriteObjects(objects, *blobs, writer));
  }
  for (uint64_t after = 0; after < row.last_seq;) {
    HF_ASSIGN_OR_RETURN(const std::vector<Event> events, data->ReadEvents(options.id, after));
    if (events.empty()) return base::DataLoss("event " + std::to_string(after + 1) + " is missing");
    for (const Event& event : events) HF_RETURN_IF_ERROR(writer.AddEvent(event));
    after = events.back().seq;
  }
  HF_RETURN_IF_ERROR(writer.Finish());
  HF_RETURN_IF_ERROR(file->Sync());
  HF_RETURN_IF_ERROR(fs.Rename(part, options.file));
  HF_RETURN_IF_ERROR(fs.SyncDirectory(base::ParentDirectory(options.file)));
  if (objects.missing > 0) {
    std::fprintf(stderr,
                 "%" PRIu64 " blobs that the session names are not here any more, and not in the file\n",
                 objects.missing);
  }
  if (options.daemon.json) {
    Json out = Json::Object();
    out.Set("session", Json::String(row.id));
    out.Set("events", Json::Int(static_cast<int64_t>(row.last_seq)));
    out.Set("blobs", Json::Int(static_cast<int64_t>(objects.blobs.size())));
    out.Set("blobs_missing", Json::Int(static_cast<int64_t>(objects.missing)));
    out.Set("bytes", Json::Int(static_cast<int64_t>(written)));
    std::printf("%s\n", out.Dump().c_str());
  } else {
    std::printf("%s: %s events and %zu blobs, %s\n", options.file.c_str(),
                GroupDigits(static_cast<int64_t>(row.last_seq)).c_str(), objects.blobs.size(),
                HumanBytes(static_cast<double>(written)).c_str());
  }
  return {};
}

// All objects of the file into one batch. They stay until it is destroyed.
Status ReadObjects(sessions::ExportReader& reader, SessionData& data,
                   std::unique_ptr<memory::BlobBatch>& batch) {
  std::vector<std::byte> part(kPartBytes);
  for (;;) {
    HF_ASSIGN_OR_RETURN(const auto object, reader.NextObject());
    if (!object.has_value()) return batch == nullptr ? Status() : batch->Commit();
    if (batch == nullptr) {
      HF_ASSIGN_OR_RETURN(memory::BlobStore* const blobs, data.Blobs(SessionData::Absent::kMake));
      batch = blobs->NewBatch();
    }
    for (size_t got = 1; got > 0;) {
      HF_ASSIGN_OR_RETURN(got, reader.ReadObject(part));
      HF_RETURN_IF_ERROR(batch->Append(std::span(part).first(got)));
    }
    HF_RETURN_IF_ERROR(batch->Finish().status());
  }
}

// The id that it had, or that with a number behind it.
StatusOr<std::string> FreeId(const Options& options, const std::string& had, SessionData& data) {
  if (!options.as.empty()) return options.as;
  for (int number = 1; number < 1000; ++number) {
    const std::string id = number == 1 ? had : had.substr(0, 58) + "-" + std::to_string(number);
    const auto row =
        data.Ask<sessions::SessionRow>([&](auto done) { data.store().Get(id, std::move(done)); });
    if (absl::IsNotFound(row.status())) return id;
    HF_RETURN_IF_ERROR(row.status());
  }
  return base::FailedPrecondition("no id like " + had + " is free; give one with --as ID");
}

Status ImportHere(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto file, base::RealFileSystem().Open(options.file, base::OpenMode::kRead));
  HF_ASSIGN_OR_RETURN(const auto reader,
                      sessions::ExportReader::Open(
                          [&file, at = uint64_t{0}](std::span<std::byte> out) mutable -> StatusOr<size_t> {
                            HF_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(at, out));
                            at += got;
                            return got;
                          }));
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.daemon.data, SessionData::Absent::kMake));
  HF_ASSIGN_OR_RETURN(const std::string id, FreeId(options, reader->header().id, *data));
  std::unique_ptr<memory::BlobBatch> batch;
  HF_RETURN_IF_ERROR(ReadObjects(*reader, *data, batch));
  HF_ASSIGN_OR_RETURN(const sessions::SessionRow row, data->Ask<sessions::SessionRow>([&](auto done) {
    data->store().Import(
        id, reader->header().uid, [&reader] { return reader->NextEvents(kPartBytes); }, std::move(done));
  }));
  if (options.daemon.json) {
    Json out = Json::Object();
    out.Set("session", Json::String(row.id));
    out.Set("events", Json::Int(static_cast<int64_t>(row.last_seq)));
    out.Set("state", Json::String(StateText(row)));
    std::printf("%s\n", out.Dump().c_str());
  } else {
    std::printf("%s: %s events, %s\n", row.id.c_str(),
                GroupDigits(static_cast<int64_t>(row.last_seq)).c_str(), StateText(row).c_str());
  }
  return {};
}

Status Export(const Options& options) {
  const auto client = Connect(options.daemon);
  if (client.ok()) return ExportThroughDaemon(**client, options.id, options.file, options.markdown);
  return absl::IsNotFound(client.status()) ? ExportHere(options) : client.status();
}

Status Import(const Options& options) {
  const auto client = Connect(options.daemon);
  if (client.ok()) return ImportThroughDaemon(**client, options.file, options.as, options.daemon.json);
  return absl::IsNotFound(client.status()) ? ImportHere(options) : client.status();
}

}  // namespace

void AddSessionTransfer(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  CLI::App* out = parent.add_subcommand("export",
                                        "Writes a session to one file that stands alone: all events, its "
                                        "parents' too, and the blobs they name.\n\n"
                                        "Example: holdfast export fix-tests fix-tests.hfs");
  AddDaemonOptions(*out, options->daemon);
  out->add_option("SESSION", options->id, "The session's id")->required();
  out->add_option("FILE", options->file, "The file to be made")->required();
  out->add_flag("--markdown", options->markdown, "For reading instead");
  out->final_callback([options, &result] { result = Export(*options); });

  CLI::App* in = parent.add_subcommand(
      "import",
      "Takes over a session from a file, whole or not at all. It rests until somebody resumes it.\n\n"
      "Example: holdfast import fix-tests.hfs --as fix-tests-of-anna");
  AddDaemonOptions(*in, options->daemon);
  in->add_option("FILE", options->file, "A file that export has made")->required();
  in->add_option("--as", options->as, "Its id here; default: the one it had, or that with a number");
  in->final_callback([options, &result] { result = Import(*options); });
}

}  // namespace holdfast::cli
