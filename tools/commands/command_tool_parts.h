// What the tools of commands share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/background_jobs.h"
#include "tools/tool.h"

namespace holdfast::tools {

base::StatusOr<std::unique_ptr<Tool>> MakeBash();
base::StatusOr<std::unique_ptr<Tool>> MakeBashOutput();
base::StatusOr<std::unique_ptr<Tool>> MakeBashInput();
base::StatusOr<std::unique_ptr<Tool>> MakeBashKill();

// Of what runs, in order: "b1", "b3".
std::vector<std::string> RunningIds(const BackgroundJobs& jobs);
std::string Joined(const std::vector<std::string>& names);  // with ", "

}  // namespace holdfast::tools
