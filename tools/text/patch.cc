#include "tools/text/patch.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "tools/text/file_text.h"

namespace holdfast::tools {
namespace {

constexpr size_t kPlacesMax = 5;
constexpr size_t kChangesMax = 4096;

bool IsBlankLine(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

std::string_view TrimmedEnd(std::string_view text) {
  return text.substr(0, text.find_last_not_of(" \t\r") + 1);
}
std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  return begin == std::string_view::npos ? std::string_view() : TrimmedEnd(text.substr(begin));
}

// What stands behind `mark` in a line that begins with it.
std::optional<std::string_view> Behind(std::string_view line, std::string_view mark) {
  line = TrimmedEnd(line);
  if (!line.starts_with(mark)) return std::nullopt;
  return Trimmed(line.substr(mark.size()));
}

class PatchParser {
 public:
  PatchParser(std::string_view text, size_t files_max) : files_max_(files_max) {
    for (const Line& line : SplitLines(text)) lines_.push_back(line.text);
    end_ = lines_.size();
  }

  PatchParse Parse() {
    Unwrap();
    while (!failed() && at_ < end_) {
      if (IsBlankLine(lines_[at_])) {
        ++at_;
      } else {
        File();
      }
    }
    if (!failed() && out_.files.empty()) Fail("no file in it");
    if (failed()) out_.files.clear();
    return std::move(out_);
  }

 private:
  bool failed() const { return !out_.problems.empty(); }
  void Fail(std::string reason) {
    if (!failed()) out_.problems.push_back({.line = at_ + 1, .reason = std::move(reason)});
  }
  bool Marks(std::string_view mark) const { return at_ < end_ && lines_[at_].starts_with(mark); }

  // The envelope, and what some put around it.
  void Unwrap() {
    while (end_ > at_ && IsBlankLine(lines_[end_ - 1])) --end_;
    while (at_ < end_ && IsBlankLine(lines_[at_])) ++at_;
    if (at_ < end_ && lines_[at_].find("<<") != std::string_view::npos && end_ - at_ > 2 &&
        Trimmed(lines_[end_ - 1]).find(' ') == std::string_view::npos &&
        !lines_[end_ - 1].starts_with("***")) {
      ++at_;
      --end_;
    }
    if (at_ >= end_ || Trimmed(lines_[at_]) != "*** Begin Patch")
      return Fail("it must begin with *** Begin Patch");
    ++at_;
    if (Trimmed(lines_[end_ - 1]) != "*** End Patch" || end_ == at_) {
      at_ = end_ - 1;
      return Fail("it must end with *** End Patch");
    }
    --end_;
  }

  void File() {
    PatchFile file{.kind = PatchFile::Kind::kUpdate, .line = at_ + 1};
    const std::string_view line = lines_[at_];
    if (const auto added = Behind(line, "*** Add File:")) {
      file.kind = PatchFile::Kind::kAdd;
      file.path = *added;
    } else if (const auto deleted = Behind(line, "*** Delete File:")) {
      file.kind = PatchFile::Kind::kDelete;
      file.path = *deleted;
    } else if (const auto updated = Behind(line, "*** Update File:")) {
      file.path = *updated;
    } else {
      return Fail("expected *** Add File:, *** Delete File: or *** Update File:");
    }
    if (file.path.empty()) return Fail("no path");
    if (out_.files.size() >= files_max_) return Fail("more than " + std::to_string(files_max_) + " files");
    ++at_;
    if (file.kind == PatchFile::Kind::kAdd) Content(file);
    if (file.kind == PatchFile::Kind::kUpdate) Changes(file);
    out_.files.push_back(std::move(file));
  }

  bool AtSection() const {
    return Marks("*** Add File:") || Marks("*** Delete File:") || Marks("*** Update File:");
  }

  void Content(PatchFile& file) {
    for (; at_ < end_ && !AtSection(); ++at_) {
      if (lines_[at_].starts_with('+')) {
        file.content.append(lines_[at_].substr(1)) += '\n';
      } else if (!IsBlankLine(lines_[at_])) {
        return Fail("a line of a new file begins with +");
      } else {
        // Blank lines between sections; a blank line of the file itself is a lone +.
        size_t next = at_;
        while (next < end_ && IsBlankLine(lines_[next])) ++next;
        if (next < end_ && lines_[next].starts_with('+')) return Fail("a line of a new file begins with +");
      }
    }
  }

