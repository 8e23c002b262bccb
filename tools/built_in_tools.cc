#include "tools/built_in_tools.h"

#include "tools/command_tools.h"
#include "tools/file_tools.h"
#include "tools/nano_tools.h"
#include "tools/search_tools.h"

namespace holdfast::tools {

base::Status AddBuiltInTools(Registry& registry) {
  HF_RETURN_IF_ERROR(AddCommandTools(registry));
  HF_RETURN_IF_ERROR(AddSearchTools(registry));
  HF_RETURN_IF_ERROR(AddFileTools(registry));
  return AddNanoTools(registry);
}

}  // namespace holdfast::tools
