// holdfast kv: look at a KV block store, check it, and make it smaller.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/kv_store_path.h"
#include "cli/terminal.h"
#include "memory/block_store.h"
#include "model/json.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using memory::BlockStore;
using model::Json;

struct Options {
  std::string directory;
  bool json = false;
  bool segments = false;
  uint64_t max_bytes = 0;
  size_t limit = 50;
};

Json Count(uint64_t value) { return Json::Int(static_cast<int64_t>(value)); }
std::string Digits(uint64_t value) { return GroupDigits(static_cast<int64_t>(value)); }
std::string Bytes(uint64_t value) { return HumanBytes(static_cast<double>(value)); }

// Opens a store that exists, for looking and cleaning; what is damaged is said on standard error.
StatusOr<std::unique_ptr<BlockStore>> OpenStore(const Options& options) {
  if (!base::RealFileSystem().Stat(options.directory + "/STORE").ok())
    return base::NotFound(options.directory +
                          ": there is no kv store; name one with --store DIR or HOLDFAST_KV_STORE");
  return BlockStore::Open(base::RealFileSystem(),
                          {.directory = options.directory, .on_event = [](const memory::StoreEvent& event) {
                             std::fprintf(stderr, "%s\n", event.message.c_str());
                           }});
}

Status Stat(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto store, OpenStore(options));
  const memory::StoreStats s = store->Stats();
  if (options.json) {
    Json out = Json::Object();
    out.Set("store", Json::String(options.directory));
    out.Set("blocks", Count(s.blocks));
    out.Set("tails", Count(s.tails));
    out.Set("segments", Count(s.segments));
    out.Set("used_bytes", Count(s.used_bytes));
    out.Set("disk_bytes", Count(s.disk_bytes));
    out.Set("foreign_bytes", Count(s.foreign_bytes));
    out.Set("damaged", Count(s.slots_quarantined));
    std::printf("%s\n", out.Dump().c_str());
    return {};
  }
  std::printf("%s\n", options.directory.c_str());
  std::printf("  blocks    %12s   of 128 tokens or more each\n", Digits(s.blocks).c_str());
  std::printf("  tails     %12s   positions to go on from\n", Digits(s.tails).c_str());
  std::printf("  used      %12s\n", Bytes(s.used_bytes).c_str());
  std::printf("  on disk   %12s   in %s segment files\n", Bytes(s.disk_bytes).c_str(),
              Digits(s.segments).c_str());
  if (s.foreign_bytes > 0)
    std::printf("  foreign   %12s   in files of another version, left alone\n",
                Bytes(s.foreign_bytes).c_str());
  if (s.slots_quarantined > 0)
    std::printf("  damaged   %12s   found while opening, and removed\n", Digits(s.slots_quarantined).c_str());
  return {};
}

Status ListSegments(const BlockStore& store, bool as_json) {
  if (!as_json) std::printf("%-6s %12s %14s %12s  %s\n", "kind", "slots used", "slot", "file", "path");
  for (const memory::SegmentInfo& segment : store.Segments()) {
    const std::string kind = segment.tails ? "tails" : "blocks";
    if (as_json) {
      Json out = Json::Object();
      out.Set("path", Json::String(segment.path));
      out.Set("kind", Json::String(kind));
      out.Set("slots", Count(segment.slots));
      out.Set("used", Count(segment.used));
      out.Set("slot_bytes", Count(segment.slot_bytes));
      out.Set("file_bytes", Count(segment.file_bytes));
      std::printf("%s\n", out.Dump().c_str());
      continue;
    }
    const std::string used = std::to_string(segment.used) + " of " + std::to_string(segment.slots);
    std::printf("%-6s %12s %14s %12s  %s\n", kind.c_str(), used.c_str(), Bytes(segment.slot_bytes).c_str(),
                Bytes(segment.file_bytes).c_str(), segment.path.c_str());
  }
  return {};
}

