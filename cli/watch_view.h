// Shows what happens in a session: on a terminal with text as it is written and a line of gauges below, else
// in plain lines, each behind "[id] ".
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "cli/speech.h"
#include "cli/terminal.h"
#include "holdfast/v1/event.pb.h"
#include "holdfast/v1/session.pb.h"

namespace holdfast::cli {

class WatchView {
 public:
  enum class Style { kPlain, kTerminal, kJson };

  // `session`: as it is when the view begins.
  WatchView(const v1::Session& session, Style style, base::Clock& clock = base::RealClock());
  ~WatchView();
  WatchView(const WatchView&) = delete;
  WatchView& operator=(const WatchView&) = delete;

  void Take(const v1::SessionEvent& event);
  void TakeLive(const v1::LiveUpdate& live);
  // Time has passed: what runs is shown with how long it has.
  void Tick();
  // The first event may be in the middle of a turn: what is left of it is not spoken.
  void SkipTurn() { filter_.SkipTurn(); }
  // A line of ours, between those of the session.
  void Say(const std::string& line);

 private:
  void TakeTokens(const v1::TokensEvent& tokens);
  void TakeText(const v1::TextDelta& text);
  void Count(const v1::SessionEvent& event);
  void Speak(const std::string& text);
  void EndSpeech();
  void Print(const std::string& text);
  void ShowGauges();
  std::string Gauges() const;

  const std::string id_;
  const Style style_;
  base::Clock& clock_;
  SpeechFilter filter_;
  LiveText live_;
  std::string spoken_;  // the line that is being written
  StatusLine line_;

  // What the gauges show.
  std::string doing_;  // empty: nothing that takes time
  int64_t doing_since_ns_ = 0;
  int64_t shown_ns_ = 0;  // when the gauges were last shown
  int64_t window_ = 0, window_max_ = 0;
  int64_t tokens_ = 0, tokens_max_ = 0;  // of the goal's budget; max 0: no goal
  int64_t calls_ = 0, calls_max_ = 0;
};

}  // namespace holdfast::cli
