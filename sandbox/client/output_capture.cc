#include "sandbox/client/output_capture.h"

#include <algorithm>
#include <cstring>

#include "base/coding.h"

namespace holdfast::sandbox {
namespace {

uint64_t CountLines(std::string_view text) {
  return static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

// How many bytes at the end are the beginning of a character whose rest is missing.
size_t BrokenEnd(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<uint8_t>(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

// How many bytes at the start are the rest of a character whose beginning is missing.
size_t BrokenStart(std::string_view text) {
  size_t count = 0;
  while (count < 3 && count < text.size() && (static_cast<uint8_t>(text[count]) & 0xc0) == 0x80) ++count;
  return count;
}

}  // namespace

OutputCapture::OutputCapture(const OutputOptions& options, const SecretSet& secrets, OutputSink* sink)
    : options_(options),
      sink_(sink),
      redactor_(secrets),
      ring_size_(std::max({options.tail_bytes, options.ring_bytes, size_t{1}})) {}

void OutputCapture::Append(std::string_view bytes) {
  raw_bytes_ += bytes.size();
  certain_.clear();
  redactor_.Feed(bytes, certain_);
  Accept(certain_);
}

void OutputCapture::Accept(std::string_view bytes) {
  if (bytes.empty()) return;
  Spill(bytes);
  total_lines_ += CountLines(bytes);
  if (head_.size() < options_.head_bytes) head_.append(bytes.substr(0, options_.head_bytes - head_.size()));
  total_bytes_ += bytes.size();
  // The ring grows with the output until it has its size, then goes round.
  const std::string_view kept = bytes.substr(bytes.size() - std::min(bytes.size(), ring_size_));
  uint64_t position = total_bytes_ - kept.size();
  if (ring_.size() < ring_size_)
    ring_.resize(static_cast<size_t>(std::min<uint64_t>(ring_size_, total_bytes_)));
  for (size_t done = 0; done < kept.size();) {
    const size_t slot = static_cast<size_t>(position % ring_size_);
    const size_t count = std::min(kept.size() - done, ring_size_ - slot);
    std::memcpy(ring_.data() + slot, kept.data() + done, count);
    done += count;
    position += count;
  }
}

void OutputCapture::Spill(std::string_view bytes) {
  if (sink_ == nullptr || !spill_error_.empty()) return;
  const uint64_t room = options_.spill_bytes_max - std::min(options_.spill_bytes_max, spill_bytes_);
  bytes = bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(room, bytes.size())));
  if (bytes.empty()) return;
  if (const base::Status status = sink_->Append(base::AsBytes(bytes)); !status.ok()) {
    spill_error_ = base::Message(status);
    return;
  }
  sha256_.Update(base::AsBytes(bytes));
  spill_bytes_ += bytes.size();
}

std::string OutputCapture::Recent(uint64_t from) const {
  std::string text;
  text.reserve(static_cast<size_t>(total_bytes_ - from));
  while (from < total_bytes_) {
    const size_t slot = static_cast<size_t>(from % ring_size_);
    const auto count = static_cast<size_t>(std::min<uint64_t>(total_bytes_ - from, ring_size_ - slot));
    text.append(ring_, slot, count);
    from += count;
  }
  return text;
}

OutputCapture::Part OutputCapture::Read(uint64_t from, size_t bytes_max) const {
  Part part;
  from = std::min(from, total_bytes_);
  const uint64_t oldest = total_bytes_ - std::min<uint64_t>(total_bytes_, ring_size_);
  if (from < oldest) {
    part.skipped_bytes = oldest - from;
    from = oldest;
  }
  std::string text = Recent(from);
  const bool more = text.size() > bytes_max;
  if (more) text.resize(bytes_max);
  // The rest of a character at the end is to come, unless nothing comes any more.
  if (more || !finished_) text.resize(text.size() - BrokenEnd(text));
  part.next = from + text.size();
  part.text = MakeSafe(text);
  return part;
}

CapturedOutput OutputCapture::Finish() {
  certain_.clear();
  redactor_.Finish(certain_);
  Accept(certain_);
  finished_ = true;
  CapturedOutput output;
  output.total_bytes = total_bytes_;
  const uint64_t beyond_head = total_bytes_ - head_.size();
  if (beyond_head <= options_.tail_bytes) {
    output.head = MakeSafe(head_ + Recent(head_.size()));
  } else {
    std::string tail = Recent(total_bytes_ - options_.tail_bytes);
    head_.resize(head_.size() - BrokenEnd(head_));
    tail.erase(0, BrokenStart(tail));
    output.omitted_bytes = total_bytes_ - head_.size() - tail.size();
    output.omitted_lines = total_lines_ - CountLines(head_) - CountLines(tail);
    output.head = MakeSafe(head_);
    output.tail = MakeSafe(tail);
  }
  output.spill_bytes = spill_bytes_;
  if (sink_ != nullptr && spill_error_.empty()) {
    output.spill_sha256 = sha256_.Finish();
    base::StatusOr<std::string> name = sink_->Finish(output.spill_sha256, spill_bytes_);
    if (name.ok()) {
      output.spill_name = *std::move(name);
    } else {
      spill_error_ = base::Message(name.status());
    }
  }
  output.spill_error = spill_error_;
  return output;
}

}  // namespace holdfast::sandbox
