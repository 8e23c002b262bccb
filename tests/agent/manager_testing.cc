#include "tests/agent/manager_testing.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "agent/client_tools.h"
#include "agent/control_tools.h"
#include "base/coding.h"
#include "memory/text_index.h"
#include "model/chat.h"
#include "model/synth.h"
#include "nlohmann/json.hpp"
#include "tests/agent/agent_testing.h"
#include "tests/model/text_testing.h"

namespace holdfast::agent {
namespace {

using model::SmallTokenizer;
using sessions::SessionState;

// --- Files

class SimFiles final : public SessionFiles {
 public:
  SimFiles(base::Executor& executor, base::Clock& clock, SimWorldDisk& disk, workspace::Tree& watched,
           std::string directory)
      : executor_(executor), clock_(clock), disk_(disk), watched_(watched), directory_(std::move(directory)) {
    SimLayer& layer = disk_.layers[directory_];
    if (layer.opened && layer.same_boot) found_ = Store(layer.files);
    if (!layer.same_boot) layer.files.clear();
    layer.opened = layer.same_boot = true;
    current_ = Store(layer.files);
  }
  SimTree& files() { return disk_.layers[directory_].files; }

  base::Sha256Digest current() const override { return current_; }
  void Checkpoint(Checked done) override {
    Later([this, done = std::move(done)]() mutable { done(current_ = Store(files())); });
  }
  // The directory stands for the context's files: tools of the simulation look it up.
  tools::ToolContext context() override {
    return {.executor = &executor_, .clock = &clock_, .files = &watched_, .inside = directory_};
  }
  const std::optional<base::Sha256Digest>& found() const override { return found_; }
  void Restore(std::optional<base::Sha256Digest> manifest, Ended done) override {
    Later([this, manifest, done = std::move(done)]() mutable {
      const auto stored = disk_.manifests.find(manifest.value_or(ManifestOf({})));
      if (stored == disk_.manifests.end() && manifest.has_value()) {
        return done(base::DataLoss("a manifest that was never durable"));
      }
      files() = manifest.has_value() ? stored->second : SimTree();
      current_ = Store(files());
      done({});
    });
  }
  // "has PATH TEXT"
  void RunCheck(const GoalCheck& check, absl::AnyInvocable<void(base::StatusOr<CheckRan>)> done) override {
    Later([this, check, done = std::move(done)]() mutable {
      const size_t path = check.command.find(' ') + 1;
      const size_t text = check.command.find(' ', path) + 1;
      const auto file = files().find(check.command.substr(path, text - 1 - path));
      const bool passed =
          file != files().end() && file->second.find(check.command.substr(text)) != std::string::npos;
      done(CheckRan{.command = check.command, .passed = passed, .text = passed ? "exit 0\n" : "exit 1\n"});
    });
  }
  void Fork(std::optional<base::Sha256Digest> manifest, std::string directory, Ended done) override {
    Later([this, manifest, directory, done = std::move(done)]() mutable {
      SimLayer& layer = disk_.layers[directory];
      layer = {.files = manifest.has_value() ? disk_.manifests.at(*manifest) : SimTree(), .opened = true};
      done({});
    });
  }
  void Apply(ApplyRequest request, absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) override {
    Later([this, request, done = std::move(done)]() mutable {
      FilesReport report{.branch = request.branch};
      const SimTree changed = files();
      for (const auto& [path, content] : changed) {
        const auto& paths = request.paths;
        if (!paths.empty() && std::find(paths.begin(), paths.end(), path) == paths.end()) continue;
        ++report.applied;
        report.text += "M " + path + "\n";
        if (!request.branch.empty()) continue;
        disk_.user_tree[path] = content;
        files().erase(path);
      }
      current_ = Store(files());
      done(std::move(report));
    });
  }
  void ChangesUnderneath(absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) override {
    Later([done = std::move(done)]() mutable { done(FilesReport()); });
  }
  // Of what was checkpointed last: what its files hold.
  void Diff(DiffRequest, absl::AnyInvocable<void(base::StatusOr<FilesDiff>)> done) override {
    Later([this, done = std::move(done)]() mutable {
      FilesDiff diff;
      for (const auto& [path, content] : disk_.manifests[current_]) diff.text += path + ": " + content;
      done(std::move(diff));
    });
  }
  void Close(Ended done) override {
    Later([done = std::move(done)]() mutable { done({}); });
  }

