#include "tools/mcp/peer.h"

#include <utility>

namespace holdfast::tools::mcp {

Peer::Peer(base::Executor& executor, const McpBounds& bounds, McpCounters& counters,
           std::unique_ptr<Transport> transport)
    : executor_(executor), bounds_(bounds), counters_(counters), transport_(std::move(transport)) {}

void Peer::Start(PeerEvents events) {
  events_ = std::move(events);
  transport_->Start({
      .started =
          [this](base::Status status) {
            if (!closed_) events_.started(std::move(status));
          },
      .line = [this](std::string_view line) { Take(line); },
      .broken = [this](std::string why) { Lose(std::move(why)); },
      .ended = [this](std::string how) { Lose(std::move(how)); },
  });
}

base::StatusOr<int64_t> Peer::Ask(std::string_view method, const Json& params, base::MonotonicTime deadline,
                                  OnAnswer answer) {
  if (closed_) return base::FailedPrecondition("the conversation has ended");
  const int64_t id = next_id_;
  const std::string line = RequestLine(id, method, params);
  if (line.size() > bounds_.request_bytes_max) {
    return base::InvalidArgument("a request of " + std::to_string(line.size()) + " bytes, more than " +
                                 std::to_string(bounds_.request_bytes_max));
  }
  HF_RETURN_IF_ERROR(transport_->Send(line));
  ++next_id_;
  Waiting& waiting = waiting_[id];
  waiting.answer = std::move(answer);
  waiting.deadline.Set(executor_, deadline, [this, id] { Expire(id); });
  return id;
}

void Peer::Cancel(int64_t id, std::string_view reason) {
  if (waiting_.erase(id) == 0) return;
  Tell("notifications/cancelled", {{"requestId", id}, {"reason", reason}});
}

void Peer::Forget(int64_t id) { waiting_.erase(id); }

void Peer::Tell(std::string_view method, const Json& params) {
  // A server that does not read is found out by the deadline of what it was asked.
  if (!closed_) transport_->Send(NotificationLine(method, params)).IgnoreError();
}

void Peer::Close() {
  closed_ = true;
  waiting_.clear();
}

void Peer::Take(std::string_view line) {
  if (closed_) return;
  base::StatusOr<Message> message = ParseMessage(line);
  if (!message.ok()) {
    ++counters_.malformed_lines;
    if (++malformed_ > bounds_.malformed_lines_max) {
      return Lose("wrote more than " + std::to_string(bounds_.malformed_lines_max) +
                  " lines that are no messages");
    }
    return CountUnasked(line.size());
  }
  switch (message->kind) {
    case MessageKind::kResult:
    case MessageKind::kError:
      return TakeAnswer(*std::move(message), line);
    case MessageKind::kRequest:
      TakeRequest(*message);
      break;
    case MessageKind::kNotification:
      ++counters_.notifications;
      events_.notification(message->method);
      break;
  }
  CountUnasked(line.size());
}

void Peer::TakeAnswer(Message message, std::string_view line) {
  const std::optional<int64_t> id = message.RequestId();
  const auto found = id.has_value() ? waiting_.find(*id) : waiting_.end();
  if (found == waiting_.end()) {
    const bool was_asked = id.has_value() && *id >= 1 && *id < next_id_;
    ++(was_asked ? counters_.late_answers : counters_.foreign_answers);
    return CountUnasked(line.size());
  }
  malformed_ = unasked_ = 0;
  unasked_bytes_ = 0;
  OnAnswer on_answer = std::move(found->second.answer);
  waiting_.erase(found);
  Answer answer;
  answer.line = line;
  if (message.kind == MessageKind::kResult) {
    answer.kind = Answer::Kind::kResult;
    answer.body = std::move(message.body);
  } else {
    answer.kind = Answer::Kind::kError;
    const Json& code = ValueAt(message.body, "code");
    answer.code = code.get<int64_t>();
    answer.message = TextAt(message.body, "message");
    answer.body = ValueAt(message.body, "data");
  }
  on_answer(std::move(answer));
}

void Peer::TakeRequest(const Message& message) {
  ++counters_.server_requests;
  if (!answers_) return;
  // No capability was declared, so there is nothing that it may ask for but a sign of life.
  const std::string line = message.method == "ping"
                               ? ResultLine(message.id, Json::object())
                               : ErrorLine(message.id, kMethodNotFound, "this client does not offer it");
  transport_->Send(line).IgnoreError();
}

void Peer::CountUnasked(size_t bytes) {
  if (closed_) return;
  unasked_bytes_ += bytes;
  if (++unasked_ > bounds_.unasked_messages_max || unasked_bytes_ > bounds_.unasked_bytes_max) {
    Lose("floods its output");
  }
}

void Peer::Expire(int64_t id) {
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return;
  OnAnswer on_answer = std::move(found->second.answer);
  Cancel(id, "deadline");
  on_answer({.kind = Answer::Kind::kDeadline});
}

void Peer::Lose(std::string why) {
  if (closed_) return;
  closed_ = true;
  // In the order they were asked. Whoever is told may ask no more, but may look.
  std::map<int64_t, Waiting> waiting = std::move(waiting_);
  waiting_.clear();
  for (auto& [id, each] : waiting) each.answer({.kind = Answer::Kind::kLost, .message = why});
  events_.lost(std::move(why));
}

}  // namespace holdfast::tools::mcp
