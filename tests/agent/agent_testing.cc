#include "tests/agent/agent_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "base/coding.h"
#include "base/random.h"
#include "model/synth.h"
#include "nlohmann/json.hpp"
#include "sessions/recovery.h"
#include "tests/model/text_testing.h"

namespace holdfast::agent {
namespace {

using model::SmallTokenizer;

// Appends a line to a file: every run shows.
class AppendTool final : public tools::Tool {
 public:
  AppendTool(SimDisk& disk, std::string name, bool contained) : disk_(disk), contained_(contained) {
    spec_.name = name;
    spec_.function = R"({"name": ")" + name +
                     R"(", "description": "Append", "parameters": {"type": "object", "properties": )"
                     R"({"line": {"type": "string"}}, "required": ["line"]}})";
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::CallTraits Traits(const tools::ToolContext&, const nlohmann::json&) const override {
    return {.effect = tools::Effect::kEffectful, .contained = contained_, .confined = true};
  }
  tools::Subject SubjectOf(const tools::ToolContext&, const nlohmann::json&) const override { return {}; }
  std::unique_ptr<tools::RunningCall> Start(const tools::ToolContext& context,
                                            const nlohmann::json& arguments, tools::Done done) override;

 private:
  SimDisk& disk_;
  const bool contained_;
  tools::ToolSpec spec_;
};

class NoHandle final : public tools::RunningCall {
 public:
  void Cancel() override {}
};

// In two tasks, between which a kill leaves half of it.
std::unique_ptr<tools::RunningCall> AppendTool::Start(const tools::ToolContext& context,
                                                      const nlohmann::json& arguments, tools::Done done) {
  const std::string line = arguments.at("line").get<std::string>();
  base::Executor* executor = context.executor;
  SimDisk* disk = &disk_;
  if (!contained_) ++disk->sent[arguments.dump()];
  executor->PostResult(base::Lane::kTools, [executor, disk, line, done = std::move(done)]() mutable {
    disk->files["file"] += line;
    executor->PostResult(base::Lane::kTools, [disk, done = std::move(done)]() mutable {
      disk->files["file"] += "\n";
      const auto lines = std::count(disk->files["file"].begin(), disk->files["file"].end(), '\n');
      done(tools::Succeeded(std::to_string(lines) + " lines\n"));
    });
  });
  return std::make_unique<NoHandle>();
}

class LookTool final : public tools::Tool {
 public:
  explicit LookTool(SimDisk& disk) : disk_(disk) {
    spec_.name = "look";
    spec_.function = R"({"name": "look", "description": "Look", "parameters": {"type": "object", )"
                     R"("properties": {}}})";
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::CallTraits Traits(const tools::ToolContext&, const nlohmann::json&) const override {
    return {.effect = tools::Effect::kReadOnly, .contained = true, .confined = true};
  }
  tools::Subject SubjectOf(const tools::ToolContext&, const nlohmann::json&) const override { return {}; }
  std::unique_ptr<tools::RunningCall> Start(const tools::ToolContext& context, const nlohmann::json&,
                                            tools::Done done) override {
    SimDisk* disk = &disk_;
    context.executor->PostResult(base::Lane::kTools, [disk, done = std::move(done)]() mutable {
      done(tools::Succeeded(std::to_string(disk->files["file"].size()) + " bytes\n"));
    });
    return std::make_unique<NoHandle>();
  }

 private:
  SimDisk& disk_;
  tools::ToolSpec spec_;
};

// Takes markup where it may, at places that the position decides: so there are calls, and turns end.
class Eager final : public sessions::TokenConstraint {
 public:
  Eager(std::unique_ptr<sessions::TokenConstraint> grammar, std::span<const int32_t> begun)
      : grammar_(std::move(grammar)), taken_(begun.begin(), begun.end()) {
    const model::Tokenizer& tokenizer = SmallTokenizer();
    open_ = One("\n\n<");
    close_ = One("</");
    dsml_ = *tokenizer.FindAdded("｜DSML｜");
    eos_ = *tokenizer.FindAdded("<｜end▁of▁sentence｜>");
  }
  const model::TokenMask* Mask() override {
    const model::TokenMask* mask = grammar_->Mask();
    if (taken_.size() < 6) return Without(*mask, eos_);
    // One turn in ten is the last; in the others there is a block of calls, whose values end soon.
    const bool last = taken_.front() % 10 == 0;
    const uint64_t dice = base::RandomBits({.seed = 77, .position = taken_.size()}, 0) % 100;
    std::vector<int32_t> wanted = {dsml_};
    if (last) wanted = {eos_};
    const bool in_block = std::find(taken_.begin(), taken_.end(), dsml_) != taken_.end();
    if (!last && dice < 40) wanted = {dsml_, in_block ? close_ : open_};
    for (const int32_t id : wanted) {
      if (!mask->Has(id)) continue;
      narrowed_ = model::TokenMask(mask->size());
      narrowed_.Add(id);
      return &narrowed_;
    }
    return last ? mask : Without(*mask, eos_);
  }
  base::Status Accept(int32_t id) override {
    taken_.push_back(id);
    return grammar_->Accept(id);
  }
  bool IsDone() const override { return grammar_->IsDone(); }

