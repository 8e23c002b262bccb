// What the model can call. A tool is a schema line, what a call of it touches, and a way to start it; the
// dispatcher (tools/dispatcher.h) does all the rest: validation, permission, deadlines, truncation.
//
// Threads: spec, Traits and SubjectOf are const and safe from any thread. Start runs on the control lane of
// the context's executor and must not block; work that waits for a disk goes to Lane::kTools
// (tools/blocking_call.h), commands and servers run on threads of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/hash.h"
#include "base/status.h"
#include "nlohmann/json_fwd.hpp"

namespace holdfast::sandbox {
class Session;
}  // namespace holdfast::sandbox
namespace holdfast::workspace {
class Tree;
}
namespace holdfast::memory {
class BlobStore;
}

namespace holdfast::tools {

class BackgroundJobs;  // tools/background_jobs.h
class FileVersions;    // tools/file_versions.h

// What running a call a second time would do.
enum class Effect {
  kReadOnly,    // nothing: it changes nothing
  kIdempotent,  // the same again
  kEffectful,   // possibly more harm
};
std::string_view EffectName(Effect effect);

// What a tool is, for the prompt and the record.
struct ToolSpec {
  std::string name;  // as the model calls it: [A-Za-z0-9_.-]{1,128}
  int version = 1;   // of the schema and of the result texts; a byte that changes is a new version
  std::string
      function;  // the schema line of the prompt, byte for byte: {"name", "description", "parameters"}
  bool by_client = false;  // tools/client_tool.h: it has no version, its session keeps its schema

  std::string id() const { return name + "@" + (by_client ? "client" : std::to_string(version)); }
};

// What one call may touch; may depend on its arguments and on the session. When in doubt: the defaults.
struct CallTraits {
  Effect effect = Effect::kEffectful;

  // All it can touch is the session's own layer, so that a call without an outcome is undone by restoring the
  // layer, and run again (invariant 2 of the design): an overlay, no network, no writable mount beside it, no
  // process that stays, nobody else's program.
  bool contained = false;

  // It reaches nothing but the layer and the processes of the session: what the default policy allows without
  // asking. A command in the background is confined but not contained.
  bool confined = false;

  // A client of the session runs it, not this process: what a session was given at its creation the default
  // policy allows without asking. The dispatcher does not start it.
  bool by_client = false;

  int64_t timeout_ms = 120'000;  // what the call may take; the dispatcher bounds it
};

// What permission patterns are matched against.
struct Subject {
  enum class Kind {
    kNone,     // rules for the whole tool only
    kCommand,  // `texts` holds one command line of bash; each simple command in it is matched
    kPath,     // paths in the workspace, or absolute ones that lead out of it; each is matched
    kText,     // anything else, matched as it is
  };
  Kind kind = Kind::kNone;
  std::vector<std::string> texts;
};

enum class ToolStatus {
  kOk,
  kFailed,       // the tool says no, and why: the model can act on it
  kInvalid,      // never started: no such tool, or the arguments do not fit its schema
  kDenied,       // never started: by rule, by a person, or by a budget
  kTimeout,      // ended by its deadline; it is known what it did
  kCancelled,    // ended, or never started, because somebody wanted so; it is known what it did
  kUnavailable,  // what the tool needs is not there: no sandbox, a server that died. It changed nothing
  kUnknown,      // it had started, and nobody can say how far it came. Never to be run again by itself
};
std::string_view ToolStatusName(ToolStatus status);

// The content of a file as a call saw or made it.
struct FileVersion {
  std::string path;                        // relative to the workspace
  std::optional<base::Sha256Digest> hash;  // of the bytes; none: there is no such file
  friend bool operator==(const FileVersion&, const FileVersion&) = default;
};

// Bytes too long for the text, kept whole.
struct SpilledBlob {
  base::Sha256Digest id = {};  // also the blob's name in the store
  uint64_t bytes = 0;
  friend bool operator==(const SpilledBlob&, const SpilledBlob&) = default;
};

// How a call ended. `text` is what the model reads: valid UTF-8 that depends on the tree and the arguments
// only, without times, process ids, temporary names, unless a command printed them.
struct ToolResult {
  ToolStatus status = ToolStatus::kOk;
  std::string text;
  std::vector<FileVersion> observed;  // in the order they were seen; the last of a path counts
  std::vector<SpilledBlob> blobs;     // durable before the result is delivered
};

// Delivers the result. May be called from any thread, also from within Start and Cancel.
using Done = absl::AnyInvocable<void(ToolResult)>;

// What a call works on. Copied into every task of a call.
struct ToolContext {
  base::Executor* executor =
      nullptr;  // outlives all calls; the rest may be null where a tool set needs it not
  base::Clock* clock = nullptr;
  sandbox::Session* session = nullptr;
  workspace::Tree* files = nullptr;  // as commands see it, links within followed
  std::string inside;  // where commands see the workspace: absolute paths beneath it are accepted
  memory::BlobStore* blobs = nullptr;
  FileVersions* versions = nullptr;  // what the model has seen of each file
  BackgroundJobs* jobs = nullptr;

  // When the call must have ended; set by the dispatcher, which cancels the call then.
  base::MonotonicTime deadline{INT64_MAX};

  // Keeps alive all that the pointers name. Shared, because a call that is stuck in the kernel outlives the
  // session that gave it up.
  std::shared_ptr<void> owner;
};

// A started call, used on the control lane only.
class RunningCall {
 public:
  // Gives the call up: ends what can be ended, without waiting. Done may still be called afterwards, to no
  // effect.
  virtual ~RunningCall() = default;

  // Asks for an early end; the result, with what was got so far, comes through Done as ever and soon. May be
  // called more than once.
  virtual void Cancel() = 0;

  // True once it is certain that the call has changed nothing and never will: with Cancel done, the outcome
  // of a call that does not answer is then known.
  virtual bool Harmless() const { return false; }
};

class Tool {
 public:
  virtual ~Tool() = default;

  virtual const ToolSpec& spec() const = 0;

  // All below get arguments that the schema has been checked against.
  virtual CallTraits Traits(const ToolContext& context, const nlohmann::json& arguments) const = 0;
  virtual Subject SubjectOf(const ToolContext& context, const nlohmann::json& arguments) const = 0;

  // Starts a call. `done` is called exactly once while the RunningCall lives; what could not be started is a
  // result too. May return null when `done` has been called.
  virtual std::unique_ptr<RunningCall> Start(const ToolContext& context, const nlohmann::json& arguments,
                                             Done done) = 0;
};

// Whether commands of a context's session reach nothing but its own layer (sandbox::IsContained); false
// without a session.
bool IsConfined(const ToolContext& context);

inline ToolResult Succeeded(std::string text) { return {.status = ToolStatus::kOk, .text = std::move(text)}; }
inline ToolResult Failed(std::string text) {
  return {.status = ToolStatus::kFailed, .text = std::move(text)};
}

}  // namespace holdfast::tools
