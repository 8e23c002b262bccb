#include "tools/background_jobs.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "tools/text/utf8.h"

namespace holdfast::tools {

using InfoState = BackgroundInfo::State;

struct BackgroundJobs::Entry {
  std::string command;
  sandbox::Limits limits;
  InfoState state = InfoState::kRunning;
  std::unique_ptr<sandbox::Job> job;  // null: never was, lost, or has ended and all was looked at
  uint64_t next = 0;                  // of the output, for the next look
  std::optional<sandbox::Outcome> outcome;
};

struct BackgroundJobs::State {
  struct Listener {
    uint64_t job = 0;
    absl::AnyInvocable<void()> call;
  };

  explicit State(BackgroundBounds b) : bounds(b) {}

  const BackgroundBounds bounds;
  std::mutex mu;  // guards all that follows
  std::map<uint64_t, Entry> entries;
  uint64_t next_number = 1;
  std::map<uint64_t, Listener> listeners;
  uint64_t next_listener = 1;

  Entry* Find(std::string_view id);
  std::vector<absl::AnyInvocable<void()>> TakeListeners(uint64_t number);
  void Conclude(uint64_t number, const sandbox::Outcome& outcome);
  std::vector<std::unique_ptr<sandbox::Job>> ForgetOldest();
};

namespace {

constexpr size_t kIdBytesMax = 20;
constexpr size_t kCommandBytesMax = 1024;  // of what List shows

std::string IdOf(uint64_t number) { return "b" + std::to_string(number); }

// 0: not an id.
uint64_t NumberOf(std::string_view id) {
  if (id.size() < 2 || id.size() > kIdBytesMax || id[0] != 'b' || id[1] == '0') return 0;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(id.data() + 1, id.data() + id.size(), number);
  return error == std::errc() && end == id.data() + id.size() ? number : 0;
}

base::Status NoSuch(std::string_view id) {
  return base::NotFound("no command " + std::string(id) + " is in the background");
}

base::Status Over(std::string_view id) { return base::FailedPrecondition(std::string(id) + " has ended"); }

}  // namespace

BackgroundJobs::Entry* BackgroundJobs::State::Find(std::string_view id) {
  const auto found = entries.find(NumberOf(id));
  return found == entries.end() ? nullptr : &found->second;
}

std::vector<absl::AnyInvocable<void()>> BackgroundJobs::State::TakeListeners(uint64_t number) {
  std::vector<absl::AnyInvocable<void()>> taken;
  for (auto it = listeners.begin(); it != listeners.end();) {
    if (it->second.job != number) {
      ++it;
      continue;
    }
    taken.push_back(std::move(it->second.call));
    it = listeners.erase(it);
  }
  return taken;
}

// The jobs of the oldest ended commands beyond ended_max; to be destroyed without the lock.
std::vector<std::unique_ptr<sandbox::Job>> BackgroundJobs::State::ForgetOldest() {
  std::vector<std::unique_ptr<sandbox::Job>> dropped;
  auto ended = static_cast<size_t>(std::count_if(entries.begin(), entries.end(), [](const auto& entry) {
    return entry.second.state != InfoState::kRunning;
  }));
  for (auto it = entries.begin(); it != entries.end() && ended > bounds.ended_max;) {
    if (it->second.state == InfoState::kRunning) {
      ++it;
      continue;
    }
    dropped.push_back(std::move(it->second.job));
    it = entries.erase(it);
    --ended;
  }
  return dropped;
}

void BackgroundJobs::State::Conclude(uint64_t number, const sandbox::Outcome& outcome) {
  std::vector<absl::AnyInvocable<void()>> calls;
  std::vector<std::unique_ptr<sandbox::Job>> dropped;
  {
    const std::lock_guard lock(mu);
    const auto found = entries.find(number);
    if (found == entries.end()) return;
    Entry& entry = found->second;
    if (entry.state == InfoState::kRunning) {
      entry.state = InfoState::kEnded;
      entry.outcome = outcome;
      entry.outcome->output = {};
    }
    calls = TakeListeners(number);
    dropped = ForgetOldest();
  }
  for (auto& call : calls) call();
}

// Shared with the ends of jobs: see state_.
BackgroundJobs::BackgroundJobs(BackgroundBounds bounds) : state_(std::make_shared<State>(bounds)) {}

BackgroundJobs::~BackgroundJobs() { LoseAll(); }

base::StatusOr<std::string> BackgroundJobs::Start(sandbox::Session& session, sandbox::Command command,
                                                  const sandbox::Limits& limits) {
  uint64_t number = 0;
  sandbox::Limits bounded = limits;
  if (const uint64_t ttl_ms = state_->bounds.ttl_ms; ttl_ms != 0) {
    bounded.wall_ms = bounded.wall_ms == 0 ? ttl_ms : std::min(bounded.wall_ms, ttl_ms);
  }
  {
    const std::lock_guard lock(state_->mu);
    const auto running = std::count_if(state_->entries.begin(), state_->entries.end(), [](const auto& entry) {
      return entry.second.state == InfoState::kRunning;
    });
    if (static_cast<size_t>(running) >= state_->bounds.running_max) {
      return base::ResourceExhausted(std::to_string(running) + " commands run in the background already");
    }
    // Taken before the start, so that the end finds it.
    number = state_->next_number++;
    Entry& entry = state_->entries[number];
    entry.command = FirstCharacters(command.argv.back(), kCommandBytesMax);
    entry.limits = bounded;
  }
  sandbox::RunOptions options{
      .limits = bounded,
      .output = {
          .head_bytes = 0, .tail_bytes = 0, .ring_bytes = state_->bounds.ring_bytes, .spill_bytes_max = 0}};
  options.on_end = [state = state_, number](const sandbox::Outcome& outcome) {
    state->Conclude(number, outcome);
  };
  auto job = session.Start(command, std::move(options));
  std::unique_ptr<sandbox::Job> unwanted;  // destroyed without the lock
  const std::lock_guard lock(state_->mu);
  if (!job.ok()) {
    state_->entries.erase(number);
    if (state_->next_number == number + 1) state_->next_number = number;  // nothing was run: no id is used up
    return job.status();
  }
  Entry* const entry = state_->Find(IdOf(number));
  const bool wanted = entry != nullptr && entry->state != InfoState::kLost;
  (wanted ? entry->job : unwanted) = *std::move(job);
  return IdOf(number);
}

base::StatusOr<BackgroundLook> BackgroundJobs::Look(std::string_view id, size_t bytes_max) {
  std::unique_ptr<sandbox::Job> finished;
  const std::lock_guard lock(state_->mu);
  Entry* const entry = state_->Find(id);
  if (entry == nullptr) return NoSuch(id);
  BackgroundLook look{.state = entry->state, .outcome = entry->outcome, .limits = entry->limits};
  if (entry->job == nullptr) return look;
  sandbox::OutputPart part = entry->job->Poll(entry->next, bytes_max);
  look.text = std::move(part.text);
  look.skipped_bytes = part.skipped_bytes;
  const bool moved = part.next != entry->next;
  entry->next = part.next;
  if (moved) {
    const sandbox::OutputPart rest = entry->job->Poll(entry->next, 4);
    look.more = rest.next != entry->next;
  }
  // All is seen: its memory can go.
  if (look.state == InfoState::kEnded && !look.more) finished = std::move(entry->job);
  return look;
}

base::Status BackgroundJobs::Write(std::string_view id, std::string_view bytes) {
  const std::lock_guard lock(state_->mu);
  Entry* const entry = state_->Find(id);
  if (entry == nullptr) return NoSuch(id);
  if (entry->state != InfoState::kRunning || entry->job == nullptr) return Over(id);
  return entry->job->Write(bytes);
}

base::Status BackgroundJobs::CloseInput(std::string_view id) {
  const std::lock_guard lock(state_->mu);
  Entry* const entry = state_->Find(id);
  if (entry == nullptr) return NoSuch(id);
  if (entry->state != InfoState::kRunning || entry->job == nullptr) return Over(id);
  return entry->job->CloseInput();
}

base::Status BackgroundJobs::Resize(std::string_view id, sandbox::TerminalSize size) {
  const std::lock_guard lock(state_->mu);
  Entry* const entry = state_->Find(id);
  if (entry == nullptr) return NoSuch(id);
  if (entry->state != InfoState::kRunning || entry->job == nullptr) return Over(id);
  return entry->job->Resize(size);
}

base::Status BackgroundJobs::Kill(std::string_view id) {
  const std::lock_guard lock(state_->mu);
  Entry* const entry = state_->Find(id);
  if (entry == nullptr) return NoSuch(id);
  if (entry->state == InfoState::kRunning && entry->job != nullptr) entry->job->Kill();
  return absl::OkStatus();
}

uint64_t BackgroundJobs::WhenEnded(std::string_view id, absl::AnyInvocable<void()> listener) {
  {
    const std::lock_guard lock(state_->mu);
    const Entry* const entry = state_->Find(id);
    if (entry != nullptr && entry->state == InfoState::kRunning) {
      const uint64_t number = state_->next_listener++;
      state_->listeners[number] = {.job = NumberOf(id), .call = std::move(listener)};
      return number;
    }
  }
  listener();
  return 0;
}

void BackgroundJobs::RemoveListener(uint64_t listener) {
  const std::lock_guard lock(state_->mu);
  state_->listeners.erase(listener);
}

size_t BackgroundJobs::running() const {
  const std::lock_guard lock(state_->mu);
  return static_cast<size_t>(
      std::count_if(state_->entries.begin(), state_->entries.end(),
                    [](const auto& entry) { return entry.second.state == InfoState::kRunning; }));
}

std::vector<BackgroundInfo> BackgroundJobs::List() const {
  const std::lock_guard lock(state_->mu);
  std::vector<BackgroundInfo> list;
  for (const auto& [number, entry] : state_->entries) {
    list.push_back({.id = IdOf(number), .command = entry.command, .state = entry.state});
  }
  return list;
}

base::Status BackgroundJobs::Restore(std::span<const BackgroundInfo> jobs) {
  const std::lock_guard lock(state_->mu);
  if (state_->next_number != 1) return base::FailedPrecondition("background jobs: not a fresh registry");
  uint64_t last = 0;
  for (const BackgroundInfo& info : jobs) {
    const uint64_t number = NumberOf(info.id);
    if (number <= last) {
      return base::InvalidArgument("background jobs: id `" + info.id + "` is none, or out of order");
    }
    last = number;
  }
  for (const BackgroundInfo& info : jobs) {
    Entry& entry = state_->entries[NumberOf(info.id)];
    entry.command = info.command;
    // The outcome of one that had ended went with its output, so it is lost too.
    entry.state = InfoState::kLost;
  }
  state_->next_number = last + 1;
  return absl::OkStatus();
}

void BackgroundJobs::LoseAll() {
  std::vector<std::unique_ptr<sandbox::Job>> jobs;  // destroyed, and so killed, without the lock
  std::vector<absl::AnyInvocable<void()>> calls;
  {
    const std::lock_guard lock(state_->mu);
    for (auto& [number, entry] : state_->entries) {
      if (entry.state != InfoState::kRunning) continue;
      entry.state = InfoState::kLost;
      jobs.push_back(std::move(entry.job));
      for (auto& call : state_->TakeListeners(number)) calls.push_back(std::move(call));
    }
  }
  jobs.clear();
  for (auto& call : calls) call();
}

}  // namespace holdfast::tools
