// Replaces known secrets in a stream, whatever the pieces it comes in.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/output.h"

namespace holdfast::sandbox {

// The secrets, prepared once. Of several that match at one place the longest wins; of equal ones the first.
class SecretSet {
 public:
  explicit SecretSet(std::vector<Secret> secrets);
  bool empty() const { return secrets_.empty(); }

  struct Match {
    const Secret* secret = nullptr;  // that the text begins with
    bool undecided = false;          // a longer one may follow once more is there
  };
  Match Find(std::string_view text) const;
  bool CanStart(char c) const { return starts_[static_cast<unsigned char>(c)]; }

 private:
  std::vector<Secret> secrets_;  // longest first
  std::array<bool, 256> starts_ = {};
};

// One stream. The result is that of replacing in the whole text from left to right. Held back is only what
// may still become a secret.
class Redactor {
 public:
  explicit Redactor(const SecretSet& secrets) : secrets_(secrets) {}

  // Appends to `out` what is certain.
  void Feed(std::string_view bytes, std::string& out);
  // The rest; no more comes.
  void Finish(std::string& out);

 private:
  void Scan(std::string_view text, bool last, std::string& out);
  const SecretSet& secrets_;
  std::string held_;
};

}  // namespace holdfast::sandbox
