// holdfast sessions, show, watch, events: looking at sessions through the daemon.
#include <cstdio>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/follow.h"
#include "cli/interrupts.h"
#include "cli/session_name.h"
#include "cli/session_text.h"
#include "cli/terminal.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

using base::Status;

constexpr uint64_t kShownBefore = 30;  // events that watch shows of what has been
constexpr int32_t kEventsPage = 500;

struct Options {
  DaemonChoice daemon;
  std::string id;
  int limit = 50;
  std::string page;
  bool archived = false;
  bool all = false;
  bool forever = false;
  uint64_t after = 0;
  uint64_t events_max = 0;  // 0: all
};

void PrintRow(const v1::Session& session) {
  const std::string goal = GoalText(session);
  const std::string about = session.display_name().empty() ? session.goal().text() : session.display_name();
  std::printf("%-30s %-19s %-21s %-19s  %s\n", IdOf(session.name()).c_str(), StateText(session).c_str(),
              goal.empty() ? "-" : OneLine(goal, 21).c_str(),
              TimeText(session.update_time().seconds()).c_str(), OneLine(about, 60).c_str());
}

Status Sessions(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::ListSessionsRequest request;
  request.set_page_size(options.limit);
  request.set_page_token(options.page);
  request.set_show_archived(options.archived);
  HF_ASSIGN_OR_RETURN(const v1::ListSessionsResponse page, client->Call(request));
  if (!options.daemon.json && page.sessions_size() > 0) {
    std::printf("%-30s %-19s %-21s %-19s  %s\n", "session", "state", "goal", "updated (UTC)", "about");
  }
  for (const v1::Session& session : page.sessions()) {
    options.daemon.json ? PrintJson(session) : PrintRow(session);
  }
  if (!options.daemon.json && page.sessions_size() == 0) {
    std::fprintf(stderr, "there are no sessions; begin one with: holdfast run 'GOAL' --repo DIR\n");
  }
  if (!page.next_page_token().empty()) {
    std::fprintf(stderr, "there are more: holdfast sessions --page %s\n", page.next_page_token().c_str());
  }
  return {};
}

void PrintSession(const v1::Session& session) {
  std::printf("%s  %s\n", IdOf(session.name()).c_str(), StateText(session).c_str());
  if (!session.state_reason().empty())
    std::printf("  reason      %s\n", OneLine(session.state_reason()).c_str());
  if (!session.display_name().empty())
    std::printf("  about       %s\n", OneLine(session.display_name()).c_str());
  if (session.has_goal()) {
    const v1::Goal& goal = session.goal();
    std::printf("  goal        %s: %s\n", GoalText(session).c_str(), OneLine(goal.text()).c_str());
    for (const v1::GoalCheck& check : goal.checks())
      std::printf("  check       %s\n", OneLine(check.command()).c_str());
    std::printf("  budget      %s of %s tokens, %s of %s calls, %s of %s at work\n",
                GroupDigits(goal.used().tokens()).c_str(), GroupDigits(goal.budgets().tokens()).c_str(),
                GroupDigits(goal.used().tool_calls()).c_str(),
                GroupDigits(goal.budgets().tool_calls()).c_str(),
                HumanSeconds(static_cast<double>(goal.used().running_time().seconds())).c_str(),
                HumanSeconds(static_cast<double>(goal.budgets().running_time().seconds())).c_str());
  }
  for (const v1::PlanItem& item : session.plan()) {
    std::printf("  plan        [%s] %s\n", item.state() == v1::PlanItem::STATE_DONE ? "x" : " ",
                OneLine(item.text()).c_str());
  }
  if (!session.spec().repository().empty())
    std::printf("  repository  %s\n", ForTerminal(session.spec().repository()).c_str());
  std::printf("  window      %s of %s tokens, the %u. one\n", GroupDigits(session.window().tokens()).c_str(),
              GroupDigits(session.window().tokens_max()).c_str(), session.window().epoch() + 1);
  const v1::TokenUsage& tokens = session.tokens();
  std::printf("  tokens      %s prefilled, %s from the store, %s decoded, %s forced\n",
              GroupDigits(static_cast<int64_t>(tokens.prefilled())).c_str(),
              GroupDigits(static_cast<int64_t>(tokens.attached())).c_str(),
              GroupDigits(static_cast<int64_t>(tokens.decoded())).c_str(),
              GroupDigits(static_cast<int64_t>(tokens.forced())).c_str());
  std::printf("  events      %s; created %s, last %s UTC\n",
              GroupDigits(static_cast<int64_t>(session.last_sequence())).c_str(),
              TimeText(session.create_time().seconds()).c_str(),
              TimeText(session.update_time().seconds()).c_str());
  if (!session.parent().empty()) {
    std::printf("  fork of     %s at event %s\n", IdOf(session.parent()).c_str(),
                GroupDigits(static_cast<int64_t>(session.parent_sequence())).c_str());
  }
  for (const v1::Approval& approval : session.approvals()) {
    std::printf("  asks        call %s: %s\n", approval.call_id().c_str(),
                ForTerminal(approval.question()).c_str());
  }
  if (!session.last_text().empty()) std::printf("%s\n", ForTerminal(session.last_text()).c_str());
}

