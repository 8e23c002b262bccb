// Asking for the tools of a server, page by page.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/status.h"
#include "tools/mcp/catalogue.h"
#include "tools/mcp/handshake.h"
#include "tools/mcp/peer.h"

namespace holdfast::tools::mcp {

struct Listed {
  Catalogue catalogue;
  std::vector<std::string> left_out;  // a line for each tool that cannot be offered
};

// Control lane only. Used once; all references outlive it.
class Listing {
 public:
  // An error goes on from "the server ": Unavailable when it did not answer or has ended, FailedPrecondition
  // for an answer that is none.
  using OnDone = absl::AnyInvocable<void(base::StatusOr<Listed>)>;

  Listing(Peer& peer, const McpServerConfig& config, const Agreement& agreement)
      : peer_(peer), config_(config), agreement_(agreement), builder_(config) {}

  // Calls `done` once, by `deadline` at the latest; never from within Start, unless nothing can be sent.
  void Start(base::MonotonicTime deadline, OnDone done);

 private:
  void AskPage();
  void TakePage(const Answer& answer);
  void Finish(base::StatusOr<Listed> result);

  Peer& peer_;
  const McpServerConfig& config_;
  const Agreement& agreement_;
  CatalogueBuilder builder_;
  base::MonotonicTime deadline_;
  OnDone done_;
  std::string cursor_;
  std::set<std::string> cursors_;  // all that were given
};

}  // namespace holdfast::tools::mcp
