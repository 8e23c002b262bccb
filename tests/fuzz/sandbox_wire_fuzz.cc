// The sandbox's messages from anywhere. A first byte says what follows: a body of one type, which when
// accepted is the encoding of what it was read as; or a whole packet, which goes through a socket as the
// broker and the runtime receive it, alone or with a file that is to hold the body.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "sandbox/broker/channel.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {
namespace {

template <typename T>
void Body(std::string_view bytes) {
  T value;
  if (wire::Decode(bytes, value)) HF_CHECK(wire::Encode(value) == bytes);
}

void SendPacket(int socket, std::string_view packet, int file) {
  iovec part = {const_cast<char*>(packet.data()), packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (file >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &file, sizeof(int));
  }
  HF_CHECK(sendmsg(socket, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(packet.size()));
}

void Packet(std::string_view packet, const Descriptor& file) {
  Descriptor near, far;
  HF_CHECK(MakeChannel(near, far));
  SendPacket(far.get(), packet, file.get());
  Message message;
  if (Receive(near.get(), false, message) != ReceiveResult::kMessage) return;
  wire::Header head;
  HF_CHECK(wire::DecodeHeader(packet.substr(0, wire::kHeaderBytes), head));
  HF_CHECK(message.body.size() == head.body_bytes && message.body.size() <= wire::kBodyBytesMax);
  HF_CHECK(message.type == head.type && message.id == head.id);
  HF_CHECK(head.body_in_descriptor || message.body == packet.substr(wire::kHeaderBytes));
}

// A memory file with `bytes`; its size is what a sender would claim. Sealed as an honest one is, or not.
Descriptor File(std::string_view bytes, bool sealed) {
  Descriptor file(memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  HF_CHECK(write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  if (sealed) HF_CHECK(fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
  return file;
}

void One(uint8_t kind, std::string_view rest) {
  constexpr size_t kPacketMax = wire::kHeaderBytes + wire::kInlineBytesMax;
  switch (kind % 12) {
    case 0:
      return Body<wire::Hello>(rest);
    case 1:
      return Body<wire::SessionSpec>(rest);
    case 2:
      return Body<wire::SessionReady>(rest);
    case 3:
      return Body<wire::JobSpec>(rest);
    case 4:
      return Body<wire::JobReady>(rest);
    case 5:
      return Body<wire::JobExit>(rest);
    case 6:
      return Body<wire::JobEnd>(rest);
    case 7:
      return Body<wire::KillRequest>(rest);
    case 8:
      return Body<wire::Failure>(rest);
    case 9:
      return Packet(rest.substr(0, kPacketMax), Descriptor());
    default: {
      const size_t head = std::min(rest.size(), wire::kHeaderBytes);
      return Packet(rest.substr(0, head), File(rest.substr(head), kind % 12 == 10));
    }
  }
}

}  // namespace
}  // namespace holdfast::sandbox

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  holdfast::sandbox::One(data[0], std::string_view(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
