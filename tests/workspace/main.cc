// Runs the tests as who started them, or, when HOLDFAST_SANDBOX_TEST_AS_USER is set and that is root, as an
// ordinary user: everything here must hold for both.
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "gmock/gmock.h"

namespace {

constexpr unsigned kOrdinaryUser = 61'237;  // of nobody

bool BecomeOrdinaryUser() {
  return setgroups(0, nullptr) == 0 && setresgid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0 &&
         setresuid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0 &&
         prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (std::getenv("HOLDFAST_SANDBOX_TEST_AS_USER") != nullptr && geteuid() == 0 && !BecomeOrdinaryUser()) {
    std::perror("becoming an ordinary user");
    return 1;
  }
  return RUN_ALL_TESTS();
}
