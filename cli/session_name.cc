#include "cli/session_name.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "cli/data_directory.h"
#include "cli/session_text.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

using base::StatusOr;
using server::Client;

constexpr int kPage = 1000;
constexpr int kLookedAt = 30;  // sessions that are asked for their repository

StatusOr<std::vector<v1::Session>> AllSessions(Client& client) {
  std::vector<v1::Session> sessions;
  v1::ListSessionsRequest request;
  request.set_page_size(kPage);
  do {
    HF_ASSIGN_OR_RETURN(v1::ListSessionsResponse page, client.Call(request));
    for (v1::Session& session : *page.mutable_sessions()) sessions.push_back(std::move(session));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return sessions;
}

StatusOr<std::string> ByPrefix(const std::vector<v1::Session>& sessions, const std::string& given) {
  std::vector<std::string> found;
  for (const v1::Session& session : sessions) {
    if (IdOf(session.name()).starts_with(given)) found.push_back(session.name());
  }
  if (found.size() == 1) return found[0];
  if (found.empty()) return base::NotFound("there is no session " + given + "; see: holdfast sessions");
  std::string ids;
  for (size_t i = 0; i < std::min<size_t>(found.size(), 5); ++i) ids += " " + IdOf(found[i]);
  return base::InvalidArgument(given + " may be any of" + ids + (found.size() > 5 ? " ..." : "") +
                               "; write more of the id");
}

StatusOr<std::string> OfRepository(Client& client, const std::vector<v1::Session>& sessions) {
  HF_ASSIGN_OR_RETURN(const std::string here, RepositoryHere());
  int looked_at = 0;
  for (const v1::Session& session : sessions) {
    if (++looked_at > kLookedAt) break;
    v1::GetSessionRequest request;
    request.set_name(session.name());
    const auto got = client.Call(request);
    HF_RETURN_IF_ERROR(got.status());
    if (got->session().spec().repository() == here) return session.name();
  }
  if (sessions.size() == 1) return sessions[0].name();
  return base::NotFound(sessions.empty()
                            ? "there are no sessions yet; begin one with: holdfast run 'GOAL' --repo DIR"
                            : "there is no session on " + here + "; name one, see: holdfast sessions");
}

}  // namespace

StatusOr<std::string> SessionName(Client& client, const std::string& given) {
  if (!given.empty()) {
    v1::GetSessionRequest request;
    request.set_name("sessions/" + given);
    const auto exact = client.Call(request);
    if (exact.ok()) return exact->session().name();
    if (!absl::IsNotFound(exact.status()) && !absl::IsInvalidArgument(exact.status())) return exact.status();
  }
  HF_ASSIGN_OR_RETURN(const std::vector<v1::Session> sessions, AllSessions(client));
  return given.empty() ? OfRepository(client, sessions) : ByPrefix(sessions, given);
}

StatusOr<std::string> RepositoryHere() {
  HF_ASSIGN_OR_RETURN(const std::string here, ExistingDirectory("."));
  for (std::string folder = here; folder != "/"; folder = base::ParentDirectory(folder)) {
    if (base::RealFileSystem().Stat(folder + "/.git").ok()) return folder;
  }
  return here;
}

std::string NewRequestId() {
  std::array<std::byte, 16> bytes;
  base::RealEntropy().Fill(bytes);
  return "cli-" + base::ToHex(bytes);
}

}  // namespace holdfast::cli
