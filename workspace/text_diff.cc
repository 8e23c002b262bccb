#include "workspace/text_diff.h"

#include <algorithm>
#include <limits>
#include <span>
#include <unordered_map>

namespace holdfast::workspace {
namespace {

constexpr size_t kBinaryProbeBytes = 8000;
constexpr std::string_view kNoNewline = "\n\\ No newline at end of file\n";

using LineId = uint32_t;  // equal lines have equal ids

std::vector<LineId> Number(const std::vector<std::string_view>& lines,
                           std::unordered_map<std::string_view, LineId>& ids) {
  std::vector<LineId> numbers;
  numbers.reserve(lines.size());
  for (const std::string_view line : lines) {
    numbers.push_back(ids.try_emplace(line, static_cast<LineId>(ids.size())).first->second);
  }
  return numbers;
}

// Part of both sequences that is still to be compared.
struct Box {
  int64_t old_begin, old_end, new_begin, new_end;

  int64_t width() const { return old_end - old_begin; }
  int64_t height() const { return new_end - new_begin; }
};

// A point on a shortest path through a box, and whether the bound let us find one.
struct Middle {
  int64_t x = 0, y = 0;
  bool found = false;
};

class Searcher {
 public:
  Searcher(std::span<const LineId> before, std::span<const LineId> after, uint64_t steps_max)
      : old_(before),
        new_(after),
        steps_left_(steps_max),
        old_gone_(before.size()),
        new_added_(after.size()) {
    const size_t diagonals = before.size() + after.size() + 3;
    forward_ = {.x_of = std::vector<int64_t>(diagonals), .wall = -2};
    backward_ = {.x_of = std::vector<int64_t>(diagonals), .wall = std::numeric_limits<int64_t>::max()};
  }

  void Run() {
    std::vector<Box> boxes = {{0, static_cast<int64_t>(old_.size()), 0, static_cast<int64_t>(new_.size())}};
    while (!boxes.empty()) {
      const Box box = Trim(boxes.back());
      boxes.pop_back();
      if (box.width() == 0 || box.height() == 0) {
        Replace(box);
        continue;
      }
      const Middle middle = FindMiddle(box);
      if (!middle.found) {
        Replace(box);
        continue;
      }
      boxes.push_back({middle.x, box.old_end, middle.y, box.new_end});
      boxes.push_back({box.old_begin, middle.x, box.new_begin, middle.y});
    }
  }

  std::vector<LineChange> Changes() const {
    std::vector<LineChange> changes;
    uint32_t x = 0, y = 0;
    while (x < old_gone_.size() || y < new_added_.size()) {
      const LineChange start = {x, x, y, y};
      while (x < old_gone_.size() && old_gone_[x]) ++x;
      while (y < new_added_.size() && new_added_[y]) ++y;
      if (x > start.old_begin || y > start.new_begin) {
        changes.push_back({start.old_begin, x, start.new_begin, y});
        continue;
      }
      ++x;
      ++y;
    }
    return changes;
  }

 private:
  // Without the equal lines at both ends.
  Box Trim(Box box) {
    while (box.width() > 0 && box.height() > 0 && Equal(box.old_begin, box.new_begin)) {
      ++box.old_begin;
      ++box.new_begin;
    }
    while (box.width() > 0 && box.height() > 0 && Equal(box.old_end - 1, box.new_end - 1)) {
      --box.old_end;
      --box.new_end;
    }
    return box;
  }

  bool Equal(int64_t x, int64_t y) const {
    return old_[static_cast<size_t>(x)] == new_[static_cast<size_t>(y)];
  }

  void Replace(const Box& box) {
    std::fill(old_gone_.begin() + box.old_begin, old_gone_.begin() + box.old_end, true);
    std::fill(new_added_.begin() + box.new_begin, new_added_.begin() + box.new_end, true);
  }

  // The furthest point of each diagonal (points with x - y = k) that a front has reached, for diagonals
  // low..high of the same parity; those next to them are walls.
  struct Front {
    std::vector<int64_t> x_of;
    int64_t low = 0, high = 0;
    int64_t wall = 0;
  };

  int64_t& At(Front& front, int64_t k) const {
    return front.x_of[static_cast<size_t>(k + static_cast<int64_t>(new_.size()) + 1)];
  }

  // One change more: a diagonal further on both sides, unless that is where the box ends.
  void Widen(Front& front, const Box& box) const {
    if (front.low > box.old_begin - box.new_end) {
      At(front, --front.low - 1) = front.wall;
    } else {
      ++front.low;
    }
    if (front.high < box.old_end - box.new_begin) {
      At(front, ++front.high + 1) = front.wall;
    } else {
      --front.high;
    }
  }

