#include "tools/file_tools.h"

#include <utility>

#include "tools/files/file_tool_parts.h"

namespace holdfast::tools {

base::Status AddFileTools(Registry& registry) {
  for (const auto make : {MakeReadTool, MakeWriteTool, MakeEditTool, MakeApplyPatchTool}) {
    HF_ASSIGN_OR_RETURN(auto tool, make());
    HF_RETURN_IF_ERROR(registry.Add(std::move(tool)));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::tools
