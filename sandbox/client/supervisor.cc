#include "sandbox/client/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <utility>

#include "base/errno.h"
#include "base/file.h"
#include "sandbox/broker/pidfd.h"
#include "sandbox/client/failure_text.h"
#include "sandbox/client/job_message.h"
#include "sandbox/client/spawn.h"

namespace holdfast::sandbox {
namespace {

using wire::EndCause;
using wire::MessageType;

constexpr size_t kReadBytes = 64 * 1024;
constexpr size_t kReadsInARow = 4;  // of one stream, before the others have their turn
constexpr size_t kInputWaitingMax = 4 << 20;
constexpr std::chrono::seconds kAnswerWait{15};  // beyond the broker's own deadlines
constexpr int kBrokerEndMs = 8000;

void NeverBlock(int fd) { fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL)); }

}  // namespace

Supervisor::Supervisor(SandboxOptions options, base::Clock& clock)
    : options_(std::move(options)), clock_(clock), secrets_(options_.secrets) {}

base::StatusOr<std::unique_ptr<Supervisor>> Supervisor::Start(SandboxOptions options) {
  for (const Secret& secret : options.secrets) {
    if (secret.value.size() < 6) {
      return base::InvalidArgument("sandbox: the secret `" + secret.name + "` is shorter than 6 bytes");
    }
  }
  base::Clock& clock = options.clock != nullptr ? *options.clock : base::RealClock();
  std::unique_ptr<Supervisor> supervisor(new Supervisor(std::move(options), clock));
  HF_RETURN_IF_ERROR(supervisor->SpawnBroker());
  HF_RETURN_IF_ERROR(supervisor->AwaitHello());
  supervisor->wake_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!supervisor->wake_.valid()) return base::ErrnoStatus(errno, "sandbox: eventfd");
  // Signals are for other threads; and a write to a closed pipe must be an error here, not a SIGPIPE.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  supervisor->thread_ = std::thread([s = supervisor.get()] { s->Loop(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return supervisor;
}

base::Status Supervisor::SpawnBroker() {
  HF_ASSIGN_OR_RETURN(broker_path_, FindBroker(options_.broker_path));
  Descriptor far;
  if (!MakeChannel(broker_, far)) return base::ErrnoStatus(errno, "sandbox: channel");
  HF_ASSIGN_OR_RETURN(broker_pid_, sandbox::SpawnBroker(broker_path_, far));
  broker_pidfd_ = OpenPidfd(broker_pid_);
  return absl::OkStatus();
}

base::Status Supervisor::AwaitHello() {
  pollfd polled = {broker_.get(), POLLIN, 0};
  const auto refuse = [](std::string_view why) {
    return base::FailedPrecondition("sandbox: the broker " + std::string(why) +
                                    "; it must come from the same build as this program. Nothing was run.");
  };
  if (poll(&polled, 1, 10'000) <= 0) return refuse("does not answer");
  Message message;
  const ReceiveResult result = Receive(broker_.get(), false, message);
  if (result == ReceiveResult::kClosed) return refuse("ended at once");
  wire::Hello hello;
  if (result != ReceiveResult::kMessage || message.type != MessageType::kHello ||
      !wire::Decode(message.body, hello) || hello.broker_version != wire::kVersion) {
    return refuse("speaks another version of the protocol");
  }
  host_ = {.root = hello.root, .landlock_abi = hello.landlock_abi, .cgroups = hello.cgroups};
  return absl::OkStatus();
}

Supervisor::~Supervisor() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
  }
  broker_.Reset();  // the broker sees this, ends everything and goes
  if (broker_pid_ <= 0) return;
  pollfd polled = {broker_pidfd_.get(), POLLIN, 0};
  if (poll(&polled, 1, kBrokerEndMs) <= 0) kill(broker_pid_, SIGKILL);
  waitpid(broker_pid_, nullptr, 0);
}

bool Supervisor::Tell(MessageType type, uint64_t id, std::string_view body, const std::vector<int>& fds) {
  const std::lock_guard lock(send_mu_);
  return Send(broker_.get(), type, id, body, fds);
}

void Supervisor::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_.get(), &one, sizeof(one));
}

base::Status Supervisor::Lost() const {
  return absl::UnavailableError(
      "sandbox: the broker has ended; all sessions ended with it. Nothing was run.");
}

// --- sessions ---------------------------------------------------------------------------------------

