// What a command printed and how it ended, as the model reads it: bounded in memory and in the result, the
// whole kept as a blob when it does not fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "sandbox/limits.h"
#include "sandbox/outcome.h"
#include "sandbox/output.h"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::memory {
class BlobBatch;
class BlobStore;
}  // namespace holdfast::memory

namespace holdfast::tools {

struct OutputBounds {
  size_t head_bytes = 0;
  size_t tail_bytes = 0;
  uint64_t spill_bytes_max = 0;  // of the blob; what comes after is lost but for the tail
};

// What is shown of an output. The texts are safe (sandbox::MakeSafe) and have at most head_bytes and
// tail_bytes.
struct ShownOutput {
  std::string head;
  std::string tail;
  uint64_t omitted_bytes = 0;  // of the output, between what head and tail were made of, exactly
  uint64_t omitted_lines = 0;  // newlines among them
};

// Takes the output of one job, secrets replaced already. Append and Finish are the sandbox's; the rest is
// called after the job has ended. Memory: head_bytes + tail_bytes, and 4 MiB of a blob.
class OutputCollector final : public sandbox::OutputSink {
 public:
  // Without a store nothing is kept beyond head and tail. The store outlives the collector.
  OutputCollector(const OutputBounds& bounds, memory::BlobStore* blobs);
  ~OutputCollector() override;

  base::Status Append(std::span<const std::byte> bytes) override;
  base::StatusOr<std::string> Finish(const base::Sha256Digest& sha256, uint64_t bytes) override;

  // What the sandbox needs to hand over everything.
  static sandbox::OutputOptions Options();

  ShownOutput Shown() const;
  uint64_t total_bytes() const { return total_bytes_; }

  // All of the output, or its first spill_bytes_max bytes: when it did not fit and a store was there.
  const std::optional<SpilledBlob>& blob() const { return blob_; }

  // Makes the blob durable; the storage lane's work. After an error blob() is empty. Nothing to do is fine.
  base::Status Commit();

 private:
  void BeginCut();
  void Spill(std::string_view bytes);
  void Keep(std::string_view bytes);
  std::string Tail() const;

  const OutputBounds bounds_;
  memory::BlobStore* const blobs_;
  std::string head_;  // all, as long as it fits; then the first head_bytes
  std::string ring_;  // then the last tail_bytes: byte i of the output at i % its size; empty while all fits
  uint64_t total_bytes_ = 0;
  uint64_t total_lines_ = 0;
  uint64_t spilled_bytes_ = 0;
  bool spill_failed_ = false;
  std::unique_ptr<memory::BlobBatch> batch_;
  std::optional<SpilledBlob> blob_;
};

// The output by the templates `output`, `cut`, `cut_more`, `cut_lost` of a tool: ends with a newline unless
// it is empty.
std::string OutputText(const ToolData& data, const OutputCollector& collector);

// How a command ended, by the templates `exit`, `signal`, `limit`, `killed`, `session_end`, `not_started`.
// Holds no time, pid or size that differs from run to run. `limits` are those it ran under.
std::string EndingText(const ToolData& data, const sandbox::Outcome& outcome, const sandbox::Limits& limits);

// The exit code as a shell tells it: 128 + signal, 126 or 127 for what did not start, 137 for what was ended.
int ShellExitCode(const sandbox::Outcome& outcome);

// The status that an ending is to the model.
ToolStatus StatusOf(const sandbox::Outcome& outcome);

// A result for what the sandbox could not do: kUnavailable, with the reason and the remedy.
ToolResult SandboxFailure(const base::Status& status);

}  // namespace holdfast::tools
