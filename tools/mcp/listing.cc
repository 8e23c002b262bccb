#include "tools/mcp/listing.h"

#include <utility>

#include "sandbox/output.h"

namespace holdfast::tools::mcp {
namespace {

constexpr size_t kShownBytesMax = 300;

base::Status NotThere(std::string_view why) { return absl::UnavailableError(base::View(why)); }

}  // namespace

void Listing::Start(base::MonotonicTime deadline, OnDone done) {
  deadline_ = deadline;
  done_ = std::move(done);
  AskPage();
}

void Listing::AskPage() {
  Json params = Json::object();
  if (!cursor_.empty()) params["cursor"] = cursor_;
  const auto id = peer_.Ask("tools/list", WithMeta(agreement_, std::move(params)), deadline_,
                            [this](Answer answer) { TakePage(answer); });
  if (!id.ok()) Finish(NotThere("does not read: " + base::Message(id.status())));
}

void Listing::TakePage(const Answer& answer) {
  switch (answer.kind) {
    case Answer::Kind::kLost:
      return Finish(NotThere(answer.message + " while it listed its tools"));
    case Answer::Kind::kDeadline:
      return Finish(NotThere("did not list its tools in time"));
    case Answer::Kind::kError:
      return Finish(base::FailedPrecondition(
          "refused to list its tools: error " + std::to_string(answer.code) + ": " +
          sandbox::MakeSafe(std::string_view(answer.message).substr(0, kShownBytesMax))));
    case Answer::Kind::kResult:
      break;
  }
  base::StatusOr<std::string> next = builder_.AddPage(answer.line);
  if (!next.ok()) return Finish(base::FailedPrecondition(base::Message(next.status())));
  if (next->empty()) {
    Listed listed;
    listed.catalogue = builder_.Finish(&listed.left_out);
    return Finish(std::move(listed));
  }
  if (!cursors_.insert(*next).second) {
    return Finish(base::FailedPrecondition("lists its tools in a circle: a cursor came twice"));
  }
  if (cursors_.size() >= config_.bounds.pages_max) {
    return Finish(base::FailedPrecondition("lists its tools in more than " +
                                           std::to_string(config_.bounds.pages_max) + " pages"));
  }
  cursor_ = *std::move(next);
  AskPage();
}

void Listing::Finish(base::StatusOr<Listed> result) {
  if (OnDone done = std::exchange(done_, nullptr)) done(std::move(result));
}

}  // namespace holdfast::tools::mcp
