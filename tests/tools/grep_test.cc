// grep@2, and glob@1, which shares most of it, in a real sandbox with the real ripgrep.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"
#include "tests/tools/tool_session.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string Grep(ToolSession& session, json arguments) { return session.Call("grep@2", arguments).text; }
std::string Glob(ToolSession& session, json arguments) { return session.Call("glob@1", arguments).text; }

TEST(GrepTest, ModesShowPathsCountsOrLines) {
  ToolSession session;
  session.Write("b.txt", "one\ntwo\none two\n");
  session.Write("a/c.txt", "two\n");
  EXPECT_EQ(Grep(session, {{"pattern", "two"}}), "a/c.txt\nb.txt\n");
  EXPECT_EQ(Grep(session, {{"pattern", "two"}, {"output_mode", "count"}}), "a/c.txt:1\nb.txt:2\n");
  EXPECT_EQ(Grep(session, {{"pattern", "two"}, {"output_mode", "content"}}),
            "a/c.txt\n1:two\nb.txt\n2:two\n3:one two\n");
  EXPECT_EQ(Grep(session, {{"pattern", "TWO"}, {"-i", true}, {"output_mode", "content"}, {"-n", false}}),
            "a/c.txt\ntwo\nb.txt\ntwo\none two\n");
}

TEST(GrepTest, NothingFoundIsSaid) {
  ToolSession session;
  session.Write("a", "x\n");
  const ToolResult result = session.Call("grep@2", {{"pattern", "y"}});
  EXPECT_EQ(result.text, "no matches\n");
  EXPECT_EQ(result.status, ToolStatus::kOk);
}

TEST(GrepTest, BadCallsAreToldAsRipgrepTellsThem) {
  ToolSession session;
  session.Write("a", "x\n");
  const ToolResult result = session.Call("grep@2", {{"pattern", "f(o"}});
  EXPECT_THAT(result.text, StartsWith("not searched: regex parse error:"));
  EXPECT_THAT(result.text, HasSubstr("unclosed group"));
  EXPECT_EQ(result.status, ToolStatus::kFailed);
  EXPECT_THAT(Grep(session, {{"pattern", "x"}, {"type", "nonesuch"}}), HasSubstr("unrecognized file type"));
  EXPECT_THAT(Grep(session, {{"pattern", "x"}, {"glob", "{a"}}), HasSubstr("{ without }"));
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "no/such"}}), "no such file or directory: no/such\n");
  EXPECT_EQ(Grep(session, {{"pattern", std::string("a\0b", 3)}}), "not searched: a NUL byte: write \\x00\n");
  EXPECT_THAT(Grep(session, {{"pattern", std::string(70'000, 'a')}}), HasSubstr("longer than"));
  // What looks like an option is a pattern, a path, a type.
  EXPECT_EQ(Grep(session, {{"pattern", "--files"}}), "no matches\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "-x"}}), "no such file or directory: -x\n");
}

TEST(GrepTest, IgnoredPathsAreLeftOutAndHiddenOnesAreNot) {
  ToolSession session;
  session.Write(".gitignore", "*.log\nbuild/\n");
  session.Write(".ignore", "secret\n");
  session.Write("a.log", "x\n");
  session.Write("build/b", "x\n");
  session.Write("secret", "x\n");
  session.Write(".hidden/c", "x\n");
  session.Write("sub/.gitignore", "!keep.log\n");
  session.Write("sub/keep.log", "x\n");
  session.Write("sub/other.log", "x\n");
  session.Write(".git/config", "x\n");
  session.Write("nested/.git/config", "x\n");
  session.Write("binary", std::string("x\n\0", 3));
  EXPECT_EQ(Grep(session, {{"pattern", "x"}}), ".hidden/c\nsub/keep.log\n");
  // Also with a pattern of paths, and in a directory beneath.
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"glob", "*.log"}}), "sub/keep.log\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "sub"}}), "sub/keep.log\n");
  EXPECT_EQ(Glob(session, {{"pattern", "*.log"}}), "sub/keep.log\n");
  EXPECT_EQ(Glob(session, {{"pattern", "**/c"}}), ".hidden/c\n");
  // A file or directory that is named is searched all the same.
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "build"}}), "build/b\n");
}

