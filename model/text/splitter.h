// Pre-tokenisation: a sequence of regular expressions, each applied to the pieces the one before left.
// Matches and the gaps between them both become pieces ("Isolated").
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

struct pcre2_real_code_8;

namespace holdfast::model {

// Immutable after construction; safe from any thread.
class Splitter {
 public:
  // InvalidArgument for a pattern that PCRE2 (UTF, Unicode properties) does not take.
  static base::StatusOr<Splitter> Compile(const std::vector<std::string>& patterns);

  // Cuts `text`, which must be valid UTF-8, into pieces that point into it. ResourceExhausted when a pattern
  // backtracks beyond its limit.
  base::Status Split(std::string_view text, std::vector<std::string_view>* pieces) const;

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  using Code = std::unique_ptr<pcre2_real_code_8, FreeCode>;

  std::vector<Code> codes_;
};

}  // namespace holdfast::model