base::StatusOr<SessionRecord*> Supervisor::OpenSession(Policy policy) {
  if (policy.workspace.mode == WorkspaceMode::kOverlay) {
    for (const char* part : {"/upper", "/work"}) {
      HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(policy.workspace.layer + part));
    }
  }
  const std::string body = wire::Encode(SessionMessage(policy));
  std::unique_lock lock(mu_);
  if (lost_) return Lost();
  const uint64_t id = next_id_++;
  SessionRecord& session = *(sessions_[id] = std::make_unique<SessionRecord>());
  session.id = id;
  session.policy = std::move(policy);
  if (!Tell(MessageType::kOpenSession, id, body)) session.failure = Lost();
  changed_.wait_for(lock, kAnswerWait,
                    [&] { return session.opened || !session.failure.ok() || session.ended; });
  // Moved, not shared: who asked may drop it while the thread removes the record.
  base::Status failure;
  if (!session.failure.ok()) failure = std::move(session.failure);
  if (failure.ok() && !session.opened) failure = Lost();
  if (failure.ok()) {
    // What each job adds. Its process 1 proves it, and refuses to start the command when something is
    // missing.
    constexpr LayerSet kOfJobs = Bit(Layer::kJobPidNamespace) | Bit(Layer::kPrivateProc) |
                                 Bit(Layer::kNoCapabilities) | Bit(Layer::kNoNewPrivileges) |
                                 Bit(Layer::kSeccomp);
    LayerSet in_force = session.ready.layers | kOfJobs;
    if (session.policy.backend == Backend::kNamespaces) in_force |= Bit(Layer::kSecurebits);
    if (session.policy.use_landlock && host_.landlock_abi > 0) in_force |= Bit(Layer::kLandlock);
    session.ready.layers = in_force;
    if (const LayerSet missing = session.policy.required_layers & ~in_force; missing != 0) {
      failure = MissingLayers(missing);
    }
  }
  if (failure.ok()) return &session;
  session.released = true;
  lock.unlock();
  Tell(MessageType::kCloseSession, id, "");
  Wake();
  return failure;
}

void Supervisor::ReleaseSession(SessionRecord& session) {
  Tell(MessageType::kCloseSession, session.id, "");
  std::unique_lock lock(mu_);
  session.workspace.Reset();
  changed_.wait_for(lock, kAnswerWait, [&] { return session.ended || lost_; });
  session.released = true;
  lock.unlock();
  Wake();
}

base::StatusOr<Descriptor> Supervisor::OpenWorkspace(SessionRecord& session) {
  const std::lock_guard lock(mu_);
  if (lost_) return Lost();
  if (session.ended)
    return absl::UnavailableError("sandbox: the session has ended, and with it its workspace");
  Descriptor handle(fcntl(session.workspace.get(), F_DUPFD_CLOEXEC, 3));
  if (!handle.valid()) return base::ErrnoStatus(errno, "sandbox: the workspace's handle");
  return handle;
}

// --- jobs -------------------------------------------------------------------------------------------

base::StatusOr<JobRecord*> Supervisor::StartJob(SessionRecord& session, const Command& command,
                                                RunOptions options) {
  auto record = std::make_unique<JobRecord>();
  record->session = session.id;
  record->limits = options.limits.value_or(session.policy.limits);
  record->directory = command.directory.empty() ? session.policy.workspace.inside : command.directory;
  record->terminal = command.terminal.has_value();
  record->on_end = std::move(options.on_end);
  record->output.capture = std::make_unique<OutputCapture>(options.output, secrets_, options.spill);
  record->error.capture = std::make_unique<OutputCapture>(options.output, secrets_, options.error_spill);
  record->input_waiting = command.input;
  record->input_closing = !command.keep_input_open && !record->terminal;
  record->active_ns = clock_.MonotonicNow().ns;
  const std::string body = wire::Encode(JobMessage(session.policy, session.id, command, *record));
  JobPipes pipes;
  HF_RETURN_IF_ERROR(pipes.Make(command, *record));

  std::unique_lock lock(mu_);
  if (lost_ || session.ended) return Lost();
  if (jobs_.size() >= options_.jobs_max) {
    return base::ResourceExhausted("sandbox: " + std::to_string(jobs_.size()) + " jobs run already");
  }
  JobRecord& job = *record;
  job.id = next_id_++;
  jobs_[job.id] = std::move(record);
  lock.unlock();
  const bool told = Tell(MessageType::kStartJob, job.id, body, pipes.ForJob());
  pipes.CloseForJob();
  Wake();

  std::unique_lock job_lock(job.mu);
  if (!told)
    job.failure =
        body.size() > wire::kBodyBytesMax ? base::InvalidArgument("sandbox: command too long") : Lost();
  const bool answered = job.changed.wait_for(
      job_lock, kAnswerWait, [&] { return job.started || !job.failure.ok() || job.outcome.has_value(); });
  if (answered && job.failure.ok()) return &job;
  base::Status failure = std::move(job.failure);
  if (!answered) failure = absl::UnavailableError("sandbox: the broker does not answer. Nothing was run.");
  // Whoever asked gets the error and nothing else, however late the job is concluded.
  job.on_end = nullptr;
  job.output.capture->ForgetSink();
  job.error.capture->ForgetSink();
  job_lock.unlock();
  ReleaseJob(job);
  return failure;
}

