// What a session's commands may see and do. One value, validated before use; the operator's, never the
// model's.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "sandbox/limits.h"
#include "sandbox/outcome.h"

namespace holdfast::sandbox {

enum class WorkspaceMode {
  kOverlay,  // changes go to a layer of their own; the tree underneath is never written
  kDirect,   // changes go to the tree itself: weaker, see docs/security.md
};

struct WorkspacePolicy {
  std::string host;    // the tree, absolute
  std::string inside;  // where commands see it; empty: as on the host
  WorkspaceMode mode = WorkspaceMode::kOverlay;
  std::string
      layer;  // overlay: a directory on disk that is the session's own; upper/ and work/ are made in it
};

enum class Access { kReadOnly, kReadWrite };

// A file or directory of the host that commands see too.
struct ExtraMount {
  std::string host;
  std::string inside;  // empty: as on the host
  Access access = Access::kReadOnly;
  bool required = true;  // false: left out when the host has no such path
};

enum class Network {
  kOff,   // loopback of the session's own and nothing else
  kHost,  // the host's network as it is: an operator's explicit choice
};

// A loud type: what is given up stands in the log and in every outcome.
enum class Debugging { kRefused, kAllowed };

enum class UnixSockets { kAllowed, kRefused };

enum class Backend {
  kNamespaces,
  kBubblewrap,  // for comparison: direct mode, a fresh sandbox for each command, and
                // kRequiredLayersOfBubblewrap
};

struct Policy {
  WorkspacePolicy workspace;
  Backend backend = Backend::kNamespaces;
  Network network = Network::kOff;
  Debugging debugging = Debugging::kRefused;  // ptrace and its kin, within a job
  UnixSockets unix_sockets = UnixSockets::kAllowed;

  // Read-only parts of the host, absolute; those it does not have are left out. Not `/`, and nobody's home.
  std::vector<std::string> system_roots = DefaultSystemRoots();
  std::vector<ExtraMount> mounts;

  // Direct mode: paths of the workspace that become read-only, where they exist at the start of the session.
  std::vector<std::string> protected_paths = DefaultProtectedPaths();

  // Sizes of what is in memory.
  uint64_t tmp_bytes = 512 * kMiB;  // of /tmp, and again of /var/tmp
  uint64_t tmp_inodes = 100'000;    // of each
  uint64_t shm_bytes = 64 * kMiB;
  uint64_t home_bytes = 64 * kMiB;

  // Variables for every command, beside the base set (BaseEnvironment). `pass` are names taken from the
  // runtime's own environment; a name that looks like a secret's must be in `set`.
  std::vector<std::string> pass_environment;
  std::vector<std::pair<std::string, std::string>> set_environment;

  Limits limits;  // the most a command may ask for

  // Without these nothing runs. kRequiredLayers is the least that deserves the name of a sandbox.
  LayerSet required_layers = kRequiredLayers;
  bool use_cgroups = true;  // false: as on a machine that has none to give
  bool use_landlock = true;

  int64_t setup_ms_max = 2000;

  static std::vector<std::string> DefaultSystemRoots();
  static std::vector<std::string> DefaultProtectedPaths();
};

// A policy with its paths made absolute, free of `.`, `..` and doubled slashes, and in one order.
// InvalidArgument naming the field: a relative path, a system root or mount of `/`, /proc, /sys, /dev or of
// what holds them; a mount over the workspace; `/` as a workspace; a layer within the workspace or the other
// way round; a variable that looks like a secret's in pass_environment; limits that Validate refuses.
base::StatusOr<Policy> Normalise(Policy policy);

// Why a command under this policy could change something that outlives the session and is not the session's
// own layer: "the workspace is written in place", "the network is the host's", "/cache is writable". Empty:
// it is *contained*, so that after a crash its layer can be put back and it can be run again (DESIGN.md,
// section 1). That no process of an earlier command is still running is the caller's to know. A service that
// listens on a unix socket or a FIFO in a read-only mount is out of the policy's sight: share no such
// directory.
std::string WhyNotContained(const Policy& policy);
inline bool IsContained(const Policy& policy) { return WhyNotContained(policy).empty(); }

// The policy for people and for the log: one line a field, in a fixed order. Holds the names of variables,
// never their values.
std::string Describe(const Policy& policy);

// Names all that the policy says, the values of set_environment among it: two policies have one digest only
// if they are the same, field by field and in the same order. What was allowed under one is not under
// another. Of pass_environment the names alone: what the runtime's own environment holds is not the policy's.
base::Sha256Digest DigestOf(const Policy& policy);

// PATH, HOME, USER, LOGNAME, SHELL, LANG, TMPDIR, TERM: the same on every machine.
std::vector<std::pair<std::string, std::string>> BaseEnvironment(bool terminal);

// Whether a variable of this name is likely to hold a secret (KEY, TOKEN, SECRET, PASS, CRED, ...).
bool LooksSecret(std::string_view name);

}  // namespace holdfast::sandbox
