#include <cstdio>

#include "gmock/gmock.h"
#include "tests/support/ordinary_user.h"

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (!holdfast::test::BecomeOrdinaryUserIfAsked()) {
    std::perror("becoming an ordinary user");
    return 1;
  }
  return RUN_ALL_TESTS();
}