void Supervisor::ReleaseJob(JobRecord& job) {
  const uint64_t id = job.id;  // once released the record may go at any moment
  bool ended;
  {
    const std::lock_guard lock(job.mu);
    job.released = true;
    ended = job.outcome.has_value();
  }
  if (!ended) KillJob(id, EndCause::kCaller, true);
  Wake();
}

void Supervisor::KillJob(uint64_t id, EndCause cause, bool at_once) {
  Tell(MessageType::kKillJob, id, wire::Encode(wire::KillRequest{.cause = cause, .at_once = at_once}));
}

base::Status Supervisor::WriteInput(JobRecord& job, std::string_view bytes) {
  {
    const std::lock_guard lock(job.mu);
    if (job.input_closed || job.input_closing || job.outcome.has_value()) {
      return base::FailedPrecondition("sandbox: the input of the job is closed");
    }
    if (job.input_waiting.size() + bytes.size() > kInputWaitingMax) {
      return base::ResourceExhausted("sandbox: the job does not read its input; 4 MiB wait already");
    }
    job.input_waiting.append(bytes);
    job.active_ns = clock_.MonotonicNow().ns;
  }
  Wake();
  return absl::OkStatus();
}

void Supervisor::CloseInput(JobRecord& job) {
  {
    const std::lock_guard lock(job.mu);
    job.input_closing = true;
    // A terminal cannot be closed from one side; Ctrl-D at the start of a line is what ends its input.
    if (job.terminal && !job.input_closed) job.input_waiting.push_back('\x04');
  }
  Wake();
}

// --- the thread -------------------------------------------------------------------------------------

void Supervisor::Loop() {
  std::vector<JobRecord*> jobs;
  while (true) {
    RemoveReleased();
    {
      const std::lock_guard lock(mu_);
      if (stopping_) break;
      jobs.clear();
      for (auto& [id, job] : jobs_) jobs.push_back(job.get());
    }
    PollOnce(jobs);
  }
  BrokerLost();
}