 private:
  // The token of these bytes.
  static int32_t One(std::string_view bytes) {
    for (int32_t id = 0; id < SmallTokenizer().vocab_size(); ++id) {
      if (SmallTokenizer().Bytes(id) == bytes) return id;
    }
    ADD_FAILURE() << "no token of " << bytes;
    return 0;
  }
  // `mask` less one id, unless nothing were left.
  const model::TokenMask* Without(const model::TokenMask& mask, int32_t without) {
    narrowed_ = model::TokenMask(mask.size());
    for (int32_t id = 0; id < mask.size(); ++id) {
      if (id != without && mask.Has(id)) narrowed_.Add(id);
    }
    return narrowed_.empty() ? &mask : &narrowed_;
  }

  std::unique_ptr<sessions::TokenConstraint> grammar_;
  std::vector<int32_t> taken_;
  int32_t open_ = 0, close_ = 0, dsml_ = 0, eos_ = 0;
  model::TokenMask narrowed_;
};

}  // namespace

base::Sha256Digest ManifestOf(const std::map<std::string, std::string>& files) {
  std::string all;
  for (const auto& [name, content] : files) {
    base::PutLengthPrefixed(all, name);
    base::PutLengthPrefixed(all, content);
  }
  return base::Sha256Of(base::AsBytes(all));
}

// --- Log and workspace

MemoryWorkspace::MemoryWorkspace(base::Executor& executor, base::Clock& clock, SimDisk& disk,
                                 const base::Sha256Digest& current)
    : executor_(executor), clock_(clock), disk_(disk), current_(current) {}

void MemoryWorkspace::Checkpoint(Checked done) {
  executor_.PostResult(base::Lane::kTools, [this, done = std::move(done)]() mutable {
    const base::Sha256Digest id = ManifestOf(disk_.files);
    disk_.manifests[id] = disk_.files;
    executor_.PostResult(base::Lane::kControl, [this, id, done = std::move(done)]() mutable {
      current_ = id;
      done(id);
    });
  });
}

tools::ToolContext MemoryWorkspace::context() { return {.executor = &executor_, .clock = &clock_}; }

// --- Model

ChaosModel& ChaosModel::Get() {
  static ChaosModel& model = *new ChaosModel();
  return model;
}

ChaosModel::ChaosModel() {
  model::ModelConfig config = sessions::SmallModel();
  config.vocab_size = SmallTokenizer().vocab_size();
  EXPECT_TRUE(model::WriteSynthCheckpoint(fs_, config, "/model", {.seed = 5}).ok());
  checkpoint_ = *model::Checkpoint::Open(fs_, "/model");
  backend_ = model::MakeCpuBackend({.threads = 1, .pin_threads = false});
  engine_ = std::make_unique<model::Engine>(checkpoint_->config(), checkpoint_->weights(), *backend_,
                                            model::EngineOptions{.max_rows = 200});
}

std::unique_ptr<sessions::TokenConstraint> NarrowEagerly(std::unique_ptr<sessions::TokenConstraint> grammar,
                                                         std::span<const int32_t> /*before*/,
                                                         std::span<const int32_t> begun) {
  return std::make_unique<Eager>(std::move(grammar), begun);
}

// --- Process

namespace {
constexpr char kId[] = "session";
}

SimProcess::SimProcess(SimDisk& disk, base::FileSystem& fs, test::SimClock& clock, uint64_t executor_seed)
    : disk_(disk), clock_(clock), executor_(clock, {.seed = executor_seed}) {
  disk_.manifests[ManifestOf({})] = {};
  auto database =
      memory::SqliteDatabase::Open(fs, {.path = "/data/holdfast.db"}, {sessions::SessionSchema()}, clock);
  if (!database.ok()) {
    RestWith(Rest::kFailed, database.status());
    return;
  }
  database_ = *std::move(database);
  auto sessions = sessions::SessionStore::Open(executor_, clock, *database_);
  if (!sessions.ok()) {
    RestWith(Rest::kFailed, sessions.status());
    return;
  }
  sessions_ = *std::move(sessions);
  auto kv = sessions::TryOpenSmallStore(fs, ChaosModel::Get().engine());
  if (!kv.ok()) {
    RestWith(Rest::kFailed, kv.status());
    return;
  }
  kv_ = *std::move(kv);
  EXPECT_TRUE(registry_.Add(std::make_unique<AppendTool>(disk, "append", true)).ok());
  EXPECT_TRUE(registry_.Add(std::make_unique<AppendTool>(disk, "send", false)).ok());
  EXPECT_TRUE(registry_.Add(std::make_unique<LookTool>(disk)).ok());
  toolset_ = *registry_.Select(std::vector<std::string>{"append@1", "send@1", "look@1"});
  dialogue_ = *Dialogue::Make(SmallTokenizer(), {.system = "s", .tools = toolset_.function_lines()});
  scheduler_ = std::make_unique<sessions::Scheduler>(executor_, clock, ChaosModel::Get().engine(),
                                                     *kv_->cache, nullptr);
  executor_.PostResult(base::Lane::kControl, [this] { OpenOrCreate(); });
}

void SimProcess::Interrupt() {
  executor_.PostResult(base::Lane::kControl, [this] {
    if (loop_) loop_->Interrupt();
  });
}

SimProcess::~SimProcess() {
  if (dispatcher_) dispatcher_->Shutdown();  // what it still has to say goes to the loop, and no further
  scheduler_.reset();
  kv_.reset();
}

void SimProcess::RestWith(Rest rest, base::Status status) {
  rest_ = rest;
  status_ = std::move(status);
}

void SimProcess::OpenOrCreate() {
  const auto open = [this](auto&& then) {
    sessions_->OpenSession(kId, nullptr, std::forward<decltype(then)>(then));
  };
  open([this, open](base::StatusOr<std::unique_ptr<sessions::StoredSession>> session) {
    if (!absl::IsNotFound(session.status())) return Recover(std::move(session));
    sessions_->Create(kId, {}, {}, [this, open](const base::StatusOr<sessions::SessionRow>& row) {
      if (!row.ok()) return RestWith(Rest::kFailed, row.status());
      open([this](auto opened) { Recover(std::move(opened)); });
    });
  });
}

void SimProcess::Recover(base::StatusOr<std::unique_ptr<sessions::StoredSession>> session) {
  if (!session.ok()) return RestWith(Rest::kFailed, session.status());
  session_ = *std::move(session);
  const sessions::SessionFacts& facts = session_->facts();
  sessions::RecoveryOptions options{.generation = session_->generation(), .fruitless_recoveries_max = 1000};
  if (disk_.same_boot) {
    options.workspace_found = ManifestOf(disk_.files);
    disk_.manifests[*options.workspace_found] = disk_.files;
  }
  sessions::RecoveryPlan plan = PlanRecovery(facts, options);
  if (facts.last_seq() == 1) {
    plan.append = {sessions::InputReceived{.text = "go"}, sessions::InputReceived{.text = "on"},
                   sessions::StateChanged{.state = sessions::SessionState::kRunning}};
  }
  const base::Sha256Digest workspace = plan.workspace.value_or(ManifestOf({}));
  if (plan.append.empty()) return Work(workspace);
  session_->Append(std::move(plan.append), [this, workspace](base::Status status) {
    status.ok() ? Work(workspace) : RestWith(Rest::kFailed, std::move(status));
  });
}

void SimProcess::Work(const base::Sha256Digest& workspace) {
  disk_.files = disk_.manifests.at(workspace);
  disk_.same_boot = true;
  workspace_ = std::make_unique<MemoryWorkspace>(executor_, clock_, disk_, workspace);
  dispatcher_ = std::make_unique<tools::Dispatcher>(executor_, clock_, toolset_, policy_, approvals_,
                                                    tools::Dispatcher::Options{});
  const TurnLoop::Parts parts{.executor = executor_,
                              .clock = clock_,
                              .log = *session_,
                              .scheduler = *scheduler_,
                              .dialogue = *dialogue_,
                              .dispatcher = *dispatcher_,
                              .approvals = approvals_,
                              .workspace = *workspace_,
                              .host = host_};
  TurnLoopOptions options{.session = kId,
                          .sampler = {.temperature = 1.0f},
                          .seed = 11,
                          .window_tokens_max = disk_.window_tokens_max,
                          .turn_tokens_max = 220};
  options.narrow = NarrowEagerly;
  loop_ = std::make_unique<TurnLoop>(parts, options);
  loop_->Run([this](Rest rest, base::Status status) { RestWith(rest, std::move(status)); });
}

// --- World

World::World(uint64_t disk_seed) : fs(clock, {.seed = disk_seed}) {
  EXPECT_TRUE(fs.CreateDirectories("/data").ok());
}

void World::Run(uint64_t seed, const std::vector<Death>& deaths) {
  for (size_t i = 0; i <= deaths.size(); ++i) {
    const bool dies = i < deaths.size();
    if (dies && deaths[i].mutations > 0) fs.CrashAtMutation(deaths[i].mutations);
    {
      SimProcess process(disk, fs, clock, seed + i);
      size_t tasks = 0;
      const bool by_power = dies && deaths[i].mutations > 0;
      while (!process.rested() && !fs.crashed() && (!dies || by_power || tasks < deaths[i].tasks)) {
        ASSERT_TRUE(process.Step()) << "nothing left to do, and not at rest";
        ++tasks;
      }
      if (process.rested() && !fs.crashed()) {
        rest = process.rest();
        status = process.status();
        fs.CrashAtMutation(0);
        return;
      }
    }
    if (fs.crashed()) {
      fs.Restart();
      disk.files = {{"file", "whatever the disk makes of it"}};
      disk.same_boot = false;
    }
    fs.CrashAtMutation(0);
  }
}

std::vector<sessions::Event> World::Events() {
  test::SimExecutor executor(clock, {});
  auto database =
      *memory::SqliteDatabase::Open(fs, {.path = "/data/holdfast.db"}, {sessions::SessionSchema()}, clock);
  auto sessions = *sessions::SessionStore::Open(executor, clock, *database);
  std::vector<sessions::Event> events;
  for (bool more = true; more;) {
    sessions->ReadEvents(kId, events.size(), 1000, [&](base::StatusOr<std::vector<sessions::Event>> read) {
      ASSERT_TRUE(read.ok()) << read.status();
      more = !read->empty();
      events.insert(events.end(), read->begin(), read->end());
    });
    executor.RunUntilIdle();
  }
  return events;
}

std::vector<std::vector<int32_t>> World::Windows() {
  sessions::SessionFacts facts;
  std::vector<std::vector<int32_t>> windows;
  const auto take = [&] {
    windows.emplace_back(facts.tokens().window().begin(), facts.tokens().window().end());
  };
  for (const sessions::Event& event : Events()) {
    if (std::holds_alternative<sessions::EpochStarted>(event.body)) take();
    EXPECT_TRUE(facts.Apply(event).ok());
  }
  take();
  return windows;
}

}  // namespace holdfast::agent
