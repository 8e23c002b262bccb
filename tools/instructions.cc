#include "tools/instructions.h"

#include <algorithm>
#include <span>
#include <utility>

#include "tools/text/file_text.h"
#include "tools/text/utf8.h"
#include "workspace/path.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

using workspace::EntryKind;

constexpr std::string_view kName = "AGENTS.md";
constexpr size_t kEntriesMax = 100'000;      // of one directory
constexpr uint64_t kReadBytesMax = 4 << 20;  // of one file, before it is cut

std::string Join(std::string_view directory, std::string_view name) {
  return directory.empty() ? std::string(name) : std::string(directory) + "/" + std::string(name);
}

class Reader {
 public:
  Reader(workspace::Tree& tree, const InstructionLimits& limits) : tree_(tree), limits_(limits) {}

  base::StatusOr<Instructions> Read() {
    HF_RETURN_IF_ERROR(Directory("", 0));
    out_.hash = Hash();
    return std::move(out_);
  }

 private:
  base::Status Directory(const std::string& path, size_t depth) {
    if (++directories_ > limits_.directories_max) {
      out_.complete = false;
      return absl::OkStatus();
    }
    HF_ASSIGN_OR_RETURN(const auto entries, tree_.Names(path, kEntriesMax));
    for (const auto& entry : entries) {
      if (entry.name == kName) Found(Join(path, kName), entry.kind);
    }
    for (const auto& entry : entries) {
      const bool looks = entry.kind == EntryKind::kDirectory && !entry.name.starts_with('.') &&
                         entry.name != "node_modules" && IsUtf8(entry.name);
      if (!looks || depth >= limits_.depth_max || !out_.complete) continue;
      const std::string inner = Join(path, entry.name);
      if (const base::Status status = Directory(inner, depth + 1); !status.ok())
        LeaveOut(inner, "cannot be read");
    }
    return absl::OkStatus();
  }

  void Found(const std::string& path, EntryKind kind) {
    if (kind != EntryKind::kFile) return LeaveOut(path, "no regular file");
    if (out_.files.size() >= limits_.files_max) {
      out_.complete = false;
      return LeaveOut(path, "too many of them");
    }
    const auto content = workspace::ReadWhole(tree_, path, kReadBytesMax);
    if (!content.ok())
      return LeaveOut(path, absl::IsResourceExhausted(content.status()) ? "too large" : "cannot be read");
    if (!WhyNotText(content->bytes).empty()) return LeaveOut(path, "not UTF-8");
    InstructionFile file{.path = path};
    std::string_view text = content->bytes;
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    for (const Line& line : SplitLines(text)) {
      if (file.text.size() + line.text.size() + 1 > limits_.file_bytes_max) {
        file.cut = true;
        break;
      }
      file.text.append(line.text) += '\n';
    }
    if (file.text.empty() && !file.cut) return;
    if (bytes_ + file.text.size() > limits_.total_bytes_max) return LeaveOut(path, "too much text in all");
    bytes_ += file.text.size();
    out_.files.push_back(std::move(file));
  }

  void LeaveOut(const std::string& path, std::string_view reason) {
    if (out_.left_out.size() < limits_.files_max) out_.left_out.push_back(path + ": " + std::string(reason));
  }

  base::Sha256Digest Hash() const {
    base::Sha256 hash;
    const auto add = [&hash](std::string_view text) {
      const std::string size = std::to_string(text.size()) + ":";
      hash.Update(std::as_bytes(std::span(size)));
      hash.Update(std::as_bytes(std::span(text)));
    };
    add("holdfast-instructions-1");
    for (const InstructionFile& file : out_.files) {
      add(file.path);
      add(file.text);
      add(file.cut ? "cut" : "whole");
    }
    for (const std::string& line : out_.left_out) add(line);
    add(out_.complete ? "complete" : "incomplete");
    return hash.Finish();
  }

  workspace::Tree& tree_;
  const InstructionLimits& limits_;
  Instructions out_;
  size_t directories_ = 0;
  size_t bytes_ = 0;
};

}  // namespace

base::StatusOr<Instructions> ReadInstructions(workspace::Tree& tree, const InstructionLimits& limits) {
  return Reader(tree, limits).Read();
}

std::vector<const InstructionFile*> InstructionsFor(const Instructions& instructions, std::string_view path) {
  std::vector<const InstructionFile*> found;
  for (const InstructionFile& file : instructions.files) {
    const std::string_view directory = workspace::Parent(file.path);
    const bool above =
        directory.empty() || (path.starts_with(directory) && path.substr(directory.size(), 1) == "/");
    if (above) found.push_back(&file);
  }
  return found;
}

}  // namespace holdfast::tools
