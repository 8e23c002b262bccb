#include "sandbox/broker/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "sandbox/broker/descriptor.h"

namespace holdfast::sandbox {
namespace {

using wire::Failure;
using wire::Stage;

// What later versions of the interface added; the distribution's header ends at the second.
constexpr uint64_t kTruncate = 1ull << 14;      // 3
constexpr uint64_t kIoctlDevice = 1ull << 15;   // 5
constexpr uint64_t kScopeAbstract = 1ull << 0;  // 6

struct RulesetAttributes {
  uint64_t handled_fs;
  uint64_t handled_net;
  uint64_t scoped;
};

constexpr uint64_t kRead =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | kIoctlDevice;
constexpr uint64_t kFileOnly = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                               LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate | kIoctlDevice;

uint64_t AllRights(int abi) {
  uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
  if (abi >= 2) rights |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) rights |= kTruncate;
  if (abi >= 5) rights |= kIoctlDevice;
  return rights;
}

bool Allow(int ruleset, const char* path, uint64_t rights) {
  const Descriptor target(open(path, O_PATH | O_CLOEXEC));
  if (!target.valid()) return errno == ENOENT || errno == ENOTDIR;
  struct stat stat;
  if (fstat(target.get(), &stat) != 0) return false;
  if (!S_ISDIR(stat.st_mode)) rights &= kFileOnly;
  landlock_path_beneath_attr rule = {};
  rule.allowed_access = rights;
  rule.parent_fd = target.get();
  return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

}  // namespace

int LandlockAbi() {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return abi < 0 ? 0 : static_cast<int>(abi);
}

Failure RestrictWrites(int abi, const std::vector<std::string>& writable, bool scope_abstract,
                       uint32_t& layers) {
  const uint64_t all = AllRights(abi);
  RulesetAttributes attributes = {all, 0, abi >= 6 && scope_abstract ? kScopeAbstract : 0};
  const size_t size = abi >= 6 ? sizeof(attributes) : abi >= 4 ? 16 : 8;
  const Descriptor ruleset(static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
  if (!ruleset.valid()) return {Stage::kLandlock, errno, "ruleset"};
  if (!Allow(ruleset.get(), "/", kRead & all)) return {Stage::kLandlock, errno, "/"};
  for (const std::string& path : writable) {
    if (!Allow(ruleset.get(), path.c_str(), all)) return {Stage::kLandlock, errno, path};
  }
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0)
    return {Stage::kLandlock, errno, "restrict"};
  layers |= wire::kLayerLandlock;
  return {};
}

}  // namespace holdfast::sandbox
