#include "tests/support/ordinary_user.h"

#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>

namespace holdfast::test {
namespace {

constexpr unsigned kOrdinaryUser = 61'234;  // of nobody

}  // namespace

bool BecomeOrdinaryUserIfAsked() {
  if (std::getenv("HOLDFAST_SANDBOX_TEST_AS_USER") == nullptr || geteuid() != 0) return true;
  return setgroups(0, nullptr) == 0 && setresgid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0 &&
         setresuid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0 &&
         prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

}  // namespace holdfast::test
