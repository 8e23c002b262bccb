// MCP servers: programs of other people whose tools the model can call, over the standard streams of a
// process that runs in a sandbox session of its own. What a server may see and do is the operator's
// configuration (docs/mcp.md); what it says about itself changes nothing of it.
//
//   HF_ASSIGN_OR_RETURN(auto configs, ParseMcpConfig(text, environment));
//   HF_ASSIGN_OR_RETURN(auto server, McpServer::Make(configs[0], place, pinned));
//   server->Open(deadline, [&](Status status) { for (auto& tool : server->MakeTools()) registry.Add(...); });
//
// Both eras of the protocol are spoken: 2026-07-28 (no handshake, every request carries its version) and the
// one before (initialize; 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05). Which it is, is asked once.
//
// The tools of a session are fixed: a session stores the catalogue that it was made with, and gives it back
// when it is continued. Then no process is started before the first call. A server whose tools differ later
// gives a note, never another prompt.
//
// Every wait has a deadline. A server that ends, or breaks a bound, is ended with all it started; calls
// that it had and did not answer are kUnknown, unless the operator trusts what it says of itself and it says
// that they only read. The next call starts it again, after a wait that doubles, until it has failed
// restarts_max times in a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "sandbox/limits.h"
#include "sandbox/output.h"
#include "sandbox/policy.h"
#include "tools/tool.h"

namespace holdfast::sandbox {
class Sandbox;
}

namespace holdfast::tools {

enum class McpEra { kAuto, kModern, kLegacy };

struct McpTimeouts {
  int64_t probe_ms = 2'000;     // for an answer to server/discover, before the other era is tried as well
  int64_t startup_ms = 30'000;  // from the start of the program until the era is known
  int64_t list_ms = 30'000;     // for all pages of the tool list
  int64_t call_ms = 120'000;    // for a call, a start that it needs included
  int64_t shutdown_ms = 2'000;  // from closing its input to SIGTERM
};

struct McpBounds {
  size_t message_bytes_max = 16 << 20;    // of one line that the server writes; a longer one ends it
  size_t waiting_bytes_max = 64 << 20;    // written and not yet looked at; more ends it
  size_t malformed_lines_max = 1'000;     // between two answers; more ends it
  size_t unasked_messages_max = 100'000;  // notifications, requests, answers to nothing; the same
  uint64_t unasked_bytes_max = 64 << 20;  // the same
  size_t request_bytes_max = 2 << 20;     // of one line that is sent; a longer call is refused
  size_t calls_max = 16;                  // at once; more are refused
  size_t pages_max = 64;                  // of the tool list
  size_t tools_max = 128;
  size_t tool_bytes_max = 64 << 10;        // of a tool's schema line; a longer one is left out
  size_t catalogue_bytes_max = 512 << 10;  // of all schema lines
  size_t error_bytes = 16 << 10;           // of standard error that is kept
  int restarts_max = 5;                    // failures in a row, before it is given up
  int unanswered_calls_max = 3;            // deadlines in a row without any answer; then it is ended
  int64_t backoff_ms_min = 500;            // before a start after a failure; doubles
  int64_t backoff_ms_max = 60'000;
};

// For a process that stays: no wall time, no CPU time, no end of its output.
sandbox::Limits McpLimits();

struct McpServerConfig {
  std::string name;  // [A-Za-z0-9_-]{1,32}, without "__" and no `_` at the end
  std::vector<std::string> argv;
  std::string directory;                                         // as seen inside; empty: its own
  std::vector<std::pair<std::string, std::string>> environment;  // secrets that the operator gives it too

  sandbox::Network network = sandbox::Network::kOff;
  std::vector<sandbox::ExtraMount> mounts;
  sandbox::Limits limits = McpLimits();

