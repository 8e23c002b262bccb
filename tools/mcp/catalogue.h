// The tools of a server as a session has them: named, checked, bounded, in one order, and as text to be
// stored.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tools/mcp.h"
#include "tools/mcp/message.h"

namespace holdfast::tools::mcp {

struct CatalogueTool {
  std::string name;         // as the server knows it
  std::string function;     // the schema line of the prompt, under the name `server__tool`
  bool read_only = false;   // what the server says of it; believed only when the operator says so
  bool idempotent = false;  // the same
  friend bool operator==(const CatalogueTool&, const CatalogueTool&) = default;
};

struct Catalogue {
  std::vector<CatalogueTool> tools;  // in order of their names
  friend bool operator==(const Catalogue&, const Catalogue&) = default;
};

// What the model calls a tool.
std::string FunctionName(std::string_view server, std::string_view tool);

// One JSON object. DecodeCatalogue takes what EncodeCatalogue gave for the same server; InvalidArgument for
// anything else.
std::string EncodeCatalogue(std::string_view server, const Catalogue& catalogue);
base::StatusOr<Catalogue> DecodeCatalogue(std::string_view server, std::string_view text);

// "new: a, b; gone: c; changed: d". Empty when they are the same.
std::string DescribeDifference(const Catalogue& before, const Catalogue& now);

// Takes the pages of a listing.
class CatalogueBuilder {
 public:
  explicit CatalogueBuilder(const McpServerConfig& config) : config_(config) {}

  // Takes the tools of a page, given as the whole line that it came in; the members of a schema keep their
  // order. Returns the cursor of the next page, empty at the end. InvalidArgument, going on from "the server
  // ", for what is no page.
  base::StatusOr<std::string> AddPage(std::string_view line);

  // What can be offered. `left_out` gets a line for each tool that cannot be, with the reason.
  Catalogue Finish(std::vector<std::string>* left_out);

 private:
  const McpServerConfig& config_;
  std::map<std::string, base::StatusOr<CatalogueTool>> tools_;
  std::vector<std::string> unnamed_;  // reasons
  size_t listed_ = 0;
};

}  // namespace holdfast::tools::mcp
