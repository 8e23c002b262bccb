#include "server/session_service.h"

#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "base/file.h"
#include "base/hash.h"
#include "server/diff_proto.h"
#include "server/event_proto.h"
#include "server/grpc_status.h"
#include "server/proto_value.h"
#include "server/session_import_reactor.h"
#include "server/session_proto.h"

namespace holdfast::server {
namespace {

using Seq = agent::SessionManager::Seq;
using agent::Target;
using sessions::SessionRow;

constexpr int kPageDefault = 50;
constexpr int kPageMax = 1000;
constexpr int kEventsDefault = 100;
constexpr size_t kEventPageBytesMax = size_t{2} << 20;
constexpr size_t kMessageBytesMax = size_t{1} << 20;
constexpr size_t kCallIdBytesMax = 128;
constexpr size_t kProfileBytesMax = 64;
constexpr size_t kPageTokenBytesMax = 256;
constexpr int64_t kWaitMsMax = 3'600'000;
constexpr int64_t kHeartbeatMsDefault = 15'000;
constexpr int64_t kHeartbeatMsMin = 1'000;
constexpr int64_t kHeartbeatMsMax = 600'000;
constexpr size_t kToldMax = 256;
constexpr size_t kExportsMax = 16;
constexpr int32_t kSmallVocabulary = 16'384;  // the model that ships with Holdfast has 4,096

base::Status CheckRequestId(const std::string& id) {
  if (id.size() <= kRequestIdBytesMax) return {};
  return FieldError("request_id", "has more than 128 bytes");
}

base::Status CheckSequence(uint64_t sequence, std::string_view field) {
  if (sequence <= INT64_MAX) return {};
  return FieldError(field, "is beyond every event");
}

base::Status CheckLength(const std::string& text, size_t bytes_max, std::string_view field) {
  if (text.size() <= bytes_max) return {};
  return FieldError(field, "has more than " + std::to_string(bytes_max) + " bytes");
}

template <class Request>
base::StatusOr<Target> TargetOf(const Request& request) {
  HF_ASSIGN_OR_RETURN(std::string id, SessionIdOf(request.name()));
  HF_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  return Target{std::move(id), request.request_id()};
}

// A mutation that answers the number of its event: `ask(target, done)`.
template <class Request, class Response, class Ask>
grpc::ServerUnaryReactor* Sequenced(CallGate& gate, grpc::CallbackServerContext* context,
                                    std::string_view method, const Request* request, Response* response,
                                    Ask ask) {
  return gate.Unary(context, method, [request, response, ask = std::move(ask)](Finish finish) mutable {
    auto target = TargetOf(*request);
    if (!target.ok()) return finish(target.status());
    ask(*std::move(target), [response, finish = std::move(finish)](base::StatusOr<uint64_t> seq) mutable {
      if (!seq.ok()) return finish(WithReasonOf(seq.status()));
      response->set_sequence(*seq);
      finish({});
    });
  });
}

base::StatusOr<sessions::InputReceived> InputOf(const v1::SendMessageRequest& request) {
  HF_RETURN_IF_ERROR(CheckLength(request.text(), kMessageBytesMax, "text"));
  if (request.text().empty()) return FieldError("text", "is empty");
  sessions::InputReceived input{.request_id = request.request_id(), .text = request.text()};
  switch (request.kind()) {
    case v1::SendMessageRequest::KIND_UNSPECIFIED:
    case v1::SendMessageRequest::KIND_MESSAGE:
      input.kind = sessions::InputKind::kMessage;
      break;
    case v1::SendMessageRequest::KIND_STEER:
      input.kind = sessions::InputKind::kSteer;
      break;
    case v1::SendMessageRequest::KIND_SIGNAL:
      input.kind = sessions::InputKind::kSignal;
      break;
    default:
      return FieldError("kind", "is none of those known");
  }
  return input;
}

base::StatusOr<sessions::ApprovalResolved> AnswerOf(const v1::AnswerApprovalRequest& request) {
  sessions::ApprovalResolved answer{.call = request.call_id(), .request_id = request.request_id()};
  if (answer.call.empty()) return FieldError("call_id", "is empty");
  HF_RETURN_IF_ERROR(CheckLength(answer.call, kCallIdBytesMax, "call_id"));
  const auto action = base::Sha256FromHex(request.action());
  if (!action.ok()) return FieldError("action", "is to be 64 hexadecimal digits");
  answer.action = *action;
  answer.allowed = request.allow();
  return answer;
}

base::StatusOr<agent::NewSession> NewSessionOf(const v1::CreateSessionRequest& request) {
  agent::NewSession made{.id = request.session_id(),
                         .request_id = request.request_id(),
                         .display_name = request.display_name(),
                         .seed = request.spec().seed(),
                         .message = request.message()};
  if (!made.id.empty()) HF_RETURN_IF_ERROR(CheckSessionId(made.id, "session_id"));
  HF_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  HF_RETURN_IF_ERROR(CheckLength(request.display_name(), agent::kDisplayNameBytesMax, "display_name"));
  HF_RETURN_IF_ERROR(CheckLength(request.message(), kMessageBytesMax, "message"));
  HF_RETURN_IF_ERROR(CheckLength(request.spec().profile(), kProfileBytesMax, "spec.profile"));
  HF_RETURN_IF_ERROR(CheckSpec(request.spec(), "spec"));
  if (!request.spec().load().empty() || request.spec().client_tools_size() > 0) {
    return absl::UnimplementedError("spec.load and spec.client_tools are not served yet");
  }
  if (request.has_goal()) {
    HF_ASSIGN_OR_RETURN(made.goal, GoalFromProto(request.goal(), "goal"));
  }
  return made;
}

// Of an update, for one of its fields.
Target PartOf(const v1::UpdateSessionRequest& request, const std::string& id, const std::string& path) {
  if (request.request_id().empty() || request.update_mask().paths_size() == 1) {
    return {id, request.request_id()};
  }
  return {id, base::ToHex(base::Sha256Of(base::AsBytes(path + "/" + request.request_id())))};
}

base::Status CheckUpdate(const v1::UpdateSessionRequest& request) {
  HF_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (request.update_mask().paths().empty()) return FieldError("update_mask", "names no field");
  std::set<std::string> seen;
  for (const std::string& path : request.update_mask().paths()) {
    if (path != "display_name" && path != "goal.budgets" && path != "archived") {
      return FieldError("update_mask", "display_name, goal.budgets and archived can be changed");
    }
    if (!seen.insert(path).second) return FieldError("update_mask", "names a field twice");
  }
  return CheckLength(request.session().display_name(), agent::kDisplayNameBytesMax, "session.display_name");
}

// What the session is made with. Reads the tree: tools lane.
base::StatusOr<agent::ProfileSet> ProfileOf(const Runtime& runtime, const v1::SessionSpec& spec) {
  if (!spec.repository().empty()) {
    const auto stat = base::RealFileSystem().Stat(spec.repository());
    if (!stat.ok() || stat->kind != base::FileKind::kDirectory) {
      return FieldError("spec.repository", spec.repository() + ": there is no such directory here");
    }
  }
  std::string profile = spec.profile();
  if (profile.empty()) profile = runtime.config().vocab_size <= kSmallVocabulary ? "nano" : "default";
  auto made = runtime.MakeProfile(profile, spec.repository());
  if (absl::IsNotFound(made.status())) return FieldError("spec.profile", base::Message(made.status()));
  if (made.ok()) made->workspace_mode = WorkspaceModeOf(spec);
  return made;
}

base::StatusOr<int> PageSize(int asked, int by_default) {
  if (asked < 0) return FieldError("page_size", "is below 0");
  if (asked == 0) return by_default;
  return std::min(asked, kPageMax);
}

struct ExportRequest {
  std::string id;
  SessionExportStream::Format format = SessionExportStream::Format::kRecord;
};

base::StatusOr<ExportRequest> ExportRequestOf(const grpc::ByteBuffer& bytes) {
  v1::ExportSessionRequest request;
  grpc::ByteBuffer copy(bytes);
  if (!grpc::SerializationTraits<v1::ExportSessionRequest>::Deserialize(&copy, &request).ok()) {
    return base::InvalidArgument("the request is no ExportSessionRequest");
  }
  ExportRequest wanted;
  HF_ASSIGN_OR_RETURN(wanted.id, SessionIdOf(request.name()));
  if (!v1::ExportSessionRequest::Format_IsValid(request.format())) {
    return FieldError("format", "is none of those known");
  }
  if (request.format() == v1::ExportSessionRequest::FORMAT_MARKDOWN) {
    wanted.format = SessionExportStream::Format::kMarkdown;
  }
  return wanted;
}

base::StatusOr<WatchRequest> WatchRequestOf(const grpc::ByteBuffer& bytes) {
  v1::WatchSessionRequest request;
  grpc::ByteBuffer copy(bytes);
  if (!grpc::SerializationTraits<v1::WatchSessionRequest>::Deserialize(&copy, &request).ok()) {
    return base::InvalidArgument("the request is no WatchSessionRequest");
  }
  WatchRequest watch{.after_seq = request.after_sequence(),
                     .view = ViewOf(request.view()),
                     .live = request.live(),
                     .heartbeat_ms = kHeartbeatMsDefault};
  HF_ASSIGN_OR_RETURN(watch.session, SessionIdOf(request.name()));
  HF_RETURN_IF_ERROR(CheckSequence(watch.after_seq, "after_sequence"));
  if (request.has_heartbeat_interval()) {
    HF_ASSIGN_OR_RETURN(watch.heartbeat_ms, DurationMs(request.heartbeat_interval(), kHeartbeatMsMin,
                                                       kHeartbeatMsMax, "heartbeat_interval"));
  }
  return watch;
}

}  // namespace

SessionService::SessionService(CallGate& gate, Runtime& runtime, std::string directory,
                               const WatchHubOptions& watch)
    : gate_(gate),
      runtime_(runtime),
      directory_(std::move(directory)),
      hub_({.executor = runtime.executor(),
            .clock = base::RealClock(),
            .store = runtime.store(),
            .tokenizer = runtime.tokenizer()},
           watch,
           [&gate](const base::Status& status, int64_t took_ns) {
             gate.Report({.method = "WatchSession", .status = status, .took_ns = took_ns});
           }),
      waiters_(runtime.executor(), base::RealClock(), runtime.store()) {
  gate_.OnClose([this] {
    hub_.Close(Stopping());
    runtime_.OnControl([this] {
      waiters_.Close(Stopping());
      const std::lock_guard lock(mutex_);
      for (const auto& [id, stream] : exports_) stream->End(Stopping());
    });
  });
}

void SessionService::OnEvent(const std::string& session, const sessions::Event& event) {
  hub_.OnEvent(session, event);
  waiters_.OnEvent(session, event);
}

void SessionService::OnLive(const std::string& session, const agent::LiveNote& note) {
  const auto* progress = std::get_if<sessions::PrefillProgress>(&note);
  if (progress != nullptr) {
    const double rate = prefill_rates_.Take(session, *progress, base::RealClock().MonotonicNow());
    return hub_.OnLive(session, [&](v1::LiveUpdate& out) { PrefillToProto(*progress, rate, &out); });
  }
  hub_.OnLive(session, [&](v1::LiveUpdate& out) {
    SampledToProto(std::get<agent::SampledTokens>(note), runtime_.tokenizer(), &out);
  });
}

// --- Sessions

SessionService::Unary* SessionService::CreateSession(Context* context,
                                                     const v1::CreateSessionRequest* request,
                                                     v1::CreateSessionResponse* response) {
  return gate_.Unary(context, "CreateSession", [this, request, response](Finish finish) {
    Create(*request, response->mutable_session(), std::move(finish));
  });
}

void SessionService::Create(const v1::CreateSessionRequest& request, v1::Session* out, Finish finish) {
  auto made = NewSessionOf(request);
  if (!made.ok()) return finish(made.status());
  // A lane that is full drops the task, which answers.
  (void)runtime_.executor().Post(base::Lane::kTools, [this, &request, out, made = *std::move(made),
                                                      finish = std::move(finish)]() mutable {
    auto profile = ProfileOf(runtime_, request.spec());
    runtime_.OnControl([this, out, made = std::move(made), profile = std::move(profile),
                        finish = std::move(finish)]() mutable {
      if (!profile.ok()) return finish(profile.status());
      made.profile = *std::move(profile);
      manager().Create(std::move(made), AnswerRow(out, std::move(finish)));
    });
  });
}

SessionService::Unary* SessionService::GetSession(Context* context, const v1::GetSessionRequest* request,
                                                  v1::GetSessionResponse* response) {
  return gate_.Unary(context, "GetSession", [this, request, response](Finish finish) {
    const auto id = SessionIdOf(request->name());
    if (!id.ok()) return finish(id.status());
    Look(*id, response->mutable_session(), std::move(finish));
  });
}

void SessionService::Look(const std::string& id, v1::Session* out, Finish finish) {
  runtime_.store().Get(
      id, [this, id, out, finish = std::move(finish)](const base::StatusOr<SessionRow>& row) mutable {
        if (!row.ok()) return finish(WithReasonOf(row.status()));
        const auto told = told_.find(id);
        if (told != told_.end() && told->second.last_seq == row->last_seq &&
            told->second.session.archived() == row->archived) {
          *out = told->second.session;
          return finish({});
        }
        manager().Status(id, [this, id, out, before = row->last_seq, finish = std::move(finish)](
                                 const base::StatusOr<agent::SessionStatus>& status) mutable {
          if (!status.ok()) return finish(WithReasonOf(status.status()));
          StatusToProto(*status, out);
          // Else what is told may be of some event in between.
          if (status->row.last_seq == before) {
            if (told_.size() >= kToldMax) told_.clear();
            told_[id] = {.last_seq = before, .session = *out};
          }
          finish({});
        });
      });
}

agent::SessionManager::Got<SessionRow> SessionService::AnswerRow(v1::Session* out, Finish finish) {
  return [this, out, finish = std::move(finish)](const base::StatusOr<SessionRow>& row) mutable {
    if (!row.ok()) return finish(WithReasonOf(row.status()));
    Look(row->id, out, std::move(finish));
  };
}

SessionService::Unary* SessionService::ListSessions(Context* context, const v1::ListSessionsRequest* request,
                                                    v1::ListSessionsResponse* response) {
  return gate_.Unary(context, "ListSessions", [this, request, response](Finish finish) {
    const auto size = PageSize(request->page_size(), kPageDefault);
    if (!size.ok()) return finish(size.status());
    if (!v1::Session::State_IsValid(request->state())) {
      return finish(FieldError("state", "is none of those known"));
    }
    if (base::Status fits = CheckLength(request->page_token(), kPageTokenBytesMax, "page_token");
        !fits.ok()) {
      return finish(std::move(fits));
    }
    sessions::SessionFilter filter{.archived = request->show_archived()};
    if (request->state() != v1::Session::STATE_UNSPECIFIED) {
      filter.states = {static_cast<sessions::SessionState>(request->state())};
    }
    runtime_.store().List(
        std::move(filter), static_cast<size_t>(*size), request->page_token(),
        [response, finish = std::move(finish)](const base::StatusOr<sessions::SessionPage>& page) mutable {
          if (absl::IsInvalidArgument(page.status())) return finish(WithField(page.status(), "page_token"));
          if (!page.ok()) return finish(page.status());
          for (const SessionRow& row : page->sessions) RowToProto(row, response->add_sessions());
          response->set_next_page_token(page->next_page_token);
          finish({});
        });
  });
}

SessionService::Unary* SessionService::UpdateSession(Context* context,
                                                     const v1::UpdateSessionRequest* request,
                                                     v1::UpdateSessionResponse* response) {
  return gate_.Unary(context, "UpdateSession", [this, request, response](Finish finish) {
    Update(*request, response->mutable_session(), std::move(finish));
  });
}

void SessionService::Update(const v1::UpdateSessionRequest& request, v1::Session* out, Finish finish) {
  const auto id = SessionIdOf(request.session().name(), "session.name");
  if (!id.ok()) return finish(id.status());
  if (base::Status checked = CheckUpdate(request); !checked.ok()) return finish(std::move(checked));
  Look(*id, out,
       Finish([this, &request, out, id = *id, finish = std::move(finish)](base::Status looked) mutable {
         if (!looked.ok()) return finish(std::move(looked));
         const std::string& etag = request.session().etag();
         if (!etag.empty() && etag != out->etag()) {
           return finish(WithReason(
               absl::AbortedError("the session is not as it was when the etag was given"), "ETAG_MISMATCH"));
         }
         Change(request, id, 0, out, std::move(finish));
       }));
}

// The fields of the mask one after the other; `out` is the session as it was before.
void SessionService::Change(const v1::UpdateSessionRequest& request, const std::string& id, int index,
                            v1::Session* out, Finish finish) {
  if (index == request.update_mask().paths_size()) {
    out->Clear();
    return Look(id, out, std::move(finish));
  }
  const std::string& path = request.update_mask().paths(index);
  const Target target = PartOf(request, id, path);
  auto next = [this, &request, id, index, out, finish = std::move(finish)](const base::Status& done) mutable {
    if (!done.ok()) return finish(WithReasonOf(done));
    Change(request, id, index + 1, out, std::move(finish));
  };
  if (path == "archived") {
    auto answer = [next = std::move(next)](const base::StatusOr<SessionRow>& row) mutable {
      next(row.status());
    };
    return request.session().archived() ? manager().Archive(target, std::move(answer))
                                        : manager().Unarchive(target, std::move(answer));
  }
  if (path == "display_name") {
    return manager().SetDisplayName(
        target, request.session().display_name(),
        [next = std::move(next)](const base::StatusOr<uint64_t>& seq) mutable { next(seq.status()); });
  }
  const auto now = BudgetsFromProto(out->goal().budgets(), {}, "goal.budgets");
  const auto budgets = BudgetsFromProto(request.session().goal().budgets(), now.value_or(agent::Budgets()),
                                        "session.goal.budgets");
  if (!budgets.ok()) return next(budgets.status());
  manager().SetBudgets(
      target, *budgets,
      [next = std::move(next)](const base::StatusOr<uint64_t>& seq) mutable { next(seq.status()); });
}

SessionService::Unary* SessionService::DeleteSession(Context* context,
                                                     const v1::DeleteSessionRequest* request,
                                                     v1::DeleteSessionResponse*) {
  return gate_.Unary(context, "DeleteSession", [this, request](Finish finish) {
    auto target = TargetOf(*request);
    if (!target.ok()) return finish(target.status());
    manager().Archive(*target, [finish = std::move(finish)](const base::StatusOr<SessionRow>& row) mutable {
      finish(WithReasonOf(row.status()));
    });
  });
}

SessionService::Unary* SessionService::ForkSession(Context* context, const v1::ForkSessionRequest* request,
                                                   v1::ForkSessionResponse* response) {
  return gate_.Unary(context, "ForkSession", [this, request, response](Finish finish) {
    auto target = TargetOf(*request);
    if (!target.ok()) return finish(target.status());
    base::Status checked = CheckSequence(request->sequence(), "sequence");
    if (checked.ok() && !request->session_id().empty()) {
      checked = CheckSessionId(request->session_id(), "session_id");
    }
    if (!checked.ok()) return finish(std::move(checked));
    manager().Fork(*target, request->sequence(), request->session_id(),
                   AnswerRow(response->mutable_session(), std::move(finish)));
  });
}

SessionService::Unary* SessionService::RewindSession(Context* context,
                                                     const v1::RewindSessionRequest* request,
                                                     v1::RewindSessionResponse* response) {
  return gate_.Unary(context, "RewindSession", [this, request, response](Finish finish) {
    auto target = TargetOf(*request);
    if (!target.ok()) return finish(target.status());
    const bool undo = request->to_case() == v1::RewindSessionRequest::kLastMessage && request->last_message();
    if (!undo && request->to_case() != v1::RewindSessionRequest::kSequence) {
      return finish(FieldError("to", "says no event"));
    }
    if (base::Status fits = CheckSequence(request->sequence(), "sequence"); !fits.ok()) {
      return finish(std::move(fits));
    }
    Seq answer = [this, id = target->id, response,
                  finish = std::move(finish)](const base::StatusOr<uint64_t>& rewound) mutable {
      if (!rewound.ok()) return finish(WithReasonOf(rewound.status()));
      Look(id, response->mutable_session(), std::move(finish));
    };
    undo ? manager().Undo(*target, std::move(answer))
         : manager().Rewind(*target, request->sequence(), std::move(answer));
  });
}

// --- As files

grpc::ServerWriteReactor<grpc::ByteBuffer>* SessionService::ExportSession(Context*,
                                                                          const grpc::ByteBuffer* bytes) {
  if (base::Status admitted = gate_.Admit(); !admitted.ok()) return hub_.Refuse(std::move(admitted));
  const auto request = ExportRequestOf(*bytes);
  if (!request.ok()) return hub_.Refuse(request.status());
  const std::lock_guard lock(mutex_);
  if (exports_.size() >= kExportsMax) {
    return hub_.Refuse(base::ResourceExhausted(std::to_string(kExportsMax) + " exports are under way"));
  }
  const uint64_t id = next_export_++;
  auto stream = std::make_unique<SessionExportStream>(
      SessionExportStream::Parts{.executor = runtime_.executor(),
                                 .clock = base::RealClock(),
                                 .store = runtime_.store(),
                                 .blobs = runtime_.blobs(),
                                 .tokenizer = runtime_.tokenizer()},
      request->id, request->format, [this, id](const base::Status& status, int64_t took_ns) {
        gate_.Report({.method = "ExportSession", .status = status, .took_ns = took_ns});
        const std::lock_guard over(mutex_);
        exports_.erase(id);
      });
  StreamReactor* const reactor = stream->reactor();
  exports_[id] = std::move(stream);
  runtime_.OnControl([this, id] { BeginExport(id); });
  return reactor;
}

void SessionService::BeginExport(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto found = exports_.find(id);
  if (found != exports_.end()) found->second->Begin();
}

grpc::ServerReadReactor<v1::ImportSessionRequest>* SessionService::ImportSession(
    Context*, v1::ImportSessionResponse* response) {
  return new SessionImportReactor({.gate = gate_,
                                   .executor = runtime_.executor(),
                                   .store = runtime_.store(),
                                   .blobs = runtime_.blobs(),
                                   .directory = directory_,
                                   .answer = [this, response](const std::string& id, Finish finish) {
                                     Look(id, response->mutable_session(), std::move(finish));
                                   }});
}

// --- What is said to them

SessionService::Unary* SessionService::SendMessage(Context* context, const v1::SendMessageRequest* request,
                                                   v1::SendMessageResponse* response) {
  return Sequenced(gate_, context, "SendMessage", request, response,
                   [this, request](Target target, Seq done) {
                     auto input = InputOf(*request);
                     if (!input.ok()) return done(input.status());
                     manager().Send(std::move(target.id), *std::move(input), std::move(done));
                   });
}

SessionService::Unary* SessionService::InterruptSession(Context* context,
                                                        const v1::InterruptSessionRequest* request,
                                                        v1::InterruptSessionResponse* response) {
  return Sequenced(gate_, context, "InterruptSession", request, response, [this](Target target, Seq done) {
    sessions::InputReceived input{.kind = sessions::InputKind::kInterrupt,
                                  .request_id = std::move(target.request_id)};
    manager().Send(std::move(target.id), std::move(input), std::move(done));
  });
}

SessionService::Unary* SessionService::SetGoal(Context* context, const v1::SetGoalRequest* request,
                                               v1::SetGoalResponse* response) {
  return Sequenced(gate_, context, "SetGoal", request, response, [this, request](Target target, Seq done) {
    auto goal = GoalFromProto(request->goal(), "goal");
    if (!goal.ok()) return done(goal.status());
    manager().SetGoal(std::move(target), *std::move(goal), std::move(done));
  });
}

SessionService::Unary* SessionService::CancelGoal(Context* context, const v1::CancelGoalRequest* request,
                                                  v1::CancelGoalResponse* response) {
  return Sequenced(gate_, context, "CancelGoal", request, response, [this](Target target, Seq done) {
    manager().CancelGoal(std::move(target), std::move(done));
  });
}

SessionService::Unary* SessionService::PauseSession(Context* context, const v1::PauseSessionRequest* request,
                                                    v1::PauseSessionResponse* response) {
  return Sequenced(gate_, context, "PauseSession", request, response,
                   [this](Target target, Seq done) { manager().Pause(std::move(target), std::move(done)); });
}

SessionService::Unary* SessionService::ResumeSession(Context* context,
                                                     const v1::ResumeSessionRequest* request,
                                                     v1::ResumeSessionResponse* response) {
  return Sequenced(gate_, context, "ResumeSession", request, response,
                   [this](Target target, Seq done) { manager().Resume(std::move(target), std::move(done)); });
}

SessionService::Unary* SessionService::WaitSession(Context* context, const v1::WaitSessionRequest* request,
                                                   v1::WaitSessionResponse* response) {
  return gate_.Unary(context, "WaitSession", [this, context, request, response](Finish finish) {
    const auto id = SessionIdOf(request->name());
    if (!id.ok()) return finish(id.status());
    base::StatusOr<int64_t> timeout_ms = kWaitMsMax;
    if (request->has_timeout()) timeout_ms = DurationMs(request->timeout(), 0, kWaitMsMax, "timeout");
    if (!timeout_ms.ok()) return finish(timeout_ms.status());
    waiters_.Wait(
        *id, *timeout_ms, [context] { return context->IsCancelled(); },
        [this, id = *id, response, finish = std::move(finish)](base::StatusOr<bool> at_rest) mutable {
          if (!at_rest.ok()) return finish(WithReasonOf(at_rest.status()));
          response->set_at_rest(*at_rest);
          Look(id, response->mutable_session(), std::move(finish));
        });
  });
}

SessionService::Unary* SessionService::AnswerApproval(Context* context,
                                                      const v1::AnswerApprovalRequest* request,
                                                      v1::AnswerApprovalResponse* response) {
  return Sequenced(gate_, context, "AnswerApproval", request, response,
                   [this, request](Target target, Seq done) {
                     auto answer = AnswerOf(*request);
                     if (!answer.ok()) return done(answer.status());
                     manager().Answer(std::move(target.id), *std::move(answer), std::move(done));
                   });
}

// --- Their files

SessionService::Unary* SessionService::DiffSession(Context* context, const v1::DiffSessionRequest* request,
                                                   v1::DiffSessionResponse* response) {
  return gate_.Unary(context, "DiffSession", [this, request, response](Finish finish) {
    auto id = SessionIdOf(request->name());
    if (!id.ok()) return finish(id.status());
    manager().Diff(
        *std::move(id),
        {.paths = {request->paths().begin(), request->paths().end()},
         .text_bytes_max = kDiffTextBytesMax,
         .paths_max = kDiffPathsMax},
        [response, finish = std::move(finish)](const base::StatusOr<agent::FilesDiff>& diff) mutable {
          if (!diff.ok()) return finish(WithReasonOf(diff.status()));
          DiffToProto(*diff, response);
          finish({});
        });
  });
}

SessionService::Unary* SessionService::ApplySession(Context* context, const v1::ApplySessionRequest* request,
                                                    v1::ApplySessionResponse* response) {
  return gate_.Unary(context, "ApplySession", [this, request, response](Finish finish) {
    auto target = TargetOf(*request);
    if (!target.ok()) return finish(target.status());
    agent::ApplyRequest what{.paths = {request->paths().begin(), request->paths().end()},
                             .branch = request->branch()};
    manager().Apply(
        *std::move(target), std::move(what),
        [response, finish = std::move(finish)](const base::StatusOr<agent::FilesReport>& report) mutable {
          if (!report.ok()) return finish(WithReasonOf(report.status()));
          response->set_applied(report->applied);
          response->set_conflicts(report->conflicts);
          response->set_refused(report->refused);
          response->set_text(ValidText(report->text, kEventPageBytesMax));
          finish({});
        });
  });
}

SessionService::Unary* SessionService::DiscardSession(Context* context,
                                                      const v1::DiscardSessionRequest* request,
                                                      v1::DiscardSessionResponse* response) {
  return Sequenced(gate_, context, "DiscardSession", request, response, [this](Target target, Seq done) {
    manager().Discard(std::move(target), std::move(done));
  });
}

// --- Events

SessionService::Unary* SessionService::ListEvents(Context* context, const v1::ListEventsRequest* request,
                                                  v1::ListEventsResponse* response) {
  return gate_.Unary(context, "ListEvents", [this, request, response](Finish finish) {
    const auto id = SessionIdOf(request->name());
    if (!id.ok()) return finish(id.status());
    runtime_.store().Get(*id, [this, request, response, id = *id,
                               finish = std::move(finish)](const base::StatusOr<SessionRow>& row) mutable {
      if (!row.ok()) return finish(WithReasonOf(row.status()));
      if (request->after_sequence() > row->last_seq) {
        return finish(FieldError("after_sequence", "the last event is " + std::to_string(row->last_seq)));
      }
      ReadEvents(*request, id, row->last_seq, response, std::move(finish));
    });
  });
}

void SessionService::ReadEvents(const v1::ListEventsRequest& request, const std::string& id,
                                uint64_t last_seq, v1::ListEventsResponse* response, Finish finish) {
  const auto size = PageSize(request.page_size(), kEventsDefault);
  if (!size.ok()) return finish(size.status());
  runtime_.store().ReadEvents(
      id, request.after_sequence(), static_cast<size_t>(*size),
      [this, last_seq, view = ViewOf(request.view()), response,
       finish = std::move(finish)](const base::StatusOr<std::vector<sessions::Event>>& events) mutable {
        if (!events.ok()) return finish(WithReasonOf(events.status()));
        size_t bytes = 0;
        for (const sessions::Event& event : *events) {
          EventToProto(event, view, runtime_.tokenizer(), response->add_events());
          bytes += response->events(response->events_size() - 1).ByteSizeLong();
          if (bytes > kEventPageBytesMax && response->events_size() > 1) {
            response->mutable_events()->RemoveLast();
            break;
          }
        }
        if (response->events_size() > 0) {
          const uint64_t last = response->events(response->events_size() - 1).sequence();
          if (last < last_seq) response->set_next_after_sequence(last);
        }
        finish({});
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* SessionService::WatchSession(Context*,
                                                                         const grpc::ByteBuffer* request) {
  if (base::Status admitted = gate_.Admit(); !admitted.ok()) return hub_.Refuse(std::move(admitted));
  auto watch = WatchRequestOf(*request);
  return watch.ok() ? hub_.Watch(*std::move(watch)) : hub_.Refuse(watch.status());
}

}  // namespace holdfast::server
