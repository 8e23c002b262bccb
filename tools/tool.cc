#include "tools/tool.h"

#include "sandbox/policy.h"
#include "sandbox/sandbox.h"

namespace holdfast::tools {

std::string_view EffectName(Effect effect) {
  switch (effect) {
    case Effect::kReadOnly:
      return "read_only";
    case Effect::kIdempotent:
      return "idempotent";
    case Effect::kEffectful:
      return "effectful";
  }
  return "unknown";
}

std::string_view ToolStatusName(ToolStatus status) {
  switch (status) {
    case ToolStatus::kOk:
      return "ok";
    case ToolStatus::kFailed:
      return "failed";
    case ToolStatus::kInvalid:
      return "invalid";
    case ToolStatus::kDenied:
      return "denied";
    case ToolStatus::kTimeout:
      return "timeout";
    case ToolStatus::kCancelled:
      return "cancelled";
    case ToolStatus::kUnavailable:
      return "unavailable";
    case ToolStatus::kUnknown:
      return "unknown";
  }
  return "unknown";
}

bool IsConfined(const ToolContext& context) {
  return context.session != nullptr && sandbox::IsContained(context.session->policy());
}

}  // namespace holdfast::tools
