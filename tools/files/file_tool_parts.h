// Between the files of the file tools.
#pragma once

#include <memory>

#include "base/status.h"
#include "tools/tool.h"

namespace holdfast::tools {

base::StatusOr<std::unique_ptr<Tool>> MakeReadTool();
base::StatusOr<std::unique_ptr<Tool>> MakeWriteTool();
base::StatusOr<std::unique_ptr<Tool>> MakeEditTool();
base::StatusOr<std::unique_ptr<Tool>> MakeApplyPatchTool();

}  // namespace holdfast::tools
