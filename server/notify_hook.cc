#include "server/notify_hook.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "agent/agent_event.h"
#include "base/coding.h"
#include "base/errno.h"
#include "base/file.h"

extern char** environ;

namespace holdfast::server {
namespace {

constexpr uint64_t kFileBytesMax = 16 << 20;
constexpr int kStopMs = 2'000;

// What the program is started with.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
    sigset_t none, pipe;
    sigemptyset(&none);
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &pipe);
    posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, 2, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&actions_, 3);
  }
  ~SpawnSettings() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  const posix_spawnattr_t* attributes() const { return &attributes_; }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }

 private:
  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
};

}  // namespace

std::string RuleOf(const std::string& reason) {
  const size_t end = reason.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
  return reason.substr(0, end);
}

base::StatusOr<std::unique_ptr<NotifyHook>> NotifyHook::Start(NotifyOptions options) {
  int wake[2];
  if (pipe2(wake, O_CLOEXEC) != 0) return base::ErrnoStatus(errno, "pipe2");
  std::unique_ptr<NotifyHook> hook(
      new NotifyHook(std::move(options), base::Descriptor(wake[0]), base::Descriptor(wake[1])));
  const auto text = base::RealFileSystem().ReadFile(hook->options_.file, kFileBytesMax);
  if (!text.ok() && !absl::IsNotFound(text.status())) return text.status();
  for (size_t at = 0; text.ok() && at < text->size();) {
    const size_t end = std::min(text->find('\n', at), text->size());
    hook->noted_.push_back(text->substr(at, end - at));
    at = end + 1;
  }
  hook->known_.insert(hook->noted_.begin(), hook->noted_.end());
  hook->thread_ = std::thread([raw = hook.get()] { raw->Run(); });
  return hook;
}

NotifyHook::NotifyHook(NotifyOptions options, base::Descriptor wake_read, base::Descriptor wake_write)
    : options_(std::move(options)), wake_read_(std::move(wake_read)), wake_write_(std::move(wake_write)) {}

NotifyHook::~NotifyHook() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
  wake_write_.Reset();
  if (thread_.joinable()) thread_.join();
}

bool NotifyHook::NoticeOf(const sessions::Event& event, Notice* notice) {
  notice->seq = event.seq;
  notice->key = std::to_string(event.seq);
  if (const auto* asked = std::get_if<sessions::ApprovalRequested>(&event.body)) {
    notice->state = "WAITING";
    notice->reason = "APPROVAL";
    notice->key = "call " + asked->call;  // also when a recovered session asks again
    return true;
  }
  if (const auto* changed = std::get_if<sessions::StateChanged>(&event.body)) {
    const bool input =
        changed->state == sessions::SessionState::kWaiting && changed->wait == sessions::WaitFor::kInput;
    const bool paused = changed->state == sessions::SessionState::kPaused && changed->reason != "USER";
    notice->state = input ? "WAITING" : "PAUSED";
    notice->reason = input ? "INPUT" : RuleOf(changed->reason);
    return input || paused;
  }
  const auto* agent = std::get_if<sessions::AgentEvent>(&event.body);
  if (agent == nullptr) return false;
  const auto body = agent::Decode(*agent);
  const auto* goal = body.ok() && body->has_value() ? std::get_if<agent::GoalChanged>(&**body) : nullptr;
  if (goal == nullptr) return false;
  notice->state = agent::GoalStateName(goal->state);
  return goal->state == agent::GoalState::kSucceeded ||
         goal->state == agent::GoalState::kFinishedUnverified || goal->state == agent::GoalState::kFailed;
}

void NotifyHook::OnEvent(const std::string& session, const sessions::Event& event) {
  Notice notice{.session = session};
  if (!NoticeOf(event, &notice)) return;
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    if (waiting_.size() < options_.waiting_max) {
      waiting_.push_back(std::move(notice));
      changed_.notify_all();
      return;
    }
  }
  options_.on_message("notify: too many wait; session " + session + " is not announced");
}

void NotifyHook::Run() {
  for (;;) {
    Notice notice;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      notice = std::move(waiting_.front());
      waiting_.pop_front();
    }
    if (known_.contains(notice.session + " " + notice.key)) continue;
    base::Status told = Note(notice);
    if (told.ok()) told = Call(notice);
    if (!told.ok()) options_.on_message("notify: " + base::Message(told));
  }
}

base::Status NotifyHook::Note(const Notice& notice) {
  noted_.push_back(notice.session + " " + notice.key);
  known_.insert(noted_.back());
  while (noted_.size() > options_.noted_max) {
    known_.erase(noted_.front());
    noted_.pop_front();
  }
  std::string text;
  for (const std::string& line : noted_) text += line + "\n";
  return base::WriteFileAtomically(base::RealFileSystem(), options_.file, base::AsBytes(text));
}

base::Status NotifyHook::Call(const Notice& notice) {
  std::vector<std::string> own = {"HOLDFAST_SESSION=" + notice.session, "HOLDFAST_STATE=" + notice.state,
                                  "HOLDFAST_REASON=" + notice.reason,
                                  "HOLDFAST_SEQUENCE=" + std::to_string(notice.seq)};
  std::vector<char*> environment;
  for (std::string& variable : own) environment.push_back(variable.data());
  for (char** variable = environ; *variable != nullptr; ++variable) environment.push_back(*variable);
  environment.push_back(nullptr);
  std::string program = options_.program;
  char* const arguments[] = {program.data(), nullptr};
  const SpawnSettings settings;
  pid_t process = 0;
  const int error = posix_spawnp(&process, program.c_str(), settings.actions(), settings.attributes(),
                                 arguments, environment.data());
  if (error != 0) return base::ErrnoStatus(error, program);
  Watch(process);
  return {};
}

// Until the process has ended; it is killed when its time is up, or a moment after the daemon wants to end.
void NotifyHook::Watch(int process) {
  const base::Descriptor handle(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
  pollfd events[2] = {{.fd = handle.get(), .events = POLLIN, .revents = 0},
                      {.fd = wake_read_.get(), .events = POLLIN, .revents = 0}};
  int ready = poll(events, 2, static_cast<int>(options_.run_ms_max));
  if (ready > 0 && events[0].revents == 0) ready = poll(events, 1, kStopMs);  // woken to end
  if (ready <= 0) options_.on_message("notify: " + options_.program + " took too long and was ended");
  kill(-process, SIGKILL);  // also what it has left behind
  while (waitpid(process, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace holdfast::server
