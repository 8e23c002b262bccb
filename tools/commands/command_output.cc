#include "tools/commands/command_output.h"

#include <csignal>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/coding.h"
#include "base/hash.h"
#include "memory/blob_store.h"
#include "tools/text/utf8.h"

namespace holdfast::tools {
namespace {

using sandbox::Ending;
using sandbox::LimitKind;

uint64_t CountLines(std::string_view text) {
  return static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

// Of the output's first bytes, without the beginning of a character whose rest is left out.
size_t WholeCharactersBefore(std::string_view text, size_t end) {
  size_t cut = end;
  while (cut > 0 && end - cut < 3 && IsContinuation(text[cut - 1])) --cut;
  if (cut == 0) return end;
  const auto lead = static_cast<uint8_t>(text[cut - 1]);
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  return length > end - cut + 1 ? cut - 1 : end;
}

size_t WholeCharactersAfter(std::string_view text, size_t begin) {
  size_t cut = begin;
  while (cut < text.size() && cut - begin < 3 && IsContinuation(text[cut])) ++cut;
  return cut;
}

// The largest `size` up to `most` for which the safe form of part(size) has at most `room` bytes. Making safe
// may add bytes (three for a malformed one); more of a text never has a shorter form, but for escape
// sequences.
template <typename Part>
size_t LargestThatFits(size_t most, size_t room, Part part) {
  size_t low = 0, high = most + 1;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    (sandbox::MakeSafe(part(middle)).size() <= room ? low : high) = middle;
  }
  return low;
}

// The longest beginning (end) of `bytes` in whole characters whose safe form has at most `room` bytes.
std::string_view Beginning(std::string_view bytes, size_t room) {
  const auto part = [bytes](size_t size) {
    return bytes.substr(0, size == bytes.size() ? size : WholeCharactersBefore(bytes, size));
  };
  return part(LargestThatFits(bytes.size(), room, part));
}

std::string_view End(std::string_view bytes, size_t room) {
  const auto part = [bytes](size_t size) {
    return bytes.substr(size == 0 ? bytes.size() : WholeCharactersAfter(bytes, bytes.size() - size));
  };
  return part(LargestThatFits(bytes.size(), room, part));
}

// Names that do not change between machines, unlike strsignal's.
std::string_view SignalName(int signal) {
  switch (signal) {
    case SIGHUP:
      return "SIGHUP";
    case SIGINT:
      return "SIGINT";
    case SIGQUIT:
      return "SIGQUIT";
    case SIGILL:
      return "SIGILL, illegal instruction";
    case SIGTRAP:
      return "SIGTRAP";
    case SIGABRT:
      return "SIGABRT, aborted";
    case SIGBUS:
      return "SIGBUS, bus error";
    case SIGFPE:
      return "SIGFPE, arithmetic error";
    case SIGKILL:
      return "SIGKILL";
    case SIGSEGV:
      return "SIGSEGV, segmentation fault";
    case SIGPIPE:
      return "SIGPIPE, broken pipe";
    case SIGALRM:
      return "SIGALRM";
    case SIGTERM:
      return "SIGTERM";
    case SIGXCPU:
      return "SIGXCPU, CPU time";
    case SIGXFSZ:
      return "SIGXFSZ, file size";
    case SIGSYS:
      return "SIGSYS, forbidden system call";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGUSR2:
      return "SIGUSR2";
    default:
      return "another signal";
  }
}

std::string Amount(uint64_t bytes) {
  return bytes % sandbox::kMiB == 0 ? std::to_string(bytes / sandbox::kMiB) + " MiB"
                                    : std::to_string(bytes) + " bytes";
}

std::string LimitText(LimitKind kind, const sandbox::Limits& limits) {
  std::string text(sandbox::LimitName(kind));
  switch (kind) {
    case LimitKind::kWallTime:
      return text + ", " + std::to_string(limits.wall_ms) + " ms";
    case LimitKind::kCpuTime:
      return text + ", " + std::to_string(limits.cpu_ms) + " ms";
    case LimitKind::kIdleTime:
      return text + ", " + std::to_string(limits.idle_ms) + " ms";
    case LimitKind::kMemory:
      return text + ", " + Amount(limits.memory_bytes);
    case LimitKind::kProcesses:
      return text + ", " + std::to_string(limits.processes);
    case LimitKind::kFileSize:
      return text + ", " + Amount(limits.file_bytes);
    case LimitKind::kDisk:
      return text + ", " + Amount(limits.disk_bytes);
    case LimitKind::kInodes:
      return text + ", " + std::to_string(limits.disk_inodes);
    case LimitKind::kOutput:
      return text + ", " + Amount(limits.output_bytes);
    case LimitKind::kNone:
    case LimitKind::kMachineMemory:
      return text;
  }
  return text;
}

}  // namespace

OutputCollector::OutputCollector(const OutputBounds& bounds, memory::BlobStore* blobs)
    : bounds_(bounds), blobs_(blobs) {}

OutputCollector::~OutputCollector() = default;

sandbox::OutputOptions OutputCollector::Options() {
  return {.head_bytes = 0, .tail_bytes = 0, .ring_bytes = 0, .spill_bytes_max = UINT64_MAX};
}

base::Status OutputCollector::Append(std::span<const std::byte> bytes) {
  const std::string_view text = base::AsText(bytes);
  total_lines_ += CountLines(text);
  if (ring_.empty() && total_bytes_ + text.size() <= bounds_.head_bytes + bounds_.tail_bytes) {
    head_.append(text);
    total_bytes_ += text.size();
    return absl::OkStatus();
  }
  if (ring_.empty()) BeginCut();
  if (head_.size() < bounds_.head_bytes) head_.append(text.substr(0, bounds_.head_bytes - head_.size()));
  total_bytes_ += text.size();
  Spill(text);
  Keep(text);
  return absl::OkStatus();
}

// From here on the output does not fit: what was held becomes the first head_bytes, the last tail_bytes, and
// the beginning of the blob.
void OutputCollector::BeginCut() {
  ring_.resize(std::max<size_t>(bounds_.tail_bytes, 1));
  Spill(head_);
  Keep(head_);
  head_.resize(std::min(head_.size(), bounds_.head_bytes));
}

// Puts the last bytes of what was counted last into the ring.
void OutputCollector::Keep(std::string_view bytes) {
  bytes = bytes.substr(bytes.size() - std::min(bytes.size(), ring_.size()));
  uint64_t position = total_bytes_ - bytes.size();
  while (!bytes.empty()) {
    const auto slot = static_cast<size_t>(position % ring_.size());
    const size_t count = std::min(bytes.size(), ring_.size() - slot);
    std::memcpy(ring_.data() + slot, bytes.data(), count);
    bytes.remove_prefix(count);
    position += count;
  }
}

void OutputCollector::Spill(std::string_view bytes) {
  if (blobs_ == nullptr || spill_failed_) return;
  if (batch_ == nullptr) batch_ = blobs_->NewBatch();
  const uint64_t room = bounds_.spill_bytes_max - std::min(bounds_.spill_bytes_max, spilled_bytes_);
  bytes = bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(room, bytes.size())));
  if (bytes.empty()) return;
  // The command goes on without: that its output is not kept is told where it is cut.
  spill_failed_ = !batch_->Append(base::AsBytes(bytes)).ok();
  spilled_bytes_ += bytes.size();
}

