// Makes a data directory with one short session on a checkpoint, sampled by the real engine and closed by
// rule: what `holdfast session` is tried on.
//
//   session_fixture CHECKPOINT DATA
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "agent/dialogue.h"
#include "base/coding.h"
#include "base/executor.h"
#include "base/file.h"
#include "memory/blob_store.h"
#include "memory/sqlite_database.h"
#include "memory/text_index.h"
#include "model/engine.h"
#include "model/fingerprint.h"
#include "model/sampler.h"
#include "sessions/session_store.h"

namespace holdfast {
namespace {

constexpr size_t kSampled = 12;

template <class T>
T Must(base::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "session_fixture: %s\n", base::Message(value.status()).c_str());
  std::exit(1);
}

// What stands in the log of one turn that was interrupted.
std::vector<sessions::EventBody> Turn(const model::Checkpoint& checkpoint, const model::Tokenizer& tokenizer,
                                      const agent::ProfileSet& profile, const base::Sha256Digest& blob) {
  const auto dialogue = Must(agent::Dialogue::Make(tokenizer, {.system = profile.system}));
  const auto backend = model::MakeCpuBackend({});
  model::Engine engine(checkpoint.config(), checkpoint.weights(), *backend, {});
  model::Sequence sequence = engine.NewSequence();
  model::Sampler sampler = Must(model::Sampler::Make({.temperature = 1}));
  const std::string text = "What is a lease?";
  const std::vector<int32_t> fed = Must(dialogue->First(std::vector<agent::Said>{{.text = text}}));
  const auto constraint = dialogue->Constrain({});
  std::vector<float> logits(static_cast<size_t>(checkpoint.config().vocab_size));
  std::vector<int32_t> next = fed;
  std::vector<int32_t> sampled;
  while (sampled.size() < kSampled && !constraint->IsDone()) {
    const model::Feed feed{
        .sequence = &sequence, .tokens = next, .logits = model::LogitRows::kLast, .logits_out = logits};
    if (!engine.Forward({&feed, 1}).ok()) std::exit(1);
    const uint64_t position = fed.size() + sampled.size();
    next = {Must(sampler.Sample(logits, constraint->Mask(), {.seed = 5, .position = position}))};
    sampled.push_back(next[0]);
    if (!constraint->Accept(next[0]).ok()) std::exit(1);
  }
  const auto position = static_cast<int64_t>(fed.size());
  const agent::Closing closing = dialogue->Close(sampled);
  std::vector<sessions::EventBody> bodies = {
      agent::Encode(profile),
      agent::Encode(agent::CheckRan{.command = "true", .blobs = {blob}}),
      sessions::InputReceived{.text = text},
      sessions::StateChanged{.state = sessions::SessionState::kRunning},
      sessions::TokenRun{.ids = fed, .rendered = {4}},
      sessions::TokenRun{.position = position,
                         .origin = sessions::TokenOrigin::kSampled,
                         .ids = sampled,
                         .sampling = sessions::Sampling{.temperature = 1,
                                                        .seed = 5,
                                                        .grammar = dialogue->grammar_hash(),
                                                        .numerics = backend->NumericsId()}}};
  if (closing.cut > 0) {
    bodies.push_back(sessions::TokensCut{
        .position = position + static_cast<int64_t>(sampled.size()) - closing.cut, .count = closing.cut});
  }
  if (!closing.forced.empty()) {
    bodies.push_back(
        sessions::TokenRun{.position = position + static_cast<int64_t>(sampled.size()) - closing.cut,
                           .origin = sessions::TokenOrigin::kForced,
                           .ids = closing.forced,
                           .rule = sessions::ForcedRule::kInterrupted});
  }
  return bodies;
}

void Make(const std::string& model, const std::string& directory) {
  base::FileSystem& fs = base::RealFileSystem();
  const auto checkpoint = Must(model::Checkpoint::Open(fs, model));
  const auto tokenizer = Must(model::Tokenizer::Load(fs, model + "/tokenizer.json"));
  if (!fs.CreateDirectories(directory).ok()) std::exit(1);
  const auto blobs = Must(memory::BlobStore::Open(fs, {.directory = directory + "/blobs"}));
  const auto batch = blobs->NewBatch();
  const base::Sha256Digest blob = Must(batch->Add(base::AsBytes("the whole output\n")));
  if (!batch->Commit().ok()) std::exit(1);
  const auto weights = Must(model::HashWeights(checkpoint->weights(), model::HashDepth::kSampled, {}));
  const sessions::SessionCreated created{
      .uid = {std::byte{1}},
      .weights = weights.digest,
      .config = base::Sha256Of(base::AsBytes(model::ConfigText(checkpoint->config()))),
      .seed = 5};
  const agent::ProfileSet profile{.profile = "plain@1", .mode = "chat", .version = "v4-0731", .system = "s"};

  const auto database = Must(memory::SqliteDatabase::Open(
      fs, {.path = directory + "/holdfast.db"}, {sessions::SessionSchema(), memory::TextIndex::kSchema}));
  base::ThreadExecutor executor;
  const auto store = Must(sessions::SessionStore::Open(executor, base::RealClock(), *database));
  std::unique_ptr<sessions::StoredSession> session;
  const auto on_control = [&executor](auto work) {
    executor.PostResult(base::Lane::kControl, std::move(work));
    executor.Drain();
  };
  on_control([&] {
    store->Create("lease", created, {},
                  [](const auto& row) { Must(base::StatusOr<sessions::SessionRow>(row)); });
  });
  on_control(
      [&] { store->OpenSession("lease", nullptr, [&](auto open) { session = Must(std::move(open)); }); });
  std::vector<sessions::EventBody> turn = Turn(*checkpoint, *tokenizer, profile, blob);
  on_control([&] {
    session->Append(std::move(turn), [](const base::Status& status) {
      if (!status.ok()) std::exit(1);
    });
  });
  on_control([&] { session.reset(); });
  executor.Shutdown();
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  if (argc != 3) return 1;
  holdfast::Make(argv[1], argv[2]);
  return 0;
}
