// The methods of the API as a client calls them: every request type belongs to one method, so the type of a
// request says which method is meant and what it answers.
#pragma once

// The messages, for who only passes them on. The whole ones: holdfast/v1/*_service.pb.h.
#define HF_CLIENT_METHOD(service, method)                                 \
  namespace holdfast::v1 {                                                \
  class method##Request;                                                  \
  class method##Response;                                                 \
  }                                                                       \
  template <>                                                             \
  struct holdfast::server::MethodOf<holdfast::v1::method##Request> {      \
    using Response = holdfast::v1::method##Response;                      \
    static constexpr char kPath[] = "/holdfast.v1." #service "/" #method; \
  };

namespace holdfast::server {

template <class Request>
struct MethodOf;

}  // namespace holdfast::server

HF_CLIENT_METHOD(ServerService, GetServerInfo)
HF_CLIENT_METHOD(ServerService, BackupServer)
HF_CLIENT_METHOD(ServerService, StopServer)

HF_CLIENT_METHOD(SessionService, CreateSession)
HF_CLIENT_METHOD(SessionService, GetSession)
HF_CLIENT_METHOD(SessionService, ListSessions)
HF_CLIENT_METHOD(SessionService, UpdateSession)
HF_CLIENT_METHOD(SessionService, DeleteSession)
HF_CLIENT_METHOD(SessionService, ForkSession)
HF_CLIENT_METHOD(SessionService, RewindSession)
HF_CLIENT_METHOD(SessionService, ExportSession)
HF_CLIENT_METHOD(SessionService, ImportSession)
HF_CLIENT_METHOD(SessionService, SendMessage)
HF_CLIENT_METHOD(SessionService, InterruptSession)
HF_CLIENT_METHOD(SessionService, SetGoal)
HF_CLIENT_METHOD(SessionService, CancelGoal)
HF_CLIENT_METHOD(SessionService, PauseSession)
HF_CLIENT_METHOD(SessionService, ResumeSession)
HF_CLIENT_METHOD(SessionService, WaitSession)
HF_CLIENT_METHOD(SessionService, AnswerApproval)
HF_CLIENT_METHOD(SessionService, DiffSession)
HF_CLIENT_METHOD(SessionService, ApplySession)
HF_CLIENT_METHOD(SessionService, DiscardSession)
HF_CLIENT_METHOD(SessionService, AuditSession)
HF_CLIENT_METHOD(SessionService, ListEvents)
HF_CLIENT_METHOD(SessionService, WatchSession)

HF_CLIENT_METHOD(StoreService, GetStore)
HF_CLIENT_METHOD(StoreService, VerifyStore)
HF_CLIENT_METHOD(StoreService, CollectStore)

#undef HF_CLIENT_METHOD
