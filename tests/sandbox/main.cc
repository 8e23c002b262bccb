// Runs the tests as who started them, or, when HOLDFAST_SANDBOX_TEST_AS_USER is set and that is root, as an
// ordinary user: everything here must hold for both.
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "gmock/gmock.h"
#include "tests/sandbox/victim.h"

namespace {

constexpr unsigned kOrdinaryUser = 61'234;  // of nobody

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
  if (argc == 4 && std::strcmp(argv[1], "--victim") == 0)
    return holdfast::sandbox::RunVictim(argv[2], argv[3]);
  if (argc == 6 && std::strcmp(argv[1], "--without") == 0)
    return holdfast::sandbox::RunWithout(argv[2], argv[3], std::atol(argv[4]), std::atoi(argv[5]));
  return RUN_ALL_TESTS();
}
