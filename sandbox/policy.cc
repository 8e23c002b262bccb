#include "sandbox/policy.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <concepts>
#include <string_view>

#include "base/coding.h"

namespace holdfast::sandbox {
namespace {

using base::InvalidArgument;

constexpr size_t kPathBytesMax = 4000;

// What the sandbox makes itself, and what would undo it.
constexpr std::string_view kReservedPaths[] = {"/", "/proc", "/sys", "/dev", "/etc/passwd", "/etc/group"};

// Absolute, without `.`, empty parts and a slash at the end. `..` is refused: what it means depends on links.
base::StatusOr<std::string> CleanPath(std::string_view field, const std::string& path) {
  const auto refuse = [&](std::string_view why) {
    return InvalidArgument("policy: " + std::string(field) + " `" + path + "` " + std::string(why));
  };
  if (path.empty() || path[0] != '/') return refuse("is not absolute");
  if (path.find('\0') != std::string::npos) return refuse("holds a NUL byte");
  if (path.size() > kPathBytesMax) return refuse("is too long");
  std::string clean;
  size_t at = 0;
  while (at < path.size()) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = std::string_view(path).substr(at, end - at);
    if (part == "..") return refuse("holds `..`");
    if (!part.empty() && part != ".") {
      clean += '/';
      clean += part;
    }
    at = end + 1;
  }
  return clean.empty() ? std::string("/") : clean;
}

bool IsUnder(std::string_view path, std::string_view parent) {
  return path == parent || parent == "/" ||
         (path.starts_with(parent) && path.size() > parent.size() && path[parent.size()] == '/');
}

bool IsReserved(std::string_view path) {
  return std::any_of(std::begin(kReservedPaths), std::end(kReservedPaths), [&](std::string_view reserved) {
    return IsUnder(reserved, path) || (reserved != "/" && IsUnder(path, reserved));
  });
}

base::Status NormaliseWorkspace(WorkspacePolicy& workspace) {
  HF_ASSIGN_OR_RETURN(workspace.host, CleanPath("workspace.host", workspace.host));
  if (workspace.inside.empty()) workspace.inside = workspace.host;
  HF_ASSIGN_OR_RETURN(workspace.inside, CleanPath("workspace.inside", workspace.inside));
  if (workspace.host == "/")
    return InvalidArgument("policy: workspace.host is `/`, which would share everything");
  if (IsReserved(workspace.inside) || IsUnder("/agent", workspace.inside) ||
      IsUnder("/tmp", workspace.inside) || IsUnder("/usr", workspace.inside)) {
    return InvalidArgument("policy: workspace.inside `" + workspace.inside +
                           "` would cover the sandbox's own");
  }
  if (workspace.mode == WorkspaceMode::kDirect) {
    if (!workspace.layer.empty()) return InvalidArgument("policy: workspace.layer is given in direct mode");
    return absl::OkStatus();
  }
  HF_ASSIGN_OR_RETURN(workspace.layer, CleanPath("workspace.layer", workspace.layer));
  if (IsUnder(workspace.layer, workspace.host) || IsUnder(workspace.host, workspace.layer)) {
    return InvalidArgument("policy: workspace.layer `" + workspace.layer + "` and workspace.host `" +
                           workspace.host + "` lie within each other");
  }
  return absl::OkStatus();
}

base::Status NormaliseMounts(Policy& policy) {
  for (ExtraMount& mount : policy.mounts) {
    HF_ASSIGN_OR_RETURN(mount.host, CleanPath("mounts.host", mount.host));
    if (mount.inside.empty()) mount.inside = mount.host;
    HF_ASSIGN_OR_RETURN(mount.inside, CleanPath("mounts.inside", mount.inside));
    if (mount.host == "/") return InvalidArgument("policy: mounts.host is `/`, which would share everything");
    if (IsReserved(mount.inside)) {
      return InvalidArgument("policy: mounts.inside `" + mount.inside + "` would cover the sandbox's own");
    }
    if (IsUnder(policy.workspace.inside, mount.inside)) {
      return InvalidArgument("policy: mounts.inside `" + mount.inside + "` would cover the workspace");
    }
    if (IsUnder(mount.inside, policy.workspace.inside)) {
      return InvalidArgument("policy: mounts.inside `" + mount.inside + "` lies in the workspace");
    }
  }
  // Shorter first, so that a mount within another lands on top of it whatever order they were given in.
  std::sort(policy.mounts.begin(), policy.mounts.end(), [](const ExtraMount& a, const ExtraMount& b) {
    return std::pair(a.inside, a.host) < std::pair(b.inside, b.host);
  });
  for (size_t i = 1; i < policy.mounts.size(); ++i) {
    if (policy.mounts[i].inside == policy.mounts[i - 1].inside) {
      return InvalidArgument("policy: mounts.inside `" + policy.mounts[i].inside + "` is given twice");
    }
  }
  return absl::OkStatus();
}

base::Status NormaliseRoots(Policy& policy) {
  for (std::string& root : policy.system_roots) {
    HF_ASSIGN_OR_RETURN(root, CleanPath("system_roots", root));
    if (IsReserved(root)) return InvalidArgument("policy: system_roots `" + root + "` is not to be shared");
    for (const std::string_view home : {"/root", "/home"}) {
      if (IsUnder(root, home))
        return InvalidArgument("policy: system_roots `" + root + "` is somebody's home");
    }
  }
  std::sort(policy.system_roots.begin(), policy.system_roots.end());
  policy.system_roots.erase(std::unique(policy.system_roots.begin(), policy.system_roots.end()),
                            policy.system_roots.end());
  for (const std::string& path : policy.protected_paths) {
    if (path.empty() || path[0] == '/' || path.find("..") != std::string::npos ||
        path.find('\0') != std::string::npos) {
      return InvalidArgument("policy: protected_paths `" + path + "` is not a path within the workspace");
    }
  }
  return absl::OkStatus();
}

bool IsName(std::string_view name) {
  return !name.empty() && name.find('=') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

base::Status CheckEnvironment(const Policy& policy) {
  for (const std::string& name : policy.pass_environment) {
    if (!IsName(name)) return InvalidArgument("policy: pass_environment `" + name + "` is not a name");
    if (LooksSecret(name)) {
      return InvalidArgument("policy: pass_environment `" + name +
                             "` looks like a secret; give it in set_environment if commands must have it");
    }
  }
  for (const auto& [name, value] : policy.set_environment) {
    if (!IsName(name) || value.find('\0') != std::string::npos) {
      return InvalidArgument("policy: set_environment `" + name + "` cannot be a variable");
    }
  }
  return absl::OkStatus();
}

base::Status CheckSizes(const Policy& policy) {
  if (policy.tmp_bytes == 0 || policy.tmp_inodes == 0 || policy.shm_bytes == 0 || policy.home_bytes == 0) {
    return InvalidArgument(
        "policy: tmp_bytes, tmp_inodes, shm_bytes and home_bytes must not be 0: they bound memory");
  }
  if (policy.setup_ms_max < 100 || policy.setup_ms_max > 60'000) {
    return InvalidArgument("policy: setup_ms_max must be 100 to 60000");
  }
  return Validate(policy.limits);
}

void AddLine(std::string& text, std::string_view field, std::string_view value) {
  text += field;
  text += ": ";
  text += value;
  text += '\n';
}

// One encoding of a policy; a list begins with its length, so that nothing can be read in two ways.
class Canonical {
 public:
  template <class... Values>
  void Add(const Values&... values) {
    (Put(values), ...);
  }
  base::Sha256Digest Digest() const { return base::Sha256Of(base::AsBytes(text_)); }

 private:
  void Put(const std::string& text) { base::PutLengthPrefixed(text_, text); }
  void Put(std::integral auto value) { base::PutFixed64(text_, static_cast<uint64_t>(value)); }
  template <class T>
  requires std::is_enum_v<T>
  void Put(T value) { base::PutFixed64(text_, static_cast<uint64_t>(value)); }
  void Put(const std::pair<std::string, std::string>& pair) { Add(pair.first, pair.second); }
  template <class T>
  void Put(const std::vector<T>& list) {
    base::PutFixed64(text_, list.size());
    for (const T& item : list) Put(item);
  }
  // The names of all fields: one that is added and not named here does not compile.
  void Put(const WorkspacePolicy& policy) {
    const auto& [host, inside, mode, layer] = policy;
    Add(host, inside, mode, layer);
  }
  void Put(const ExtraMount& mount) {
    const auto& [host, inside, access, required] = mount;
    Add(host, inside, access, required);
  }
  void Put(const Limits& limits) {
    const auto& [wall, idle, cpu, memory, processes, files, file_bytes, disk, inodes, output, grace] = limits;
    Add(wall, idle, cpu, memory, processes, files, file_bytes, disk, inodes, output, grace);
  }

  std::string text_;
};

}  // namespace

std::vector<std::string> Policy::DefaultSystemRoots() {
  return {"/bin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/sbin", "/usr",
          // Of /etc only what programs need to start and to speak to the world.
          "/etc/alternatives", "/etc/bash.bashrc", "/etc/bash_completion.d", "/etc/ca-certificates",
          "/etc/ca-certificates.conf", "/etc/debian_version", "/etc/dpkg", "/etc/environment.d", "/etc/fonts",
          "/etc/gai.conf", "/etc/host.conf", "/etc/inputrc", "/etc/java-11-openjdk", "/etc/java-17-openjdk",
          "/etc/java-21-openjdk", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
          "/etc/locale.alias", "/etc/locale.conf", "/etc/localtime", "/etc/lsb-release", "/etc/magic",
          "/etc/maven", "/etc/mime.types", "/etc/nanorc", "/etc/nsswitch.conf", "/etc/os-release",
          "/etc/perl", "/etc/pki", "/etc/profile", "/etc/profile.d", "/etc/protocols", "/etc/python3",
          "/etc/python3.11", "/etc/rpc", "/etc/services", "/etc/shells", "/etc/ssl/certs",
          "/etc/ssl/openssl.cnf", "/etc/terminfo", "/etc/timezone", "/etc/vim"};
}

// What git, editors, shells and agents obey or run without asking; also what workspace/protected.h refuses to
// apply, there at any depth.
std::vector<std::string> Policy::DefaultProtectedPaths() {
  return {".git", ".gitmodules", ".gitattributes", ".gitconfig", ".git-credentials",
          // Agents.
          ".mcp.json", ".claude", ".codex", ".agents", ".cursor", ".cursorrules", ".holdfast", ".gemini",
          ".aider.conf.yml", ".windsurf", ".windsurfrules", ".clinerules", ".roo", ".continue", ".kiro",
          ".opencode",
          // Editors.
          ".vscode", ".idea", ".fleet", ".zed", ".vs", ".devcontainer", ".devcontainer.json", ".exrc",
          ".vimrc", ".nvimrc", ".nvim.lua", ".lvimrc", ".dir-locals.el", ".dir-locals-2.el",
          // Shells and what they load.
          ".envrc", ".direnv", ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".profile",
          ".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".ripgreprc", ".ssh", ".gnupg", ".netrc"};
}

base::StatusOr<Policy> Normalise(Policy policy) {
  HF_RETURN_IF_ERROR(NormaliseWorkspace(policy.workspace));
  HF_RETURN_IF_ERROR(NormaliseMounts(policy));
  HF_RETURN_IF_ERROR(NormaliseRoots(policy));
  HF_RETURN_IF_ERROR(CheckEnvironment(policy));
  HF_RETURN_IF_ERROR(CheckSizes(policy));
  const bool overlay = policy.workspace.mode == WorkspaceMode::kOverlay;
  if (overlay && policy.backend == Backend::kBubblewrap) {
    return InvalidArgument("policy: the bubblewrap backend has no overlay; use workspace.mode direct");
  }
  // What the policy asks for it requires.
  if (overlay) policy.required_layers |= Bit(Layer::kOverlay);
  if (policy.network == Network::kOff) policy.required_layers |= Bit(Layer::kNetNamespace);
  return policy;
}

std::string WhyNotContained(const Policy& policy) {
  if (policy.workspace.mode != WorkspaceMode::kOverlay) return "the workspace is written in place";
  if (policy.network != Network::kOff) return "the network is the host's";
  for (const ExtraMount& mount : policy.mounts) {
    if (mount.access == Access::kReadWrite)
      return (mount.inside.empty() ? mount.host : mount.inside) + " is writable";
  }
  return "";
}

std::string Describe(const Policy& policy) {
  std::string text;
  const WorkspacePolicy& workspace = policy.workspace;
  AddLine(text, "workspace",
          workspace.host + " as " + workspace.inside +
              (workspace.mode == WorkspaceMode::kOverlay ? ", overlay in " + workspace.layer : ", direct"));
  AddLine(text, "backend", policy.backend == Backend::kNamespaces ? "namespaces" : "bubblewrap");
  AddLine(text, "network", policy.network == Network::kOff ? "off" : "the host's");
  AddLine(text, "debugging", policy.debugging == Debugging::kRefused ? "refused" : "allowed");
  AddLine(text, "unix sockets", policy.unix_sockets == UnixSockets::kAllowed ? "allowed" : "refused");
  for (const std::string& root : policy.system_roots) AddLine(text, "system root", root);
  for (const ExtraMount& mount : policy.mounts) {
    AddLine(text, "mount",
            mount.host + " as " + mount.inside +
                (mount.access == Access::kReadOnly ? ", read-only" : ", writable"));
  }
  if (workspace.mode == WorkspaceMode::kDirect) {
    for (const std::string& path : policy.protected_paths) AddLine(text, "protected", path);
  }
  for (const std::string& name : policy.pass_environment) AddLine(text, "variable passed", name);
  for (const auto& [name, value] : policy.set_environment) AddLine(text, "variable set", name);
  for (const std::string_view name : LayerNames(policy.required_layers)) AddLine(text, "required", name);
  return text;
}

base::Sha256Digest DigestOf(const Policy& policy) {
  // As in Canonical: all fields.
  const auto& [workspace, backend, network, debugging, unix_sockets, system_roots, mounts, protected_paths,
               tmp_bytes, tmp_inodes, shm_bytes, home_bytes, pass_environment, set_environment, limits,
               required_layers, use_cgroups, use_landlock, setup_ms_max] = policy;
  Canonical canonical;
  canonical.Add(std::string("holdfast sandbox policy 1"), workspace, backend, network, debugging,
                unix_sockets, system_roots, mounts, protected_paths, tmp_bytes, tmp_inodes, shm_bytes,
                home_bytes, pass_environment, set_environment, limits, required_layers, use_cgroups,
                use_landlock, setup_ms_max);
  return canonical.Digest();
}

std::vector<std::pair<std::string, std::string>> BaseEnvironment(bool terminal) {
  return {{"PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"},
          {"HOME", "/agent"},
          {"USER", "agent"},
          {"LOGNAME", "agent"},
          {"SHELL", "/bin/bash"},
          {"LANG", "C.UTF-8"},
          {"TMPDIR", "/tmp"},
          {"TERM", terminal ? "xterm-256color" : "dumb"}};
}

bool LooksSecret(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string_view word :
       {"KEY", "TOKEN", "SECRET", "PASS", "CRED", "AUTH", "PRIVATE", "COOKIE"}) {
    if (upper.find(word) != std::string::npos) return true;
  }
  return false;
}

}  // namespace holdfast::sandbox
