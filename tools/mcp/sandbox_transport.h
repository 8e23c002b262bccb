// A server's program as a job of a sandbox session of its own.
#pragma once

#include <memory>
#include <string>

#include "base/executor.h"
#include "sandbox/command.h"
#include "sandbox/policy.h"
#include "sandbox/sandbox.h"
#include "tools/mcp.h"
#include "tools/mcp/transport.h"

namespace holdfast::tools::mcp {

// Opening and closing the session waits for the broker, so it is done on the tools lane. What the program
// writes is cut into lines on the supervisor's thread and taken on the control lane, a bounded part in each
// task.
class SandboxTransport final : public Transport {
 public:
  // The executor and the sandbox outlive the transport, and what of it is still under way.
  SandboxTransport(base::Executor& executor, sandbox::Sandbox& sandbox, sandbox::Policy policy,
                   sandbox::Command command, const McpBounds& bounds);
  ~SandboxTransport() override;

  void Start(TransportEvents events) override;
  base::Status Send(std::string_view line) override;
  void CloseInput() override;
  void Kill() override;
  std::string ErrorTail() const override;

 private:
  class Pipe;
  // Shared with the supervisor's thread and with what was posted, which may outlive the transport.
  using PipeRef = std::shared_ptr<Pipe>;
  struct Process;

  void TakeProcess(base::StatusOr<std::unique_ptr<Process>> process);
  void Drain();
  static base::StatusOr<std::unique_ptr<Process>> StartProcess(sandbox::Sandbox& sandbox,
                                                               const sandbox::Policy& policy,
                                                               const sandbox::Command& command,
                                                               const PipeRef& pipe);
  static void Release(base::Executor& executor, std::unique_ptr<Process> process);

  base::Executor& executor_;
  sandbox::Sandbox& sandbox_;
  const sandbox::Policy policy_;
  const sandbox::Command command_;
  TransportEvents events_;
  const PipeRef pipe_;
  std::unique_ptr<Process> process_;
};

}  // namespace holdfast::tools::mcp
