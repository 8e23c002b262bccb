// A tool that a client of the session runs: its schema comes with the session, its results from outside. The
// model sees it as any other, its arguments are decoded under its grammar and checked against its schema, and
// permission is judged by the same rules; what runs it is not here.
//
// Threads: pure functions, safe from any thread.
// Source: DESIGN sections 1 (invariant 2) and 6; docs/tools.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "tools/tool.h"

namespace holdfast::tools {

struct ClientToolSpec {
  std::string name;         // [A-Za-z0-9_-]{1,64}
  std::string description;  // for the model
  std::string parameters;   // JSON schema of an object; empty: no parameters
  Effect effect = Effect::kEffectful;
  int64_t timeout_ms = 600'000;  // from the moment a call is handed out
};

struct ClientToolBounds {
  size_t tools_max = 64;
  size_t name_bytes_max = 64;
  size_t description_bytes_max = 8 * 1024;
  size_t parameters_bytes_max = 16 * 1024;
  size_t total_bytes_max = 256 * 1024;  // of all schema lines
  int64_t timeout_ms_max = 86'400'000;  // 24 hours
};

// NAME@client, for a registry. A call that is started all the same is kUnavailable. InvalidArgument for
// parameters that are no JSON.
base::StatusOr<std::unique_ptr<Tool>> MakeClientTool(const ClientToolSpec& spec);

// InvalidArgument, naming the tool and what is wrong with it, for what goes beyond the bounds, a name that
// another of them has or, in any version, a tool of `taken_ids`, or a schema that cannot be used.
base::Status CheckClientTools(std::span<const ClientToolSpec> specs, std::span<const std::string> taken_ids,
                              const ClientToolBounds& bounds = {});

}  // namespace holdfast::tools
