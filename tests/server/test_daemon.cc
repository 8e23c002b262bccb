// A daemon that is killed by tests.
//
//   server_test_daemon DIRECTORY
#include <csignal>
#include <cstdio>
#include <utility>

#include "tests/server/server_testing.h"

int main(int argc, char** argv) {
  using namespace holdfast;
  if (argc != 2) return 2;
  std::signal(SIGPIPE, SIG_IGN);
  server::DaemonOptions options = server::TestDaemonOptions(argv[1]);
  options.runtime.manager.parked_max = 512;  // sessions at rest are not closed and read again
  auto daemon = server::Daemon::Start(std::move(options));
  if (!daemon.ok()) {
    std::fprintf(stderr, "%s\n", base::Message(daemon.status()).c_str());
    return 1;
  }
  (*daemon)->WaitForStop();
  return 0;
}