  void Changes(PatchFile& file) {
    if (at_ < end_) {
      if (const auto to = Behind(lines_[at_], "*** Move to:")) {
        if (to->empty()) return Fail("no path");
        file.move_to = *to;
        ++at_;
      }
    }
    while (!failed() && at_ < end_ && !AtSection()) {
      if (IsBlankLine(lines_[at_]) && BlankToSection()) {
        ++at_;
      } else {
        Change(file);
      }
    }
    if (!failed() && file.changes.empty() && file.move_to.empty()) Fail("no change of " + file.path);
  }

  // Only blank lines up to the next section, the next change or the end.
  bool BlankToSection() const {
    size_t next = at_;
    while (next < end_ && IsBlankLine(lines_[next])) ++next;
    return next == end_ || lines_[next].starts_with("*** ") || lines_[next].starts_with("@@");
  }

  void Change(PatchFile& file) {
    if (++changes_ > kChangesMax) return Fail("too many changes");
    PatchChange change{.line = at_ + 1};
    const bool headed = Marks("@@");
    for (; Marks("@@"); ++at_) Header(change);
    // Without `@@` only right behind the section's line.
    if (!headed && !file.changes.empty()) return Fail("a change begins with @@");
    for (; at_ < end_ && !Marks("@@") && !AtSection(); ++at_) {
      const std::string_view line = lines_[at_];
      if (Trimmed(line) == "*** End of File") {
        change.at_end = true;
        ++at_;
        break;
      }
      if (line.empty()) {
        if (BlankToSection()) break;
        change.lines.push_back({.kind = PatchLine::Kind::kContext});
      } else if (line[0] == ' ' || line[0] == '-' || line[0] == '+') {
        const auto kind = line[0] == ' '   ? PatchLine::Kind::kContext
                          : line[0] == '-' ? PatchLine::Kind::kOld
                                           : PatchLine::Kind::kNew;
        change.lines.push_back({.kind = kind, .text = std::string(line.substr(1))});
      } else {
        return Fail("a line of a change begins with a blank, - or +");
      }
    }
    if (change.lines.empty()) return Fail("a change without lines");
    file.changes.push_back(std::move(change));
  }

  // `@@ text`, `@@ text @@`; numbers of a unified diff say nothing that can be relied on.
  void Header(PatchChange& change) {
    std::string_view text = lines_[at_].substr(2);
    if (text.starts_with(" -") && text.find(" @@") != std::string_view::npos) return;
    if (TrimmedEnd(text).ends_with("@@")) text = TrimmedEnd(text).substr(0, TrimmedEnd(text).size() - 2);
    if (text.starts_with(' ')) text.remove_prefix(1);
    if (!IsBlankLine(text)) change.headers.emplace_back(text);
  }

  const size_t files_max_;
  std::vector<std::string_view> lines_;
  size_t at_ = 0;
  size_t end_ = 0;
  size_t changes_ = 0;
  PatchParse out_;
};

// --- Applying

enum class Likeness { kExact, kWithoutEnds, kWithoutBlanks };

bool Same(std::string_view a, std::string_view b, Likeness likeness) {
  switch (likeness) {
    case Likeness::kExact:
      return a == b;
    case Likeness::kWithoutEnds:
      return TrimmedEnd(a) == TrimmedEnd(b);
    case Likeness::kWithoutBlanks:
      return Trimmed(a) == Trimmed(b);
  }
  return false;
}

class Patcher {
 public:
  explicit Patcher(std::string_view bytes)
      : mark_(bytes.starts_with(kByteOrderMark) ? kByteOrderMark : std::string_view()),
        lines_(SplitLines(bytes.substr(mark_.size()))),
        ends_(lines_.empty() || lines_.back().end != LineEnd::kNone) {}

  // False with misfit set.
  bool Apply(const PatchChange& change) {
    misfit.line = change.line;
    size_t from = done_;
    for (const std::string& header : change.headers) {
      const auto at = First({header}, from);
      if (!at) return Misfit({header});
      from = *at + 1;
    }
    std::vector<std::string> old_lines;
    for (const PatchLine& line : change.lines) {
      if (line.kind != PatchLine::Kind::kNew) old_lines.push_back(line.text);
    }
    size_t at = change.headers.empty() || change.at_end ? lines_.size() : from;
    if (!old_lines.empty()) {
      const auto place = Place(change, old_lines, from);
      if (!place) return false;
      at = *place;
    }
    Put(change, at);
    return true;
  }

