// Runs the tests, or, when it was started for that, what some of them start again as a process of its own.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "gmock/gmock.h"
#include "tests/sandbox/victim.h"
#include "tests/support/ordinary_user.h"

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (!holdfast::test::BecomeOrdinaryUserIfAsked()) {
    std::perror("becoming an ordinary user");
    return 1;
  }
  if (argc == 4 && std::strcmp(argv[1], "--victim") == 0)
    return holdfast::sandbox::RunVictim(argv[2], argv[3]);
  if (argc == 6 && std::strcmp(argv[1], "--without") == 0)
    return holdfast::sandbox::RunWithout(argv[2], argv[3], std::atol(argv[4]), std::atoi(argv[5]));
  return RUN_ALL_TESTS();
}