base::StatusOr<std::string> OutputCollector::Finish(const base::Sha256Digest&, uint64_t) {
  if (batch_ == nullptr || spill_failed_) return std::string();
  const auto id = batch_->Finish();
  spill_failed_ = !id.ok();
  if (id.ok()) blob_ = SpilledBlob{.id = *id, .bytes = spilled_bytes_};
  return std::string();
}

base::Status OutputCollector::Commit() {
  if (!blob_.has_value()) return absl::OkStatus();
  const base::Status status = batch_->Commit();
  if (!status.ok()) blob_.reset();
  return status;
}

std::string OutputCollector::Tail() const {
  const auto slot = static_cast<size_t>(total_bytes_ % ring_.size());
  return ring_.substr(slot) + ring_.substr(0, slot);
}

ShownOutput OutputCollector::Shown() const {
  ShownOutput shown;
  std::string_view head = head_;
  std::string tail;
  if (ring_.empty()) {
    shown.head = sandbox::MakeSafe(head);
    if (shown.head.size() <= bounds_.head_bytes + bounds_.tail_bytes) return shown;
    tail = head.substr(head.size() - std::min(head.size(), bounds_.tail_bytes));
    head = head.substr(0, bounds_.head_bytes);
  } else {
    tail = Tail();
  }
  head = Beginning(head, bounds_.head_bytes);
  // With little between them the two would overlap.
  const auto left = static_cast<size_t>(std::min<uint64_t>(total_bytes_ - head.size(), tail.size()));
  tail = std::string(End(std::string_view(tail).substr(tail.size() - left), bounds_.tail_bytes));
  shown.head = sandbox::MakeSafe(head);
  shown.tail = sandbox::MakeSafe(tail);
  shown.omitted_bytes = total_bytes_ - head.size() - tail.size();
  shown.omitted_lines = total_lines_ - CountLines(head) - CountLines(tail);
  return shown;
}