  std::string Finish() {
    KeepUpTo(lines_.size());
    std::string text(mark_);
    for (size_t i = 0; i < out_.size(); ++i) {
      text.append(out_[i].text);
      const bool last = i + 1 == out_.size();
      // An empty line without an end would be none.
      const bool open = last && !ends_ && !out_[i].text.empty();
      const LineEnd end = open ? LineEnd::kNone : out_[i].end == LineEnd::kNone ? Usual() : out_[i].end;
      text.append(LineEndText(end));
    }
    return text;
  }

  PatchMisfit misfit;

 private:
  bool Misfit(std::vector<std::string> wanted) {
    misfit.wanted = std::move(wanted);
    return false;
  }

  bool Fits(const std::vector<std::string>& wanted, size_t at, Likeness likeness) const {
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (!Same(lines_[at + i].text, wanted[i], likeness)) return false;
    }
    return true;
  }

  // Places at or behind `from`, of the first likeness that has any.
  std::vector<size_t> Places(const std::vector<std::string>& wanted, size_t from, size_t places_max) const {
    std::vector<size_t> places;
    for (const Likeness likeness : {Likeness::kExact, Likeness::kWithoutEnds, Likeness::kWithoutBlanks}) {
      for (size_t at = from; at + wanted.size() <= lines_.size() && places.size() < places_max; ++at) {
        if (Fits(wanted, at, likeness)) places.push_back(at);
      }
      if (!places.empty()) break;
    }
    return places;
  }

  std::optional<size_t> First(const std::vector<std::string>& wanted, size_t from) const {
    const auto places = Places(wanted, from, 1);
    return places.empty() ? std::nullopt : std::optional(places[0]);
  }

  std::optional<size_t> Place(const PatchChange& change, const std::vector<std::string>& wanted,
                              size_t from) {
    if (change.at_end) {
      if (from + wanted.size() <= lines_.size()) {
        const auto at = First(wanted, lines_.size() - wanted.size());
        if (at) return at;
      }
      Misfit(wanted);
      return std::nullopt;
    }
    const auto places = Places(wanted, from, change.headers.empty() ? kPlacesMax : 1);
    if (places.size() == 1) return places[0];
    if (places.empty()) Misfit(wanted);
    for (const size_t place : places) misfit.places.push_back(place + 1);
    return std::nullopt;
  }

  void KeepUpTo(size_t at) {
    for (; done_ < at; ++done_) out_.push_back(lines_[done_]);
  }

  // The line end of most use here: that of the line before, or of the first line.
  LineEnd Usual() const {
    if (!lines_.empty() && lines_[0].end != LineEnd::kNone) return lines_[0].end;
    return LineEnd::kLf;
  }

  void Put(const PatchChange& change, size_t at) {
    KeepUpTo(at);
    for (const PatchLine& line : change.lines) {
      if (line.kind == PatchLine::Kind::kContext) {
        KeepUpTo(done_ + 1);
      } else if (line.kind == PatchLine::Kind::kOld) {
        ++done_;
      } else {
        LineEnd end = out_.empty() ? Usual() : out_.back().end;
        if (end == LineEnd::kNone) end = Usual();
        out_.push_back({.text = line.text, .end = end});
      }
    }
  }

  const std::string_view mark_;
  const std::vector<Line> lines_;
  const bool ends_;        // with a line end
  std::vector<Line> out_;  // views of the file and of the changes
  size_t done_ = 0;        // lines of the file that are in out_, or dropped
};

}  // namespace

PatchParse ParsePatch(std::string_view text, size_t files_max) {
  return PatchParser(text, files_max).Parse();
}

PatchedText ApplyChanges(std::string_view bytes, const std::vector<PatchChange>& changes) {
  Patcher patcher(bytes);
  for (const PatchChange& change : changes) {
    if (!patcher.Apply(change)) return {.misfit = std::move(patcher.misfit)};
  }
  return {.text = patcher.Finish(), .fits = true};
}

}  // namespace holdfast::tools
