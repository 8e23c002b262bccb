#include "server/runtime.h"

#include "agent/client_tools.h"
#include "base/clock.h"
#include "base/coding.h"
#include "base/file.h"
#include "base/random.h"
#include "memory/text_index.h"
#include "model/fingerprint.h"
#include "tools/built_in_tools.h"
#include "tools/instructions.h"
#include "tools/tool_data.h"
#include "workspace/tree.h"

namespace holdfast::server {
namespace {

constexpr char kChatTemplate[] = "v4-0731/1";
constexpr char kChatVersion[] = "v4-0731";
constexpr size_t kTokenizerBytesMax = size_t{64} << 20;
constexpr int64_t kTurnTokensMax = 16384;
constexpr int64_t kReminderTokens = 16384;

}  // namespace

base::StatusOr<std::unique_ptr<Runtime>> Runtime::Open(RuntimeOptions options) {
  std::unique_ptr<Runtime> runtime(new Runtime);
  if (!options.on_message) options.on_message = [](const std::string&) {};
  HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(options.directory));
  HF_RETURN_IF_ERROR(runtime->OpenModel(options));
  HF_RETURN_IF_ERROR(runtime->OpenStores(options));
  HF_RETURN_IF_ERROR(runtime->OpenAgent(options));
  if (!options.take_up) return runtime;
  const auto started = runtime->Ask<bool>([&](auto done) {
    runtime->manager_->Start([done = std::move(done)](const base::Status& status) mutable {
      status.ok() ? done(true) : done(status);
    });
  });
  HF_RETURN_IF_ERROR(started.status());
  return runtime;
}

Runtime::~Runtime() { Stop(); }

void Runtime::Stop() {
  if (std::exchange(stopped_, true)) return;
  if (manager_ != nullptr) {
    std::promise<void> ended;
    OnControl([this, &ended] { manager_->Stop([&ended] { ended.set_value(); }); });
    ended.get_future().wait();
  }
  if (flusher_ != nullptr) {
    std::promise<void> flushed;
    // What is not written is computed again.
    flusher_->Flush([&flushed](const base::Status&) { flushed.set_value(); });
    flushed.get_future().wait();
  }
  executor_.Shutdown();
}

base::Status Runtime::OpenModel(RuntimeOptions& options) {
  base::FileSystem& fs = base::RealFileSystem();
  backend_ = std::move(options.backend);
  HF_ASSIGN_OR_RETURN(checkpoint_, model::Checkpoint::Open(fs, options.model));
  const std::string tokenizer = options.model + "/tokenizer.json";
  HF_ASSIGN_OR_RETURN(tokenizer_, model::Tokenizer::Load(fs, tokenizer));
  engine_ = std::make_unique<model::Engine>(checkpoint_->config(), checkpoint_->weights(), *backend_,
                                            model::EngineOptions{});
  HF_ASSIGN_OR_RETURN(const model::WeightsHash weights,
                      model::HashWeights(checkpoint_->weights(), model::HashDepth::kSampled,
                                         {.cache = {&fs, options.directory + "/kv.weights"}}));
  const std::string config = model::ConfigText(checkpoint_->config());
  HF_ASSIGN_OR_RETURN(const std::string bytes, fs.ReadFile(tokenizer, kTokenizerBytesMax));
  identity_ = {.weights = weights.digest,
               .config = base::Sha256Of(base::AsBytes(config)),
               .tokenizer = base::Sha256Of(base::AsBytes(bytes)),
               .chat_template = kChatTemplate,
               .numerics = backend_->NumericsId()};
  root_ = memory::BlockKey{
      model::RootKey(config, weights.digest, model::kKvLayoutVersion, backend_->NumericsId())};
  return {};
}

base::Status Runtime::OpenStores(const RuntimeOptions& options) {
  base::FileSystem& fs = base::RealFileSystem();
  base::Clock& clock = base::RealClock();
  HF_ASSIGN_OR_RETURN(
      database_, memory::SqliteDatabase::Open(
                     fs, {.path = options.directory + "/holdfast.db", .ballast_bytes = uint64_t{4} << 20},
                     {sessions::SessionSchema(), memory::TextIndex::kSchema, agent::HistorySchema()}));
  HF_ASSIGN_OR_RETURN(
      blobs_,
      memory::BlobStore::Open(fs, {.directory = options.directory + "/blobs",
                                   .on_event = [say = options.on_message](const memory::BlobEvent& event) {
                                     say("blobs: " + event.message);
                                   }}));
  const model::KvLayout& layout = engine_->kv_layout();
  HF_ASSIGN_OR_RETURN(
      blocks_,
      memory::BlockStore::Open(
          fs, {.directory = options.directory + "/kv",
               .planes = sessions::PlanesOf(layout),
               .tail_bytes = static_cast<uint32_t>(model::BoundaryTailBytes(engine_->config(), layout.mode)),
               .on_event = [say = options.on_message](const memory::StoreEvent& event) {
                 say("kv store: " + event.message);
               }}));
  cache_ = std::make_unique<sessions::KvCache>(engine_->config(), layout, *blocks_, root_);
  flusher_ = std::make_unique<sessions::KvFlusher>(executor_, clock, *blocks_);
  HF_ASSIGN_OR_RETURN(store_, sessions::SessionStore::Open(executor_, clock, *database_));
  HF_ASSIGN_OR_RETURN(history_, agent::HistoryIndex::Open(executor_, *database_, *store_));
  scheduler_ = std::make_unique<sessions::Scheduler>(executor_, clock, *engine_, *cache_, flusher_.get(),
                                                     options.scheduler);
  return {};
}