 private:
  base::Sha256Digest Store(const SimTree& files) {
    const base::Sha256Digest id = ManifestOf(files);
    disk_.manifests[id] = files;
    return id;
  }
  void Later(base::Task task) {
    executor_.PostResult(base::Lane::kTools, [this, task = std::move(task)]() mutable {
      executor_.PostResult(base::Lane::kControl, std::move(task));
    });
  }

  base::Executor& executor_;
  base::Clock& clock_;
  SimWorldDisk& disk_;
  workspace::Tree& watched_;
  const std::string directory_;
  base::Sha256Digest current_ = {};
  std::optional<base::Sha256Digest> found_;
};

class SimOpener final : public FilesOpener {
 public:
  SimOpener(base::Executor& executor, base::Clock& clock, SimWorldDisk& disk, workspace::Tree& watched)
      : executor_(executor), clock_(clock), disk_(disk), watched_(watched) {}
  void Open(FilesSpec spec, Opened done) override {
    executor_.PostResult(
        base::Lane::kTools, [this, spec = std::move(spec), done = std::move(done)]() mutable {
          auto files = std::make_unique<SimFiles>(executor_, clock_, disk_, watched_, spec.directory);
          executor_.PostResult(base::Lane::kControl,
                               [files = std::move(files), done = std::move(done)]() mutable {
                                 done(std::unique_ptr<SessionFiles>(std::move(files)));
                               });
        });
  }

 private:
  base::Executor& executor_;
  base::Clock& clock_;
  SimWorldDisk& disk_;
  workspace::Tree& watched_;
};

// --- Tools

class NoHandle final : public tools::RunningCall {
 public:
  void Cancel() override {}
};

// One tool of the simulation: what it does is a function of the layer and the arguments.
class SimTool final : public tools::Tool {
 public:
  using Act = std::function<tools::ToolResult(SimTree& files, const nlohmann::json& arguments)>;
  SimTool(SimWorldDisk& disk, std::string name, std::string parameters, tools::CallTraits traits, Act act)
      : disk_(disk), traits_(traits), act_(std::move(act)) {
    spec_.name = name;
    spec_.function = R"({"name": ")" + name + R"(", "description": "d", "parameters": )" + parameters + "}";
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::CallTraits Traits(const tools::ToolContext&, const nlohmann::json&) const override {
    return traits_;
  }
  tools::Subject SubjectOf(const tools::ToolContext&, const nlohmann::json&) const override { return {}; }
  std::unique_ptr<tools::RunningCall> Start(const tools::ToolContext& context,
                                            const nlohmann::json& arguments, tools::Done done) override {
    context.executor->PostResult(
        base::Lane::kTools, [this, directory = context.inside, arguments, done = std::move(done)]() mutable {
          done(act_(disk_.layers[directory].files, arguments));
        });
    return std::make_unique<NoHandle>();
  }

 private:
  SimWorldDisk& disk_;
  const tools::CallTraits traits_;
  const Act act_;
  tools::ToolSpec spec_;
};

constexpr char kPathAndText[] =
    R"({"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}, "required": ["path", "text"]})";
constexpr char kPath[] =
    R"({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]})";