  bool trust_annotations = false;  // believe readOnlyHint and idempotentHint
  McpEra era = McpEra::kAuto;
  std::optional<std::vector<std::string>> tools;  // the ones to offer, as the server names them; none: all
  McpTimeouts timeouts;
  McpBounds bounds;
};

// The value of a variable of the runtime's environment; nothing when it is not set.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string&)>;

// Reads {"mcpServers": {"NAME": {"command": ..., "args": [...], "env": {...}, "holdfast": {...}}}}; servers
// that are disabled are left out; in order of their names. `${NAME}` in command, args, cwd and env stands for
// a variable. InvalidArgument, naming the server and the field, for anything unknown or out of bounds.
base::StatusOr<std::vector<McpServerConfig>> ParseMcpConfig(std::string_view json,
                                                            const EnvironmentLookup& environment);

// InvalidArgument, naming the server and the field; what ParseMcpConfig checks.
base::Status Validate(const McpServerConfig& config);

// Values of variables whose names look like a secret's, for SandboxOptions::secrets. In results of the server
// itself they are replaced in any case.
std::vector<sandbox::Secret> McpSecrets(const McpServerConfig& config);

// What the server's process may see and do. `directory` is on the host, and the server's own: it is its
// workspace, written to directly, and stays between runs.
sandbox::Policy McpPolicy(const McpServerConfig& config, std::string directory);

// Something that the operator, and for kToolsDiffer the model, should know.
struct McpNote {
  enum class Kind {
    kToolLeftOut,   // a tool of the list cannot be offered
    kToolsDiffer,   // the server now has other tools than the session
    kServerFailed,  // it ended, broke a bound, did not start
    kServerGivenUp,
  };
  Kind kind = Kind::kServerFailed;
  std::string text;  // for people; names the server
};
using McpObserver = std::function<void(const McpNote&)>;

struct McpCounters {
  uint64_t starts = 0;
  uint64_t failures = 0;
  uint64_t calls = 0;
  uint64_t answered = 0;
  uint64_t deadlines = 0;
  uint64_t late_answers = 0;     // after a deadline or a cancel, or a second time
  uint64_t foreign_answers = 0;  // to nothing that was ever asked
  uint64_t malformed_lines = 0;
  uint64_t notifications = 0;
  uint64_t server_requests = 0;
  friend bool operator==(const McpCounters&, const McpCounters&) = default;
};

struct McpPlace {
  base::Executor* executor = nullptr;  // outlives the server
  base::Clock* clock = nullptr;
  sandbox::Sandbox* sandbox = nullptr;  // the same
  std::string directory;                // of the server's own, on the host, absolute; must exist
  McpObserver observer;                 // called on the control lane; may be empty
};

// One server of one session. Made anywhere; used on the control lane, and destroyed there, or when its
// executor runs nothing any more.
class McpServer {
 public:
  // `catalogue`: what catalogue() gave when the session was made; empty for a new session. InvalidArgument
  // for a configuration or a catalogue that is none.
  static base::StatusOr<std::unique_ptr<McpServer>> Make(McpServerConfig config, McpPlace place,
                                                         std::string_view catalogue);

  // Ends the process at once; calls that run end as when it dies. Shutdown is the gentle way.
  ~McpServer();

  // Makes the tools known: at once with a catalogue, else by starting the server and listing them. `done` is
  // called once, by `deadline` at the latest: ok; Unavailable for a server that does not start, does not
  // answer, or does not speak the protocol; DeadlineExceeded.
  void Open(base::MonotonicTime deadline, absl::AnyInvocable<void(base::Status)> done);

  // The tools as text, to be stored with the session; the same for the same tools. Empty before Open is done.
  const std::string& catalogue() const;

  // The tools in order of their names, which are `server__tool`. They may outlive the server: their calls are
  // kUnavailable then. Empty before Open is done.
  std::vector<std::unique_ptr<Tool>> MakeTools() const;

  // Closes the server's input, waits, SIGTERM, SIGKILL. Calls that run end at once, as when it dies; later
  // ones are kUnavailable. `done` is called once, at most shutdown_ms plus the grace of the limits and 1 s
  // later.
  void Shutdown(absl::AnyInvocable<void()> done);

  // Takes back that the server was given up.
  void Revive();

  McpCounters counters() const;

 private:
  class Impl;
  explicit McpServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::tools
