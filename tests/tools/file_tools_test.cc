#include "tools/file_tools.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_tree.h"
#include "tools/file_versions.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class FileToolsTest : public ::testing::Test {
 protected:
  FileToolsTest() {
    EXPECT_TRUE(AddFileTools(registry_).ok());
    context_.executor = &executor_;
    context_.clock = &clock_;
    context_.files = &tree_;
    context_.versions = &versions_;
    context_.inside = "/repo";
  }

  void Put(const std::string& path, std::string_view bytes, uint32_t mode = 0644) {
    ASSERT_TRUE(workspace::MakeParents(tree_, path).ok());
    ASSERT_TRUE(workspace::ReplaceFile(tree_, path, std::as_bytes(std::span(bytes)), mode).ok());
  }
  std::string Get(const std::string& path) {
    const auto content = workspace::ReadWhole(*context_.files, path, 1 << 20);
    return content.ok() ? content->bytes : "(" + std::string(content.status().message()) + ")";
  }

  // As the dispatcher does it: checked, run, its versions kept.
  ToolResult Call(const std::string& id, const json& arguments) {
    const RegisteredTool* tool = registry_.Find(id);
    EXPECT_THAT(tool->schema.Check(arguments), ::testing::IsEmpty());
    std::optional<ToolResult> result;
    const auto call =
        tool->tool->Start(context_, arguments, [&](ToolResult got) { result = std::move(got); });
    executor_.RunUntilIdle();
    EXPECT_TRUE(result);
    context_.versions->Apply(result->observed);
    return *result;
  }
  std::string Read(const std::string& path) { return Call("read@2", {{"path", path}}).text; }
  ToolResult Write(const std::string& path, const std::string& content) {
    return Call("write@1", {{"path", path}, {"content", content}});
  }
  ToolResult Edit(const std::string& path, const std::string& from, const std::string& to, bool all = false) {
    return Call("edit@2", {{"path", path}, {"old_string", from}, {"new_string", to}, {"replace_all", all}});
  }
  ToolResult Patch(const std::string& body) {
    return Call("apply_patch@1", {{"patch", "*** Begin Patch\n" + body + "*** End Patch\n"}});
  }

  test::SimClock clock_;
  test::SimExecutor executor_{clock_, {}};
  test::SimTree tree_{clock_};
  FileVersions versions_;
  ToolContext context_;
  Registry registry_;
};

// ---- read@2

TEST_F(FileToolsTest, ReadShowsNumberedLines) {
  Put("src/a.cc", "\xEF\xBB\xBFone\r\n\ttwo  \n\nfour");
  EXPECT_EQ(Read("src/a.cc"), "1\tone\n2\t\ttwo  \n3\t\n4\tfour\n");
  EXPECT_EQ(Read("./src//x/../a.cc"), Read("src/a.cc"));
  EXPECT_EQ(Read("/repo/src/a.cc"), Read("src/a.cc"));
  EXPECT_EQ(Call("read@2", {{"path", "src/a.cc"}, {"offset", 2}, {"limit", 1}}).text,
            "2\t\ttwo  \n[lines 2 to 2 of 4; go on with offset 3]\n");
  EXPECT_EQ(Call("read@2", {{"path", "src/a.cc"}, {"offset", 9}}).text,
            "[src/a.cc has 4 lines; offset 9 is beyond its end]\n");
  Put("empty", "");
  EXPECT_EQ(Read("empty"), "[empty is empty]\n");
  EXPECT_TRUE(versions_.Find("src/a.cc")->hash);
}

