// holdfast session list, show, events, archive, rebuild: what is on record, and the rows computed from it.
#include <cinttypes>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/time/time.h"
#include "base/coding.h"
#include "cli/commands.h"
#include "cli/data_directory.h"
#include "cli/session_data.h"
#include "cli/terminal.h"
#include "model/json.h"
#include "sessions/session_facts.h"

namespace holdfast::cli {
namespace {

using base::Status;
using model::Json;
using sessions::Event;
using sessions::SessionRow;

struct Options {
  std::string data;
  std::string id;
  bool json = false;
  size_t limit = 50;
  std::string page;
  uint64_t after = 0;
};

Json Count(uint64_t value) { return Json::Int(static_cast<int64_t>(value)); }
std::string Digits(uint64_t value) { return GroupDigits(static_cast<int64_t>(value)); }
std::string TimeText(int64_t utc_ms) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMillis(utc_ms), absl::UTCTimeZone());
}

Json RowJson(const SessionRow& row) {
  Json out = Json::Object();
  out.Set("id", Json::String(row.id));
  out.Set("uid", Json::String(base::ToHex(row.uid)));
  out.Set("state", Json::String(StateText(row)));
  out.Set("reason", Json::String(row.reason));
  out.Set("events", Count(row.last_seq));
  out.Set("created_utc_ms", Json::Int(row.created_utc_ms));
  out.Set("updated_utc_ms", Json::Int(row.updated_utc_ms));
  out.Set("parent", Json::String(row.parent));
  out.Set("parent_event", Count(row.parent_seq));
  return out;
}

Status List(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.data, SessionData::Absent::kRefuse));
  HF_ASSIGN_OR_RETURN(const sessions::SessionPage page, data->Ask<sessions::SessionPage>([&](auto done) {
    data->store().List({}, options.limit, options.page, std::move(done));
  }));
  if (!options.json)
    std::printf("%-30s %-20s %10s  %-19s  %s\n", "session", "state", "events", "updated (UTC)", "");
  for (const SessionRow& row : page.sessions) {
    if (options.json) {
      std::printf("%s\n", RowJson(row).Dump().c_str());
      continue;
    }
    std::printf("%-30s %-20s %10s  %-19s  %s\n", row.id.c_str(), StateText(row).c_str(),
                Digits(row.last_seq).c_str(), TimeText(row.updated_utc_ms).c_str(), row.reason.c_str());
  }
  if (!page.next_page_token.empty()) {
    std::fprintf(stderr, "there are more: --page %s\n", page.next_page_token.c_str());
  }
  return {};
}

Status Show(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.data, SessionData::Absent::kRefuse));
  HF_ASSIGN_OR_RETURN(const SessionRow row, data->Ask<SessionRow>([&](auto done) {
    data->store().Get(options.id, std::move(done));
  }));
  std::map<std::string, uint64_t> kinds;
  uint64_t sampled = 0, fed = 0, forced = 0;
  for (uint64_t after = 0; after < row.last_seq;) {
    HF_ASSIGN_OR_RETURN(const std::vector<Event> events, data->ReadEvents(options.id, after));
    if (events.empty()) break;
    for (const Event& event : events) {
      ++kinds[sessions::KindName(KindOf(event.body))];
      const auto* run = std::get_if<sessions::TokenRun>(&event.body);
      if (run == nullptr) continue;
      (run->origin == sessions::TokenOrigin::kFed       ? fed
       : run->origin == sessions::TokenOrigin::kSampled ? sampled
                                                        : forced) += run->ids.size();
    }
    after = events.back().seq;
  }
  if (options.json) {
    Json out = RowJson(row);
    out.Set("tokens_fed", Count(fed));
    out.Set("tokens_sampled", Count(sampled));
    out.Set("tokens_forced", Count(forced));
    Json by_kind = Json::Object();
    for (const auto& [kind, count] : kinds) by_kind.Set(kind, Count(count));
    out.Set("kinds", std::move(by_kind));
    std::printf("%s\n", out.Dump().c_str());
    return {};
  }
  std::printf("%s  %s %s\n", row.id.c_str(), StateText(row).c_str(), row.reason.c_str());
  std::printf("  uid       %s\n", base::ToHex(row.uid).c_str());
  std::printf("  created   %s UTC, last event %s UTC\n", TimeText(row.created_utc_ms).c_str(),
              TimeText(row.updated_utc_ms).c_str());
  if (!row.parent.empty())
    std::printf("  fork of   %s at event %s\n", row.parent.c_str(), Digits(row.parent_seq).c_str());
  std::printf("  tokens    %s fed, %s sampled, %s forced\n", Digits(fed).c_str(), Digits(sampled).c_str(),
              Digits(forced).c_str());
  for (const auto& [kind, count] : kinds) std::printf("  %10s  %s\n", Digits(count).c_str(), kind.c_str());
  return {};
}

