#include "sandbox/broker/session_root.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "sandbox/broker/kernel.h"
#include "sandbox/broker/mounts.h"

namespace holdfast::sandbox {
namespace {

using wire::Failure;
using wire::MountKind;
using wire::Stage;

constexpr char kLowerStage[] = "lower";
constexpr char kLayerStage[] = "layer";
constexpr uint64_t kRootBytes = 16 << 20;
constexpr uint64_t kRootInodes = 8192;
constexpr size_t kCopyBytesMax = 64 * 1024;
constexpr const char* kDevices[] = {"null", "zero", "full", "random", "urandom", "tty"};

// What of /proc speaks of the machine instead of the job. Directories and files are covered by an empty one,
// or, where programs read them, made read-only.
constexpr const char* kProcReadOnly[] = {"/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs",
                                         "/proc/sysrq-trigger"};
constexpr const char* kProcHiddenFiles[] = {"/proc/kcore",       "/proc/keys",         "/proc/key-users",
                                            "/proc/timer_list",  "/proc/kallsyms",     "/proc/kmsg",
                                            "/proc/sched_debug", "/proc/latency_stats"};
constexpr const char* kProcHiddenDirectories[] = {"/proc/acpi", "/proc/scsi", "/proc/asound"};

Failure Fail(Stage stage, std::string detail) { return {stage, errno, std::move(detail)}; }

struct Source {
  const wire::MountEntry* entry = nullptr;
  Descriptor mount;
  std::string link;  // the entry is a symbolic link to this
  std::string copy;  // of a small file, instead of a mount
  bool directory = false;
};

struct Sources {
  std::vector<Source> entries;
  std::vector<std::pair<const char*, Descriptor>> devices;
  Descriptor workspace;
  Descriptor layer;
};

// A mount of its own for each small file of /etc would be a fifth of what a session costs. Nobody can write
// to the copy: the root is read-only. Empty: not such a file.
std::string CopyOf(const std::string& path, const struct stat& stat) {
  std::string text;
  if (!S_ISREG(stat.st_mode) || !path.starts_with("/etc/") ||
      static_cast<size_t>(stat.st_size) > kCopyBytesMax)
    return text;
  if (!ReadText(path.c_str(), text, kCopyBytesMax + 1) || text.size() > kCopyBytesMax) text.clear();
  return text;
}

// Opens one entry of the plan; an absent one that is not required leaves nothing in `source`.
Failure TakeSource(const wire::MountEntry& entry, Source& source) {
  const bool follow = entry.kind != MountKind::kReadOnly;
  struct stat stat;
  if ((follow ? ::stat(entry.host.c_str(), &stat) : lstat(entry.host.c_str(), &stat)) != 0) {
    if (!entry.required) return {};
    return Fail(Stage::kSources, entry.host);
  }
  source.entry = &entry;
  source.directory = S_ISDIR(stat.st_mode);
  if (S_ISLNK(stat.st_mode)) {
    std::string target(4096, '\0');
    const ssize_t n = readlink(entry.host.c_str(), target.data(), target.size());
    if (n <= 0) return Fail(Stage::kSources, entry.host);
    source.link = target.substr(0, static_cast<size_t>(n));
    return {};
  }
  if (!S_ISDIR(stat.st_mode) && !S_ISREG(stat.st_mode)) {
    source.entry = nullptr;  // a socket or a device in a list of files is none of the session's business
    return {};
  }
  if (entry.kind == MountKind::kReadOnly) source.copy = CopyOf(entry.host, stat);
  if (!source.copy.empty()) return {};
  source.mount =
      CloneMount(entry.host.c_str(), {.read_only = entry.kind != MountKind::kReadWrite, .follow = follow});
  if (!source.mount.valid()) return Fail(Stage::kSources, entry.host);
  return {};
}

// As TakeSource, where the broker has opened it.
Failure TakeOpened(const wire::MountEntry& entry, const Descriptor& opened, Source& source) {
  if (!opened.valid()) return {};  // absent, and not required
  struct stat stat;
  if (fstat(opened.get(), &stat) != 0) return Fail(Stage::kSources, entry.host);
  source.entry = &entry;
  source.directory = S_ISDIR(stat.st_mode);
  source.mount = Descriptor(fcntl(opened.get(), F_DUPFD_CLOEXEC, 3));
  return {};
}

Failure TakeSources(const SessionStart& start, Sources& sources) {
  size_t opened = 0;
  for (const wire::MountEntry& entry : start.spec.mounts) {
    if (entry.kind == MountKind::kMask) continue;
    Source source;
    const bool by_broker = start.broker_is_root && OpenedByBroker(entry);
    Failure failure =
        by_broker ? TakeOpened(entry, start.extra[opened++], source) : TakeSource(entry, source);
    if (!failure.ok()) return failure;
    if (source.entry != nullptr) sources.entries.push_back(std::move(source));
  }
  for (const char* name : kDevices) {
    const std::string path = std::string("/dev/") + name;
    Descriptor device = CloneMount(path.c_str(), {.read_only = false, .devices = true});
    if (!device.valid()) return Fail(Stage::kDevices, path);
    sources.devices.emplace_back(name, std::move(device));
  }
  if (start.broker_is_root) return {};  // the broker made these two, id-mapped
  const bool overlay = start.spec.overlay;
  sources.workspace = CloneMount(start.spec.workspace_host.c_str(), {.read_only = overlay, .follow = true});
  if (!sources.workspace.valid()) return Fail(Stage::kWorkspace, start.spec.workspace_host);
  if (overlay) {
    sources.layer = CloneMount(start.spec.layer.c_str(), {.read_only = false, .follow = true});
    if (!sources.layer.valid()) return Fail(Stage::kOverlay, start.spec.layer);
  }
  return {};
}

Failure AttachTmpfs(RootBuilder& root, const char* path, uint64_t bytes, uint64_t inodes, const char* mode) {
  const Descriptor mount = NewTmpfs(bytes, inodes, mode);
  if (!mount.valid() || !root.Attach(mount.get(), path, true)) return Fail(Stage::kTemporary, path);
  return {};
}

Failure FillDevices(RootBuilder& root, const Sources& sources, const wire::SessionSpec& spec) {
  const Descriptor dev = NewTmpfs(65'536, 64, "0755");
  if (!dev.valid() || !root.Attach(dev.get(), "/dev", true)) return Fail(Stage::kDevices, "/dev");
  for (const auto& [name, mount] : sources.devices) {
    if (!root.Attach(mount.get(), std::string("/dev/") + name, false)) return Fail(Stage::kDevices, name);
  }
  const std::pair<const char*, const char*> links[] = {{"/dev/fd", "/proc/self/fd"},
                                                       {"/dev/stdin", "/proc/self/fd/0"},
                                                       {"/dev/stdout", "/proc/self/fd/1"},
                                                       {"/dev/stderr", "/proc/self/fd/2"},
                                                       {"/dev/ptmx", "pts/ptmx"}};
  for (const auto& [path, target] : links) {
    if (!root.MakeLink(path, target)) return Fail(Stage::kDevices, path);
  }
  if (!root.MakeDirectory("/dev/pts") || !root.MakeDirectory("/dev/shm"))
    return Fail(Stage::kDevices, "/dev");
  if (!MakeReadOnly(dev.get(), false)) return Fail(Stage::kDevices, "/dev read-only");
  return AttachTmpfs(root, "/dev/shm", spec.shm_bytes, spec.tmp_inodes, "1777");
}

// Files that name things of the host are made anew.
Failure FillEtc(RootBuilder& root) {
  const std::pair<const char*, const char*> files[] = {
      {"/etc/passwd",
       "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:1000:1000:agent:/agent:/bin/bash\n"
       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
      {"/etc/group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"},
      {"/etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n"},
      {"/etc/hostname", "sandbox\n"}};
  for (const auto& [path, content] : files) {
    if (!root.MakeFile(path, content)) return Fail(Stage::kRoot, path);
  }
  return {};
}

Failure FillSystem(RootBuilder& root, const Sources& sources) {
  for (const Source& source : sources.entries) {
    const std::string& inside = source.entry->inside;
    bool good = true;
    if (!source.link.empty()) {
      good = root.MakeLink(inside, source.link);
    } else if (!source.copy.empty()) {
      good = root.MakeFile(inside, source.copy);
    } else {
      good = root.Attach(source.mount.get(), inside, source.directory);
    }
    if (!good) return Fail(Stage::kSources, inside);
  }
  return {};
}

// The overlay's parts need paths while it is mounted. They get them in the host's tree, so that they go with
// that: to detach them by themselves would wait, milliseconds each, for all readers of the mount table.
Failure StageLayers(const Descriptor& stage, int lower, int layer) {
  if (!stage.valid() || !AttachAt(stage.get(), "/proc")) return Fail(Stage::kOverlay, "stage");
  for (const auto& [mount, name] : {std::pair(lower, kLowerStage), std::pair(layer, kLayerStage)}) {
    if (mkdirat(stage.get(), name, 0700) != 0 ||
        move_mount(mount, "", stage.get(), name, MOVE_MOUNT_F_EMPTY_PATH) != 0)
      return Fail(Stage::kOverlay, name);
  }
  return fchdir(stage.get()) == 0 ? Failure{} : Fail(Stage::kOverlay, "stage");
}

Failure MountOverlay(RootBuilder& root, const SessionStart& start, const Sources& sources) {
  const bool by_broker = start.broker_is_root;
  const Descriptor stage = NewTmpfs(65'536, 16, "0700");
  if (Failure f = StageLayers(stage, by_broker ? start.workspace.get() : sources.workspace.get(),
                              by_broker ? start.layer.get() : sources.layer.get());
      !f.ok()) {
    return f;
  }
  const std::string upper = std::string(kLayerStage) + "/upper";
  // Always a new one. With "volatile" (no sync when it is unmounted; whoever owns the layer makes it durable)
  // overlayfs refuses a work directory that was not left in order, as one of a killed session is.
  const std::string work = std::string(kLayerStage) + "/work/" + start.work;
  if (mkdir(work.c_str(), 0700) != 0 && errno != EEXIST) return Fail(Stage::kOverlay, "work");
  const Descriptor mount = NewInstance("overlay", {{"lowerdir", kLowerStage},
                                                   {"upperdir", upper.c_str()},
                                                   {"workdir", work.c_str()},
                                                   {"userxattr", nullptr},
                                                   {"volatile", nullptr}});
  if (!mount.valid()) return Fail(Stage::kOverlay, "mount");
  mount_attr attr = {};
  attr.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID;
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0) {
    return Fail(Stage::kOverlay, "attributes");
  }
  const std::string& inside = start.spec.workspace_inside;
  return root.Attach(mount.get(), inside, true) ? Failure{} : Fail(Stage::kOverlay, inside);
}

Failure FillRoot(RootBuilder& root, const SessionStart& start, Sources& sources) {
  const wire::SessionSpec& spec = start.spec;
  if (Failure f = FillEtc(root); !f.ok()) return f;
  if (Failure f = FillDevices(root, sources, spec); !f.ok()) return f;
  // While the host's own is still in sight: the kernel gives a new one only to who sees a whole one already.
  const Descriptor proc = NewInstance("proc", {});
  if (!proc.valid() || !root.Attach(proc.get(), "/proc", true)) return Fail(Stage::kProc, "");
  if (Failure f = AttachTmpfs(root, "/tmp", spec.tmp_bytes, spec.tmp_inodes, "1777"); !f.ok()) return f;
  if (Failure f = AttachTmpfs(root, "/var/tmp", spec.tmp_bytes, spec.tmp_inodes, "1777"); !f.ok()) return f;
  if (Failure f = AttachTmpfs(root, kHome, spec.home_bytes, spec.tmp_inodes, "0755"); !f.ok()) return f;
  if (!root.MakeDirectory("/run")) return Fail(Stage::kRoot, "/run");
  if (Failure f = FillSystem(root, sources); !f.ok()) return f;
  if (spec.overlay) return MountOverlay(root, start, sources);
  const int workspace = start.broker_is_root ? start.workspace.get() : sources.workspace.get();
  return root.Attach(workspace, spec.workspace_inside, true) ? Failure{}
                                                             : Fail(Stage::kWorkspace, spec.workspace_inside);
}

// In direct mode: protected directories of the workspace become read-only mounts of themselves.
Failure ProtectPaths(const wire::SessionSpec& spec) {
  for (const wire::MountEntry& entry : spec.mounts) {
    if (entry.kind != MountKind::kMask) continue;
    const Descriptor mount = CloneMount(entry.inside.c_str(), {.read_only = true});
    if (!mount.valid()) {
      if (errno == ENOENT || errno == ENOTDIR) continue;
      return Fail(Stage::kMasks, entry.inside);
    }
    if (!AttachAt(mount.get(), entry.inside.c_str())) return Fail(Stage::kMasks, entry.inside);
  }
  return {};
}

// A copy of its own, since the protected paths of direct mode must stay covered when the session has ended:
// the mounts of a namespace that goes are taken apart, those of a copy stay together while it is open.
Failure HandOut(const std::string& workspace, Descriptor& handle) {
  const Descriptor root(open(workspace.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return Fail(Stage::kWorkspace, workspace);
  handle = CloneAsIs(root.get());
  return handle.valid() ? Failure{} : Fail(Stage::kWorkspace, "handle");
}

}  // namespace

Failure BuildSessionRoot(const SessionStart& start, uint32_t& layers, Descriptor& handle) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Fail(Stage::kRoot, "private");
  Sources sources;
  if (Failure f = TakeSources(start, sources); !f.ok()) return f;
  const Descriptor root_mount = NewTmpfs(kRootBytes, kRootInodes, "0755");
  if (!root_mount.valid()) return Fail(Stage::kRoot, "tmpfs");
  // Any directory of the host will do for the moment; all sources are taken already.
  if (!AttachAt(root_mount.get(), "/tmp") && !AttachAt(root_mount.get(), "/usr"))
    return Fail(Stage::kRoot, "");
  RootBuilder root(root_mount.get());
  if (Failure f = FillRoot(root, start, sources); !f.ok()) return f;
  if (fchdir(root_mount.get()) != 0 || syscall(SYS_pivot_root, ".", ".") != 0) return Fail(Stage::kPivot, "");
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) return Fail(Stage::kPivot, "detach");
  if (start.spec.overlay) {
    layers |= wire::kLayerOverlay;
  } else if (Failure f = ProtectPaths(start.spec); !f.ok()) {
    return f;
  }
  if (!MakeReadOnly(root_mount.get(), false)) return Fail(Stage::kRoot, "read-only");
  layers |= wire::kLayerMinimalRoot;
  return HandOut(start.spec.workspace_inside, handle);
}

Failure BuildJobView() {
  const Descriptor proc = NewInstance("proc", {});
  if (!proc.valid()) return Fail(Stage::kProc, "");
  // Over that of the session, which is in nobody's reach then: taking that away first would wait for all
  // readers of the mount table, milliseconds of each job.
  if (!AttachAt(proc.get(), "/proc")) return Fail(Stage::kProc, "attach");
  for (const char* path : kProcReadOnly) {
    const Descriptor copy = CloneMount(path, {.read_only = true});
    if (!copy.valid() && errno == ENOENT) continue;
    if (!copy.valid() || !AttachAt(copy.get(), path)) return Fail(Stage::kMasks, path);
  }
  for (const char* path : kProcHiddenFiles) {
    if (access(path, F_OK) != 0) continue;
    const Descriptor null = CloneMount("/dev/null", {.read_only = true, .devices = true});
    if (!null.valid() || !AttachAt(null.get(), path)) return Fail(Stage::kMasks, path);
  }
  for (const char* path : kProcHiddenDirectories) {
    if (access(path, F_OK) != 0) continue;
    const Descriptor empty = NewTmpfs(4096, 1, "0555");
    if (!empty.valid() || !AttachAt(empty.get(), path)) return Fail(Stage::kMasks, path);
  }
  // Its own terminals: a job must not open those of another.
  const Descriptor pts =
      NewInstance("devpts", {{"newinstance", nullptr}, {"ptmxmode", "0666"}, {"mode", "0620"}});
  if (!pts.valid() || !AttachAt(pts.get(), "/dev/pts")) return Fail(Stage::kDevices, "/dev/pts");
  return {};
}

std::vector<std::string> WritablePaths(const wire::SessionSpec& spec) {
  std::vector<std::string> paths = {"/tmp", "/var/tmp", kHome, "/dev", "/proc", spec.workspace_inside};
  for (const wire::MountEntry& entry : spec.mounts) {
    if (entry.kind == MountKind::kReadWrite) paths.push_back(entry.inside);
  }
  return paths;
}

}  // namespace holdfast::sandbox
