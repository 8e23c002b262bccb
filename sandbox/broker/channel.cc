#include "sandbox/broker/channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace holdfast::sandbox {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// A large body, as a memfd that nobody can change any more.
Descriptor SealedBody(std::string_view body) {
  Descriptor fd(memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || !WriteAll(fd.get(), body) || fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0)
    return Descriptor();
  return fd;
}

bool ReadBody(int fd, size_t size, std::string& body) {
  struct stat stat;
  // Unsealed, the sender could still change or cut what is being read.
  if ((fcntl(fd, F_GET_SEALS) & kSeals) != kSeals || fstat(fd, &stat) != 0 ||
      static_cast<size_t>(stat.st_size) != size) {
    return false;
  }
  body.resize(size);
  size_t done = 0;
  while (done < size) {
    const ssize_t n = pread(fd, body.data() + done, size - done, static_cast<off_t>(done));
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

struct ControlBuffer {
  alignas(cmsghdr) char bytes[CMSG_SPACE(wire::kDescriptorsMax * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
};

void TakeControl(msghdr& header, Message& message) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_RIGHTS) {
      const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        message.descriptors.emplace_back(fd);
      }
    } else if (c->cmsg_type == SCM_CREDENTIALS) {
      ucred sender;
      std::memcpy(&sender, CMSG_DATA(c), sizeof(sender));
      message.sender = sender.pid;
    }
  }
}

}  // namespace

bool MakeChannel(Descriptor& first, Descriptor& second) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return false;
  first = Descriptor(pair[0]);
  second = Descriptor(pair[1]);
  return true;
}

bool TellSender(int socket) {
  const int on = 1;
  return setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0;
}

bool Send(int socket, wire::MessageType type, uint64_t id, std::string_view body,
          const std::vector<int>& descriptors) {
  std::vector<int> fds;
  Descriptor sealed;
  wire::Header header{.type = type, .id = id, .body_bytes = static_cast<uint32_t>(body.size())};
  if (body.size() > wire::kInlineBytesMax) {
    if (body.size() > wire::kBodyBytesMax) {
      errno = E2BIG;
      return false;
    }
    sealed = SealedBody(body);
    if (!sealed.valid()) return false;
    header.body_in_descriptor = true;
    fds.push_back(sealed.get());
    body = {};
  }
  fds.insert(fds.end(), descriptors.begin(), descriptors.end());
  std::string head = wire::EncodeHeader(header);
  iovec parts[] = {{head.data(), head.size()}, {const_cast<char*>(body.data()), body.size()}};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ControlBuffer control = {};
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

ReceiveResult Receive(int socket, bool wait, Message& message) {
  message = Message();
  char buffer[wire::kHeaderBytes + wire::kInlineBytesMax];
  iovec part = {buffer, sizeof(buffer)};
  ControlBuffer control;
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  ssize_t n;
  do {
    n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  } while (n < 0 && errno == EINTR);
  if (n < 0) return errno == EAGAIN ? ReceiveResult::kEmpty : ReceiveResult::kClosed;
  TakeControl(header, message);
  if (n == 0) return ReceiveResult::kClosed;
  wire::Header head;
  const std::string_view bytes(buffer, static_cast<size_t>(n));
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || bytes.size() < wire::kHeaderBytes ||
      !wire::DecodeHeader(bytes.substr(0, wire::kHeaderBytes), head)) {
    return ReceiveResult::kBad;
  }
  message.type = head.type;
  message.id = head.id;
  message.body = bytes.substr(wire::kHeaderBytes);
  if (head.body_in_descriptor) {
    if (!message.body.empty() || message.descriptors.empty() ||
        !ReadBody(message.descriptors[0].get(), head.body_bytes, message.body)) {
      return ReceiveResult::kBad;
    }
    message.descriptors.erase(message.descriptors.begin());
  }
  return message.body.size() == head.body_bytes ? ReceiveResult::kMessage : ReceiveResult::kBad;
}

}  // namespace holdfast::sandbox
