#include "model/text/splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

namespace holdfast::model {
namespace {

constexpr uint32_t kMatchLimit = 100'000'000;  // backtracks of one match
constexpr uint32_t kHeapLimitKib = 256 * 1024;

std::string PcreMessage(int code) {
  std::array<PCRE2_UCHAR, 200> buffer;
  if (pcre2_get_error_message(code, buffer.data(), buffer.size()) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(buffer.data());
}

struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

using MatchData = std::unique_ptr<pcre2_match_data, FreeMatchData>;
using MatchContext = std::unique_ptr<pcre2_match_context, FreeMatchContext>;

// One pattern with what a match of it needs.
class Matcher {
 public:
  explicit Matcher(const pcre2_code* code)
      : code_(code),
        data_(pcre2_match_data_create_from_pattern(code, nullptr)),
        context_(pcre2_match_context_create(nullptr)) {
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  // Appends the matches in `text` and the gaps between them.
  base::Status Split(std::string_view text, std::vector<std::string_view>* pieces);

 private:
  // pcre2_match from `start`; an empty match does not count. The interpreter takes over when the compiled
  // code runs out of its stack.
  int Match(std::string_view text, size_t start) {
    constexpr uint32_t kOptions = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const int found = pcre2_match(code_, subject, text.size(), start, kOptions, data_.get(), context_.get());
    if (found != PCRE2_ERROR_JIT_STACKLIMIT) return found;
    return pcre2_match(code_, subject, text.size(), start, kOptions | PCRE2_NO_JIT, data_.get(),
                       context_.get());
  }

  const pcre2_code* code_;
  MatchData data_;
  MatchContext context_;
};

base::Status Matcher::Split(std::string_view text, std::vector<std::string_view>* pieces) {
  size_t start = 0;
  while (start < text.size()) {
    const int found = Match(text, start);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return base::ResourceExhausted("split pattern: " + PcreMessage(found) + " at byte " +
                                     std::to_string(start));
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_.get());
    // \K in a lookaround can set the start of a match before its search or behind its end.
    if (range[0] < start || range[1] <= range[0])
      return base::InvalidArgument("split pattern: misuse of \\K");
    if (range[0] > start) pieces->push_back(text.substr(start, range[0] - start));
    pieces->push_back(text.substr(range[0], range[1] - range[0]));
    start = range[1];
  }
  if (start < text.size()) pieces->push_back(text.substr(start));
  return {};
}

}  // namespace

void Splitter::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

base::StatusOr<Splitter> Splitter::Compile(const std::vector<std::string>& patterns) {
  Splitter splitter;
  for (const std::string& pattern : patterns) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
    if (code == nullptr) {
      return base::InvalidArgument("split pattern: " + PcreMessage(error) + " at byte " +
                                   std::to_string(offset));
    }
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where it is refused, the interpreter does the same
    splitter.codes_.push_back(std::move(code));
  }
  return splitter;
}

base::Status Splitter::Split(std::string_view text, std::vector<std::string_view>* pieces) const {
  std::vector<std::string_view> from = {text}, to;
  for (const Code& code : codes_) {
    to.clear();
    Matcher matcher(code.get());
    for (const std::string_view piece : from) HF_RETURN_IF_ERROR(matcher.Split(piece, &to));
    from.swap(to);
  }
  pieces->insert(pieces->end(), from.begin(), from.end());
  return {};
}

}  // namespace holdfast::model
