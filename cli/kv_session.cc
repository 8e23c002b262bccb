#include "cli/kv_session.h"

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/file.h"
#include "model/fingerprint.h"

namespace holdfast::cli {
namespace {

// A feed that meets damage goes back and tries again; each time a damaged block has left the store.
constexpr int kRepairsMax = 1000;

}  // namespace

base::StatusOr<std::unique_ptr<KvSession>> KvSession::Open(const std::string& directory,
                                                           const model::Checkpoint& checkpoint,
                                                           const model::Backend& backend,
                                                           model::Engine& engine) {
  auto session = std::unique_ptr<KvSession>(new KvSession(engine));
  if (directory.empty()) {
    session->sequence_ = engine.NewSequence();
    return session;
  }
  base::FileSystem& fs = base::RealFileSystem();
  const model::KvLayout& layout = engine.kv_layout();
  HF_ASSIGN_OR_RETURN(
      session->store_,
      memory::BlockStore::Open(
          fs, {.directory = directory,
               .planes = sessions::PlanesOf(layout),
               .tail_bytes = static_cast<uint32_t>(model::BoundaryTailBytes(engine.config(), layout.mode)),
               .on_event = [](const memory::StoreEvent& event) {
                 std::fprintf(stderr, "kv store: %s\n", event.message.c_str());
               }}));
  HF_ASSIGN_OR_RETURN(const model::WeightsHash weights,
                      model::HashWeights(checkpoint.weights(), model::HashDepth::kSampled,
                                         {.cache = {&fs, directory + ".weights"}}));
  const memory::BlockKey root{model::RootKey(model::ConfigText(engine.config()), weights.digest,
                                             model::kKvLayoutVersion, backend.NumericsId())};
  session->cache_.emplace(engine.config(), layout, *session->store_, root);
  session->executor_.emplace();
  session->flusher_.emplace(*session->executor_, base::RealClock(), *session->store_);
  return session;
}

KvSession::~KvSession() {
  if (executor_) executor_->Shutdown();
}

void KvSession::Start(std::span<const int32_t> tokens) {
  tokens_.assign(tokens.begin(), tokens.end());
  if (!cache_) return;
  line_ = cache_->Attach(tokens.first(tokens.empty() ? 0 : tokens.size() - 1));
  attached_ = line_->position();
  line_->WantTail(static_cast<int64_t>(tokens.size()) - 1);  // the prompt may come again
}

base::Status KvSession::FeedSome(std::span<float> logits) {
  model::Sequence& sequence = line_ ? line_->sequence() : *sequence_;
  const int64_t left = static_cast<int64_t>(tokens_.size()) - position();
  const int64_t limit = line_ ? line_->FeedLimit(left) : left;
  const int64_t count = std::min<int64_t>(limit, engine_.max_rows());
  const bool last = count == left;
  const auto chunk = std::span(tokens_).subspan(static_cast<size_t>(position()), static_cast<size_t>(count));
  const model::Feed feed{.sequence = &sequence,
                         .tokens = chunk,
                         .logits = last ? model::LogitRows::kLast : model::LogitRows::kNone,
                         .logits_out = last ? logits : std::span<float>()};
  HF_RETURN_IF_ERROR(engine_.Forward({&feed, 1}));
  if (!line_) return absl::OkStatus();
  line_->Fed(chunk, left - count);
  flusher_->Kick();
  return absl::OkStatus();
}

base::Status KvSession::CatchUp(std::span<float> logits, const std::function<bool(int64_t)>& go_on) {
  int repairs = 0;
  while (position() < static_cast<int64_t>(tokens_.size())) {
    const base::Status status = FeedSome(logits);
    if (absl::IsDataLoss(status) && line_ && ++repairs <= kRepairsMax) {
      line_->Reattach();
      continue;
    }
    HF_RETURN_IF_ERROR(status);
    if (!go_on(position())) return absl::CancelledError("interrupted");
  }
  return absl::OkStatus();
}

base::Status KvSession::Finish() {
  if (!line_) return absl::OkStatus();
  line_->Checkpoint();
  return store_->Sync();
}

}  // namespace holdfast::cli
