// A real sandbox, for tests of folders that know it through workspace/ only.
#pragma once

#include <csignal>
#include <memory>
#include <utility>

#include "base/check.h"
#include "sandbox/sandbox.h"

namespace holdfast::workspace {

inline std::unique_ptr<sandbox::Sandbox> StartSandbox() {
  auto started = sandbox::Sandbox::Start({.broker_path = HOLDFAST_SANDBOX_BROKER});
  HF_CHECK(started.ok());
  return *std::move(started);
}

// As if the broker had crashed.
inline void KillBroker(sandbox::Sandbox& sandbox) { HF_CHECK(kill(sandbox.broker_pid(), SIGKILL) == 0); }

}  // namespace holdfast::workspace
