#include "tools/tool.h"

#include <gtest/gtest.h>

namespace holdfast::tools {
namespace {

TEST(ToolTest, EffectsHaveNames) {
  EXPECT_EQ(EffectName(Effect::kReadOnly), "read_only");
  EXPECT_EQ(EffectName(Effect::kIdempotent), "idempotent");
  EXPECT_EQ(EffectName(Effect::kEffectful), "effectful");
}

}  // namespace
}  // namespace holdfast::tools
