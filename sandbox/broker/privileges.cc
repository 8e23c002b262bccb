#include "sandbox/broker/privileges.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace holdfast::sandbox {
namespace {

using wire::Failure;
using wire::Stage;

constexpr int kCapabilityEnd = 64;  // the sets are of 64 bits; the kernel refuses those it does not know

constexpr unsigned long kSecurebits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                      SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

struct CapabilitySets {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
};

Failure Drop(bool lock_securebits) {
  for (int cap = 0; cap < kCapabilityEnd; ++cap) {
    if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) {
      return {Stage::kCapabilities, errno, "bounding set"};
    }
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    return {Stage::kCapabilities, errno, "ambient set"};
  }
  if (lock_securebits && prctl(PR_SET_SECUREBITS, kSecurebits, 0, 0, 0) != 0)
    return {Stage::kCapabilities, errno, "securebits"};
  CapabilitySets none;
  if (syscall(SYS_capset, &none.header, none.data) != 0) return {Stage::kCapabilities, errno, "capset"};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return {Stage::kNoNewPrivileges, errno, ""};
  return {};
}

bool NoCapabilityLeft() {
  CapabilitySets sets;
  if (syscall(SYS_capget, &sets.header, sets.data) != 0) return false;
  for (const __user_cap_data_struct& word : sets.data) {
    if ((word.effective | word.permitted | word.inheritable) != 0) return false;
  }
  for (int cap = 0; cap < kCapabilityEnd; ++cap) {
    if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1) return false;
  }
  return true;
}

}  // namespace

Failure DropPrivileges(bool lock_securebits, uint32_t& layers) {
  if (Failure failure = Drop(lock_securebits); !failure.ok()) return failure;
  if (!NoCapabilityLeft()) return {Stage::kVerify, 0, "a capability is left"};
  if (lock_securebits && prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != static_cast<int>(kSecurebits)) {
    return {Stage::kVerify, 0, "securebits differ"};
  }
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return {Stage::kVerify, 0, "no_new_privs is not set"};
  layers |= wire::kLayerNoCapabilities | wire::kLayerNoNewPrivileges;
  if (lock_securebits) layers |= wire::kLayerSecurebits;
  return {};
}

}  // namespace holdfast::sandbox
