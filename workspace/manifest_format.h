// Bytes of a manifest's nodes: docs/formats/manifest.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace holdfast::workspace::manifest_format {

inline constexpr std::string_view kMagic = "HFM1";

// The byte of flags of an entry.
inline constexpr uint8_t kNowKindMask = 0x03;  // VersionKind
inline constexpr uint8_t kOpaque = 0x04;
inline constexpr uint8_t kHidden = 0x08;
inline constexpr int kBaseKindShift = 4;  // VersionKind in bits 4 and 5
inline constexpr uint8_t kUncertain = 0x40;
inline constexpr uint8_t kHasChildren = 0x80;

inline constexpr size_t kTargetBytesMax = 4095;
inline constexpr uint32_t kModeMax = 07777;

}  // namespace holdfast::workspace::manifest_format