Status Show(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::GetSessionRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(*client, options.id));
  HF_ASSIGN_OR_RETURN(const v1::GetSessionResponse got, client->Call(request));
  options.daemon.json ? PrintJson(got.session()) : PrintSession(got.session());
  return {};
}

Status Watch(const Options& options) {
  CountInterrupts();
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::GetSessionRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(*client, options.id));
  HF_ASSIGN_OR_RETURN(const v1::GetSessionResponse got, client->Call(request));
  FollowOptions follow{.name = request.name(),
                       .after_sequence = options.after,
                       .json = options.daemon.json,
                       .forever = options.forever};
  const uint64_t last = got.session().last_sequence();
  if (!options.all && options.after == 0 && last > kShownBefore) follow.after_sequence = last - kShownBefore;
  HF_RETURN_IF_ERROR(Follow(*client, follow));
  return Summarise(*client, request.name(), options.daemon.json);
}

void PrintEvent(const v1::SessionEvent& event) {
  std::string text = EventText(event, /*whole=*/false);
  if (event.has_tokens()) {
    text = GroupDigits(event.tokens().count()) + " tokens at " + GroupDigits(event.tokens().position());
  }
  std::printf("%8llu  %s  %-18s %s\n", static_cast<unsigned long long>(event.sequence()),
              TimeText(event.time().seconds()).c_str(), KindText(event).c_str(), OneLine(text).c_str());
}

Status Events(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  v1::ListEventsRequest request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(*client, options.id));
  request.set_after_sequence(options.after);
  request.set_page_size(kEventsPage);
  for (uint64_t printed = 0;;) {
    HF_ASSIGN_OR_RETURN(const v1::ListEventsResponse page, client->Call(request));
    for (const v1::SessionEvent& event : page.events()) {
      if (options.events_max > 0 && printed++ == options.events_max) {
        std::fprintf(stderr, "there are more: --after %llu\n",
                     static_cast<unsigned long long>(event.sequence() - 1));
        return {};
      }
      options.daemon.json ? PrintJson(event) : PrintEvent(event);
    }
    if (page.next_after_sequence() == 0) return {};
    request.set_after_sequence(page.next_after_sequence());
  }
}

}  // namespace

void AddSessions(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  const auto add = [&](const char* name, const char* help, Status (*run)(const Options&), bool of_one) {
    CLI::App* app = parent.add_subcommand(name, help);
    AddDaemonOptions(*app, options->daemon);
    if (of_one)
      app->add_option("SESSION", options->id, "Its id or the beginning of it (default: the last one here)");
    app->final_callback([options, run, &result] { result = run(*options); });
    return app;
  };
  CLI::App* list = add("sessions", "Sessions, the last updated first", Sessions, false);
  list->add_option("--limit", options->limit, "At most so many")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  list->add_option("--page", options->page, "Goes on where an earlier list has ended");
  list->add_flag("--archived", options->archived, "Those too that were taken out of lists");
  add("show", "How a session stands", Show, true);
  CLI::App* watch = add("watch",
                        "Shows what a session does, until it rests. Ctrl-C leaves; the work goes on.\n\n"
                        "On a terminal with text as it is written and a line of gauges, else in plain lines.",
                        Watch, true);
  watch->add_flag("--all", options->all, "From the beginning (default: the last 30 events)");
  watch->add_option("--after", options->after, "From behind this event");
  watch->add_flag("--forever", options->forever, "Stays when the session rests");
  CLI::App* events = add("events",
                         "The record of a session, an event a line, also of what a rewind has left behind\n\n"
                         "Example: holdfast events fix-tests --after 120 --limit 20",
                         Events, true);
  events->add_option("--after", options->after, "Begins behind this event")->capture_default_str();
  events->add_option("--limit", options->events_max, "At most so many (default: all)");
}

}  // namespace holdfast::cli
