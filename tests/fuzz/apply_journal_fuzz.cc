// A journal of an apply from anywhere: it is refused, or it is what it says, to the byte. The first byte says
// whether the checksum is made right, so that the parsing gets deep.
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/coding.h"
#include "base/hash.h"
#include "workspace/apply/apply_journal.h"
#include "workspace/path.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast;
  if (size == 0 || size > (1 << 20)) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 1) != 0 && bytes.size() >= 8) {
    bytes.resize(bytes.size() - 8);
    base::PutFixed64(bytes, base::Xxh3(base::AsBytes(bytes)));
  }
  const auto journal = workspace::DecodeApplyJournal(base::AsBytes(bytes));
  if (!journal.ok()) {
    HF_CHECK(absl::IsDataLoss(journal.status()));
    return 0;
  }
  HF_CHECK(workspace::IsStagingName(journal->staging));
  for (const workspace::ApplyStep& step : journal->steps) {
    HF_CHECK(!step.path.empty() && workspace::ValidatePath(step.path).ok());
  }
  HF_CHECK(workspace::EncodeApplyJournal(*journal) == bytes);
  return 0;
}
