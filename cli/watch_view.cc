#include "cli/watch_view.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/session_text.h"

namespace holdfast::cli {
namespace {

constexpr int64_t kGaugesNs = base::kNsPerSecond / 5;        // between two of them on a terminal
constexpr int64_t kPlainGaugesNs = 10 * base::kNsPerSecond;  // as lines of their own

std::string Share(int64_t part, int64_t whole) {
  return whole > 0 ? std::to_string(part * 100 / whole) + "%" : "0%";
}

}  // namespace

WatchView::WatchView(const v1::Session& session, Style style, base::Clock& clock)
    : id_(IdOf(session.name())), style_(style), clock_(clock) {
  shown_ns_ = clock_.MonotonicNow().ns;
  window_ = session.window().tokens();
  window_max_ = session.window().tokens_max();
  tokens_ = session.goal().used().tokens();
  tokens_max_ = session.goal().budgets().tokens();
  calls_ = session.goal().used().tool_calls();
  calls_max_ = session.goal().budgets().tool_calls();
}

WatchView::~WatchView() {
  if (style_ == Style::kJson) return;
  EndSpeech();
  line_.Clear();
}

void WatchView::Take(const v1::SessionEvent& event) {
  if (style_ == Style::kJson) return PrintJson(event);
  Count(event);
  if (event.has_tokens()) return TakeTokens(event.tokens());
  if (event.has_tokens_cut() || event.has_window_started() || event.has_rewound()) live_.Clear();
  const std::string text = EventText(event, /*whole=*/true);
  if (!text.empty() || event.has_turn_finished()) EndSpeech();
  if (!text.empty()) Print(text);
  ShowGauges();
}

void WatchView::Count(const v1::SessionEvent& event) {
  const auto does = [this](std::string what) {
    doing_ = std::move(what);
    doing_since_ns_ = clock_.MonotonicNow().ns;
  };
  if (event.has_tokens()) {
    window_ = event.tokens().position() + event.tokens().count();
    tokens_ += event.tokens().count();
  } else if (event.has_tokens_cut()) {
    window_ = event.tokens_cut().position();
  } else if (event.has_goal_set()) {
    tokens_ = calls_ = 0;
    tokens_max_ = event.goal_set().goal().budgets().tokens();
    calls_max_ = event.goal_set().goal().budgets().tool_calls();
  } else if (event.has_call_started()) {
    ++calls_;
    does("runs " + event.call_started().tool());
  } else if (event.has_wait_started()) {
    does("waits");
  } else if (event.has_call_ended() || event.has_wait_ended() || event.has_state_changed()) {
    does("");
  }
}

void WatchView::TakeTokens(const v1::TokensEvent& tokens) {
  if (tokens.origin() != v1::TokensEvent::ORIGIN_SAMPLED) {
    EndSpeech();
    live_.Clear();
    return ShowGauges();
  }
  bool differs = false;
  const std::string fresh = live_.AddDurable(tokens.position(), tokens.count(), tokens.text(), differs);
  if (differs) EndSpeech();
  Speak(filter_.Add(fresh));
  ShowGauges();
}

void WatchView::TakeLive(const v1::LiveUpdate& live) {
  if (style_ == Style::kJson) return PrintJson(live);
  if (live.has_text()) {
    TakeText(live.text());
  } else if (live.has_prefill()) {
    const v1::PrefillProgress& prefill = live.prefill();
    doing_ = "reads " + GroupDigits(prefill.tokens_done()) + " of " + GroupDigits(prefill.tokens_total()) +
             " tokens";
    if (prefill.attached() > 0) doing_ += " (" + GroupDigits(prefill.attached()) + " from the store)";
    doing_ += ", " + GroupDigits(static_cast<int64_t>(prefill.tokens_per_second())) + "/s";
    if (prefill.has_time_left()) {
      doing_ += ", " + HumanSeconds(static_cast<double>(prefill.time_left().seconds())) + " left";
    }
    doing_since_ns_ = 0;
  } else if (live.has_call() && style_ == Style::kTerminal) {
    const std::string& output = live.call().output();
    const size_t end = output.find_last_not_of('\n');
    if (end != std::string::npos) {
      doing_ = "| " + OneLine(output.substr(0, end + 1).substr(output.rfind('\n', end) + 1), 60);
    }
  }
  ShowGauges();
}

void WatchView::TakeText(const v1::TextDelta& text) {
  const std::string fresh = live_.AddLive(text.position(), text.count(), text.text());
  window_ = std::max(window_, text.position() + text.count());
  if (!doing_.starts_with("writes")) {
    doing_ = "writes";
    doing_since_ns_ = clock_.MonotonicNow().ns;
  }
  Speak(filter_.Add(fresh));
}

void WatchView::Tick() {
  if (style_ != Style::kJson && !doing_.empty()) ShowGauges();
}

void WatchView::Say(const std::string& line) {
  if (style_ == Style::kJson) return;
  EndSpeech();
  line_.Clear();
  std::fprintf(stderr, "%s\n", line.c_str());
}

void WatchView::Speak(const std::string& text) {
  if (text.empty()) return;
  if (style_ == Style::kTerminal) {
    line_.Clear();
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
    spoken_ = text.ends_with('\n') ? "" : "?";  // whether a line is open
    return;
  }
  spoken_ += text;
  for (size_t end; (end = spoken_.find('\n')) != std::string::npos; spoken_.erase(0, end + 1)) {
    if (end > 0) Print("| " + spoken_.substr(0, end));
  }
}

void WatchView::EndSpeech() {
  Speak(filter_.End());
  if (spoken_.empty()) return;
  const std::string rest = std::exchange(spoken_, {});
  if (style_ == Style::kTerminal) {
    std::fputs("\n", stdout);
  } else {
    Print("| " + rest);
  }
}

void WatchView::Print(const std::string& text) {
  line_.Clear();
  if (style_ == Style::kTerminal) {
    std::printf("%s\n", text.c_str());
  } else {
    std::printf("[%s] %s\n", id_.c_str(), text.c_str());
  }
  std::fflush(stdout);
}

std::string WatchView::Gauges() const {
  std::string text = doing_.empty() ? "at work" : doing_;
  if (doing_since_ns_ > 0 && !doing_.empty()) {
    const double seconds =
        static_cast<double>(clock_.MonotonicNow().ns - doing_since_ns_) / base::kNsPerSecond;
    if (seconds >= 1) text += " " + HumanSeconds(seconds);
  }
  text += " | window " + GroupDigits(window_);
  if (window_max_ > 0) text += " (" + Share(window_, window_max_) + ")";
  if (tokens_max_ > 0) text += " | tokens " + Share(tokens_, tokens_max_) + " of the budget";
  if (calls_max_ > 0) text += " | calls " + GroupDigits(calls_) + " of " + GroupDigits(calls_max_);
  return text;
}

void WatchView::ShowGauges() {
  const int64_t now = clock_.MonotonicNow().ns;
  const bool terminal = style_ == Style::kTerminal;
  if (now - shown_ns_ < (terminal ? kGaugesNs : kPlainGaugesNs)) return;
  shown_ns_ = now;
  if (!terminal) return Print(Gauges());
  if (spoken_.empty()) line_.Show(Gauges());  // not into the middle of a line that is being written
}

}  // namespace holdfast::cli
