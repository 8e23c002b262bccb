// What could not be had, why, and what would help: the texts people see.
#pragma once

#include "base/status.h"
#include "sandbox/broker/wire.h"
#include "sandbox/outcome.h"

namespace holdfast::sandbox {

// FailedPrecondition: "sandbox: ID MAP failed: CAUSE; REMEDY. Nothing was run."
base::Status FailureStatus(const wire::Failure& failure, bool root);

// FailedPrecondition for required layers that are not in force.
base::Status MissingLayers(LayerSet missing);

// What would bring a layer back.
std::string_view LayerRemedy(Layer layer);

// For a command that could not be started: "make: command not found", "x.sh: not executable", ...
std::string StartError(const wire::Failure& failure, const std::string& directory);

}  // namespace holdfast::sandbox
