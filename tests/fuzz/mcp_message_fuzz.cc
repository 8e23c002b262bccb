// Anything a server may write, in any pieces: cut into lines, each line a message or refused, lists of tools
// and results of calls read without an end, a crash, or text that is not safe to show.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "sandbox/output.h"
#include "tools/mcp/call_result.h"
#include "tools/mcp/catalogue.h"
#include "tools/mcp/line_splitter.h"
#include "tools/mcp/message.h"

namespace holdfast::tools::mcp {
namespace {

constexpr size_t kLineBytesMax = 4096;

void ReadLine(const std::string& line) {
  HF_CHECK(line.size() <= kLineBytesMax);
  const auto message = ParseMessage(line);
  if (!message.ok()) return;
  HF_CHECK(ShapeOf(line).depth <= kMessageDepthMax);
  if (message->kind != MessageKind::kResult) return;
  const ToolResult result = ReadCallResult("s", message->body);
  HF_CHECK(!result.text.empty());
  HF_CHECK(sandbox::MakeSafe(result.text) == result.text);
  RetryState(message->body);
  // What is written of it is one message again.
  const std::string again = ResultLine(message->id, message->body);
  HF_CHECK(again.find('\n') == again.size() - 1);
  HF_CHECK(ParseMessage(std::string_view(again).substr(0, again.size() - 1)).ok());
}

void ReadPage(std::string_view line) {
  McpServerConfig config;
  config.name.push_back('s');  // GCC 12 warns wrongly of an overlap when a literal is assigned here
  CatalogueBuilder builder(config);
  if (!builder.AddPage(line).ok()) return;
  std::vector<std::string> left_out;
  const Catalogue catalogue = builder.Finish(&left_out);
  const auto read = DecodeCatalogue("s", EncodeCatalogue("s", catalogue));
  HF_CHECK(read.ok() && *read == catalogue);
  for (const CatalogueTool& tool : catalogue.tools) {
    HF_CHECK(sandbox::MakeSafe(tool.function) == tool.function);
    HF_CHECK(tool.function.find('\n') == std::string::npos);
  }
}

}  // namespace
}  // namespace holdfast::tools::mcp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::tools::mcp;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  LineSplitter splitter(kLineBytesMax);
  // The first byte says how long the pieces are.
  const size_t piece = text.empty() ? 1 : static_cast<uint8_t>(text[0]) + 1u;
  for (size_t at = 0; at < text.size(); at += piece) splitter.Feed(text.substr(at, piece), ReadLine);
  ReadLine(splitter.Rest());
  ReadPage(text.substr(0, text.find('\n')));
  return 0;
}
