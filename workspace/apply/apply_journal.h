// What an apply is about to do to the user's tree, on disk before it does the first of it, so that a crash
// leaves something to finish. Byte layout: docs/formats/apply_journal.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "workspace/manifest.h"

namespace holdfast::workspace {

inline constexpr std::string_view kApplyJournalMagic = "HFAPPLY\n";
inline constexpr uint32_t kApplyJournalVersion = 1;
inline constexpr size_t kApplyJournalBytesMax = size_t{1} << 30;
inline constexpr size_t kApplyStepsMax = 4'000'000;

enum class ApplyPhase : uint32_t {
  kStaging = 1,     // new contents are being written to the staging directory; the tree is as it was
  kCommitting = 2,  // all are there and durable; the steps may have been done in part
};

enum class ApplyStepKind : uint8_t {
  kRemove = 1,         // a file, link or empty directory
  kMakeDirectory = 2,  // unless there is one
  kPut = 3,            // the staged file or link takes the path's place
  kSetMode = 4,
};

struct ApplyStep {
  ApplyStepKind kind = ApplyStepKind::kPut;
  std::string path;
  Version expected;  // what must be there for the step to be done
  Version result;    // of the whole apply at this path: a file that makes room for a directory has two steps
  uint32_t staged = 0;  // kPut: the name in the staging directory, as a decimal number

  friend bool operator==(const ApplyStep&, const ApplyStep&) = default;
};

struct ApplyJournal {
  ApplyPhase phase = ApplyPhase::kStaging;
  std::string staging;           // a directory in the root of the tree
  std::vector<ApplyStep> steps;  // in the order of doing; none while staging

  friend bool operator==(const ApplyJournal&, const ApplyJournal&) = default;
};

std::string EncodeApplyJournal(const ApplyJournal& journal);

// DataLoss, with the offset, for anything that EncodeApplyJournal would not write: another version, a wrong
// checksum, an unknown number, a path that ValidatePath refuses, a staging directory not named as one.
base::StatusOr<ApplyJournal> DecodeApplyJournal(std::span<const std::byte> bytes);

// ".holdfast-apply-" and 16 hexadecimal digits.
std::string StagingName(uint64_t number);
bool IsStagingName(std::string_view name);

}  // namespace holdfast::workspace
