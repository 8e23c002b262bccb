// holdfast send, approve, deny, pause, cancel, fork, rewind, undo, archive: what a person tells a session.
#include <cstdio>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/follow.h"
#include "cli/interrupts.h"
#include "cli/session_name.h"
#include "cli/session_text.h"
#include "cli/terminal.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using server::Client;

struct Options {
  DaemonChoice daemon;
  std::string id;
  std::string text;
  std::string call;
  std::string new_id;
  uint64_t sequence = 0;
  bool steer = false;
  bool signal = false;
  bool watch = false;
};

// A request about the session that is meant, with an id of its own.
template <class Request>
StatusOr<Request> RequestFor(Client& client, const Options& options) {
  Request request;
  HF_ASSIGN_OR_RETURN(*request.mutable_name(), SessionName(client, options.id));
  request.set_request_id(NewRequestId());
  return request;
}

// Prints what a call answered, or `said` behind the session's id.
void Answer(const Options& options, const std::string& name, const google::protobuf::Message& response,
            const std::string& said) {
  if (options.daemon.json) return PrintJson(response);
  std::printf("%s: %s\n", IdOf(name).c_str(), said.c_str());
}

// Most of them: one request without more, one answer.
template <class Request>
Status Simple(const Options& options, const char* said) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  HF_ASSIGN_OR_RETURN(const Request request, RequestFor<Request>(*client, options));
  const auto response = client->Call(request);
  HF_RETURN_IF_ERROR(response.status());
  Answer(options, request.name(), *response, said);
  return {};
}

Status Send(const Options& options) {
  if (options.watch) CountInterrupts();
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  HF_ASSIGN_OR_RETURN(auto request, RequestFor<v1::SendMessageRequest>(*client, options));
  request.set_text(options.text);
  request.set_kind(options.steer    ? v1::SendMessageRequest::KIND_STEER
                   : options.signal ? v1::SendMessageRequest::KIND_SIGNAL
                                    : v1::SendMessageRequest::KIND_MESSAGE);
  HF_ASSIGN_OR_RETURN(const v1::SendMessageResponse sent, client->Call(request));
  if (!options.watch) {
    Answer(options, request.name(), sent,
           "told; see what comes of it with: holdfast watch " + IdOf(request.name()));
    return {};
  }
  HF_RETURN_IF_ERROR(Follow(*client, {.name = request.name(),
                                      .after_sequence = sent.sequence(),
                                      .busy_until = sent.sequence(),
                                      .json = options.daemon.json,
                                      .interrupts = true}));
  return Summarise(*client, request.name(), options.daemon.json);
}

// The question that is meant: about the call that was named, or the only one.
StatusOr<v1::Approval> QuestionOf(Client& client, const std::string& name, const std::string& call) {
  v1::GetSessionRequest request;
  request.set_name(name);
  HF_ASSIGN_OR_RETURN(const v1::GetSessionResponse got, client.Call(request));
  std::string calls;
  for (const v1::Approval& approval : got.session().approvals()) {
    if (approval.call_id() == call) return approval;
    calls += " " + approval.call_id();
  }
  if (call.empty() && got.session().approvals_size() == 1) return got.session().approvals(0);
  if (calls.empty()) return base::NotFound("session " + IdOf(name) + " waits for no answer");
  return base::InvalidArgument((call.empty() ? "say which call is meant; these wait:"
                                             : "call " + call + " waits for no answer; these do:") +
                               calls);
}

Status AnswerCall(const Options& options, bool allow) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  HF_ASSIGN_OR_RETURN(auto request, RequestFor<v1::AnswerApprovalRequest>(*client, options));
  HF_ASSIGN_OR_RETURN(const v1::Approval question, QuestionOf(*client, request.name(), options.call));
  request.set_call_id(question.call_id());
  request.set_action(question.action());
  request.set_allow(allow);
  HF_ASSIGN_OR_RETURN(const v1::AnswerApprovalResponse answered, client->Call(request));
  Answer(options, request.name(), answered,
         std::string(allow ? "allowed" : "denied") + " call " + question.call_id() + ": " +
             OneLine(question.question()));
  return {};
}