base::Status AddSimTools(tools::Registry& registry, SimWorldDisk& disk) {
  HF_RETURN_IF_ERROR(registry.Add(std::make_unique<SimTool>(
      disk, "append", kPathAndText,
      tools::CallTraits{.effect = tools::Effect::kEffectful, .contained = true, .confined = true},
      [](SimTree& files, const nlohmann::json& in) {
        std::string& file = files[in.at("path").get<std::string>()];
        file += in.at("text").get<std::string>() + "\n";
        return tools::Succeeded(std::to_string(std::count(file.begin(), file.end(), '\n')) + " lines\n");
      })));
  HF_RETURN_IF_ERROR(registry.Add(std::make_unique<SimTool>(
      disk, "look", kPath,
      tools::CallTraits{.effect = tools::Effect::kReadOnly, .contained = true, .confined = true},
      [](SimTree& files, const nlohmann::json& in) {
        const auto found = files.find(in.at("path").get<std::string>());
        return found == files.end() ? tools::Failed("no such file\n") : tools::Succeeded(found->second);
      })));
  // Not allowed without asking, and not to be taken back.
  return registry.Add(
      std::make_unique<SimTool>(disk, "send", kPath, tools::CallTraits{.effect = tools::Effect::kEffectful},
                                [&disk](SimTree&, const nlohmann::json&) {
                                  return tools::Succeeded("sent " + std::to_string(++disk.sends) + "\n");
                                }));
}

// For the schemas of the control tools alone: nobody calls them.
class SchemasOnly final : public ControlHost {
 public:
  const AgentFacts& facts() const override { return facts_; }
  int64_t NowUtcMs() const override { return 0; }
  std::string call() const override { return {}; }
  void Change(sessions::EventBody) override {}
  std::span<const sessions::EventBody> pending() const override { return {}; }
  void Search(std::string, size_t,
              std::function<void(base::StatusOr<std::vector<RecallHit>>)> done) override {
    done(std::vector<RecallHit>());
  }
  void Fetch(uint64_t, std::function<void(base::StatusOr<std::string>)> done) override {
    done(std::string());
  }
  bool IsRunning(const std::string&) const override { return false; }

 private:
  AgentFacts facts_;
};

// --- Model

std::string Text(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += SmallTokenizer().Bytes(id);
  return text;
}

std::vector<int32_t> IdsOf(const Reply& reply) {
  using model::Json;
  Json message = Json::Object();
  message.Set("role", Json::String("assistant"));
  message.Set("content", Json::String(reply.text));
  if (!reply.calls.empty()) {
    Json calls = Json::Array();
    for (const auto& [tool, arguments] : reply.calls) {
      Json function = Json::Object();
      function.Set("name", Json::String(tool));
      function.Set("arguments", Json::String(arguments));
      Json call = Json::Object();
      call.Set("type", Json::String("function"));
      call.Set("function", std::move(function));
      calls.Append(std::move(call));
    }
    message.Set("tool_calls", std::move(calls));
  }
  Json messages = Json::Array();
  messages.Append(std::move(message));
  auto ids = model::RenderIds(messages, {.version = model::ChatVersion::kV4_0731, .add_bos = false},
                              SmallTokenizer());
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *std::move(ids) : std::vector<int32_t>();
}

// Says what the script says.
class Recited final : public sessions::TokenConstraint {
 public:
  Recited(std::vector<int32_t> ids, size_t said) : ids_(std::move(ids)), at_(said) {}
  const model::TokenMask* Mask() override {
    mask_ = model::TokenMask(SmallTokenizer().vocab_size());
    if (at_ < ids_.size()) mask_.Add(ids_[at_]);
    return &mask_;
  }
  base::Status Accept(int32_t) override {
    ++at_;
    return {};
  }
  bool IsDone() const override { return at_ >= ids_.size(); }

 private:
  const std::vector<int32_t> ids_;
  size_t at_;
  model::TokenMask mask_;
};

}  // namespace

