#include "agent/manager/requests.h"

#include <span>

#include "base/coding.h"
#include "base/hash.h"

namespace holdfast::agent::manager {

base::Status CheckRequest(const Request& request) {
  if (request.id.size() <= sessions::kRequestIdBytesMax) return {};
  return base::InvalidArgument("a request id of " + std::to_string(request.id.size()) + " bytes; at most " +
                               std::to_string(sessions::kRequestIdBytesMax));
}

std::optional<base::StatusOr<uint64_t>> AnswerTo(const Request& request,
                                                 const sessions::SessionFacts& facts) {
  if (request.id.empty()) return std::nullopt;
  const auto done = facts.FindRequest(request.id);
  if (!done.has_value()) return std::nullopt;
  if (done->what == request.what) return done->seq;
  return base::InvalidArgument("request id " + request.id + " was used before, for `" + done->what +
                               "`: take another for each request");
}

void Conclude(const Request& request, std::vector<sessions::EventBody>& bodies) {
  if (request.id.empty()) return;
  bodies.push_back(sessions::RequestDone{.request_id = request.id, .what = std::string(request.what)});
}

std::string SessionIdOf(const Request& request) {
  const base::Sha256Digest digest = base::Sha256Of(base::AsBytes(request.id));
  return "s-" + base::ToHex(std::span(digest).first(8));
}

}  // namespace holdfast::agent::manager
