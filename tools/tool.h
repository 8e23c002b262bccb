// What the model can call.
#pragma once

#include <string_view>

namespace holdfast::tools {

// What running a call a second time would do.
enum class Effect {
  kReadOnly,    // nothing: it changes nothing
  kIdempotent,  // the same again
  kEffectful,   // possibly more harm
};
std::string_view EffectName(Effect effect);

}  // namespace holdfast::tools
