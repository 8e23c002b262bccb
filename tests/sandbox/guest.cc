#include "tests/sandbox/guest.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace guest {

void Report(const std::string& name, long result) {
  std::printf("%s=%s\n", name.c_str(), result >= 0 ? "OK" : strerrorname_np(errno));
  std::fflush(stdout);
}

}  // namespace guest

int main(int argc, char** argv) {
  const guest::Arguments arguments(argv + (argc < 2 ? argc : 2), argv + argc);
  for (const auto* attempts : {&guest::kPrivilegeAttempts, &guest::kFileAttempts, &guest::kNetworkAttempts,
                               &guest::kResourceAttempts}) {
    for (const guest::Attempt& attempt : *attempts) {
      if (argc >= 2 && std::strcmp(attempt.name, argv[1]) == 0) return attempt.run(arguments);
    }
  }
  std::fprintf(stderr, "guest: no such attempt\n");
  return 64;
}
