#include "workspace/apply/apply_journal.h"

#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "base/coding.h"
#include "base/hash.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr std::string_view kStagingPrefix = ".holdfast-apply-";
constexpr size_t kStagingDigits = 16;
constexpr size_t kTargetBytesMax = 4096;
constexpr uint32_t kModeMax = 07777;
constexpr size_t kChecksumBytes = 8;
constexpr size_t kStepBytesMin = 8;

void PutVersion(std::string& out, const Version& version) {
  base::PutFixed8(out, static_cast<uint8_t>(version.kind));
  switch (version.kind) {
    case VersionKind::kAbsent:
      return;
    case VersionKind::kFile:
      HF_CHECK(version.content.has_value());  // a base without content is never what a step needs
      base::PutVarint64(out, version.mode);
      base::PutVarint64(out, version.size_bytes);
      out += base::AsText(*version.content);
      return;
    case VersionKind::kDirectory:
      base::PutVarint64(out, version.mode);
      return;
    case VersionKind::kSymlink:
      base::PutLengthPrefixed(out, version.target);
      return;
  }
}

// What is wrong with the numbers of a journal, besides what a Decoder sees.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : in_(bytes) {}

  base::StatusOr<ApplyJournal> Read() {
    ApplyJournal journal;
    in_.Bytes(kApplyJournalMagic.size() + sizeof(uint32_t));
    const uint32_t phase = in_.Fixed32();
    journal.phase = static_cast<ApplyPhase>(phase);
    Require(journal.phase == ApplyPhase::kStaging || journal.phase == ApplyPhase::kCommitting, "phase");
    journal.staging = in_.LengthPrefixed(kNameBytesMax);
    Require(IsStagingName(journal.staging), "name of the staging directory");
    const uint64_t count = in_.Varint64();
    Require(count <= kApplyStepsMax && count <= in_.remaining() / kStepBytesMin, "number of steps");
    Require(count == 0 || journal.phase == ApplyPhase::kCommitting, "number of steps");
    for (uint64_t i = 0; i < count && good(); ++i) journal.steps.push_back(ReadStep());
    if (problem_ != nullptr) {
      return base::DataLoss("apply journal: at offset " + std::to_string(problem_at_) + ": wrong " +
                            problem_);
    }
    HF_RETURN_IF_ERROR(in_.Finish("apply journal"));
    return journal;
  }

 private:
  bool good() const { return in_.ok() && problem_ == nullptr; }

  void Require(bool condition, const char* what) {
    if (condition || !good()) return;
    problem_ = what;
    problem_at_ = in_.offset();
  }

  Version ReadVersion() {
    Version version;
    version.kind = static_cast<VersionKind>(in_.Fixed8());
    switch (version.kind) {
      case VersionKind::kAbsent:
        return version;
      case VersionKind::kFile: {
        version.mode = ReadMode();
        version.size_bytes = in_.Varint64();
        const std::span<const std::byte> content = in_.Bytes(sizeof(BlobId));
        version.content.emplace();
        if (content.size() == sizeof(BlobId))
          std::copy(content.begin(), content.end(), version.content->begin());
        return version;
      }
      case VersionKind::kDirectory:
        version.mode = ReadMode();
        return version;
      case VersionKind::kSymlink:
        version.target = in_.LengthPrefixed(kTargetBytesMax);
        return version;
    }
    Require(false, "kind");
    return version;
  }

  uint32_t ReadMode() {
    const uint64_t mode = in_.Varint64();
    Require(mode <= kModeMax, "mode");
    return static_cast<uint32_t>(mode & kModeMax);
  }

  ApplyStep ReadStep() {
    ApplyStep step;
    const uint8_t kind = in_.Fixed8();
    Require(kind >= 1 && kind <= 4, "kind of step");
    step.kind = static_cast<ApplyStepKind>(kind);
    step.path = in_.LengthPrefixed(kPathBytesMax);
    Require(!step.path.empty() && ValidatePath(step.path).ok(), "path");
    step.expected = ReadVersion();
    step.result = ReadVersion();
    step.staged = in_.Fixed32();
    return step;
  }

  base::Decoder in_;
  const char* problem_ = nullptr;
  size_t problem_at_ = 0;
};

}  // namespace

std::string EncodeApplyJournal(const ApplyJournal& journal) {
  std::string out(kApplyJournalMagic);
  base::PutFixed32(out, kApplyJournalVersion);
  base::PutFixed32(out, static_cast<uint32_t>(journal.phase));
  base::PutLengthPrefixed(out, journal.staging);
  base::PutVarint64(out, journal.steps.size());
  for (const ApplyStep& step : journal.steps) {
    base::PutFixed8(out, static_cast<uint8_t>(step.kind));
    base::PutLengthPrefixed(out, step.path);
    PutVersion(out, step.expected);
    PutVersion(out, step.result);
    base::PutFixed32(out, step.staged);
  }
  base::PutFixed64(out, base::Xxh3(base::AsBytes(out)));
  return out;
}

base::StatusOr<ApplyJournal> DecodeApplyJournal(std::span<const std::byte> bytes) {
  constexpr size_t kHead = kApplyJournalMagic.size() + sizeof(uint32_t);
  if (bytes.size() < kHead + kChecksumBytes || !base::AsText(bytes).starts_with(kApplyJournalMagic)) {
    return base::DataLoss("apply journal: not one");
  }
  if (const auto version = base::LoadLittle<uint32_t>(&bytes[kApplyJournalMagic.size()]);
      version != kApplyJournalVersion) {
    return base::DataLoss("apply journal: version " + std::to_string(version) + " is not known here");
  }
  const std::span<const std::byte> body = bytes.first(bytes.size() - kChecksumBytes);
  if (base::Xxh3(body) != base::LoadLittle<uint64_t>(&bytes[body.size()])) {
    return base::DataLoss("apply journal: checksum mismatch");
  }
  return Reader(body).Read();
}

std::string StagingName(uint64_t number) {
  char digits[kStagingDigits + 1];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(number));
  return std::string(kStagingPrefix) + digits;
}

bool IsStagingName(std::string_view name) {
  if (!name.starts_with(kStagingPrefix) || name.size() != kStagingPrefix.size() + kStagingDigits)
    return false;
  name.remove_prefix(kStagingPrefix.size());
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace holdfast::workspace