  // Walks from both corners at once, one more change at a time, until the two fronts meet. When the corners'
  // diagonals differ by an odd number they meet while going forward, else while going back (Myers, lemma 3).
  Middle FindMiddle(const Box& box) {
    const int64_t from = box.old_begin - box.new_begin, to = box.old_end - box.new_end;
    const bool odd = (from - to) % 2 != 0;
    forward_.low = forward_.high = from;
    backward_.low = backward_.high = to;
    At(forward_, from) = box.old_begin;
    At(backward_, to) = box.old_end;
    for (;;) {
      Widen(forward_, box);
      for (int64_t k = forward_.high; k >= forward_.low; k -= 2) {
        const int64_t x = GoForward(box, k);
        if (odd && k >= backward_.low && k <= backward_.high && x >= At(backward_, k))
          return {x, x - k, true};
      }
      Widen(backward_, box);
      for (int64_t k = backward_.high; k >= backward_.low; k -= 2) {
        const int64_t x = GoBackward(box, k);
        if (!odd && k >= forward_.low && k <= forward_.high && x <= At(forward_, k)) return {x, x - k, true};
      }
      if (!Pay(static_cast<uint64_t>(forward_.high - forward_.low + 2))) return {};
    }
  }

  int64_t GoForward(const Box& box, int64_t k) {
    const int64_t start = std::max(At(forward_, k - 1) + 1, At(forward_, k + 1));
    int64_t x = start;
    while (x < box.old_end && x - k < box.new_end && Equal(x, x - k)) ++x;
    Pay(static_cast<uint64_t>(x - start));
    return At(forward_, k) = x;
  }

  int64_t GoBackward(const Box& box, int64_t k) {
    const int64_t start = std::min(At(backward_, k - 1), At(backward_, k + 1) - 1);
    int64_t x = start;
    while (x > box.old_begin && x - k > box.new_begin && Equal(x - 1, x - k - 1)) --x;
    Pay(static_cast<uint64_t>(start - x));
    return At(backward_, k) = x;
  }

  bool Pay(uint64_t steps) {
    if (steps > steps_left_) {
      steps_left_ = 0;
      return false;
    }
    steps_left_ -= steps;
    return true;
  }

  const std::span<const LineId> old_, new_;
  uint64_t steps_left_;
  std::vector<bool> old_gone_, new_added_;
  Front forward_, backward_;
};

void AddLine(std::string& text, char sign, std::string_view line) {
  text += sign;
  if (line.ends_with('\n')) {
    text += line;
  } else {
    text += line;
    text += kNoNewline;
  }
}

// "12,3": the first line, counted from 1, and how many; the line before an empty range.
std::string RangeText(uint32_t begin, uint32_t end) {
  const uint32_t count = end - begin;
  std::string text = std::to_string(count == 0 ? begin : begin + 1);
  if (count != 1) text += "," + std::to_string(count);
  return text;
}

}  // namespace

std::vector<std::string_view> SplitLines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t newline = text.find('\n', at);
    const size_t end = newline == text.npos ? text.size() : newline + 1;
    lines.push_back(text.substr(at, end - at));
    at = end;
  }
  return lines;
}

std::vector<LineChange> DiffLines(const std::vector<std::string_view>& before,
                                  const std::vector<std::string_view>& after,
                                  const TextDiffOptions& options) {
  std::unordered_map<std::string_view, LineId> ids;
  const std::vector<LineId> old_ids = Number(before, ids);
  const std::vector<LineId> new_ids = Number(after, ids);
  Searcher searcher(old_ids, new_ids, options.steps_max);
  searcher.Run();
  return searcher.Changes();
}

LineCounts Count(const std::vector<LineChange>& changes) {
  LineCounts counts;
  for (const LineChange& change : changes) {
    counts.removed += change.old_end - change.old_begin;
    counts.added += change.new_end - change.new_begin;
  }
  return counts;
}

bool IsBinary(std::string_view content) {
  return content.substr(0, kBinaryProbeBytes).find('\0') != std::string_view::npos;
}

std::string UnifiedHunks(const std::vector<std::string_view>& before,
                         const std::vector<std::string_view>& after, const std::vector<LineChange>& changes,
                         size_t context) {
  const auto near = static_cast<uint32_t>(std::min<size_t>(context, 1000));
  const auto old_size = static_cast<uint32_t>(before.size());
  std::string text;
  for (size_t first = 0; first < changes.size();) {
    // Changes whose context touches share a hunk.
    size_t last = first;
    while (last + 1 < changes.size() && changes[last + 1].old_begin - changes[last].old_end <= 2 * near)
      ++last;
    const uint32_t lead = std::min(near, changes[first].old_begin);
    const uint32_t trail = std::min(near, old_size - changes[last].old_end);
    text += "@@ -" + RangeText(changes[first].old_begin - lead, changes[last].old_end + trail) + " +" +
            RangeText(changes[first].new_begin - lead, changes[last].new_end + trail) + " @@\n";
    uint32_t x = changes[first].old_begin - lead;
    for (size_t i = first; i <= last; ++i) {
      for (; x < changes[i].old_begin; ++x) AddLine(text, ' ', before[x]);
      for (; x < changes[i].old_end; ++x) AddLine(text, '-', before[x]);
      for (uint32_t y = changes[i].new_begin; y < changes[i].new_end; ++y) AddLine(text, '+', after[y]);
    }
    for (const uint32_t end = x + trail; x < end; ++x) AddLine(text, ' ', before[x]);
    first = last + 1;
  }
  return text;
}

}  // namespace holdfast::workspace