base::Status Runtime::OpenAgent(RuntimeOptions& options) {
  base::Clock& clock = base::RealClock();
  HF_ASSIGN_OR_RETURN(sandbox_, sandbox::Sandbox::Start({.broker_path = options.broker}));
  HF_ASSIGN_OR_RETURN(files_, agent::SandboxFilesOpener::Make({.executor = executor_,
                                                               .clock = clock,
                                                               .fs = base::RealFileSystem(),
                                                               .sandbox = *sandbox_,
                                                               .blobs = *blobs_},
                                                              {.policy = options.policy}));
  spill_ = std::make_unique<tools::BlobSpill>(*blobs_);
  permissions_ = std::move(options.permissions);
  const agent::WorkerParts parts{
      .executor = executor_,
      .clock = clock,
      .scheduler = *scheduler_,
      .files = *files_,
      .policy = permissions_,
      .model = identity_,
      .directory = options.directory + "/layers",
      .add_tools = tools::AddBuiltInTools,
      .dialogue = [this](const agent::ProfileSet& profile) { return DialogueOf(profile); },
      .spill = spill_.get(),
      .sandbox_hash = sandbox::DigestOf(options.policy),
      .history = history_.get(),
      .tokenizer = tokenizer_.get(),
      .on_live = std::move(options.on_live)};
  manager_ = std::make_unique<agent::SessionManager>(parts, *store_, base::RealEntropy(), options.manager,
                                                     std::move(options.on_event));
  return {};
}

base::StatusOr<const agent::Dialogue*> Runtime::DialogueOf(const agent::ProfileSet& profile) {
  if (profile.version != kChatVersion) {
    return base::FailedPrecondition("the session speaks chat format `" + profile.version +
                                    "`, and this version of Holdfast renders `" + kChatVersion +
                                    "` alone: go on with a version that renders it, or begin a new session");
  }
  agent::DialogueOptions options{
      .mode = profile.mode == "thinking" ? model::ThinkingMode::kThinking : model::ThinkingMode::kChat,
      .effort = profile.effort,
      .system = profile.system};
  for (const std::string& id : profile.tools) {
    HF_ASSIGN_OR_RETURN(const tools::ToolData data, tools::ToolData::Load(id));
    options.tools.push_back(data.spec().function);
  }
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> client_lines, agent::ClientToolLines(profile));
  options.tools.insert(options.tools.end(), client_lines.begin(), client_lines.end());
  std::string key;
  for (const std::string* part : {&profile.mode, &profile.effort, &profile.system}) {
    base::PutLengthPrefixed(key, *part);
  }
  for (const std::string& line : options.tools) base::PutLengthPrefixed(key, line);
  std::unique_ptr<agent::Dialogue>& made = dialogues_[key];
  if (made == nullptr) {
    HF_ASSIGN_OR_RETURN(made, agent::Dialogue::Make(*tokenizer_, std::move(options)));
  }
  return made.get();
}

base::StatusOr<agent::ProfileSet> Runtime::MakeProfile(std::string_view name, const std::string& tree) const {
  HF_ASSIGN_OR_RETURN(const tools::Profile profile, tools::Profile::Load(name));
  agent::ProfileSet set{.profile = profile.id,
                        .mode = profile.thinking_mode,
                        .version = kChatVersion,
                        .system = profile.system,
                        .tools = profile.tools,
                        .temperature = profile.temperature,
                        .top_p = profile.top_p,
                        .window_tokens_max = checkpoint_->config().max_positions,
                        .turn_tokens_max = kTurnTokensMax,
                        .reminder_tokens = profile.reminders ? kReminderTokens : 0,
                        .tree = tree,
                        .workspace_mode = "overlay"};
  if (tree.empty() || !profile.instructions) return set;
  HF_ASSIGN_OR_RETURN(const auto opened, workspace::OpenTree(tree));
  HF_ASSIGN_OR_RETURN(const tools::Instructions instructions, tools::ReadInstructions(*opened));
  for (const tools::InstructionFile& file : instructions.files) {
    set.instructions += "# " + file.path + "\n\n" + file.text + (file.cut ? "[cut]\n" : "") + "\n";
  }
  return set;
}

}  // namespace holdfast::server
