// Calls a program of the user's when a session needs a person or its goal is at its end. The program gets no
// arguments and nothing to read, but in its environment:
//
//   HOLDFAST_SESSION   id of the session
//   HOLDFAST_STATE     WAITING, PAUSED; or the goal's: SUCCEEDED, FINISHED_UNVERIFIED, FAILED
//   HOLDFAST_REASON    APPROVAL, INPUT, the rule that paused (BUDGET_TOKENS, ...); empty with a goal's state
//   HOLDFAST_SEQUENCE  number of the event
//
// One runs at a time, for 30 s at most; then it and what it has started are killed. More than 256 that wait
// are dropped. What was told is noted in a file before the program starts, so no event (and no question about
// one call) is ever told twice, after a restart either; in a crash between the two it is not told at all.
//
// Threads: OnEvent on one thread; the program is watched by a thread of its own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "base/descriptor.h"
#include "base/status.h"
#include "sessions/event.h"

namespace holdfast::server {

// The upper-case word that the reason of a pause begins with; what follows is for people and may tell of
// their work.
std::string RuleOf(const std::string& reason);

struct NotifyOptions {
  std::string program;  // path, or a name to be found in PATH
  std::string file;     // what was told
  int64_t run_ms_max = 30'000;
  size_t waiting_max = 256;
  size_t noted_max = 4096;  // of what was told is remembered
  std::function<void(const std::string& message)> on_message;
};

class NotifyHook {
 public:
  // What reading the file answers.
  static base::StatusOr<std::unique_ptr<NotifyHook>> Start(NotifyOptions options);
  ~NotifyHook();  // a program that runs has 2 s to end; what waits is dropped

  void OnEvent(const std::string& session, const sessions::Event& event);

 private:
  struct Notice {
    std::string session;
    std::string state;
    std::string reason;
    uint64_t seq = 0;
    std::string key;  // the same key is the same news
  };

  NotifyHook(NotifyOptions options, base::Descriptor wake_read, base::Descriptor wake_write);
  static bool NoticeOf(const sessions::Event& event, Notice* notice);
  void Run();
  base::Status Note(const Notice& notice);
  base::Status Call(const Notice& notice);
  void Watch(int process);

  const NotifyOptions options_;
  const base::Descriptor wake_read_;
  base::Descriptor wake_write_;
  std::deque<std::string> noted_;  // of the thread: lines of the file, oldest first
  std::set<std::string> known_;    // the same, to be looked up

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Notice> waiting_;
  bool stop_ = false;

  std::thread thread_;
};

}  // namespace holdfast::server
