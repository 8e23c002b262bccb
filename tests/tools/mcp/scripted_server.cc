#include "tests/tools/mcp/scripted_server.h"

#include "base/check.h"

namespace holdfast::tools::mcp {

using nlohmann::json;

ScriptedServer::ScriptedServer(ScriptedWorld& world, size_t run) : world_(world), run_(run) {
  ++world_.alive;
}

ScriptedServer::~ScriptedServer() {
  --world_.alive;
  world_.events.push_back("gone");
}

void ScriptedServer::Later(int64_t ms, std::function<void()> action) {
  auto run = [alive = std::weak_ptr(alive_), action = std::move(action)] {
    if (!alive.expired()) action();
  };
  if (ms == 0) return world_.executor.PostResult(base::Lane::kControl, std::move(run));
  const base::MonotonicTime when = {world_.clock.MonotonicNow().ns + ms * base::kNsPerMs};
  HF_CHECK(world_.executor.PostAt(when, std::move(run)).ok());
}

void ScriptedServer::Start(TransportEvents events) {
  events_ = std::move(events);
  if (world_.starts) Later(world_.start_ms, [this] { events_.started(world_.start_status); });
}

base::Status ScriptedServer::Send(std::string_view line) {
  HF_RETURN_IF_ERROR(world_.send_status);
  HF_CHECK(!line.empty() && line.back() == '\n');
  HF_CHECK(line.find('\n') == line.size() - 1);
  const json message = json::parse(line);
  world_.sent.push_back(message);
  const auto handler = world_.handlers.find(message.value("method", ""));
  if (handler != world_.handlers.end()) {
    Later(0, [this, handle = handler->second, message] { handle(*this, message); });
  }
  return absl::OkStatus();
}

void ScriptedServer::CloseInput() {
  world_.events.push_back("close");
  if (world_.ends_at_close) End("ended: exit 0");
}

void ScriptedServer::Kill() {
  world_.events.push_back("kill");
  if (world_.ends_at_kill) End("ended: killed");
}

std::string ScriptedServer::ErrorTail() const { return world_.error_tail; }

void ScriptedServer::Write(std::string line, int64_t ms) {
  Later(ms, [this, line = std::move(line)] { events_.line(line); });
}

void ScriptedServer::Answer(const json& request, json result, int64_t ms) {
  Write(json({{"jsonrpc", "2.0"}, {"id", request.at("id")}, {"result", std::move(result)}}).dump(), ms);
}

void ScriptedServer::Refuse(const json& request, int64_t code, std::string_view message, json data,
                            int64_t ms) {
  json error = {{"code", code}, {"message", message}};
  if (!data.is_null()) error["data"] = std::move(data);
  Write(json({{"jsonrpc", "2.0"}, {"id", request.at("id")}, {"error", std::move(error)}}).dump(), ms);
}

void ScriptedServer::End(std::string how, int64_t ms) {
  Later(ms, [this, how = std::move(how)] { events_.ended(how); });
}

void ScriptedServer::Break(std::string why) {
  Later(0, [this, why = std::move(why)] { events_.broken(why); });
}

void ScriptedWorld::BeModern(json tools) {
  handlers.clear();
  handlers["server/discover"] = [](ScriptedServer& server, const json& request) {
    server.Answer(request, {{"resultType", "complete"},
                            {"supportedVersions", {"2026-07-28"}},
                            {"capabilities", {{"tools", json::object()}}}});
  };
  handlers["initialize"] = [](ScriptedServer& server, const json& request) {
    server.Refuse(request, -32601, "no such method");
  };
  handlers["tools/list"] = [tools](ScriptedServer& server, const json& request) {
    server.Answer(request, {{"resultType", "complete"}, {"tools", tools}, {"ttlMs", 0}});
  };
  handlers["tools/call"] = [](ScriptedServer& server, const json& request) {
    json result = TextResult("called " + request.at("params").at("name").get<std::string>());
    result["resultType"] = "complete";
    server.Answer(request, std::move(result));
  };
}

void ScriptedWorld::BeLegacy(json tools, std::string version) {
  BeModern(std::move(tools));
  handlers["server/discover"] = [](ScriptedServer& server, const json& request) {
    server.Refuse(request, -32601, "Method not found");
  };
  handlers["initialize"] = [version](ScriptedServer& server, const json& request) {
    server.Answer(request, {{"protocolVersion", version},
                            {"capabilities", {{"tools", {{"listChanged", true}}}}},
                            {"serverInfo", {{"name", "x"}, {"version", "1"}}}});
  };
}

std::vector<json> ScriptedWorld::Sent(std::string_view method) const {
  std::vector<json> found;
  for (const json& message : sent) {
    if (message.value("method", "") == method) found.push_back(message);
  }
  return found;
}

json PlainTool(std::string_view name) { return {{"name", name}, {"inputSchema", {{"type", "object"}}}}; }

json TextResult(std::string_view text) {
  return {{"content", json::array({{{"type", "text"}, {"text", text}}})}};
}

}  // namespace holdfast::tools::mcp
