// Which model a daemon is started with.
#pragma once

#include <string>

#include "base/status.h"

namespace holdfast::cli {

struct ModelChoice {
  std::string directory;
  bool shipped = false;  // nobody has named one: the small model that comes with Holdfast
};

// `named`, else the shipped checkpoint: share/holdfast/nano of an installed `program`, model/nano/checkpoint
// of a source tree around it. NotFound when there is neither, with what to do.
base::StatusOr<ModelChoice> ChooseModel(const std::string& named, const std::string& program);

// For people, in a line.
std::string ShippedModelNotice(const ModelChoice& choice);

}  // namespace holdfast::cli
