// What must hold for root and for everybody else is run as both (cmake: holdfast_run_as_user_too).
#pragma once

namespace holdfast::test {

// When HOLDFAST_SANDBOX_TEST_AS_USER is set and the caller is root: from now on an ordinary user who owns
// nothing. False, with errno, when that could not be done. For main(), before anything else.
bool BecomeOrdinaryUserIfAsked();

}  // namespace holdfast::test