Status List(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto store, OpenStore(options));
  if (options.segments) return ListSegments(*store, options.json);
  const auto chains = store->Chains(options.limit);
  if (!options.json)
    std::printf("%-12s %10s %14s  %-12s %s\n", "end", "blocks", "go on from", "root", "state");
  for (const memory::ChainInfo& chain : chains) {
    if (options.json) {
      Json out = Json::Object();
      out.Set("end", Json::String(base::ToHex(chain.key.digest)));
      out.Set("root", Json::String(base::ToHex(chain.top.digest)));
      out.Set("blocks", Count(chain.blocks));
      out.Set("deepest_tail", Count(chain.deepest_tail));
      out.Set("complete", Json::Bool(chain.complete));
      std::printf("%s\n", out.Dump().c_str());
      continue;
    }
    const std::string from = chain.deepest_tail == 0 ? "the start" : "block " + Digits(chain.deepest_tail);
    std::printf("%-12s %10s %14s  %-12s %s\n", memory::ShortName(chain.key).c_str(),
                Digits(chain.blocks).c_str(), from.c_str(), memory::ShortName(chain.top).c_str(),
                chain.complete ? "whole" : "a block before it is missing");
  }
  if (!options.json && chains.size() == options.limit)
    std::printf("... the %zu used last; --limit N shows more\n", options.limit);
  return {};
}

Status Verify(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto store, OpenStore(options));
  const uint64_t found_opening = store->Stats().slots_quarantined;
  memory::VerifyReport report;
  {
    Progress progress("checking", "", static_cast<int64_t>(store->Stats().used_bytes));
    HF_ASSIGN_OR_RETURN(
        report, store->Verify([&](uint64_t done, uint64_t) { progress.Update(static_cast<int64_t>(done)); }));
  }
  HF_RETURN_IF_ERROR(store->Sync());
  report.damaged += found_opening;
  if (options.json) {
    Json out = Json::Object();
    out.Set("slots", Count(report.slots));
    out.Set("bytes", Count(report.bytes));
    out.Set("damaged", Count(report.damaged));
    std::printf("%s\n", out.Dump().c_str());
  } else {
    std::printf("checked %s blocks and tails, %s: %s damaged\n", Digits(report.slots).c_str(),
                Bytes(report.bytes).c_str(), Digits(report.damaged).c_str());
  }
  if (report.damaged == 0) return {};
  return base::DataLoss(Digits(report.damaged) +
                        " damaged blocks or tails were removed; sessions that need them compute them again. "
                        "Check the disk (dmesg, smartctl)");
}

Status Gc(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto store, OpenStore(options));
  const memory::StoreStats before = store->Stats();
  HF_RETURN_IF_ERROR(store->EvictTo(options.max_bytes));
  HF_RETURN_IF_ERROR(store->Sync());
  const memory::StoreStats after = store->Stats();
  if (options.json) {
    Json out = Json::Object();
    out.Set("disk_bytes_before", Count(before.disk_bytes));
    out.Set("disk_bytes_after", Count(after.disk_bytes));
    out.Set("blocks_evicted", Count(after.evicted_blocks));
    std::printf("%s\n", out.Dump().c_str());
  } else {
    std::printf("%s -> %s: %s blocks evicted, %s left\n", Bytes(before.disk_bytes).c_str(),
                Bytes(after.disk_bytes).c_str(), Digits(after.evicted_blocks).c_str(),
                Digits(after.blocks).c_str());
  }
  return {};
}

CLI::App* Add(CLI::App& parent, const std::string& name, const std::string& help, Options& options) {
  CLI::App* app = parent.add_subcommand(name, help);
  AddKvStoreOption(*app, options.directory);
  app->add_flag("--json", options.json, "Print JSON");
  return app;
}

}  // namespace

void AddKv(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  CLI::App* stat = Add(parent, "stat", "How much a KV store holds", *options);
  stat->callback([options, &result] { result = Stat(*options); });

  CLI::App* ls = Add(parent, "ls", "The chains of blocks in a store, most recently used first", *options);
  ls->add_option("--limit", options->limit, "Chains to print")->capture_default_str();
  ls->add_flag("--segments", options->segments, "List the segment files instead");
  ls->callback([options, &result] { result = List(*options); });

  CLI::App* verify = Add(parent, "verify",
                         "Read everything and compare it with its checksums. What is damaged is removed and "
                         "will be computed again; the exit status is 1 then",
                         *options);
  verify->callback([options, &result] { result = Verify(*options); });

  CLI::App* gc = Add(parent, "gc", "Evict what was used longest ago until the files fit", *options);
  gc->add_option("--max-bytes", options->max_bytes, "The size to reach, such as 20GB; 0 empties the store")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->required();
  gc->callback([options, &result] { result = Gc(*options); });
}

}  // namespace holdfast::cli
