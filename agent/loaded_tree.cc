#include "agent/loaded_tree.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "tools/shown_path.h"
#include "workspace/ignore.h"

namespace holdfast::agent {
namespace {

using base::Status;
using base::StatusOr;
using workspace::EntryKind;
using workspace::WalkStep;

constexpr size_t kMarkMin = 4;
constexpr size_t kMarkMax = 32;
constexpr int64_t kNamesShare = 16;     // one part in so many of the tokens is for names
constexpr size_t kMalformedShare = 16;  // a file of which a larger part is no UTF-8 is binary
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// A path that is not ignored.
struct Item {
  std::string path;
  uint64_t bytes = 0;
  std::string why_not;  // it is only named; empty: it is shown
  std::string text;
  bool repaired = false;  // it was no UTF-8
};

size_t LongestRunOfMarks(std::string_view text) {
  size_t longest = 0, run = 0;
  for (const char c : text) {
    run = c == '@' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return longest;
}

std::string FirstLine(const std::string& mark) {
  return "Files as they were when this conversation began. A line that begins with \"" + mark +
         "\" is no line of a file: \"" + mark +
         " file PATH\" begins one, which goes on to the next such line.\n";
}

std::string HeadOfNames(const std::string& mark, size_t count, size_t all) {
  return mark + " not shown: " + std::to_string(count) + " of " + std::to_string(all) + " files\n";
}

std::string EndOfNames(size_t count) { return std::to_string(count) + " more, not named\n"; }

std::string LastLine(const std::string& mark) { return mark + " end\n"; }

size_t CountOf(std::string_view part, std::string_view text) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

class TreeReader {
 public:
  TreeReader(workspace::Tree& tree, const model::Tokenizer& tokenizer, const LoadLimits& limits)
      : tree_(tree), tokenizer_(tokenizer), limits_(limits), source_(tree), ignore_(source_) {}

  Status Find(std::string_view directory);
  Status ReadFiles(const std::function<bool(const LoadProgress&)>& progress);
  StatusOr<LoadedText> Compose() const;

 private:
  std::string WhyNot(const workspace::EntryStat& stat) const;
  // Reads a file; why it is only named, or empty.
  std::string Take(Item& item);
  std::string Block(const Item& item) const;
  StatusOr<std::string> NotShown(size_t count) const;
  StatusOr<std::string> ValidText(std::string_view bytes) const;
  StatusOr<int64_t> TokensOf(std::string_view text) const;

  workspace::Tree& tree_;
  const model::Tokenizer& tokenizer_;
  const LoadLimits& limits_;
  workspace::TreeIgnoreSource source_;
  workspace::IgnoreMatcher ignore_;
  std::vector<Item> items_;  // in the order of the text
  std::string mark_ = std::string(kMarkMin, '@');
  int64_t room_ = 0;  // tokens for files
  bool full_ = false;
  LoadProgress done_;  // of what is shown
};

// --- What there is

std::string TreeReader::WhyNot(const workspace::EntryStat& stat) const {
  if (stat.kind == EntryKind::kSymlink) return "link";
  if (stat.kind != EntryKind::kFile) return "no regular file";
  return stat.size_bytes > limits_.file_bytes_max ? "large" : "";
}

Status TreeReader::Find(std::string_view directory) {
  if (ignore_.Ignored(directory, true)) {
    return base::InvalidArgument(tools::ShownPath(directory) + ": ignored by the tree's .gitignore");
  }
  bool too_many = false;
  const auto visit = [&](const std::string& path, const workspace::EntryStat& stat) {
    const bool is_directory = stat.kind == EntryKind::kDirectory;
    const bool is_git = path == ".git" || path.ends_with("/.git");
    if (is_git || ignore_.Ignored(path, is_directory)) return WalkStep::kSkip;
    if (is_directory) return WalkStep::kContinue;
    too_many = items_.size() == limits_.entries_max;
    if (too_many) return WalkStep::kStop;
    items_.push_back({.path = path, .bytes = stat.size_bytes, .why_not = WhyNot(stat)});
    return WalkStep::kContinue;
  };
  HF_RETURN_IF_ERROR(tree_.Walk(directory, limits_.entries_max, visit));
  if (too_many) {
    return base::ResourceExhausted("more than " + std::to_string(limits_.entries_max) +
                                   " files; load a part of the tree");
  }
  if (items_.empty()) return base::InvalidArgument("there is no file to load");
  return {};
}

// --- What is in it

// From the smallest file up, until there is no more room; those after it are not read at all.
Status TreeReader::ReadFiles(const std::function<bool(const LoadProgress&)>& progress) {
  const std::string mark(kMarkMax, '@');
  HF_ASSIGN_OR_RETURN(const int64_t frame,
                      TokensOf(FirstLine(mark) + HeadOfNames(mark, items_.size(), items_.size()) +
                               EndOfNames(items_.size()) + LastLine(mark)));
  room_ = limits_.tokens_max - limits_.tokens_max / kNamesShare - frame;
  std::vector<Item*> files;
  for (Item& item : items_) {
    if (item.why_not.empty()) files.push_back(&item);
  }
  std::stable_sort(files.begin(), files.end(),
                   [](const Item* a, const Item* b) { return a->bytes < b->bytes; });
  for (Item* item : files) {
    item->why_not = full_ ? "no room" : Take(*item);
    if (!item->why_not.empty()) item->text.clear();
    if (progress && !progress(done_)) return absl::CancelledError("loading was ended");
  }
  return {};
}

std::string TreeReader::Take(Item& item) {
  const auto content = workspace::ReadWhole(tree_, item.path, limits_.file_bytes_max);
  if (absl::IsResourceExhausted(content.status())) return "large";
  if (!content.ok()) return "cannot be read";
  const std::string& bytes = content->bytes;
  if (bytes.find('\0') != std::string::npos) return "binary";
  auto text = ValidText(bytes);
  if (!text.ok()) return "no tokens";
  item.text = *std::move(text);
  item.repaired = item.text != bytes;
  const size_t malformed = CountOf(kReplacement, item.text) - CountOf(kReplacement, bytes);
  if (malformed > bytes.size() / kMalformedShare) return "binary";
  const size_t run = LongestRunOfMarks(item.text);
  if (run >= kMarkMax) return "marks";
  const auto tokens = TokensOf(Block(item));
  if (!tokens.ok()) return "no tokens";
  full_ = done_.tokens + *tokens > room_ || done_.bytes + item.text.size() > limits_.text_bytes_max;
  if (full_) return "no room";
  mark_.resize(std::max(mark_.size(), run + 1), '@');
  ++done_.files;
  done_.bytes += item.text.size();
  done_.tokens += *tokens;
  return "";
}

// What is no UTF-8 becomes U+FFFD.
StatusOr<std::string> TreeReader::ValidText(std::string_view bytes) const {
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer_.Encode(bytes, model::AddedTokens::kPlain));
  model::StreamDecoder decoder(tokenizer_);
  std::string text;
  for (const int32_t id : ids) {
    HF_ASSIGN_OR_RETURN(const std::string part, decoder.Feed(id));
    text += part;
  }
  return text + decoder.Finish();
}

StatusOr<int64_t> TreeReader::TokensOf(std::string_view text) const {
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer_.Encode(text, model::AddedTokens::kPlain));
  return static_cast<int64_t>(ids.size());
}

// --- The text

std::string TreeReader::Block(const Item& item) const {
  std::string block = mark_ + " file " + tools::ShownPath(item.path) + "\n" + item.text;
  if (!block.ends_with('\n')) block += "\n" + mark_ + " the file above does not end with a newline\n";
  if (item.repaired)
    block += mark_ + " the file above is not UTF-8: bytes that are none are shown as U+FFFD\n";
  return block;
}

// What is only named, as far as there is room for it.
StatusOr<std::string> TreeReader::NotShown(size_t count) const {
  std::string text = HeadOfNames(mark_, count, items_.size());
  int64_t room = limits_.tokens_max / kNamesShare;
  for (const Item& item : items_) {
    if (item.why_not.empty()) continue;
    const std::string size = item.why_not == "link" ? "" : ", " + std::to_string(item.bytes) + " bytes";
    const std::string line = item.why_not + size + ": " + tools::ShownPath(item.path) + "\n";
    HF_ASSIGN_OR_RETURN(const int64_t tokens, TokensOf(line));
    room -= tokens;
    if (room < 0) return text + EndOfNames(count);
    text += line;
    --count;
  }
  return text;
}

StatusOr<LoadedText> TreeReader::Compose() const {
  LoadedText loaded{.files = static_cast<int64_t>(done_.files),
                    .left_out = static_cast<int64_t>(items_.size() - done_.files),
                    .file_bytes = done_.bytes};
  loaded.text = FirstLine(mark_);
  for (const Item& item : items_) {
    if (item.why_not.empty()) loaded.text += Block(item);
  }
  if (loaded.left_out > 0) {
    HF_ASSIGN_OR_RETURN(const std::string names, NotShown(items_.size() - done_.files));
    loaded.text += names;
  }
  loaded.text += LastLine(mark_);
  HF_ASSIGN_OR_RETURN(loaded.tokens, TokensOf(loaded.text));
  return loaded;
}

}  // namespace

StatusOr<LoadedText> ReadTree(workspace::Tree& tree, std::string_view directory,
                              const model::Tokenizer& tokenizer, const LoadLimits& limits,
                              const std::function<bool(const LoadProgress&)>& progress) {
  if (limits.tokens_max <= 0) return base::InvalidArgument("no tokens are allowed for the tree");
  TreeReader reader(tree, tokenizer, limits);
  HF_RETURN_IF_ERROR(reader.Find(directory));
  HF_RETURN_IF_ERROR(reader.ReadFiles(progress));
  return reader.Compose();
}

}  // namespace holdfast::agent
