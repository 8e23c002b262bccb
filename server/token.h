// The token that callers over TCP show in `authorization: Bearer TOKEN`. Whoever may read its file may use
// the server.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/random.h"
#include "base/status.h"
#include "grpcpp/security/auth_metadata_processor.h"

namespace holdfast::server {

// The token in the file `path`: 64 hexadecimal digits, made of 32 random bytes when there is no such file
// (0600). FailedPrecondition when others than the owner may read it; InvalidArgument when it is no token;
// each with what to do.
base::StatusOr<std::string> LoadOrMakeToken(const std::string& path,
                                            base::Entropy& entropy = base::RealEntropy());

// Compares in a time that does not depend on where the two differ.
bool TokensEqual(std::string_view one, std::string_view other);

// Answers every call without the token Unauthenticated, whatever its method; handlers do not see the token.
std::shared_ptr<grpc::AuthMetadataProcessor> RequireToken(std::string token);

}  // namespace holdfast::server