TEST_F(FileToolsTest, ReadCutsLongLinesAndLongResults) {
  Put("long", std::string(1999, 'a') + "ä" + "bc\nshort\n");
  EXPECT_EQ(Read("long"), "1\t" + std::string(1999, 'a') + " [... 4 bytes cut]\n2\tshort\n");
  std::string many;
  for (int i = 0; i < 3000; ++i) many += "line\n";
  Put("many", many);
  EXPECT_THAT(Read("many"), HasSubstr("2000\tline\n[lines 1 to 2000 of 3000; go on with offset 2001]\n"));
  std::string wide;
  for (int i = 0; i < 100; ++i) wide += std::string(1500, 'x') + "\n";
  Put("wide", wide);
  const std::string text = Read("wide");
  EXPECT_LT(text.size(), 33'000u);
  EXPECT_THAT(text, HasSubstr("[lines 1 to 21 of 100; go on with offset 22]\n"));
}

TEST_F(FileToolsTest, ReadSaysWhyNotAndWhatToDo) {
  Put("src/main.cc", "x");
  Put("binary", std::string_view("a\0b", 3));
  Put("latin", "caf\xE9\n");
  ASSERT_TRUE(tree_.MakeOther("fifo").ok());
  EXPECT_EQ(Read("src/mian.cc"), "no such file: src/mian.cc\ndid you mean: src/main.cc\n");
  EXPECT_EQ(Read("nowhere/x"), "no such file: nowhere/x\n");
  EXPECT_EQ(Read("src"), "src is a directory: list it with glob or bash\n");
  EXPECT_EQ(Read("."), ". is a directory: list it with glob or bash\n");
  EXPECT_EQ(Read("fifo"), "fifo is not a regular file\n");
  EXPECT_EQ(Read("binary"),
            "binary is not UTF-8 text: a NUL byte at byte 1; use bash, for example file or xxd\n");
  EXPECT_EQ(Read("latin"),
            "latin is not UTF-8 text: malformed in line 1; use bash, for example file or xxd\n");
  EXPECT_EQ(Read("../x"), "../x: leads out of the workspace\n");
  EXPECT_EQ(Read("a/../../x"), "a/../../x: leads out of the workspace\n");
  EXPECT_EQ(Read("/etc/passwd"), "/etc/passwd: outside of the workspace, which is /repo\n");
  EXPECT_EQ(Read("/repository/x"), "/repository/x: outside of the workspace, which is /repo\n");
  EXPECT_EQ(Read(""), ": the path is empty\n");
  EXPECT_EQ(Call("read@2", {{"path", "latin"}}).status, ToolStatus::kFailed);
}

// ---- write@1

TEST_F(FileToolsTest, WriteMakesFilesAndTheirDirectories) {
  const ToolResult made = Write("a/b/c.txt", "one\ntwo");
  EXPECT_EQ(made.text, "a/b/c.txt created, 2 lines\n");
  EXPECT_EQ(Get("a/b/c.txt"), "one\ntwo");
  EXPECT_EQ(tree_.Stat("a/b/c.txt")->mode, 0644u);
  EXPECT_EQ(Write("a/b/c.txt", "three\n").text, "a/b/c.txt written, 1 lines\n");  // its own work is known
  EXPECT_EQ(Write("a/b/c.txt", "three\n").text, "a/b/c.txt holds this content already\n");
}

TEST_F(FileToolsTest, WriteRefusesWhatWasNotReadOrHasChanged) {
  Put("f", "old", 0755);
  EXPECT_EQ(Write("f", "new").text, "f exists and was not read: read it first\n");
  Read("f");
  EXPECT_EQ(Write("f", "new").status, ToolStatus::kOk);
  EXPECT_EQ(tree_.Stat("f")->mode, 0755u);
  Put("f", "by somebody else");
  EXPECT_EQ(Write("f", "newer").text, "f has changed since it was read: read it again\n");
  EXPECT_EQ(Get("f"), "by somebody else");
  Read("gone");
  Put("gone", "here now");
  EXPECT_EQ(Write("gone", "x").text, "gone has changed since it was read: read it again\n");
  ASSERT_TRUE(tree_.MakeDirectory("dir", 0755).ok());
  EXPECT_EQ(Write("dir", "x").text, "dir is a directory\n");
  EXPECT_EQ(Write("f/x", "x").status, ToolStatus::kFailed);
  EXPECT_EQ(Write("../f", "x").text, "../f: leads out of the workspace\n");
  EXPECT_EQ(Write("big", std::string((4 << 20) + 1, 'x')).text, "content is larger than 4194304 bytes\n");
}

TEST_F(FileToolsTest, AWriteThatFailsLeavesTheOldFile) {
  Put("f", "old");
  Read("f");
  tree_.FailNext("f", ENOSPC);
  const ToolResult result = Write("f", "new");
  EXPECT_EQ(result.status, ToolStatus::kFailed);
  EXPECT_THAT(result.text, StartsWith("f: "));
  EXPECT_EQ(Get("f"), "old");
  EXPECT_EQ(Write("f", "new").status, ToolStatus::kOk);
}

// ---- edit@2

TEST_F(FileToolsTest, EditReplacesAndKeepsWhatItDoesNotTouch) {
  Put("f", "\xEF\xBB\xBFone\r\ntwo\r\nthree", 0755);
  EXPECT_EQ(Edit("f", "two\nthr", "2\n3 thr").text, "f: replaced at line 2\n");
  EXPECT_EQ(Get("f"), "\xEF\xBB\xBFone\r\n2\r\n3 three");
  EXPECT_EQ(tree_.Stat("f")->mode, 0755u);
  EXPECT_EQ(Edit("f", "e", "E", true).text, "f: 3 replaced, at lines 1, 3, 3\n");
  EXPECT_EQ(Get("f"), "\xEF\xBB\xBFonE\r\n2\r\n3 thrEE");
}

TEST_F(FileToolsTest, EditSaysWhyNot) {
  Put("f", "int a;\n\tint b = 1;\nint a;\n");
  EXPECT_EQ(Edit("f", "int a;", "x").text,
            "f: old_string occurs 2 times, at lines 1, 3: add lines around it, or set replace_all\n");
  EXPECT_EQ(Edit("f", "  int b = 1;\nint z;", "x").text,
            "f: old_string not found\nnearest, line 2:\n2\t\tint b = 1;\n3\tint a;\n");
  EXPECT_EQ(Edit("f", "nothing like it", "x").text, "f: old_string not found\n");
  EXPECT_EQ(Edit("f", "", "x").text, "old_string is empty: use write to make a file\n");
  EXPECT_EQ(Edit("f", "a", "a").text, "old_string and new_string are the same\n");
  EXPECT_EQ(Edit("g", "a", "b").text, "no such file: g\ndid you mean: f\n");
  Put("latin", "caf\xE9\n");
  EXPECT_EQ(Edit("latin", "c", "d").text, "latin is not UTF-8 text: malformed in line 1\n");
  EXPECT_EQ(Edit("/etc/passwd", "c", "d").status, ToolStatus::kFailed);
}

TEST_F(FileToolsTest, EditRefusesAFileThatChangedSinceItWasRead) {
  Put("f", "a\n");
  EXPECT_EQ(Edit("f", "a", "b").status, ToolStatus::kOk);  // never read: the old text is proof enough
  Put("f", "b\nc\n");
  EXPECT_EQ(Edit("f", "b", "d").text, "f has changed since it was read: read it again\n");
  EXPECT_EQ(Get("f"), "b\nc\n");
  Read("f");
  EXPECT_EQ(Edit("f", "b", "d").status, ToolStatus::kOk);
}

TEST_F(FileToolsTest, VersionsRestoredFromResultsSayTheSame) {
  Put("f", "a\n");
  FileVersions replayed;
  replayed.Apply(Call("read@2", {{"path", "f"}}).observed);
  replayed.Apply(Edit("f", "a", "b").observed);
  context_.versions = &replayed;
  EXPECT_EQ(Edit("f", "b", "c").status, ToolStatus::kOk);
  Put("f", "x b c\n");
  EXPECT_THAT(Edit("f", "b", "c").text, HasSubstr("has changed"));
}

TEST_F(FileToolsTest, ACallCancelledInTheQueueChangesNothing) {
  Put("f", "a\n");
  std::optional<ToolResult> result;
  const auto call = registry_.Find("edit@2")->tool->Start(
      context_, {{"path", "f"}, {"old_string", "a"}, {"new_string", "b"}},
      [&](ToolResult got) { result = std::move(got); });
  call->Cancel();
  executor_.RunUntilIdle();
  EXPECT_EQ(result->status, ToolStatus::kCancelled);
  EXPECT_TRUE(call->Harmless());
  EXPECT_EQ(Get("f"), "a\n");
}

TEST_F(FileToolsTest, WithoutAWorkspaceTheyAreUnavailable) {
  context_.files = nullptr;
  EXPECT_EQ(Call("read@2", {{"path", "f"}}).status, ToolStatus::kUnavailable);
}

TEST_F(FileToolsTest, EffectsAndSubjects) {
  const auto traits = [&](const char* id, const json& arguments) {
    return registry_.Find(id)->tool->Traits(context_, arguments);
  };
  EXPECT_EQ(traits("read@2", {{"path", "f"}}).effect, Effect::kReadOnly);
  EXPECT_EQ(traits("edit@2", {{"path", "f"}}).effect, Effect::kEffectful);
  EXPECT_FALSE(traits("edit@2", {{"path", "f"}}).confined);  // no session, no promise
  const Subject subject =
      registry_.Find("apply_patch@1")
          ->tool->SubjectOf(context_, {{"patch",
                                        "*** Begin Patch\n*** Delete File: ./a\n*** Update File: /repo/b\n"
                                        "*** Move to: c/../d\n*** Add File: ../x\n*** End Patch"}});
  EXPECT_EQ(subject.kind, Subject::Kind::kPath);
  EXPECT_THAT(subject.texts, ElementsAre("a", "b", "d", "../x"));
}

// ---- apply_patch@1

TEST_F(FileToolsTest, APatchAddsUpdatesMovesAndDeletes) {
  Put("a", "one\ntwo\n");
  Put("b", "x\ny\n", 0755);
  Put("c", "z\n");
  EXPECT_EQ(Patch("*** Add File: new/n\n+hello\n*** Update File: a\n@@\n-two\n+2\n*** Update File: b\n*** "
                  "Move to: d/e\n@@\n-x\n+X\n"
                  "*** Delete File: c\n")
                .text,
            "A new/n\nM a\nR b -> d/e\nD c\n");
  EXPECT_EQ(tree_.Dump(), "f 644 a: one\n2\n\nd 755 d\nf 755 d/e: X\ny\n\nd 755 new\nf 644 new/n: hello\n\n");
  EXPECT_EQ(Edit("d/e", "X", "Z").status, ToolStatus::kOk);
  EXPECT_FALSE(versions_.Find("c")->hash);
}

TEST_F(FileToolsTest, NothingIsWrittenWhenAnyPartDoesNotFit) {
  Put("a", "one\n");
  Put("b", "one\ntwo\none\n");
  const std::string before = tree_.Dump();
  const std::string good = "*** Add File: n\n+x\n*** Update File: a\n@@\n-one\n+1\n";
  EXPECT_EQ(Patch(good + "*** Update File: b\n@@\n two\n-three\n").text,
            "b: the change at line 9 of the patch does not fit: these lines are not "
            "there:\ntwo\nthree\nnothing was changed\n");
  EXPECT_EQ(Patch(good + "*** Update File: b\n@@\n-one\n").text,
            "b: the change at line 9 of the patch fits at lines 1, 3: add context, or @@ and a line above "
            "it\nnothing was changed\n");
  EXPECT_EQ(Patch(good + "*** Delete File: c\n").text,
            "no such file: c\ndid you mean: a, b\nnothing was changed\n");
  EXPECT_EQ(Patch(good + "*** Add File: b\n+x\n").text, "b exists\nnothing was changed\n");
  EXPECT_EQ(Patch(good + "*** Delete File: ./a\n").text, "a is named twice\nnothing was changed\n");
  EXPECT_EQ(Patch(good + "*** Update File: b\n*** Move to: a\n").text,
            "a is named twice\nnothing was changed\n");
  EXPECT_EQ(Patch(good + "*** Add File: ../x\n+x\n").text,
            "../x: leads out of the workspace\nnothing was changed\n");
  EXPECT_EQ(
      Patch("nonsense\n").text,
      "patch, line 2: expected *** Add File:, *** Delete File: or *** Update File:\nnothing was changed\n");
  Put("latin", "caf\xE9\n");
  EXPECT_THAT(Patch(good + "*** Update File: latin\n@@\n-c\n").text, HasSubstr("not UTF-8"));
  EXPECT_EQ(Patch("*** Delete File: latin\n").status, ToolStatus::kOk);
  Read("a");
  Put("a", "one\nmore\n");
  EXPECT_EQ(Patch(good).text, "a has changed since it was read: read it again\nnothing was changed\n");
  Put("a", "one\n");
  EXPECT_EQ(tree_.Dump(), before);
}

// Every mutation of a patch fails in turn: what was changed is put back.
TEST_F(FileToolsTest, APatchThatFailsHalfwayIsUndone) {
  const std::string patch =
      "*** Add File: n\n+x\n*** Update File: a\n@@\n-one\n+1\n*** Update File: b\n*** Move to: d\n*** Delete "
      "File: c\n";
  Put("a", "one\n", 0755);
  Put("b", "two\n");
  Put("c", "three\n");
  const std::string before = tree_.Dump();
  bool finished = false;
  for (uint64_t skip = 0; !finished; ++skip) {
    ASSERT_LT(skip, 100u);
    tree_.FailNext("", ENOSPC, skip);
    const ToolResult result = Patch(patch);
    finished = result.status == ToolStatus::kOk;
    if (finished) break;
    EXPECT_THAT(result.text, HasSubstr("what had been changed was put back"));
    EXPECT_EQ(tree_.Dump(), before) << "after mutation " << skip;
  }
  EXPECT_EQ(tree_.Dump(), "f 755 a: 1\n\nf 644 d: two\n\nf 644 n: x\n\n");
}

// ---- Links, on a real disk

TEST_F(FileToolsTest, LinksThatLeadOutAreRefusedAndThoseWithinAreFollowed) {
  namespace fs = std::filesystem;
  std::string pattern = ::testing::TempDir() + "/holdfast-tools-XXXXXX";
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const fs::path base = fs::canonical(pattern);
  fs::create_directories(base / "tree/dir");
  std::ofstream(base / "secret") << "secret\n";
  std::ofstream(base / "tree/real") << "a\n";
  fs::create_symlink("../secret", base / "tree/out");
  fs::create_symlink("..", base / "tree/up");
  fs::create_symlink("/etc", base / "tree/etc");
  fs::create_symlink("real", base / "tree/in");
  auto tree = workspace::OpenTree((base / "tree").string(), {.links = workspace::Links::kWithin});
  ASSERT_TRUE(tree.ok()) << tree.status();
  context_.files = tree->get();
  for (const char* path : {"out", "up/secret", "etc/passwd"}) {
    const ToolResult read = Call("read@2", {{"path", path}});
    EXPECT_EQ(read.status, ToolStatus::kFailed) << read.text;
    EXPECT_THAT(read.text, ::testing::Not(HasSubstr("secret\n"))) << read.text;
    EXPECT_NE(Write(path, "x").status, ToolStatus::kOk);
    EXPECT_NE(Edit(path, "secret", "x").status, ToolStatus::kOk);
    EXPECT_NE(Patch(std::string("*** Update File: ") + path + "\n@@\n-secret\n+x\n").status, ToolStatus::kOk);
  }
  std::ifstream secret(base / "secret");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(secret), {}), "secret\n");
  EXPECT_EQ(Read("in"), "1\ta\n");
  EXPECT_EQ(Edit("in", "a", "b").status, ToolStatus::kOk);
  EXPECT_TRUE(fs::is_symlink(base / "tree/in"));
  EXPECT_EQ(Read("real"), "1\tb\n");
  context_.files = nullptr;
  fs::remove_all(base);
}

