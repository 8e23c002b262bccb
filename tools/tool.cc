#include "tools/tool.h"

namespace holdfast::tools {

std::string_view EffectName(Effect effect) {
  switch (effect) {
    case Effect::kReadOnly: return "read_only";
    case Effect::kIdempotent: return "idempotent";
    case Effect::kEffectful: return "effectful";
  }
  return "unknown";
}

}  // namespace holdfast::tools