// What an event says, in a line.
std::string Summary(const Event& event) {
  const auto line = [](std::string text) {
    for (char& c : text) c = c == '\n' || c == '\r' || c == '\t' ? ' ' : c;
    return text.size() > 100 ? text.substr(0, 100) + "..." : text;
  };
  if (const auto* run = std::get_if<sessions::TokenRun>(&event.body)) {
    static constexpr const char* kOrigins[] = {"?", "fed", "sampled", "forced"};
    return std::string(kOrigins[static_cast<size_t>(run->origin) % 4]) + ", " +
           std::to_string(run->ids.size()) + " tokens at " + std::to_string(run->position);
  }
  if (const auto* cut = std::get_if<sessions::TokensCut>(&event.body))
    return std::to_string(cut->count) + " tokens at " + std::to_string(cut->position) + ": " +
           line(cut->reason);
  if (const auto* input = std::get_if<sessions::InputReceived>(&event.body)) return line(input->text);
  if (const auto* call = std::get_if<sessions::CallIntent>(&event.body))
    return call->call + " " + call->tool + " " + line(call->arguments);
  if (const auto* outcome = std::get_if<sessions::CallOutcome>(&event.body))
    return outcome->call + ": " + line(outcome->text);
  if (const auto* rewound = std::get_if<sessions::Rewound>(&event.body))
    return "to event " + std::to_string(rewound->to_seq);
  if (const auto* changed = std::get_if<sessions::StateChanged>(&event.body)) {
    SessionRow row{.state = changed->state, .wait = changed->wait};
    return StateText(row) + " " + line(changed->reason);
  }
  if (const auto* agent = std::get_if<sessions::AgentEvent>(&event.body)) return line(agent->payload);
  return "";
}

Status Events(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.data, SessionData::Absent::kRefuse));
  size_t left = options.limit;
  for (uint64_t after = options.after; left > 0;) {
    HF_ASSIGN_OR_RETURN(const std::vector<Event> events,
                        data->ReadEvents(options.id, after, std::min<size_t>(left, 1000)));
    if (events.empty()) return {};
    for (const Event& event : events) {
      const std::string kind = sessions::KindName(KindOf(event.body));
      if (options.json) {
        Json out = Json::Object();
        out.Set("event", Count(event.seq));
        out.Set("utc_ms", Json::Int(event.utc_ms));
        out.Set("kind", Json::String(kind));
        out.Set("summary", Json::String(Summary(event)));
        out.Set("chain", Json::String(base::ToHex(event.chain)));
        std::printf("%s\n", out.Dump().c_str());
      } else {
        std::printf("%8" PRIu64 "  %s  %-18s %s\n", event.seq, TimeText(event.utc_ms).c_str(), kind.c_str(),
                    Summary(event).c_str());
      }
    }
    after = events.back().seq;
    left -= events.size();
    if (left == 0) std::fprintf(stderr, "there may be more: --after %" PRIu64 "\n", after);
  }
  return {};
}

Status Archive(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.data, SessionData::Absent::kRefuse));
  HF_ASSIGN_OR_RETURN(const SessionRow row, data->Ask<SessionRow>([&](auto done) {
    data->store().Archive(options.id, true, std::move(done));
  }));
  if (options.json) {
    std::printf("%s\n", RowJson(row).Dump().c_str());
  } else {
    std::printf("%s is in no list any more; its events stay\n", row.id.c_str());
  }
  return {};
}

Status Rebuild(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto data, SessionData::Open(options.data, SessionData::Absent::kRefuse));
  HF_ASSIGN_OR_RETURN(const int wrong,
                      data->Ask<int>([&](auto done) { data->store().Rebuild(options.id, std::move(done)); }));
  if (options.json) {
    Json out = Json::Object();
    out.Set("session", Json::String(options.id));
    out.Set("corrected", Json::Int(wrong));
    std::printf("%s\n", out.Dump().c_str());
  } else {
    std::printf("%s: %d fields differed from the log and were put right\n", options.id.c_str(), wrong);
  }
  return {};
}

}  // namespace

void AddSessionLook(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  const auto add = [&](const char* name, const char* help, Status (*run)(const Options&), bool of_one) {
    CLI::App* app = parent.add_subcommand(name, help);
    AddDataOption(*app, options->data);
    app->add_flag("--json", options->json, "Print JSON, an object a line");
    if (of_one) app->add_option("SESSION", options->id, "The session's id")->required();
    app->callback([options, run, &result] { result = run(*options); });
    return app;
  };
  CLI::App* list = add("list", "Sessions, the last updated first", List, false);
  list->add_option("--limit", options->limit, "At most so many")->capture_default_str();
  list->add_option("--page", options->page, "Goes on where an earlier list has ended");
  add("show", "How a session stands, and what its record holds", Show, true);
  CLI::App* events = add("events",
                         "The record of a session, an event a line, also of what a rewind has left behind\n\n"
                         "Example: holdfast session events fix-tests --after 120 --limit 20",
                         Events, true);
  events->add_option("--after", options->after, "Begins behind this event")->capture_default_str();
  events->add_option("--limit", options->limit, "At most so many")->capture_default_str();
  add("archive", "Takes a session out of lists. Nothing is deleted", Archive, true);
  add("rebuild",
      "Computes a session's row from its log again, and puts right what differs.\n\n"
      "For a session that cannot be opened since 'its row does not agree with its log'.",
      Rebuild, true);
}

}  // namespace holdfast::cli
