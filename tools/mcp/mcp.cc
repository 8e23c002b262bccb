// The public face over one ServerCore, and its tools.
#include "tools/mcp.h"

#include <utility>

#include "base/check.h"
#include "sandbox/sandbox.h"
#include "tools/mcp/mcp_tool.h"
#include "tools/mcp/sandbox_transport.h"
#include "tools/mcp/server.h"

namespace holdfast::tools {

class McpServer::Impl {
 public:
  explicit Impl(mcp::ServerRef c) : core(std::move(c)) {}
  const mcp::ServerRef core;
  mutable std::string catalogue;  // as text, once it is known
};

McpServer::McpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
McpServer::~McpServer() { impl_->core->Kill(); }

base::StatusOr<std::unique_ptr<McpServer>> McpServer::Make(McpServerConfig config, McpPlace place,
                                                           std::string_view catalogue) {
  HF_CHECK(place.executor != nullptr && place.clock != nullptr && place.sandbox != nullptr);
  HF_RETURN_IF_ERROR(Validate(config));
  std::optional<mcp::Catalogue> known;
  if (!catalogue.empty()) {
    HF_ASSIGN_OR_RETURN(known, mcp::DecodeCatalogue(config.name, catalogue));
  }
  HF_ASSIGN_OR_RETURN(sandbox::Policy policy, sandbox::Normalise(McpPolicy(config, place.directory)));
  const sandbox::Command command = {.argv = config.argv,
                                    .directory = config.directory,
                                    .keep_input_open = true,
                                    .error_stream = sandbox::ErrorStream::kSeparate};
  mcp::ServerCore::World world = {
      .executor = *place.executor,
      .clock = *place.clock,
      .transport = [executor = place.executor, sandbox = place.sandbox, policy, command,
                    bounds = config.bounds]() -> std::unique_ptr<mcp::Transport> {
        return std::make_unique<mcp::SandboxTransport>(*executor, *sandbox, policy, command, bounds);
      },
      .observer = std::move(place.observer)};
  auto core = mcp::ServerCore::Make(std::move(config), std::move(world), std::move(known));
  return std::unique_ptr<McpServer>(new McpServer(std::make_unique<Impl>(std::move(core))));
}

void McpServer::Open(base::MonotonicTime deadline, absl::AnyInvocable<void(base::Status)> done) {
  impl_->core->Open(deadline, std::move(done));
}

const std::string& McpServer::catalogue() const {
  const auto& catalogue = impl_->core->catalogue();
  if (impl_->catalogue.empty() && catalogue.has_value()) {
    impl_->catalogue = mcp::EncodeCatalogue(impl_->core->config().name, *catalogue);
  }
  return impl_->catalogue;
}

std::vector<std::unique_ptr<Tool>> McpServer::MakeTools() const { return mcp::MakeTools(impl_->core); }

void McpServer::Shutdown(absl::AnyInvocable<void()> done) { impl_->core->Shutdown(std::move(done)); }

void McpServer::Revive() { impl_->core->Revive(); }

McpCounters McpServer::counters() const { return impl_->core->counters(); }

}  // namespace holdfast::tools