Status Approve(const Options& options) { return AnswerCall(options, true); }
Status Deny(const Options& options) { return AnswerCall(options, false); }
Status Pause(const Options& options) {
  return Simple<v1::PauseSessionRequest>(options, "paused; go on with: holdfast resume");
}
Status Cancel(const Options& options) {
  return Simple<v1::CancelGoalRequest>(options, "its goal is cancelled");
}
Status Interrupt(const Options& options) {
  return Simple<v1::InterruptSessionRequest>(options, "interrupted");
}
Status Archive(const Options& options) {
  return Simple<v1::DeleteSessionRequest>(options, "in no list any more; its record stays");
}

Status Fork(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  HF_ASSIGN_OR_RETURN(auto request, RequestFor<v1::ForkSessionRequest>(*client, options));
  request.set_sequence(options.sequence);
  request.set_session_id(options.new_id);
  HF_ASSIGN_OR_RETURN(const v1::ForkSessionResponse forked, client->Call(request));
  const std::string id = IdOf(forked.session().name());
  Answer(options, request.name(), forked.session(),
         "forked as " + id + ", at rest; let it go on with: holdfast send " + id + " 'TEXT'");
  return {};
}

Status RewindTo(const Options& options, bool last_message) {
  HF_ASSIGN_OR_RETURN(const auto client, Connect(options.daemon));
  HF_ASSIGN_OR_RETURN(auto request, RequestFor<v1::RewindSessionRequest>(*client, options));
  last_message ? request.set_last_message(true) : request.set_sequence(options.sequence);
  HF_ASSIGN_OR_RETURN(const v1::RewindSessionResponse rewound, client->Call(request));
  Answer(options, request.name(), rewound.session(),
         last_message
             ? "back to before the last message or goal, its files too"
             : "back to event " + GroupDigits(static_cast<int64_t>(options.sequence)) + ", its files too");
  return {};
}

Status Rewind(const Options& options) { return RewindTo(options, false); }
Status Undo(const Options& options) { return RewindTo(options, true); }

}  // namespace

void AddSteer(CLI::App& parent, Status& result) {
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callbacks that own it
  const auto add = [&](const char* name, const char* help, Status (*run)(const Options&)) {
    CLI::App* app = parent.add_subcommand(name, help);
    AddDaemonOptions(*app, options->daemon);
    app->add_option("SESSION", options->id, "Its id or the beginning of it; '' for the last one here");
    app->final_callback([options, run, &result] { result = run(*options); });
    return app;
  };
  CLI::App* send = add("send",
                       "Says something to a session: a turn of its own.\n\n"
                       "Examples:\n"
                       "  holdfast send fix-tests 'Also the docs.' --watch\n"
                       "  holdfast send '' 'Leave the tests alone.' --steer",
                       Send);
  send->add_option("TEXT", options->text, "What is said")->required();
  CLI::Option* steer =
      send->add_flag("--steer", options->steer, "Told at the next border, without ending its turn");
  send->add_flag("--signal", options->signal, "For a session that waits for a signal of this name")
      ->excludes(steer);
  send->add_flag("--watch", options->watch, "Stay and watch until it rests");
  for (CLI::App* app : {add("approve", "Lets a call run that waits for an answer, once", Approve),
                        add("deny", "Refuses a call that waits for an answer", Deny)}) {
    app->add_option("CALL", options->call, "The call (default: the only one that waits)");
  }
  add("pause", "Brings a session to rest; what is under way comes on record first", Pause);
  add("interrupt", "Ends what is under way; a goal is paused", Interrupt);
  add("cancel", "Gives up the goal of a session", Cancel);
  add("archive", "Takes a session out of lists. Nothing is deleted", Archive);
  CLI::App* fork = add("fork", "Another session with the history and files of this one; at rest", Fork);
  fork->add_option("--at", options->sequence, "The last event that is shared (default: all)");
  fork->add_option("--id", options->new_id, "Of the new one (default: one is made up)");
  add("rewind", "Back to what was after an event, files too; see: holdfast events", Rewind)
      ->add_option("--to", options->sequence, "The last event that still counts")
      ->required();
  add("undo", "Back to before the last message or goal that a person gave, files too", Undo);
}

}  // namespace holdfast::cli
