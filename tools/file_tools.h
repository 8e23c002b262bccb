// The general file tools: read@2, write@1, edit@2, apply_patch@1. They reach files only beneath the
// workspace's tree, so that no link leads them out, and work on the tools lane. Each changes nothing, or all
// that it was asked to; what it has seen and made stands in ToolResult::observed, and a file that has changed
// since the model saw it is refused. Shapes and texts: tools/data/.
#pragma once

#include "base/status.h"
#include "tools/registry.h"

namespace holdfast::tools {

// Their contexts need files and versions.
base::Status AddFileTools(Registry& registry);

}  // namespace holdfast::tools
