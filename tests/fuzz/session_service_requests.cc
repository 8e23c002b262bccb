// Requests from anywhere, to every method of the session service of a running daemon: a byte that says which,
// then the request. None crashes it, keeps it from answering others, or is answered with an error of ours.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "tests/server/raw_calls.h"
#include "tests/server/server_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::server;
  struct World {
    World() { HF_CHECK(Call(server.stub(), &SessionStub::CreateSession, NewSession("a")).ok()); }
    TestServer server;
    RawCaller caller{server.directory() + "/holdfast.sock"};
    const std::vector<std::string> methods = SessionMethods();
  };
  static World world;
  if (size < 1) return 0;
  const std::string& method = world.methods[data[0] % world.methods.size()];
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const bool makes = method.ends_with("/CreateSession");
  const auto status = world.caller.Call(method, makes ? WithoutPlaces(bytes) : std::string(bytes));
  HF_CHECK(status.code() != absl::StatusCode::kUnknown);
  HF_CHECK(Call(world.server.stub(), &SessionStub::ListSessions, holdfast::v1::ListSessionsRequest()).ok());
  return 0;
}