TEST(GrepTest, PathsPatternsAndTypesNarrow) {
  ToolSession session;
  session.Write("src/a.cc", "x\n");
  session.Write("src/b.h", "x\n");
  session.Write("src/sub/c.cc", "x\n");
  session.Write("d.py", "x\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "src"}}), "src/a.cc\nsrc/b.h\nsrc/sub/c.cc\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "/workspace/src/"}}),
            "src/a.cc\nsrc/b.h\nsrc/sub/c.cc\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "./src/b.h"}}), "src/b.h\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"glob", "*.cc"}}), "src/a.cc\nsrc/sub/c.cc\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"glob", "src/*.{cc,h}"}}), "src/a.cc\nsrc/b.h\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "src"}, {"glob", "sub/*"}}), "src/sub/c.cc\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"glob", "!*.cc"}}), "d.py\nsrc/b.h\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"type", "py"}}), "d.py\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"type", "py"}, {"glob", "*.cc"}}), "no matches\n");
  EXPECT_EQ(Glob(session, {{"pattern", "sub/*.cc"}, {"path", "src"}}), "src/sub/c.cc\n");
  EXPECT_EQ(Glob(session, {{"pattern", "/workspace/src/*.h"}}), "src/b.h\n");
  EXPECT_EQ(Glob(session, {{"pattern", "*.rs"}}), "no files found\n");
  EXPECT_EQ(Glob(session, {{"pattern", "*"}, {"path", "nope"}}), "no such file or directory: nope\n");
}

TEST(GrepTest, MultilineMatchesSpanLines) {
  ToolSession session;
  session.Write("a", "begin\nmiddle\nend\nbegin end\n");
  EXPECT_EQ(
      Grep(session, {{"pattern", "begin.middle.end$"}, {"multiline", true}, {"output_mode", "content"}}),
      "a\n1:begin\n2:middle\n3:end\n");
  EXPECT_EQ(Grep(session, {{"pattern", "begin.middle"}, {"output_mode", "content"}}), "no matches\n");
}

TEST(GrepTest, LongLinesAreCutAndSaySo) {
  ToolSession session;
  session.Write("a", "x" + std::string(5'000'000, 'y') + "\nx short\r\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"output_mode", "content"}}),
            "a\n1:x" + std::string(499, 'y') + " [... 4999501 more bytes]\n2:x short\n");
}

TEST(GrepTest, OddNamesStayInTheirLine) {
  ToolSession session;
  session.Write("new\nline", "x\n");
  session.Write("bad\xFF", "x\n");
  session.Write("c:1:x", "x\n");
  session.Write("-e", "x\n");
  const std::string names = "-e\n\"bad\\377\"\nc:1:x\n\"new\\nline\"\n";
  EXPECT_EQ(Grep(session, {{"pattern", "x"}}), names);
  EXPECT_EQ(Glob(session, {{"pattern", "*"}}), names);
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"output_mode", "content"}}),
            "-e\n1:x\n\"bad\\377\"\n1:x\nc:1:x\n1:x\n\"new\\nline\"\n1:x\n");
}

TEST(GrepTest, WhatCannotBeReadIsSaid) {
  ToolSession session;
  session.Write("a", "x\n");
  session.Write("closed/b", "x\n");
  session.Call("bash@2", {{"command", "chmod 000 closed"}});
  EXPECT_THAT(
      Grep(session, {{"pattern", "x"}}),
      StartsWith("a\n[1 files or directories could not be read; the first: ./closed: Permission denied"));
  EXPECT_THAT(Grep(session, {{"pattern", "nothing"}}),
              StartsWith("no matches\n[1 files or directories could not"));
  EXPECT_THAT(Glob(session, {{"pattern", "*"}}), HasSubstr("could not be read"));
  session.Call("bash@2", {{"command", "chmod 755 closed"}});
}

TEST(GrepTest, ListsAreBoundedAndSayWhereToGoOn) {
  ToolSession session;
  for (int i = 100; i < 160; ++i) session.Write("f" + std::to_string(i), "x\nx\n");
  const std::string first = Grep(session, {{"pattern", "x"}, {"head_limit", 2}});
  EXPECT_EQ(first, "f100\nf101\n[58 more files; go on with offset 2]\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"head_limit", 2}, {"offset", 58}}), "f158\nf159\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"head_limit", 2}, {"offset", 60}}), "no matches\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"head_limit", 3}, {"output_mode", "content"}}),
            "f100\n1:x\n2:x\nf101\n1:x\n[more lines; go on with offset 3. 120 matching lines in 60 files in "
            "all]\n");
}

TEST(GrepTest, ManyFilesToGlobAreBounded) {
  ToolSession session;
  session.Open();
  session.Call("bash@2", {{"command", "mkdir d; cd d; for i in $(seq -w 2000); do : > $i; done"}});
  const std::string text = Glob(session, {{"pattern", "d/*"}});
  EXPECT_THAT(text, StartsWith("d/0001\nd/0002\n"));
  EXPECT_THAT(text, EndsWith("d/0500\n[1500 more files: narrow the pattern or the path]\n"));
}

TEST(GrepTest, WithoutRipgrepItSaysWhatToInstall) {
  ToolSession session({.path_variable = "/nowhere"});
  const ToolResult result = session.Call("grep@2", {{"pattern", "x"}});
  EXPECT_EQ(result.status, ToolStatus::kUnavailable);
  EXPECT_THAT(result.text, HasSubstr("Debian package: ripgrep"));
  EXPECT_THAT(Glob(session, {{"pattern", "x"}}), HasSubstr("Debian package: ripgrep"));
  EXPECT_EQ(session.Call("grep@1", {{"pattern", "x"}}).status, ToolStatus::kUnavailable);
}

TEST(GrepTest, OutOfTimeIsToldAndWhatWasFoundIsShown) {
  // ripgrep waits for its input here: a FIFO that is named is opened.
  ToolSession session({.limits = {.wall_ms = 1500, .kill_grace_ms = 50}});
  session.Open();
  session.Call("bash@2", {{"command", "mkfifo pipe"}});
  const ToolResult result = session.Call("grep@2", {{"pattern", "x"}, {"path", "pipe"}});
  EXPECT_EQ(result.status, ToolStatus::kTimeout);
  EXPECT_THAT(result.text, HasSubstr("was ended: this is only part of it]\n"));
}

TEST(GrepTest, OutsideOfTheWorkspaceWhatCommandsSeeIsSearched) {
  ToolSession session;
  EXPECT_EQ(Grep(session, {{"pattern", "^root:"}, {"path", "/etc/passwd"}}).find("/etc/shadow"),
            std::string::npos);
  EXPECT_THAT(Grep(session, {{"pattern", "stdio"}, {"path", "/usr/include/stdio.h"}}),
              testing::AnyOf("/usr/include/stdio.h\n", HasSubstr("No such file")));
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"path", "/root"}}).find(":x"), std::string::npos);
}

// Content with context, limit and offset, against a model that reads the files itself.
class ContentModel {
 public:
  explicit ContentModel(std::map<std::string, std::vector<std::string>> files) : files_(std::move(files)) {}

  std::string Text(size_t before, size_t after, size_t limit, size_t offset) const {
    std::string text;
    size_t hit = 0, hits = 0, with_hits = 0;
    for (const auto& [path, lines] : files_) {
      std::set<size_t> shown;
      bool any = false;
      for (size_t i = 0; i < lines.size(); ++i) {
        if (lines[i].find('x') == std::string::npos) continue;
        ++hits;
        any = true;
        const size_t number = hit++;
        if (number < offset || number >= offset + limit) continue;
        for (size_t j = i - std::min(i, before); j <= std::min(lines.size() - 1, i + after); ++j)
          shown.insert(j);
      }
      with_hits += any;
      size_t last = lines.size();
      for (const size_t i : shown) {
        if (last == lines.size()) text += path + "\n";
        if (last != lines.size() && i != last + 1 && before + after > 0) text += "--\n";
        last = i;
        const bool is_hit = lines[i].find('x') != std::string::npos;
        text += std::to_string(i + 1) + (is_hit ? ":" : "-") + lines[i] + "\n";
      }
    }
    if (offset + limit < hits && offset < hits) {
      text += "[more lines; go on with offset " + std::to_string(offset + limit) + ". " +
              std::to_string(hits) + " matching lines in " + std::to_string(with_hits) + " files in all]\n";
    }
    return text.empty() ? "no matches\n" : text;
  }

 private:
  std::map<std::string, std::vector<std::string>> files_;
};

TEST(GrepTest, ContentAgreesWithAModel) {
  for (const uint64_t seed : test::TestSeeds(4)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::map<std::string, std::vector<std::string>> files;
    ToolSession session;
    for (uint64_t n = 1 + random.Below(6); n > 0; --n) {
      const std::string path = random.Percent(50) ? "d/f" + std::to_string(n) : "f" + std::to_string(n);
      std::string bytes;
      for (uint64_t m = 1 + random.Below(25); m > 0; --m) {
        files[path].push_back(random.Percent(25) ? "x" + std::to_string(m) : "line");
        bytes += files[path].back() + "\n";
      }
      session.Write(path, bytes);
    }
    const ContentModel model(files);
    for (int round = 0; round < 12; ++round) {
      // Without a limit that falls between hits that share their context: there a context line shows or not
      // by which of the two it is counted to.
      const uint64_t around = random.Below(4), limit = 1 + random.Below(12), offset = random.Below(6);
      const bool context = random.Percent(50);
      json arguments = {{"pattern", "x"}, {"output_mode", "content"}};
      if (context) {
        arguments["-C"] = around;
        EXPECT_EQ(Grep(session, arguments), model.Text(around, around, 250, 0));
      } else {
        arguments["head_limit"] = limit;
        arguments["offset"] = offset;
        EXPECT_EQ(Grep(session, arguments), model.Text(0, 0, limit, offset));
      }
    }
  }
}

TEST(GrepTest, ContextAroundALimitIsShownOnce) {
  ToolSession session;
  session.Write("a", "1\n2x\n3\n4\n5x\n6\n7\n8\n9x\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"output_mode", "content"}, {"-C", 1}, {"head_limit", 2}}),
            "a\n1-1\n2:2x\n3-3\n4-4\n5:5x\n6-6\n"
            "[more lines; go on with offset 2. 3 matching lines in 1 files in all]\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"output_mode", "content"}, {"-B", 1}, {"offset", 2}}),
            "a\n8-8\n9:9x\n");
  EXPECT_EQ(Grep(session, {{"pattern", "x"}, {"output_mode", "content"}, {"-A", 1}, {"head_limit", 1}}),
            "a\n2:2x\n3-3\n[more lines; go on with offset 1. 3 matching lines in 1 files in all]\n");
}

}  // namespace
}  // namespace holdfast::tools
