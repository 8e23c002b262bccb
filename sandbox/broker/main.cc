// holdfast-sandbox: the broker of the sandbox. The runtime starts it; people have no use for it, but for
// `holdfast-sandbox version`.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "sandbox/broker/broker.h"
#include "sandbox/broker/bubblewrap.h"
#include "sandbox/broker/kernel.h"
#include "sandbox/broker/probe_guest.h"
#include "sandbox/broker/wire.h"

namespace {

constexpr int kRuntimeChannel = 3;

int RunBroker() {
  using holdfast::sandbox::Broker;
  using holdfast::sandbox::Descriptor;
  holdfast::sandbox::ResetSignals();
  holdfast::sandbox::CloseFrom(kRuntimeChannel + 1);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // A job takes four or five descriptors here; commands get limits of their own.
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  Broker broker{Descriptor(kRuntimeChannel)};
  broker.Run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "broker") == 0) return RunBroker();
  if (argc == 2 && std::strcmp(argv[1], "bubblewrap-job") == 0) holdfast::sandbox::RunBubblewrapJob();
  if (argc == 3 && std::strcmp(argv[1], "probe") == 0) {
    // Without the destructors of a sanitizer's runtime, which would want to trace this process.
    _exit(holdfast::sandbox::RunProbeGuest(std::strcmp(argv[2], "off") == 0));
  }
  if (argc == 2 && std::strcmp(argv[1], "version") == 0) {
    std::printf("holdfast-sandbox, protocol %u\n", unsigned{holdfast::sandbox::wire::kVersion});
    return 0;
  }
  std::fputs("holdfast-sandbox is started by holdfast; usage: holdfast-sandbox broker | version\n", stderr);
  return 2;
}
