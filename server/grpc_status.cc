#include "server/grpc_status.h"

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace holdfast::server {
namespace {

constexpr std::string_view kErrorInfo = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr std::string_view kBadRequest = "type.googleapis.com/google.rpc.BadRequest";

// A detail of a status is kept in its payload, as it goes over the wire.
template <class Detail>
Detail DetailOf(const base::Status& status, std::string_view url) {
  Detail detail;
  if (const auto payload = status.GetPayload(base::View(url)); payload.has_value()) {
    detail.ParseFromString(std::string(*payload));
  }
  return detail;
}

template <class Detail>
base::Status WithDetail(base::Status status, std::string_view url, const Detail& detail) {
  status.SetPayload(base::View(url), absl::Cord(detail.SerializeAsString()));
  return status;
}

}  // namespace

base::Status WithReason(base::Status status, std::string_view reason,
                        const std::map<std::string, std::string>& metadata) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain(kErrorDomain);
  for (const auto& [key, value] : metadata) (*info.mutable_metadata())[key] = value;
  return WithDetail(std::move(status), kErrorInfo, info);
}

base::Status WithField(base::Status status, std::string_view field) {
  auto request = DetailOf<google::rpc::BadRequest>(status, kBadRequest);
  auto& violation = *request.add_field_violations();
  violation.set_field(std::string(field));
  violation.set_description(base::Message(status));
  return WithDetail(std::move(status), kBadRequest, request);
}

grpc::Status ToGrpc(const base::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  base::Status told = status;
  if (ReasonOf(status).empty()) {
    told = WithReason(told, std::string(absl::StatusCodeToString(status.code())));
  }
  google::rpc::Status details;
  details.set_code(static_cast<int>(told.code()));
  details.set_message(base::Message(told));
  told.ForEachPayload([&details](absl::string_view url, const absl::Cord& payload) {
    auto& detail = *details.add_details();
    detail.set_type_url(std::string(url.data(), url.size()));
    detail.set_value(std::string(payload));
  });
  return {static_cast<grpc::StatusCode>(told.code()), base::Message(told), details.SerializeAsString()};
}

base::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return {};
  base::Status told(static_cast<absl::StatusCode>(status.error_code()), base::View(status.error_message()));
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return told;
  for (const auto& detail : details.details()) {
    told.SetPayload(base::View(detail.type_url()), absl::Cord(detail.value()));
  }
  return told;
}

std::string ReasonOf(const base::Status& status) {
  return DetailOf<google::rpc::ErrorInfo>(status, kErrorInfo).reason();
}

}  // namespace holdfast::server
