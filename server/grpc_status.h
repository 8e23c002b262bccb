// Errors as clients see them: the code and message of a status, and details for programs in the trailer
// grpc-status-details-bin (AIP-193). Every error has a google.rpc.ErrorInfo with the domain "holdfast"; its
// reason is the one that was given, else the name of the code.
//
//   return WithReason(base::ResourceExhausted("..."), "WATCH_OVERFLOW", {{"last_sequence", "17"}});
//   return WithField(base::InvalidArgument("..."), "goal.checks[0].command");
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/status.h"
#include "grpcpp/support/status.h"

namespace holdfast::server {

inline constexpr char kErrorDomain[] = "holdfast";

// `reason`: UPPER_SNAKE_CASE, at most 63 bytes. An error only.
base::Status WithReason(base::Status status, std::string_view reason,
                        const std::map<std::string, std::string>& metadata = {});

// Which field of the request is wrong; may be repeated.
base::Status WithField(base::Status status, std::string_view field);

grpc::Status ToGrpc(const base::Status& status);

// What a client was answered. A code that no status has is Unknown.
base::Status FromGrpc(const grpc::Status& status);

// The reason that a client was told; empty: none.
std::string ReasonOf(const base::Status& status);

}  // namespace holdfast::server
