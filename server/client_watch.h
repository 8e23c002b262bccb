// What happens in a session, each event once and in order, over as many connections as it takes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"
#include "server/client.h"

namespace holdfast::v1 {
class LiveUpdate;
class SessionEvent;
}  // namespace holdfast::v1

namespace holdfast::server {

struct WatchOptions {
  std::string name;             // "sessions/ID"
  uint64_t after_sequence = 0;  // the last event that is known
  bool live = false;
  bool fed_text = false;
  // So long a server that cannot be reached is tried again.
  int64_t patience_ms = 30'000;
  int64_t heartbeat_ms = 15'000;

  // False ends the watch.
  std::function<bool(const v1::SessionEvent&)> on_event;
  std::function<void(const v1::LiveUpdate&)> on_live;  // may be empty
  // Everything up to this number has been told. May be empty; false ends the watch.
  std::function<bool(uint64_t last_sequence)> on_heartbeat;
  // The connection was lost, and is tried again. May be empty.
  std::function<void(const base::Status& why)> on_lost;
};

// Blocks until a callback ends it (Ok), the client's keep_on does (Cancelled), or the server can be reached
// no more (Unavailable) or refuses. DataLoss when numbers are missing. Callbacks on the calling thread.
base::Status Watch(Client& client, WatchOptions options);

}  // namespace holdfast::server