void Supervisor::PollOnce(std::vector<JobRecord*>& jobs) {
  std::vector<pollfd> polled = {{lost_ ? -1 : broker_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  for (JobRecord* job : jobs) {
    const std::lock_guard lock(job->mu);
    const bool writes = !job->input_waiting.empty() || (job->input_closing && !job->terminal);
    short output_events = POLLIN;
    int input = job->input.get();
    if (job->terminal) {
      if (!job->input_waiting.empty()) output_events |= POLLOUT;
      input = -1;
    }
    polled.push_back({job->output.fd.get(), output_events, 0});
    polled.push_back({job->error.fd.get(), POLLIN, 0});
    polled.push_back({writes ? input : -1, POLLOUT, 0});
  }
  if (poll(polled.data(), polled.size(), TimeoutMs(jobs)) < 0) return;
  if (polled[1].revents != 0) {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(wake_.get(), &count, sizeof(count));
  }
  const int64_t now_ns = clock_.MonotonicNow().ns;
  for (size_t i = 0; i < jobs.size(); ++i) {
    ServeJob(*jobs[i], polled[2 + 3 * i].revents, polled[3 + 3 * i].revents, polled[4 + 3 * i].revents);
    CheckLimits(*jobs[i], now_ns);
  }
  // Last, so that what a job printed before its end has been seen.
  if (polled[0].revents != 0) ReadBroker();
}

int Supervisor::TimeoutMs(const std::vector<JobRecord*>& jobs) {
  int64_t due = INT64_MAX;
  for (JobRecord* job : jobs) {
    const std::lock_guard lock(job->mu);
    if (job->limits.idle_ms == 0 || job->outcome.has_value() || job->limit_told) continue;
    due = std::min(due, job->active_ns + static_cast<int64_t>(job->limits.idle_ms) * base::kNsPerMs);
  }
  if (due == INT64_MAX) return -1;
  const int64_t left = due - clock_.MonotonicNow().ns;
  return static_cast<int>(std::clamp<int64_t>(left / base::kNsPerMs + 1, 0, 60'000));
}

void Supervisor::ServeJob(JobRecord& job, short output, short error, short input) {
  const std::lock_guard lock(job.mu);
  if ((output & ~POLLOUT) != 0) ReadStream(job, job.output, false);
  if (error != 0) ReadStream(job, job.error, false);
  if (input != 0 || (job.terminal && (output & POLLOUT) != 0)) WriteWaiting(job);
}

// Reads what is there. With `drain` to the end of what is there, else some of it, for the sake of the others.
bool Supervisor::ReadStream(JobRecord& job, Stream& stream, bool drain) {
  char buffer[kReadBytes];
  for (size_t i = 0; stream.fd.valid() && (drain || i < kReadsInARow); ++i) {
    const ssize_t n = read(stream.fd.get(), buffer, sizeof(buffer));
    if (n > 0) {
      stream.capture->Append(std::string_view(buffer, static_cast<size_t>(n)));
      job.active_ns = clock_.MonotonicNow().ns;
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    // The end of a pipe; of a terminal it is EIO, and may be followed by more when a process opens it again.
    if (!job.terminal || drain) stream.fd.Reset();
    if (job.terminal && !drain) break;
  }
  return stream.fd.valid();
}

void Supervisor::WriteWaiting(JobRecord& job) {
  const Descriptor& fd = job.terminal ? job.output.fd : job.input;
  while (fd.valid() && !job.input_waiting.empty()) {
    const ssize_t n = write(fd.get(), job.input_waiting.data(), job.input_waiting.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {  // nobody reads any more
      job.input_waiting.clear();
      job.input_closing = true;
      break;
    }
    job.input_waiting.erase(0, static_cast<size_t>(n));
  }
  if (job.input_closing && job.input_waiting.empty()) {
    job.input.Reset();
    job.input_closed = true;
  }
}

void Supervisor::CheckLimits(JobRecord& job, int64_t now_ns) {
  EndCause cause = EndCause::kNone;
  {
    const std::lock_guard lock(job.mu);
    if (job.limit_told || job.outcome.has_value() || !job.started) return;
    const Limits& limits = job.limits;
    if (job.output.capture->raw_bytes() + job.error.capture->raw_bytes() > limits.output_bytes) {
      cause = EndCause::kOutput;
    } else if (limits.idle_ms != 0 &&
               now_ns - job.active_ns >= static_cast<int64_t>(limits.idle_ms) * base::kNsPerMs) {
      cause = EndCause::kIdle;
    }
    job.limit_told = cause != EndCause::kNone;
  }
  if (cause != EndCause::kNone) KillJob(job.id, cause, cause == EndCause::kOutput);
}

void Supervisor::ReadBroker() {
  Message message;
  ReceiveResult result;
  while ((result = Receive(broker_.get(), false, message)) == ReceiveResult::kMessage) HandleBroker(message);
  if (result != ReceiveResult::kEmpty) BrokerLost();
}

void Supervisor::HandleBroker(Message& message) {
  const bool of_session = message.type == MessageType::kSessionOpened ||
                          message.type == MessageType::kSessionFailed ||
                          message.type == MessageType::kSessionClosed;
  if (!of_session) return HandleJob(message);
  const std::lock_guard lock(mu_);
  const auto found = sessions_.find(message.id);
  if (found == sessions_.end()) return;
  SessionRecord& session = *found->second;
  wire::Failure failure;
  switch (message.type) {
    case MessageType::kSessionOpened:
      session.opened = wire::Decode(message.body, session.ready) && message.descriptors.size() == 1;
      if (session.opened) session.workspace = std::move(message.descriptors[0]);
      if (!session.opened) session.failure = Lost();
      break;
    case MessageType::kSessionFailed:
      if (!wire::Decode(message.body, failure)) failure = {wire::Stage::kProtocol, 0, "session"};
      session.failure = FailureStatus(failure, host_.root);
      session.ended = true;
      break;
    default:
      session.ended = true;
      session.workspace.Reset();
  }
  changed_.notify_all();
}

void Supervisor::HandleJob(Message& message) {
  JobRecord* job = nullptr;
  {
    const std::lock_guard lock(mu_);
    const auto found = jobs_.find(message.id);
    if (found == jobs_.end()) return;
    job = found->second.get();
  }
  if (message.type == MessageType::kJobStarted) {
    wire::JobReady ready;
    const std::lock_guard lock(job->mu);
    if (wire::Decode(message.body, ready)) job->layers = ready.layers;
    if (job->terminal && !message.descriptors.empty()) {
      job->output.fd = std::move(message.descriptors[0]);
      NeverBlock(job->output.fd.get());
    }
    job->started = true;
    job->changed.notify_all();
  } else if (message.type == MessageType::kJobFailed) {
    wire::Failure failure;
    if (!wire::Decode(message.body, failure)) failure = {wire::Stage::kProtocol, 0, "job"};
    FailJob(*job, failure);
  } else if (message.type == MessageType::kJobEnded) {
    wire::JobEnd end;
    if (wire::Decode(message.body, end)) EndJob(*job, end);
  }
}

void Supervisor::FailJob(JobRecord& job, const wire::Failure& failure) {
  std::unique_lock lock(job.mu);
  if (job.outcome.has_value()) return;
  Outcome outcome;
  outcome.layers = job.layers;
  if (failure.stage == wire::Stage::kDirectory || failure.stage == wire::Stage::kExec) {
    outcome.ending = Ending::kNotStarted;
    outcome.start_error = StartError(failure, job.directory);
  } else {
    job.failure = FailureStatus(failure, host_.root);
    outcome.ending = Ending::kSessionEnd;
  }
  Conclude(job, lock, std::move(outcome));
}

void Supervisor::EndJob(JobRecord& job, const wire::JobEnd& end) {
  std::unique_lock lock(job.mu);
  if (job.outcome.has_value()) return;
  Conclude(job, lock, OutcomeOf(end, job.limits));
}

// Takes what is left in the pipes (nobody is left to add to it), and tells.
void Supervisor::Conclude(JobRecord& job, std::unique_lock<std::mutex>& lock, Outcome outcome) {
  ReadStream(job, job.output, true);
  ReadStream(job, job.error, true);
  job.output.fd.Reset();
  job.error.fd.Reset();
  job.input.Reset();
  job.input_closed = true;
  outcome.output = job.output.capture->Finish();
  outcome.error_output = job.error.capture->Finish();
  if (outcome.ending != Ending::kLimit &&
      job.output.capture->raw_bytes() + job.error.capture->raw_bytes() > job.limits.output_bytes) {
    outcome.ending = Ending::kLimit;  // it ended before it could be ended
    outcome.limit = LimitKind::kOutput;
  }
  job.outcome = std::move(outcome);
  job.changed.notify_all();
  auto on_end = std::exchange(job.on_end, nullptr);
  if (!on_end || !job.failure.ok()) return;  // a failure is what Start returns
  const Outcome copy = *job.outcome;
  lock.unlock();
  on_end(copy);
}

void Supervisor::BrokerLost() {
  std::vector<JobRecord*> jobs;
  {
    const std::lock_guard lock(mu_);
    lost_ = true;
    for (auto& [id, session] : sessions_) {
      session->ended = true;
      session->workspace.Reset();
    }
    for (auto& [id, job] : jobs_) jobs.push_back(job.get());
    changed_.notify_all();
  }
  for (JobRecord* job : jobs) {
    std::unique_lock lock(job->mu);
    if (job->outcome.has_value()) continue;
    Outcome outcome;
    outcome.ending = Ending::kSessionEnd;
    outcome.layers = job->layers;
    if (!job->started) job->failure = Lost();
    Conclude(*job, lock, std::move(outcome));
  }
}

void Supervisor::RemoveReleased() {
  const std::lock_guard lock(mu_);
  std::erase_if(jobs_, [](const auto& entry) {
    const std::lock_guard job_lock(entry.second->mu);
    return entry.second->released && entry.second->outcome.has_value();
  });
  std::erase_if(sessions_, [this](const auto& entry) {
    return entry.second->released && (entry.second->ended || lost_);
  });
}

}  // namespace holdfast::sandbox
