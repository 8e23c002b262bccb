// What many sessions cost: lists, a start, the recovery of each that was at work, and the disk.
//
//   sessions_bench --dir DIR [--sessions 1000] [--events 1000]
//
// DIR is emptied, and should lie on the disk in question. The last column is the bar that the figure has to
// keep; with fewer events than the defaults it keeps all of them easily.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/executor.h"
#include "memory/sqlite_database.h"
#include "sessions/recovery.h"
#include "sessions/session_store.h"

namespace {

namespace base = holdfast::base;
namespace memory = holdfast::memory;
namespace ss = holdfast::sessions;

struct Options {
  std::string dir;
  size_t sessions = 1000, events = 1000;
};

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "sessions_bench: %s\n", why.c_str());
  std::exit(1);
}

void Check(const base::Status& status) {
  if (!status.ok()) Die(base::Message(status));
}

double NowMs() { return static_cast<double>(base::RealClock().MonotonicNow().ns) / 1e6; }

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

void Print(const char* what, double value, const char* unit, double bar) {
  std::printf("%-58s %10.2f %-4s", what, value, unit);
  bar > 0 ? std::printf(" %8.0f %s\n", bar, value <= bar ? "kept" : "MISSED") : std::printf("\n");
  std::fflush(stdout);
}

// One process over the store.
class Process {
 public:
  explicit Process(const std::string& path) {
    auto database =
        memory::SqliteDatabase::Open(base::RealFileSystem(), {.path = path}, {ss::SessionSchema()});
    Check(database.status());
    database_ = *std::move(database);
    auto store = ss::SessionStore::Open(executor_, base::RealClock(), *database_);
    Check(store.status());
    store_ = *std::move(store);
  }
  ~Process() {
    On([this] { open_.clear(); });
    executor_.Shutdown();
  }

  ss::SessionStore& store() { return *store_; }
  memory::SqliteDatabase& database() { return *database_; }

  template <class Work>
  void On(Work work) {
    executor_.PostResult(base::Lane::kControl, std::move(work));
    executor_.Drain();
  }
  template <class T, class Call>
  T Ask(Call call) {
    std::optional<base::StatusOr<T>> got;
    On([&] { call([&got](base::StatusOr<T> answer) { got.emplace(std::move(answer)); }); });
    Check(got->status());
    return *std::move(*got);
  }

  ss::StoredSession& OpenSession(const std::string& id) {
    open_.push_back(Ask<std::unique_ptr<ss::StoredSession>>(
        [&](auto done) { store_->OpenSession(id, nullptr, std::move(done)); }));
    return *open_.back();
  }
  void CloseSessions() {
    On([this] { open_.clear(); });
  }
  void Append(ss::StoredSession& session, std::vector<ss::EventBody> bodies) {
    base::Status status;
    On([&] {
      session.Append(std::move(bodies), [&status](base::Status done) { status = std::move(done); });
    });
    Check(status);
  }

 private:
  base::ThreadExecutor executor_;
  std::unique_ptr<memory::SqliteDatabase> database_;
  std::unique_ptr<ss::SessionStore> store_;
  std::vector<std::unique_ptr<ss::StoredSession>> open_;
};

std::string IdOf(size_t session) { return "s" + std::to_string(session); }