std::string OutputText(const ToolData& data, const OutputCollector& collector) {
  const ShownOutput shown = collector.Shown();
  std::string text = shown.head;
  const auto end_line = [&text] {
    if (!text.empty() && text.back() != '\n') text += '\n';
  };
  end_line();
  if (shown.omitted_bytes > 0) {
    const std::string bytes = std::to_string(shown.omitted_bytes);
    const std::string lines = std::to_string(shown.omitted_lines);
    if (!collector.blob().has_value()) {
      text += data.result("cut_lost").Fill({{"bytes", bytes}, {"lines", lines}});
    } else {
      const std::string name = base::ToHex(collector.blob()->id);
      const std::string kept = std::to_string(collector.blob()->bytes);
      text += collector.blob()->bytes == collector.total_bytes()
                  ? data.result("cut").Fill({{"bytes", bytes}, {"lines", lines}, {"blob", name}})
                  : data.result("cut_more")
                        .Fill({{"bytes", bytes}, {"lines", lines}, {"kept", kept}, {"blob", name}});
    }
  }
  text += shown.tail;
  end_line();
  return data.result("output").Fill({{"output", text}});
}

std::string EndingText(const ToolData& data, const sandbox::Outcome& outcome, const sandbox::Limits& limits) {
  switch (outcome.ending) {
    case Ending::kExited:
      return data.result("exit").Fill({{"code", std::to_string(outcome.exit_code)}});
    case Ending::kSignalled:
      return data.result("signal").Fill(
          {{"number", std::to_string(outcome.signal)}, {"name", SignalName(outcome.signal)}});
    case Ending::kLimit:
      return data.result("limit").Fill({{"limit", LimitText(outcome.limit, limits)}});
    case Ending::kKilled:
      return data.result("killed").Fill({});
    case Ending::kSessionEnd:
      return data.result("session_end").Fill({});
    case Ending::kNotStarted:
      return data.result("not_started").Fill({{"reason", RepairUtf8(outcome.start_error)}});
  }
  return {};
}

int ShellExitCode(const sandbox::Outcome& outcome) {
  switch (outcome.ending) {
    case Ending::kExited:
      return outcome.exit_code;
    case Ending::kSignalled:
      return 128 + outcome.signal;
    case Ending::kNotStarted:
      return outcome.start_error.ends_with("not found") ? 127 : 126;
    default:
      return 128 + SIGKILL;
  }
}

ToolStatus StatusOf(const sandbox::Outcome& outcome) {
  switch (outcome.ending) {
    case Ending::kExited:
      return outcome.exit_code == 0 ? ToolStatus::kOk : ToolStatus::kFailed;
    case Ending::kLimit:
      return outcome.limit == LimitKind::kWallTime ? ToolStatus::kTimeout : ToolStatus::kFailed;
    case Ending::kKilled:
      return ToolStatus::kCancelled;
    case Ending::kSessionEnd:
      return ToolStatus::kUnknown;
    case Ending::kSignalled:
    case Ending::kNotStarted:
      return ToolStatus::kFailed;
  }
  return ToolStatus::kFailed;
}

ToolResult SandboxFailure(const base::Status& status) {
  return {.status = ToolStatus::kUnavailable, .text = RepairUtf8(base::Message(status)) + "\n"};
}

}  // namespace holdfast::tools