struct ManagerWorld::Process {
  Process(ManagerWorld& world, uint64_t seed)
      : executor(std::make_unique<test::SimExecutor>(world.clock, test::SimExecutor::Options{.seed = seed})) {
  }
  std::unique_ptr<test::SimExecutor> executor;
  std::unique_ptr<memory::SqliteDatabase> database;
  std::unique_ptr<sessions::SessionStore> store;
  std::unique_ptr<HistoryIndex> history;
  std::unique_ptr<sessions::OpenedStore> kv;
  std::unique_ptr<sessions::Scheduler> scheduler;
  std::unique_ptr<SimOpener> opener;
  tools::PermissionPolicy policy;
  SchemasOnly schemas_only;
  std::map<size_t, std::unique_ptr<Dialogue>> dialogues;  // by the number of client tools
  std::unique_ptr<SessionManager> manager;
};

ManagerWorld::ManagerWorld(Script script, uint64_t seed)
    : fs(clock, {.seed = seed}), script_(std::move(script)), seed_(seed) {
  EXPECT_TRUE(fs.CreateDirectories("/data").ok());
}
ManagerWorld::~ManagerWorld() = default;

ProfileSet ManagerWorld::Profile() {
  ProfileSet profile{.profile = "sim@1",
                     .mode = "chat",
                     .version = "v4-0731",
                     .system = "s",
                     .tools = {"append@1", "look@1", "send@1"},
                     .temperature = 1,
                     .window_tokens_max = 8000,
                     .turn_tokens_max = 600,
                     .tree = "/tree",
                     .workspace_mode = "overlay"};
  for (const std::string& id : ControlToolIds()) profile.tools.push_back(id);
  return profile;
}

bool ManagerWorld::Boot() {
  process_.reset();
  process_ = std::make_unique<Process>(*this, seed_ * 1000 + ++boots_);
  Process& p = *process_;
  auto database = memory::SqliteDatabase::Open(
      fs, {.path = "/data/holdfast.db"},
      {sessions::SessionSchema(), memory::TextIndex::kSchema, HistorySchema()}, clock);
  if (!database.ok()) return false;
  p.database = *std::move(database);
  auto store = sessions::SessionStore::Open(*p.executor, clock, *p.database);
  if (!store.ok()) return false;
  p.store = *std::move(store);
  auto history = HistoryIndex::Open(*p.executor, *p.database, *p.store);
  if (!history.ok()) return false;
  p.history = *std::move(history);
  auto kv = sessions::TryOpenSmallStore(fs, ChaosModel::Get().engine());
  if (!kv.ok()) return false;
  p.kv = *std::move(kv);
  p.scheduler = std::make_unique<sessions::Scheduler>(*p.executor, clock, ChaosModel::Get().engine(),
                                                      *p.kv->cache, nullptr);
  p.opener = std::make_unique<SimOpener>(*p.executor, clock, disk, watched);
  const WorkerParts parts{
      .executor = *p.executor,
      .clock = clock,
      .scheduler = *p.scheduler,
      .files = *p.opener,
      .policy = p.policy,
      .model = {.chat_template = "v4-0731/1", .numerics = "sim"},
      .directory = "/layers",
      .add_tools = [this](tools::Registry& registry) { return AddSimTools(registry, disk); },
      .dialogue = [this, &p](const ProfileSet& profile) -> base::StatusOr<const Dialogue*> {
        std::unique_ptr<Dialogue>& dialogue = p.dialogues[profile.client_tools.size()];
        if (dialogue == nullptr) {
          tools::Registry registry;
          HF_RETURN_IF_ERROR(AddSimTools(registry, disk));
          HF_RETURN_IF_ERROR(AddControlTools(registry, p.schemas_only));
          HF_RETURN_IF_ERROR(AddClientTools(profile, registry));
          HF_ASSIGN_OR_RETURN(const tools::Toolset tools, registry.Select(ToolIds(profile)));
          HF_ASSIGN_OR_RETURN(dialogue, Dialogue::Make(SmallTokenizer(), {.system = profile.system,
                                                                          .tools = tools.function_lines()}));
        }
        return dialogue.get();
      },
      .history = p.history.get(),
      .tokenizer = &SmallTokenizer(),
      .recoveries_max = 1000,
      .narrow = [this](std::unique_ptr<sessions::TokenConstraint>, std::span<const int32_t> before,
                       std::span<const int32_t> begun) -> std::unique_ptr<sessions::TokenConstraint> {
        const int32_t eos = *SmallTokenizer().FindAdded("<｜end▁of▁sentence｜>");
        const auto last = std::find(before.rbegin(), before.rend(), eos).base();
        return std::make_unique<Recited>(IdsOf(script_(Text({last, before.end()}))), begun.size());
      }};
  p.manager = std::make_unique<SessionManager>(
      parts, *p.store, base::RealEntropy(), ManagerOptions{},
      [this](const std::string& id, const sessions::Event& event) { told[id].push_back(event.seq); });
  bool started = false;
  base::Status status;
  p.manager->Start([&](base::Status ended) {
    started = true;
    status = std::move(ended);
  });
  RunUntil([&] { return started || fs.crashed(); });
  return started && status.ok() && !fs.crashed();
}