// Events as work makes them: a batch of sampled tokens mostly, and a call in every tenth.
std::vector<ss::EventBody> Work(size_t events) {
  std::vector<ss::EventBody> bodies = {ss::StateChanged{.state = ss::SessionState::kRunning}};
  ss::TokenRun run{.origin = ss::TokenOrigin::kSampled, .sampling = ss::Sampling{.numerics = "cpu-native-1"}};
  for (int32_t id = 0; id < 32; ++id) run.ids.push_back(id * 3900 % 129'280);
  for (size_t call = 0; bodies.size() + 3 <= events; ++call) {
    const std::string name = "c0." + std::to_string(call);
    for (size_t i = 0; i < 8 && bodies.size() + 3 <= events; ++i) {
      bodies.push_back(run);
      run.position += 32;
    }
    bodies.push_back(
        ss::CallIntent{.call = name, .tool = "bash@2", .arguments = R"({"command": "make test"})"});
    bodies.push_back(ss::CallOutcome{.call = name, .text = std::string(400, 'x')});
  }
  while (bodies.size() < events) bodies.push_back(ss::TurnFinished{});
  return bodies;
}

void Fill(const Options& options, const std::string& path) {
  Process process(path);
  const std::vector<ss::EventBody> work = Work(options.events - 1);
  const double begin = NowMs();
  uint64_t wal_bytes_max = 0;
  for (size_t i = 0; i < options.sessions; ++i) {
    ss::SessionCreated created{.seed = i};
    for (size_t byte = 0; byte < 4; ++byte) created.uid[byte] = static_cast<std::byte>(i >> (8 * byte));
    process.Ask<ss::SessionRow>(
        [&](auto done) { process.store().Create(IdOf(i), created, {}, std::move(done)); });
    ss::StoredSession& session = process.OpenSession(IdOf(i));
    for (size_t at = 0; at < work.size(); at += 100) {
      process.Append(session, {work.begin() + static_cast<ptrdiff_t>(at),
                               work.begin() + static_cast<ptrdiff_t>(std::min(at + 100, work.size()))});
    }
    process.CloseSessions();
    wal_bytes_max = std::max<uint64_t>(wal_bytes_max, std::filesystem::file_size(path + "-wal"));
  }
  Print("making them, 100 events a commit", (NowMs() - begin) / 1e3, "s", 0);
  Print("largest WAL", static_cast<double>(wal_bytes_max) / 1e6, "MB", 64);
}

void Run(const Options& options) {
  std::filesystem::remove_all(options.dir);
  std::filesystem::create_directories(options.dir);
  const std::string path = options.dir + "/holdfast.db";
  std::printf("%zu sessions of %zu events\n", options.sessions, options.events);
  Fill(options, path);
  Print("database", static_cast<double>(std::filesystem::file_size(path)) / 1e6, "MB", 0);

  double begin = NowMs();
  Process process(path);
  const auto unfinished = process.Ask<std::vector<std::string>>(
      [&](auto done) { process.store().ListUnfinished(std::move(done)); });
  Print("start: open, and what has to be looked after", NowMs() - begin, "ms", 2000);
  if (unfinished.size() != options.sessions) Die("not all sessions say RUNNING");

  std::vector<double> pages;
  std::string token;
  do {
    begin = NowMs();
    const auto page = process.Ask<ss::SessionPage>(
        [&](auto done) { process.store().List({}, 50, token, std::move(done)); });
    pages.push_back(NowMs() - begin);
    token = page.next_page_token;
  } while (!token.empty());
  Print("a page of 50, worst", Percentile(pages, 1), "ms", 50);

  std::vector<double> recoveries;
  for (const std::string& id : unfinished) {
    begin = NowMs();
    ss::StoredSession& session = process.OpenSession(id);
    const ss::RecoveryPlan plan = ss::PlanRecovery(session.facts(), {.generation = session.generation()});
    process.Append(session, plan.append);
    recoveries.push_back(NowMs() - begin);
    process.CloseSessions();
  }
  Print("recovery of a session: open, plan, append; median", Percentile(recoveries, 0.5), "ms", 5);
  Print("the same, 99 in 100", Percentile(recoveries, 0.99), "ms", 0);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--dir") {
      options.dir = argv[i + 1];
    } else if (name == "--sessions") {
      options.sessions = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--events") {
      options.events = std::strtoull(argv[i + 1], nullptr, 10);
    } else {
      Die("unknown option " + name);
    }
  }
  if (options.dir.empty() || options.sessions == 0 || options.events < 20) {
    Die("--dir DIR is needed, at least one session, and 20 events");
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  Run(options);
  std::filesystem::remove_all(options.dir);
  return 0;
}
