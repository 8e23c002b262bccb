// holdfast.v1.SessionService over the session manager: checks what clients ask, asks the manager, and tells
// them what it answered. Watching is the hub's (watch_hub.h).
//
// Threads: methods of gRPC on its threads; they go on on the control lane. OnEvent and OnLive there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "agent/session_manager.h"
#include "holdfast/v1/session_service.grpc.pb.h"
#include "server/call_gate.h"
#include "server/live_proto.h"
#include "server/runtime.h"
#include "server/session_export_stream.h"
#include "server/session_waiters.h"
#include "server/watch_hub.h"

namespace holdfast::server {

class SessionService final
    : public v1::SessionService::WithRawCallbackMethod_ExportSession<
          v1::SessionService::WithRawCallbackMethod_WatchSession<v1::SessionService::CallbackService>> {
 public:
  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  // Both outlive the service, which ends its streams when the gate closes. `directory`: of the data; what is
  // imported is put there first.
  SessionService(CallGate& gate, Runtime& runtime, std::string directory, const WatchHubOptions& watch = {});

  // What becomes durable in open sessions, all of it, each before it is answered for.
  void OnEvent(const std::string& session, const sessions::Event& event);
  void OnLive(const std::string& session, const agent::LiveNote& note);
  size_t watchers() const { return hub_.watchers(); }  // on the control lane

  Unary* CreateSession(Context* context, const v1::CreateSessionRequest* request,
                       v1::CreateSessionResponse* response) override;
  Unary* GetSession(Context* context, const v1::GetSessionRequest* request,
                    v1::GetSessionResponse* response) override;
  Unary* ListSessions(Context* context, const v1::ListSessionsRequest* request,
                      v1::ListSessionsResponse* response) override;
  Unary* UpdateSession(Context* context, const v1::UpdateSessionRequest* request,
                       v1::UpdateSessionResponse* response) override;
  Unary* DeleteSession(Context* context, const v1::DeleteSessionRequest* request,
                       v1::DeleteSessionResponse* response) override;
  Unary* ForkSession(Context* context, const v1::ForkSessionRequest* request,
                     v1::ForkSessionResponse* response) override;
  Unary* RewindSession(Context* context, const v1::RewindSessionRequest* request,
                       v1::RewindSessionResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* ExportSession(Context* context,
                                                            const grpc::ByteBuffer* request) override;
  grpc::ServerReadReactor<v1::ImportSessionRequest>* ImportSession(
      Context* context, v1::ImportSessionResponse* response) override;

  Unary* SendMessage(Context* context, const v1::SendMessageRequest* request,
                     v1::SendMessageResponse* response) override;
  Unary* InterruptSession(Context* context, const v1::InterruptSessionRequest* request,
                          v1::InterruptSessionResponse* response) override;
  Unary* SetGoal(Context* context, const v1::SetGoalRequest* request, v1::SetGoalResponse* response) override;
  Unary* CancelGoal(Context* context, const v1::CancelGoalRequest* request,
                    v1::CancelGoalResponse* response) override;
  Unary* PauseSession(Context* context, const v1::PauseSessionRequest* request,
                      v1::PauseSessionResponse* response) override;
  Unary* ResumeSession(Context* context, const v1::ResumeSessionRequest* request,
                       v1::ResumeSessionResponse* response) override;
  Unary* WaitSession(Context* context, const v1::WaitSessionRequest* request,
                     v1::WaitSessionResponse* response) override;
  Unary* AnswerApproval(Context* context, const v1::AnswerApprovalRequest* request,
                        v1::AnswerApprovalResponse* response) override;

  Unary* DiffSession(Context* context, const v1::DiffSessionRequest* request,
                     v1::DiffSessionResponse* response) override;
  Unary* ApplySession(Context* context, const v1::ApplySessionRequest* request,
                      v1::ApplySessionResponse* response) override;
  Unary* DiscardSession(Context* context, const v1::DiscardSessionRequest* request,
                        v1::DiscardSessionResponse* response) override;

  Unary* ListEvents(Context* context, const v1::ListEventsRequest* request,
                    v1::ListEventsResponse* response) override;
  // The same messages go to all who watch, so they are bytes here.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchSession(Context* context,
                                                           const grpc::ByteBuffer* request) override;

 private:
  // A session as it was told, while its last event is the last.
  struct Told {
    uint64_t last_seq = 0;
    v1::Session session;
  };

  agent::SessionManager& manager() { return runtime_.manager(); }
  void Create(const v1::CreateSessionRequest& request, v1::Session* out, Finish finish);
  void Update(const v1::UpdateSessionRequest& request, v1::Session* out, Finish finish);
  void Change(const v1::UpdateSessionRequest& request, const std::string& id, int index, v1::Session* out,
              Finish finish);
  // All that clients are told of a session.
  void Look(const std::string& id, v1::Session* out, Finish finish);
  // Answers a call with the session that `row` names.
  agent::SessionManager::Got<sessions::SessionRow> AnswerRow(v1::Session* out, Finish finish);
  void ReadEvents(const v1::ListEventsRequest& request, const std::string& id, uint64_t last_seq,
                  v1::ListEventsResponse* response, Finish finish);

  void BeginExport(uint64_t id);

  CallGate& gate_;
  Runtime& runtime_;
  const std::string directory_;
  WatchHub hub_;
  PrefillRates prefill_rates_;        // control lane
  SessionWaiters waiters_;            // control lane
  std::map<std::string, Told> told_;  // control lane; by id

  std::mutex mutex_;
  uint64_t next_export_ = 1;                                          // guarded by mutex_
  std::map<uint64_t, std::unique_ptr<SessionExportStream>> exports_;  // guarded by mutex_
};

}  // namespace holdfast::server
