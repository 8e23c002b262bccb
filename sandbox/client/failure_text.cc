#include "sandbox/client/failure_text.h"

#include <cerrno>
#include <cstring>
#include <string>

namespace holdfast::sandbox {
namespace {

using wire::Stage;

std::string_view StageName(Stage stage) {
  switch (stage) {
    case Stage::kNone:
      return "nothing";
    case Stage::kProtocol:
      return "talking to the broker";
    case Stage::kDescriptors:
      return "making a channel";
    case Stage::kClone:
      return "making namespaces";
    case Stage::kIdMap:
      return "mapping ids";
    case Stage::kCredentials:
      return "changing ids";
    case Stage::kLoopback:
      return "raising the loopback device";
    case Stage::kSources:
      return "opening a system root or mount";
    case Stage::kRoot:
      return "building the root";
    case Stage::kProc:
      return "mounting /proc";
    case Stage::kDevices:
      return "building /dev";
    case Stage::kTemporary:
      return "mounting a temporary file system";
    case Stage::kWorkspace:
      return "opening the workspace";
    case Stage::kOverlay:
      return "mounting the overlay";
    case Stage::kIdMappedMount:
      return "mapping the owner of the workspace";
    case Stage::kPivot:
      return "changing the root";
    case Stage::kMasks:
      return "covering paths";
    case Stage::kCgroup:
      return "entering a control group";
    case Stage::kCapabilities:
      return "dropping capabilities";
    case Stage::kNoNewPrivileges:
      return "setting no_new_privs";
    case Stage::kLandlock:
      return "applying Landlock";
    case Stage::kSeccomp:
      return "installing the system call filter";
    case Stage::kVerify:
      return "verifying the isolation";
    case Stage::kTerminal:
      return "making a terminal";
    case Stage::kDirectory:
      return "entering the directory";
    case Stage::kExec:
      return "starting the program";
    case Stage::kDeadline:
      return "waiting";
    case Stage::kGone:
      return "keeping a process alive";
    case Stage::kEnd:
      break;
  }
  return "an unknown step";
}

std::string_view Remedy(const wire::Failure& failure, bool root) {
  switch (failure.stage) {
    case Stage::kIdMap:
      if (root)
        return "root is only a container's root here, and may not map the user that sessions run as: run "
               "Holdfast as "
               "an ordinary user";
      [[fallthrough]];
    case Stage::kClone:
      return "user namespaces are refused here. Look at the sysctls user.max_user_namespaces (above 0), "
             "kernel.unprivileged_userns_clone (1) and kernel.apparmor_restrict_unprivileged_userns (0, or "
             "an "
             "AppArmor profile for holdfast-sandbox); in a container, its seccomp profile must allow clone3, "
             "unshare "
             "and mount";
    case Stage::kProc:
      return "the kernel gives a new /proc only where the present one is whole: start the container with "
             "`--security-opt systempaths=unconfined` (Docker) or `unmask=ALL` (Podman)";
    case Stage::kIdMappedMount:
      if (failure.error == EPERM)
        return "root has no CAP_SYS_ADMIN here, as in a container: run Holdfast as an ordinary user, or give "
               "it that";
      return "the file system cannot map owners (overlay, NFS and some FUSE cannot): run Holdfast as the "
             "user who "
             "owns the tree instead of root, or move the tree to ext4, xfs, btrfs or tmpfs";
    case Stage::kOverlay:
      return root
                 ? "the layer must lie on a file system that overlayfs takes as upper (ext4, xfs, btrfs with "
                   "extended attributes), which a container's own root often is not; or use direct mode"
                 : "overlayfs in a user namespace needs Linux 5.11 and a layer on ext4, xfs, btrfs or tmpfs; "
                   "or "
                   "use direct mode";
    case Stage::kSources:
      return "remove the path from the policy, or make it readable to this user";
    case Stage::kSeccomp:
    case Stage::kVerify:
      return "the kernel needs CONFIG_SECCOMP_FILTER, and must not run under one that fakes it";
    case Stage::kCgroup:
      return "the control group went away or is full; use_cgroups = false does without";
    case Stage::kDeadline:
      return "a file system in the policy may not answer; remove it, or raise setup_ms_max";
    default:
      return "run `holdfast doctor` to see what this machine offers";
  }
}

}  // namespace

base::Status FailureStatus(const wire::Failure& failure, bool root) {
  std::string text = "sandbox: " + std::string(StageName(failure.stage)) + " failed";
  if (!failure.detail.empty()) text += " (" + failure.detail + ")";
  if (failure.error != 0) text += ": " + std::string(std::strerror(failure.error));
  if (const std::string_view remedy = Remedy(failure, root); !remedy.empty())
    text += "; " + std::string(remedy);
  text += ". Nothing was run.";
  if (failure.stage == Stage::kGone) return absl::UnavailableError(base::View(text));
  return base::FailedPrecondition(text);
}

std::string_view LayerRemedy(Layer layer) {
  switch (layer) {
    case Layer::kLandlock:
      return "a kernel with Landlock (CONFIG_SECURITY_LANDLOCK, `lsm=landlock,...`), 5.13 or later";
    case Layer::kMemoryCgroup:
      return "a writable control group with the memory controller: run under `systemd-run --user --scope -p "
             "Delegate=yes`, "
             "or as root";
    case Layer::kPidsCgroup:
      return "a writable control group with the pids controller: run under `systemd-run --user --scope -p "
             "Delegate=yes`, "
             "or as root";
    case Layer::kOverlay:
      return "the namespaces backend with workspace.mode overlay";
    case Layer::kNetNamespace:
      return "network off";
    case Layer::kSeccomp:
      return "a kernel with CONFIG_SECCOMP_FILTER";
    default:
      return "the namespaces backend on a kernel with user namespaces";
  }
}

base::Status MissingLayers(LayerSet missing) {
  std::string text = "sandbox: the policy requires what is not in force:";
  for (uint32_t i = 0; i < static_cast<uint32_t>(Layer::kEnd); ++i) {
    const auto layer = static_cast<Layer>(i);
    if (!Has(missing, layer)) continue;
    text += " " + std::string(LayerName(layer)) + " (needs " + std::string(LayerRemedy(layer)) + ");";
  }
  text.back() = '.';
  return base::FailedPrecondition(text + " Nothing was run.");
}

std::string StartError(const wire::Failure& failure, const std::string& directory) {
  if (failure.stage == Stage::kDirectory) return directory + ": " + std::strerror(failure.error);
  const bool named = failure.detail.find('/') == std::string::npos;
  switch (failure.error) {
    case ENOENT:
      return failure.detail +
             (named ? ": command not found" : ": no such file, or its interpreter is missing");
    case EACCES:
      return failure.detail + ": not executable";
    case ENOEXEC:
      return failure.detail + ": not a program (is the `#!` line missing?)";
    case E2BIG:
      return failure.detail + ": arguments and environment are too long";
    default:
      return failure.detail + ": " + std::strerror(failure.error);
  }
}

}  // namespace holdfast::sandbox
