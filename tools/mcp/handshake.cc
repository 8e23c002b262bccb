#include "tools/mcp/handshake.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "sandbox/output.h"

namespace holdfast::tools::mcp {
namespace {

constexpr size_t kShownBytesMax = 300;  // of what a server says of itself

const Json& ClientInfo() {
  static const Json kInfo = {{"name", "holdfast"}, {"version", "0.1.0"}};
  return kInfo;
}

bool IsLegacy(std::string_view version) {
  return std::find(std::begin(kLegacyVersions), std::end(kLegacyVersions), version) !=
         std::end(kLegacyVersions);
}

// The strings of a list; nothing when it is no such list.
std::optional<std::vector<std::string>> Versions(const Json& list) {
  if (!list.is_array()) return std::nullopt;
  std::vector<std::string> versions;
  for (const Json& version : list) {
    if (!version.is_string()) return std::nullopt;
    versions.push_back(version.get<std::string>());
  }
  return versions;
}

// The best version of the old era among these; empty: none.
std::string_view BestLegacy(const std::vector<std::string>& versions) {
  for (const std::string_view version : kLegacyVersions) {
    if (std::find(versions.begin(), versions.end(), version) != versions.end()) return version;
  }
  return {};
}

std::string Shown(std::string_view text) {
  std::string shown = sandbox::MakeSafe(text.substr(0, kShownBytesMax));
  std::replace(shown.begin(), shown.end(), '\n', ' ');
  return shown;
}

std::string ShownError(const Answer& answer) {
  return "error " + std::to_string(answer.code) + ": " + Shown(answer.message);
}

std::string ShownList(const std::vector<std::string>& versions) {
  std::string text;
  for (const std::string& version : versions) text += (text.empty() ? "" : ", ") + version;
  return text.empty() ? "none" : Shown(text);
}

bool OffersTools(const Json& result) { return ValueAt(ValueAt(result, "capabilities"), "tools").is_object(); }

base::Status Unusable(std::string_view why) { return base::FailedPrecondition(why); }
base::Status NotThere(std::string_view why) { return absl::UnavailableError(base::View(why)); }

}  // namespace

Json WithMeta(const Agreement& agreement, Json params) {
  if (agreement.era != McpEra::kModern) return params;
  params["_meta"] = {{"io.modelcontextprotocol/protocolVersion", agreement.version},
                     {"io.modelcontextprotocol/clientInfo", ClientInfo()},
                     {"io.modelcontextprotocol/clientCapabilities", Json::object()}};
  return params;
}

Handshake::Handshake(base::Executor& executor, base::Clock& clock, Peer& peer, McpEra era,
                     const McpTimeouts& timeouts)
    : executor_(executor), clock_(clock), peer_(peer), era_(era), timeouts_(timeouts) {}

void Handshake::Start(base::MonotonicTime deadline, OnDone done) {
  deadline_ = deadline;
  done_ = std::move(done);
  if (era_ == McpEra::kLegacy) {
    Initialize(kLegacyVersions[0]);
  } else {
    Probe();
  }
}

void Handshake::Probe() {
  const Agreement modern = {.era = McpEra::kModern, .version = std::string(kModernVersion)};
  // The probe itself may be answered for as long as the handshake may take: impatience only adds a question.
  auto id = peer_.Ask("server/discover", WithMeta(modern, Json::object()), deadline_, [this](Answer answer) {
    probing_ = false;
    OnDiscovered(std::move(answer));
  });
  if (!id.ok()) return Finish(NotThere("does not read: " + base::Message(id.status())));
  probe_ = *id;
  probing_ = true;
  if (era_ == McpEra::kModern) return;
  patience_.Set(executor_, Later(clock_.MonotonicNow(), timeouts_.probe_ms),
                [this] { Initialize(kLegacyVersions[0]); });
}

void Handshake::Initialize(std::string_view version) {
  patience_.Cancel();
  const Json params = {
      {"protocolVersion", version}, {"capabilities", Json::object()}, {"clientInfo", ClientInfo()}};
  auto id = peer_.Ask("initialize", params, deadline_, [this](Answer answer) {
    initializing_ = false;
    OnInitialized(std::move(answer));
  });
  if (!id.ok()) return Finish(NotThere("does not read: " + base::Message(id.status())));
  initialize_ = *id;
  initializing_ = true;
}

void Handshake::OnDiscovered(Answer answer) {
  const auto versions = Versions(ValueAt(answer.body, "supportedVersions"));
  const bool modern_error = answer.kind == Answer::Kind::kError && answer.code <= kHeaderMismatch &&
                            answer.code >= kUnsupportedProtocolVersion;
  if (answer.kind == Answer::Kind::kResult && versions.has_value()) {
    if (std::find(versions->begin(), versions->end(), kModernVersion) == versions->end()) {
      return OnRefusedVersion({{"supported", *versions}});
    }
    discovered_ = {.era = McpEra::kModern,
                   .version = std::string(kModernVersion),
                   .offers_tools = OffersTools(answer.body)};
    if (!initializing_) return Finish(*discovered_);
    // It was only slow. What it makes of initialize decides, but it need not say anything.
    patience_.Set(executor_, Later(clock_.MonotonicNow(), timeouts_.probe_ms),
                  [this] { Finish(*discovered_); });
    return;
  }
  if (answer.kind == Answer::Kind::kLost)
    return Finish(NotThere(answer.message + " while it was asked for its era"));
  if (answer.kind == Answer::Kind::kError && answer.code == kUnsupportedProtocolVersion) {
    return OnRefusedVersion(answer.body);
  }
  if (modern_error) return Finish(Unusable("refused to be discovered: " + ShownError(answer)));
  if (era_ == McpEra::kModern) {
    return Finish(answer.kind == Answer::Kind::kError
                      ? Unusable("is not of the modern era: " + ShownError(answer))
                      : NotThere("did not answer server/discover"));
  }
  if (initialize_ == 0) Initialize(kLegacyVersions[0]);
}

// `data` lists what the server supports instead.
void Handshake::OnRefusedVersion(const Json& data) {
  const std::vector<std::string> versions =
      Versions(ValueAt(data, "supported")).value_or(std::vector<std::string>());
  const std::string_view legacy = BestLegacy(versions);
  if (legacy.empty() || era_ == McpEra::kModern) {
    return Finish(Unusable("speaks no version that is spoken here (2026-07-28 and before), but " +
                           ShownList(versions)));
  }
  if (initialize_ == 0) Initialize(legacy);
}

void Handshake::OnInitialized(Answer answer) {
  switch (answer.kind) {
    case Answer::Kind::kLost:
      return Finish(NotThere(answer.message + " during the handshake"));
    case Answer::Kind::kDeadline:
      if (discovered_.has_value()) return Finish(*discovered_);
      return Finish(NotThere("answered neither server/discover nor initialize in time"));
    case Answer::Kind::kError:
      return OnHandshakeRefused(answer);
    case Answer::Kind::kResult:
      break;
  }
  const std::string_view version = TextAt(answer.body, "protocolVersion");
  if (!IsLegacy(version)) {
    if (discovered_.has_value()) return Finish(*discovered_);
    return Finish(
        Unusable("answered initialize with the version `" + Shown(version) + "`, which is not spoken here"));
  }
  peer_.Tell("notifications/initialized", Json());
  Finish(Agreement{
      .era = McpEra::kLegacy, .version = std::string(version), .offers_tools = OffersTools(answer.body)});
}

void Handshake::OnHandshakeRefused(const Answer& answer) {
  if (discovered_.has_value()) return Finish(*discovered_);
  // Old servers name the versions they know instead of answering with one.
  const auto versions = Versions(ValueAt(answer.body, "supported"));
  const std::string_view version = versions.has_value() ? BestLegacy(*versions) : std::string_view();
  if (!version.empty() && !retried_) {
    retried_ = true;
    return Initialize(version);
  }
  Finish(Unusable("refused initialize: " + ShownError(answer)));
}

void Handshake::Finish(base::StatusOr<Agreement> result) {
  patience_.Cancel();
  if (probing_) peer_.Forget(probe_);
  if (initializing_) peer_.Forget(initialize_);
  probing_ = initializing_ = false;
  if (result.ok() && result->era == McpEra::kModern) peer_.AnswerNothing();
  if (OnDone done = std::exchange(done_, nullptr)) done(std::move(result));
}

}  // namespace holdfast::tools::mcp
