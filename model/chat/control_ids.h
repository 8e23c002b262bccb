// The ids of the control tokens that an assistant's turn is made of.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "model/chat/automaton.h"
#include "model/chat/format.h"
#include "model/tokenizer.h"

namespace holdfast::model {

struct ControlIds {
  std::array<int32_t, kControls> ids;  // by Control

  int32_t of(Control control) const { return ids[static_cast<size_t>(control)]; }

  // FailedPrecondition, naming the token, when the tokenizer lacks one.
  static base::StatusOr<ControlIds> Find(const Tokenizer& tokenizer, const ChatFormat& format) {
    ControlIds found;
    const std::array<std::string_view, kControls> tokens = {format.dsml, format.end_think, format.eos};
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::optional<int32_t> id = tokenizer.FindAdded(tokens[i]);
      if (!id) {
        return base::FailedPrecondition("the tokenizer has no control token '" + std::string(tokens[i]) +
                                        "'");
      }
      found.ids[i] = *id;
    }
    return found;
  }
};

}  // namespace holdfast::model
