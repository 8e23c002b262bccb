// holdfast chat, which is what `holdfast` alone means: a conversation about the repository here.
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/follow.h"
#include "cli/interrupts.h"
#include "cli/session_name.h"
#include "cli/session_text.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using server::Client;

// A line that a person writes; empty optional: no more. Ctrl-C ends reading.
std::optional<std::string> Ask() {
  std::fputs("> ", stdout);
  std::fflush(stdout);
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  return line;
}

StatusOr<std::string> Begin(Client& client, const std::string& text) {
  v1::CreateSessionRequest request;
  request.set_request_id(NewRequestId());
  request.set_message(text);
  HF_ASSIGN_OR_RETURN(*request.mutable_spec()->mutable_repository(), RepositoryHere());
  HF_ASSIGN_OR_RETURN(const v1::CreateSessionResponse made, client.Call(request));
  std::printf("session %s\n", IdOf(made.session().name()).c_str());
  return made.session().name();
}

StatusOr<uint64_t> Tell(Client& client, const std::string& name, const std::string& text) {
  v1::SendMessageRequest request;
  request.set_name(name);
  request.set_request_id(NewRequestId());
  request.set_text(text);
  HF_ASSIGN_OR_RETURN(const v1::SendMessageResponse sent, client.Call(request));
  return sent.sequence();
}

// Each line is a turn of one session, until there are no more, or Ctrl-C left a turn.
Status Converse(const DaemonChoice& choice) {
  HF_ASSIGN_OR_RETURN(const auto client, ConnectOrStart(choice));
  std::printf(
      "Say what you want to know or have done. Ctrl-C interrupts, twice leaves; Ctrl-D ends the "
      "conversation.\n");
  std::string name;
  for (;;) {
    const auto text = Ask();
    if (!text.has_value()) break;
    if (text->find_first_not_of(" \t") == std::string::npos) continue;
    CountInterrupts();
    FollowOptions follow{.interrupts = true};
    if (name.empty()) {
      HF_ASSIGN_OR_RETURN(name, Begin(*client, *text));
    } else {
      HF_ASSIGN_OR_RETURN(follow.busy_until, Tell(*client, name, *text));
      follow.after_sequence = follow.busy_until;
    }
    follow.name = name;
    HF_RETURN_IF_ERROR(Follow(*client, follow));
    HF_RETURN_IF_ERROR(TellOpen(*client, name));
    StopCountingInterrupts();
  }
  if (!name.empty()) std::printf("\nit stays on record: holdfast show %s\n", IdOf(name).c_str());
  return {};
}

}  // namespace

void AddChat(CLI::App& parent, Status& result) {
  const auto choice = std::make_shared<DaemonChoice>();  // shared: CLI11 copies the callback that owns it
  CLI::App* app =
      parent.add_subcommand("chat", "A conversation about the repository here; as `holdfast` alone");
  AddStartOptions(*app, *choice);
  app->final_callback([choice, &result] { result = Converse(*choice); });
}

}  // namespace holdfast::cli
