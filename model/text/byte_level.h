// The byte-to-character table of byte-level BPE (GPT-2): printable Latin-1 bytes stand for themselves, the
// others for U+0100 and up, in order.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace holdfast::model {

// The bytes that a token written in table characters stands for. InvalidArgument for any other character.
base::StatusOr<std::string> BytesOfToken(std::string_view token);

}  // namespace holdfast::model
