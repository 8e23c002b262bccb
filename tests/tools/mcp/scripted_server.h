// A server that follows a script, in simulated time: what the client sends reaches a handler by method; what
// has no handler gets no answer.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tools/mcp.h"
#include "tools/mcp/transport.h"

namespace holdfast::tools::mcp {

class ScriptedWorld;

class ScriptedServer final : public Transport {
 public:
  ScriptedServer(ScriptedWorld& world, size_t run);
  ~ScriptedServer() override;

  void Start(TransportEvents events) override;
  base::Status Send(std::string_view line) override;
  void CloseInput() override;
  void Kill() override;
  std::string ErrorTail() const override;

  size_t run() const { return run_; }

  // What the server does, a task later, or `ms` later.
  void Write(std::string line, int64_t ms = 0);
  void Answer(const nlohmann::json& request, nlohmann::json result, int64_t ms = 0);
  void Refuse(const nlohmann::json& request, int64_t code, std::string_view message,
              nlohmann::json data = nullptr, int64_t ms = 0);
  void End(std::string how, int64_t ms = 0);
  void Break(std::string why);

 private:
  void Later(int64_t ms, std::function<void()> action);

  ScriptedWorld& world_;
  const size_t run_;
  TransportEvents events_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // shared only weakly, with what is to come
};

class ScriptedWorld {
 public:
  using Handler = std::function<void(ScriptedServer&, const nlohmann::json& message)>;

  explicit ScriptedWorld(uint64_t seed = 1) : executor(clock, {.seed = seed, .task_ns_max = 0}) {}

  // Servers that do what they should, with these tools (`{"name", "inputSchema"}` of each).
  void BeModern(nlohmann::json tools);
  void BeLegacy(nlohmann::json tools, std::string version = "2025-11-25");

  TransportFactory Factory() {
    return [this] {
      ++runs;
      return std::make_unique<ScriptedServer>(*this, runs);
    };
  }

  // Messages of one method that the client has sent, in order; all runs.
  std::vector<nlohmann::json> Sent(std::string_view method) const;

  test::SimClock clock;

  std::map<std::string, Handler> handlers;
  int64_t start_ms = 0;
  bool starts = true;         // else `started` never comes
  base::Status start_status;  // what comes
  bool ends_at_close = true;  // when its input is closed
  bool ends_at_kill = true;
  base::Status send_status;  // of every Send
  std::string error_tail;

  size_t runs = 0;
  size_t alive = 0;
  std::vector<nlohmann::json> sent;
  std::vector<std::string> events;  // "close", "kill", "gone"

  test::SimExecutor executor;  // last: what it still holds uses all of the above
};

// {"name": NAME, "inputSchema": {"type": "object"}}
nlohmann::json PlainTool(std::string_view name);
// {"content": [{"type": "text", "text": TEXT}]}
nlohmann::json TextResult(std::string_view text);

}  // namespace holdfast::tools::mcp
