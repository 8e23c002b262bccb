#include "tools/tool_data.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tools/schema.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

const std::filesystem::path kFolder = std::filesystem::path(HOLDFAST_SOURCE_DIR) / "tools/data";

// As Python's json.dumps writes it.
std::string Dumped(const nlohmann::ordered_json& value) {
  if (!value.is_structured()) return value.dump();
  std::string text;
  for (const auto& [key, member] : value.items()) {
    text += text.empty() ? "" : ", ";
    if (value.is_object()) text += nlohmann::json(key).dump() + ": ";
    text += Dumped(member);
  }
  return value.is_object() ? "{" + text + "}" : "[" + text + "]";
}

TEST(ToolDataTest, TheProgramHoldsTheFilesByteForByte) {
  std::set<std::string> names;
  for (const EmbeddedFile& file : EmbeddedFiles()) {
    names.insert(std::string(file.name));
    EXPECT_EQ(file.bytes, ReadFile(kFolder / file.name)) << file.name;
  }
  std::set<std::string> on_disk;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".json") on_disk.insert(entry.path().filename());
  }
  EXPECT_EQ(names, on_disk);
}

TEST(ToolDataTest, EveryToolFileIsWellMadeAndItsSchemaLineIsWhatJsonDumpsWrites) {
  // What templates may name. A new name belongs here and into the tool's code.
  const std::set<std::string> known = {
      "blob",   "bytes",  "code",  "conditions", "count",  "event",   "first", "id",   "ids",    "kept",
      "kind",   "last",   "limit", "line",       "lines",  "ms",      "name",  "next", "number", "files",
      "offset", "output", "path",  "paths",      "reason", "seconds", "state", "text", "to",     "total"};
  for (const EmbeddedFile& file : EmbeddedFiles()) {
    if (file.name.find('@') == std::string_view::npos) continue;
    SCOPED_TRACE(std::string(file.name));
    const auto data = ToolData::Parse(file.bytes);
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_EQ(data->spec().id() + ".json", file.name);
    EXPECT_EQ(data->spec().function, Dumped(nlohmann::ordered_json::parse(data->spec().function)));
    EXPECT_TRUE(Schema::Make(data->spec().function).ok());
    for (const auto& [name, made] : data->results()) {
      for (const std::string& place : made.names())
        EXPECT_TRUE(known.contains(place)) << name << ": " << place;
    }
  }
}

TEST(ToolDataTest, ProfilesNameToolsThatThereAre) {
  const auto nano = Profile::Load("nano");
  ASSERT_TRUE(nano.ok());
  EXPECT_THAT(nano->tools, ElementsAre("grep@1", "edit@1", "bash@1", "read@1"));
  EXPECT_EQ(nano->thinking_mode, "chat");
  const auto general = Profile::Load("default");
  ASSERT_TRUE(general.ok());
  std::set<std::string> names;
  for (const std::string& id : general->tools) {
    const auto data = ToolData::Load(id);
    EXPECT_TRUE(data.ok()) << id;
    if (data.ok()) {
      EXPECT_TRUE(names.insert(data->spec().name).second) << id;
    }
  }
  EXPECT_EQ(Profile::Load("nope").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ToolData::Load("read@99").status().code(), absl::StatusCode::kNotFound);
}

TEST(ToolDataTest, TheTextForAnUnknownOutcomeIsTheOneThatNanoHasLearnt) {
  const auto texts = ToolTexts::Load();
  ASSERT_TRUE(texts.ok());
  EXPECT_EQ(texts->text("unknown").text(), "unknown outcome: it may have run\n");
}

std::string File(const std::string& id, const std::string& name, const std::string& rest) {
  return "{\n  \"tool\": \"" + id + "\",\n  \"function\": {\"name\": \"" + name + "\"},\n" + rest + "\n}\n";
}

TEST(ToolDataTest, WhatTheReadmeDoesNotDescribeIsRefused) {
  const std::string rest = R"(  "effect": "read_only", "result": {"a": "{b}"}, "limits": {"c": 3})";
  const auto good = ToolData::Parse(File("t@2", "t", rest));
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->spec().version, 2);
  EXPECT_TRUE(good->read_only());
  EXPECT_EQ(good->limit("c"), 3);
  EXPECT_EQ(good->result("a").text(), "{b}");
  const auto error = [](const std::string& file) {
    return std::string(ToolData::Parse(file).status().message());
  };
  EXPECT_THAT(error(File("t", "t", rest)), HasSubstr("NAME@VERSION"));
  EXPECT_THAT(error(File("t@0", "t", rest)), HasSubstr("NAME@VERSION"));
  EXPECT_THAT(error(File("t@2", "u", rest)), HasSubstr("another name"));
  EXPECT_THAT(error(File("t@2", "t", rest + ", \"more\": 1")), HasSubstr("more"));
  EXPECT_THAT(error(File("t@2", "t", R"("effect": "some", "result": {}, "limits": {})")),
              HasSubstr("effect"));
  EXPECT_THAT(error(File("t@2", "t", R"("effect": "workspace", "result": {"a": 1}, "limits": {})")),
              HasSubstr("result"));
  EXPECT_THAT(error(File("t@2", "t", R"("effect": "workspace", "result": {}, "limits": {"a": "b"})")),
              HasSubstr("limits"));
  EXPECT_THAT(error(R"({"tool": "t@1", "function": {"name": "t"}})"), HasSubstr("one line"));
  EXPECT_THAT(error("["), HasSubstr("JSON"));
}

}  // namespace
}  // namespace holdfast::tools
