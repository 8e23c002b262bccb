// Sending and receiving the messages of wire.h over a SOCK_SEQPACKET socket, descriptors included.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

struct Message {
  wire::MessageType type = wire::MessageType::kHello;
  uint64_t id = 0;
  std::string body;
  std::vector<Descriptor> descriptors;  // close-on-exec
  pid_t sender = 0;                     // as seen from here; only where SO_PASSCRED is set
};

enum class ReceiveResult {
  kMessage,
  kEmpty,   // nothing there, on a socket that does not block
  kClosed,  // the other side is gone
  kBad,     // not a message of this version: give the channel up
};

// A connected pair, close-on-exec. False with errno set.
bool MakeChannel(Descriptor& first, Descriptor& second);

// The kernel then tells the sender's pid with every message received here.
bool TellSender(int socket);

// Sends one message. Descriptors are duplicated into it, not closed. False with errno set: EAGAIN when the
// socket's buffer is full and it does not block, EPIPE when the other side is gone.
bool Send(int socket, wire::MessageType type, uint64_t id, std::string_view body,
          const std::vector<int>& descriptors = {});

// Receives one message, waiting unless `wait` is false.
ReceiveResult Receive(int socket, bool wait, Message& message);

}  // namespace holdfast::sandbox