// ---- Everything against a map of strings

TEST_F(FileToolsTest, RandomCallsAgreeWithAMapOfStrings) {
  for (const uint64_t seed : test::TestSeeds(60)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    test::SimTree tree(clock_, {.seed = seed});
    FileVersions versions;
    std::map<std::string, std::string> model, seen;  // content, and what the model was last shown
    for (int step = 0; step < 60; ++step) {
      context_.files = &tree;
      const std::string path(1, "abc"[random.Below(3)]);
      const auto make = [&](uint64_t length) {
        std::string text;
        for (uint64_t i = random.Below(length); i > 0; --i) text += "xy\n"[random.Below(3)];
        return text;
      };
      const bool there = model.contains(path);
      const bool current = there && seen.contains(path) && seen[path] == model[path];
      const bool stale = seen.contains(path) && (!there || seen[path] != model[path]);
      context_.versions = &versions;
      ToolResult result;
      bool expected = true;
      switch (random.Below(5)) {
        case 0:
          result = Call("read@2", {{"path", path}});
          expected = there;
          if (there) seen[path] = model[path];
          if (!there) seen[path] = "(none)";
          break;
        case 1: {
          const std::string content = make(8);
          result = Write(path, content);
          expected = !there || current || content == model[path];
          if (expected) seen[path] = model[path] = content;
          break;
        }
        case 2: {
          const std::string from = "x" + make(3), to = make(4);
          const bool all = random.Percent(50);
          if (from == to) continue;
          result = Edit(path, from, to, all);
          size_t count = 0;
          for (size_t at = there ? model[path].find(from) : std::string::npos; at != std::string::npos;
               at = model[path].find(from, at + (all ? from.size() : 1))) {
            ++count;
          }
          expected = there && !stale && (all ? count > 0 : count == 1);
          if (!there) seen[path] = "(none)";
          if (expected) {
            std::string& text = model[path];
            for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
              text.replace(at, from.size(), to);
              if (!all) break;
            }
            seen[path] = text;
          }
          break;
        }
        case 3: {
          // Somebody else.
          const std::string content = make(8);
          ASSERT_TRUE(workspace::ReplaceFile(tree, path, std::as_bytes(std::span(content)), 0644).ok());
          model[path] = content;
          continue;
        }
        case 4:
          result = Patch("*** Delete File: " + path + "\n");
          expected = there && !stale;
          if (!there || expected) seen[path] = "(none)";
          if (expected) model.erase(path);
          break;
      }
      EXPECT_EQ(result.status == ToolStatus::kOk, expected) << step << " " << path << ": " << result.text;
      for (const char* name : {"a", "b", "c"}) {
        const auto content = workspace::ReadWhole(tree, name, 1000);
        EXPECT_EQ(content.ok(), model.contains(name));
        if (content.ok()) {
          EXPECT_EQ(content->bytes, model[name]);
        }
      }
      if (::testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace holdfast::tools
