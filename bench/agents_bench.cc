// Many sessions at work at once on one model: fairness, waiting, memory.
//
//   agents_bench --model DIR --broker PATH --dir DIR [--sessions 100] [--files 300] [--places 16]
//
// DIR is emptied. Each session is given the same kind of goal, a rename in a tree of its own, with a check.
// Printed: when the sessions had their first call and their end; how evenly they were served, as the ratio of
// the share that the slowest had of the engine half way through to an equal share; the most memory that the
// process ever had, beside what it had before the first session.
#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "model/backend.h"
#include "server/runtime.h"

namespace {

namespace ag = holdfast::agent;
namespace base = holdfast::base;
namespace se = holdfast::sessions;
namespace sv = holdfast::server;

struct Options {
  std::string model, broker, dir;
  size_t sessions = 100, files = 300, places = 16;
};

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "agents_bench: %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T Take(base::StatusOr<T> value) {
  if (!value.ok()) Die(base::Message(value.status()));
  return *std::move(value);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--model")
      options.model = argv[i + 1];
    else if (name == "--broker")
      options.broker = argv[i + 1];
    else if (name == "--dir")
      options.dir = argv[i + 1];
    else if (name == "--sessions")
      options.sessions = std::strtoul(argv[i + 1], nullptr, 10);
    else if (name == "--files")
      options.files = std::strtoul(argv[i + 1], nullptr, 10);
    else if (name == "--places")
      options.places = std::strtoul(argv[i + 1], nullptr, 10);
    else
      Die("unknown option " + name);
  }
  if (options.model.empty() || options.dir.empty() || options.sessions == 0)
    Die("--model and --dir are needed");
  return options;
}

// What happens, by session.
class Watch {
 public:
  struct Seen {
    double first_call = 0, end = 0;
    int64_t tokens = 0;
    bool succeeded = false;
  };
  void Tell(const std::string& id, const se::Event& event) {
    const std::lock_guard lock(mutex_);
    Seen& seen = seen_[id];
    if (std::holds_alternative<se::CallIntent>(event.body) && seen.first_call == 0) seen.first_call = Now();
    if (const auto* run = std::get_if<se::TokenRun>(&event.body)) {
      if (run->origin == se::TokenOrigin::kSampled) seen.tokens += static_cast<int64_t>(run->ids.size());
    }
    if (const auto* agent = std::get_if<se::AgentEvent>(&event.body)) {
      const auto body = ag::Decode(*agent);
      if (body.ok() && body->has_value()) {
        if (const auto* changed = std::get_if<ag::GoalChanged>(&**body)) {
          seen.succeeded = changed->state == ag::GoalState::kSucceeded;
        }
      }
    }
    const auto* state = std::get_if<se::StateChanged>(&event.body);
    if (state != nullptr && state->state != se::SessionState::kRunning && seen.end == 0) {
      seen.end = Now();
      ++ended_;
      changed_.notify_all();
      if (ended_ == half_) middle_ = seen_;
    }
  }
  void Start(size_t sessions) {
    start_ = base::RealClock().MonotonicNow();
    half_ = std::max<size_t>(sessions / 10, 1);
  }
  void WaitForEnds(size_t sessions) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ >= sessions; });
  }
  std::map<std::string, Seen> seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  // When a tenth of the sessions had ended.
  std::map<std::string, Seen> early() {
    const std::lock_guard lock(mutex_);
    return middle_;
  }
  double Now() const {
    return static_cast<double>(base::RealClock().MonotonicNow().ns - start_.ns) / base::kNsPerSecond;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  base::MonotonicTime start_{0};
  size_t ended_ = 0, half_ = 1;
  std::map<std::string, Seen> seen_, middle_;
};

int64_t PeakMib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

std::string MakeTree(const Options& options, size_t number) {
  const std::filesystem::path tree = std::filesystem::path(options.dir) / "trees" / std::to_string(number);
  for (size_t i = 0; i < options.files; ++i) {
    const std::filesystem::path path =
        tree / ("part" + std::to_string(i % 10)) / ("file" + std::to_string(i) + ".h");
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "#pragma once\n\nint something_" << i << "();\n";
  }
  const std::string name = "quorv_limit" + std::to_string(number);
  std::ofstream(tree / "limits.h") << "#pragma once\n\nint " << name << "();\n";
  std::ofstream(tree / "user.cc") << "#include \"limits.h\"\n\nint main() { return " << name << "(); }\n";
  return tree.string();
}

void Print(Watch& watch, size_t sessions, int64_t before_mib) {
  std::vector<double> first, end;
  size_t succeeded = 0;
  for (const auto& [id, seen] : watch.seen()) {
    first.push_back(seen.first_call);
    end.push_back(seen.end);
    succeeded += seen.succeeded ? 1 : 0;
  }
  std::sort(first.begin(), first.end());
  std::sort(end.begin(), end.end());
  int64_t sum = 0, least = INT64_MAX;
  size_t at_work = 0;
  for (const auto& [id, seen] : watch.early()) {
    sum += seen.tokens;
    least = std::min(least, seen.tokens);
    ++at_work;
  }
  const double mean = static_cast<double>(sum) / static_cast<double>(std::max<size_t>(at_work, 1));
  std::printf("sessions %zu, succeeded %zu\n", sessions, succeeded);
  std::printf("first call   first %.2f s, median %.2f s, last %.2f s\n", first.front(),
              first[first.size() / 2], first.back());
  std::printf("end          first %.2f s, median %.2f s, last %.2f s\n", end.front(), end[end.size() / 2],
              end.back());
  std::printf("when a tenth had ended: tokens of a session, mean %.0f, least %lld (%.2f of the mean)\n", mean,
              static_cast<long long>(least), mean > 0 ? static_cast<double>(least) / mean : 0.0);
  std::printf("memory       %lld MiB at most, %lld MiB before the first session\n",
              static_cast<long long>(PeakMib()), static_cast<long long>(before_mib));
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  std::filesystem::remove_all(options.dir);
  std::vector<std::string> trees;
  for (size_t i = 0; i < options.sessions; ++i) trees.push_back(MakeTree(options, i));
  Watch watch;
  sv::RuntimeOptions open{
      .directory = options.dir + "/data",
      .model = options.model,
      .backend = holdfast::model::MakeCpuBackend({}),
      .broker = options.broker,
      .on_event = [&watch](const std::string& id, const se::Event& event) { watch.Tell(id, event); }};
  open.policy.workspace.inside = "/workspace";
  open.scheduler.places_max = options.places;
  const auto runtime = Take(sv::Runtime::Open(std::move(open)));
  const int64_t before_mib = PeakMib();
  watch.Start(options.sessions);
  for (size_t i = 0; i < options.sessions; ++i) {
    const std::string number = std::to_string(i);
    ag::NewSession session{.id = "bench-" + number, .seed = i};
    session.profile = Take(runtime->MakeProfile("nano", trees[i]));
    session.goal = ag::GoalSet{.text = "Rename `quorv_limit" + number + "` to `brims_bound" + number + "`.",
                               .checks = {{.command = "! grep -rqw quorv_limit" + number + " ."}}};
    Take(runtime->Ask<se::SessionRow>(
        [&](auto done) { runtime->manager().Create(session, std::move(done)); }));
  }
  watch.WaitForEnds(options.sessions);
  Print(watch, options.sessions, before_mib);
  runtime->Stop();
  std::filesystem::remove_all(options.dir);
  return 0;
}