void ManagerWorld::Kill() {
  process_.reset();
  disk.jobs.clear();
}

void ManagerWorld::PowerCut() {
  process_.reset();
  fs.Crash();
  fs.Restart();
  for (auto& [directory, layer] : disk.layers) {
    layer.files = {{"file", "whatever the disk makes of it"}};
    layer.same_boot = false;
  }
  disk.jobs.clear();
}

SessionManager& ManagerWorld::manager() { return *process_->manager; }

void ManagerWorld::RunFor(int64_t ns) { process_->executor->RunFor(ns); }

bool ManagerWorld::RunUntil(const std::function<bool()>& done, int64_t ns) {
  const base::MonotonicTime until{clock.MonotonicNow().ns + ns};
  while (!done()) {
    if (fs.crashed() || !process_->executor->RunOne(until)) return done();
  }
  return true;
}

base::StatusOr<sessions::SessionRow> ManagerWorld::Create(NewSession session) {
  return Ask<sessions::SessionRow>([&](auto done) { manager().Create(std::move(session), std::move(done)); });
}

base::StatusOr<SessionStatus> ManagerWorld::Status(const std::string& id) {
  return Ask<SessionStatus>([&](auto done) { manager().Status(id, std::move(done)); });
}

base::StatusOr<uint64_t> ManagerWorld::Send(const std::string& id, sessions::InputReceived input) {
  return Ask<uint64_t>([&](auto done) { manager().Send(id, std::move(input), std::move(done)); });
}

bool ManagerWorld::RunUntilState(const std::string& id, std::vector<SessionState> states, int64_t ns) {
  const int64_t until = clock.MonotonicNow().ns + ns;
  for (;;) {
    const auto row = Ask<sessions::SessionRow>([&](auto done) { process_->store->Get(id, std::move(done)); });
    if (!row.ok()) return false;
    if (std::find(states.begin(), states.end(), row->state) != states.end()) return true;
    if (clock.MonotonicNow().ns >= until || fs.crashed()) return false;
    size_t tasks = 0;
    RunUntil([&tasks] { return ++tasks > 200; }, until - clock.MonotonicNow().ns);
    if (tasks < 3) return false;  // nothing is left to do
  }
}

std::vector<sessions::Event> ManagerWorld::Events(const std::string& id) {
  std::vector<sessions::Event> events;
  for (bool more = true; more;) {
    const auto read = Ask<std::vector<sessions::Event>>([&](auto done) {
      process_->store->ReadEvents(id, events.empty() ? 0 : events.back().seq, 1000, std::move(done));
    });
    EXPECT_TRUE(read.ok()) << read.status();
    if (!read.ok()) break;
    more = !read->empty();
    events.insert(events.end(), read->begin(), read->end());
  }
  return events;
}

}  // namespace holdfast::agent
