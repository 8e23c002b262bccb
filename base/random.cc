#include "base/random.h"

#include <sys/random.h>

#include <cerrno>

#include "base/check.h"

namespace holdfast::base {
namespace {

class KernelEntropy final : public Entropy {
 public:
  void Fill(std::span<std::byte> out) override {
    while (!out.empty()) {
      const ssize_t n = getrandom(out.data(), out.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      HF_CHECK(n > 0);  // no other error is possible on a kernel that has getrandom (Linux 3.17)
      out = out.subspan(static_cast<size_t>(n));
    }
  }
};

}  // namespace

uint64_t Entropy::Next64() {
  uint64_t value = 0;
  Fill(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

Entropy& RealEntropy() {
  static KernelEntropy& entropy = *new KernelEntropy;
  return entropy;
}

}  // namespace holdfast::base
