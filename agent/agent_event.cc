#include "agent/agent_event.h"

#include <array>
#include <type_traits>
#include <utility>

#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

using nlohmann::json;

// Walks the fields of a body; the order here is the order in the bytes.
template <class Io>
void Walk(Io& io, ClientTool& b) {
  io("name", b.name), io("description", b.description), io("parameters", b.parameters);
  io("effect", b.effect), io("timeout_ms", b.timeout_ms);
}
template <class Io>
void Walk(Io& io, ProfileSet& b) {
  io("profile", b.profile), io("mode", b.mode), io("version", b.version), io("effort", b.effort);
  io("system", b.system), io("instructions", b.instructions), io("tools", b.tools);
  io("client_tools", b.client_tools);
  io("temperature", b.temperature), io("top_k", b.top_k), io("top_p", b.top_p), io("min_p", b.min_p);
  io("window_tokens_max", b.window_tokens_max), io("turn_tokens_max", b.turn_tokens_max);
  io("reminder_tokens", b.reminder_tokens);
  io("tree", b.tree), io("workspace_mode", b.workspace_mode);
}
template <class Io>
void Walk(Io& io, GoalCheck& b) {
  io("command", b.command), io("timeout_ms", b.timeout_ms);
}
template <class Io>
void Walk(Io& io, Budgets& b) {
  io("tokens", b.tokens), io("running_ms", b.running_ms), io("calls", b.calls);
}
template <class Io>
void Walk(Io& io, GoalSet& b) {
  io("text", b.text), io("checks", b.checks), io("budgets", b.budgets);
  io("apply_on_success", b.apply_on_success);
}
template <class Io>
void Walk(Io& io, GoalChanged& b) {
  io("state", b.state), io("reason", b.reason), io("claim", b.claim), io("evidence", b.evidence);
}
template <class Io>
void Walk(Io& io, BudgetsSet& b) {
  io("budgets", b.budgets);
}
template <class Io>
void Walk(Io& io, BudgetWarned& b) {
  io("which", b.which), io("used", b.used), io("bound", b.bound);
}
template <class Io>
void Walk(Io& io, PlanItem& b) {
  io("text", b.text), io("state", b.state);
}
template <class Io>
void Walk(Io& io, PlanSet& b) {
  io("items", b.items);
}
template <class Io>
void Walk(Io& io, NoteTaken& b) {
  io("text", b.text);
}
template <class Io>
void Walk(Io& io, CheckRan& b) {
  io("command", b.command), io("when", b.when), io("passed", b.passed), io("text", b.text);
  io("blobs", b.blobs), io("manifest", b.manifest);
}
template <class Io>
void Walk(Io& io, Opening& b) {
  io("texts", b.texts), io("kept_from", b.kept_from), io("kept_count", b.kept_count);
}
template <class Io>
void Walk(Io& io, WaitSet& b) {
  io("call", b.call), io("until_utc_ms", b.until_utc_ms), io("process", b.process), io("file", b.file);
  io("file_state", b.file_state), io("signal", b.signal);
}
template <class Io>
void Walk(Io& io, WaitEnded& b) {
  io("why", b.why);
}
template <class Io>
void Walk(Io& io, Applied& b) {
  io("applied", b.applied), io("conflicts", b.conflicts), io("refused", b.refused), io("text", b.text);
  io("request_id", b.request_id);
  io.Later("failed", b.failed), io.Later("partly", b.partly);
  io.Later("branch", b.branch), io.Later("commit", b.commit);
}
template <class Io>
void Walk(Io& io, DisplayNameSet& b) {
  io("name", b.name);
}

// Any walker, for the test of what has fields. Later: a field that bodies of earlier versions do not have.
struct Field {
  template <class T>
  void operator()(const char*, T&) {}
  template <class T>
  void Later(const char*, T&) {}
};

class Writer {
 public:
  template <class T>
  void operator()(const char* name, const T& value) {
    out_[name] = Of(value);
  }
  template <class T>
  void Later(const char* name, const T& value) {
    (*this)(name, value);
  }
  json Take() { return std::move(out_); }

 private:
  static json Of(const std::string& value) { return value; }
  static json Of(bool value) { return value; }
  static json Of(double value) { return value; }
  static json Of(int32_t value) { return value; }
  static json Of(int64_t value) { return value; }
  static json Of(GoalState value) { return GoalStateName(value); }
  static json Of(const base::Sha256Digest& value) { return base::ToHex(value); }
  template <class T>
  static json Of(const std::optional<T>& value) {
    return value.has_value() ? Of(*value) : json();
  }
  template <class T>
  static json Of(const std::vector<T>& values) {
    json list = json::array();
    for (const T& value : values) list.push_back(Of(value));
    return list;
  }
  template <class T>
  requires requires(T& value, Field& field) { Walk(field, value); }
  static json Of(const T& value) {
    Writer writer;
    T copy = value;
    Walk(writer, copy);
    return writer.Take();
  }

  json out_ = json::object();
};

// A field that is missing or of another type makes the whole bad.
class Reader {
 public:
  explicit Reader(const json& in) : in_(in), bad_(!in.is_object()) {}
  template <class T>
  void operator()(const char* name, T& value) {
    if (bad_) return;
    const auto found = in_.find(name);
    bad_ = found == in_.end() || !To(*found, value);
  }
  template <class T>
  void Later(const char* name, T& value) {
    if (!bad_ && in_.contains(name)) (*this)(name, value);
  }
  bool bad() const { return bad_; }

 private:
  static bool To(const json& in, std::string& value) {
    if (in.is_string()) value = in.get<std::string>();
    return in.is_string();
  }
  static bool To(const json& in, bool& value) {
    if (in.is_boolean()) value = in.get<bool>();
    return in.is_boolean();
  }
  static bool To(const json& in, double& value) {
    if (in.is_number()) value = in.get<double>();
    return in.is_number();
  }
  static bool To(const json& in, int64_t& value) {
    if (!in.is_number_integer() || (in.is_number_unsigned() && in.get<uint64_t>() > INT64_MAX)) return false;
    value = in.get<int64_t>();
    return true;
  }
  static bool To(const json& in, int32_t& value) {
    int64_t wide = 0;
    if (!To(in, wide) || wide < INT32_MIN || wide > INT32_MAX) return false;
    value = static_cast<int32_t>(wide);
    return true;
  }
  static bool To(const json& in, GoalState& value) {
    for (int i = 1; in.is_string() && i <= static_cast<int>(GoalState::kCancelled); ++i) {
      value = static_cast<GoalState>(i);
      if (in.get_ref<const std::string&>() == GoalStateName(value)) return true;
    }
    return false;
  }
  static bool To(const json& in, base::Sha256Digest& value) {
    if (!in.is_string()) return false;
    const auto digest = base::Sha256FromHex(in.get_ref<const std::string&>());
    if (digest.ok()) value = *digest;
    return digest.ok();
  }
  template <class T>
  static bool To(const json& in, std::optional<T>& value) {
    value.reset();
    return in.is_null() || To(in, value.emplace());
  }
  template <class T>
  static bool To(const json& in, std::vector<T>& values) {
    if (!in.is_array()) return false;
    values.clear();
    for (const json& item : in) {
      if (!To(item, values.emplace_back())) return false;
    }
    return true;
  }
  template <class T>
  requires requires(T& value, Field& field) { Walk(field, value); }
  static bool To(const json& in, T& value) {
    Reader reader(in);
    Walk(reader, value);
    return !reader.bad();
  }

  const json& in_;
  bool bad_;
};

template <size_t kAt = 0>
base::StatusOr<std::optional<AgentBody>> DecodeAt(size_t index, const json& in) {
  if constexpr (kAt == std::variant_size_v<AgentBody>) {
    return std::optional<AgentBody>();
  } else {
    if (index != kAt) return DecodeAt<kAt + 1>(index, in);
    std::variant_alternative_t<kAt, AgentBody> body;
    Reader reader(in);
    Walk(reader, body);
    if (reader.bad()) return base::DataLoss("an agent's event with a field missing or of another type");
    return std::optional<AgentBody>(std::move(body));
  }
}

}  // namespace

sessions::AgentEvent Encode(const AgentBody& body) {
  Writer writer;
  AgentBody copy = body;
  std::visit([&writer](auto& one) { Walk(writer, one); }, copy);
  // Text from tools and people may not be UTF-8; what is not is replaced.
  return {.kind = static_cast<uint16_t>(sessions::kFirstAgentEvent + body.index()),
          .payload = writer.Take().dump(-1, ' ', false, json::error_handler_t::replace)};
}

base::StatusOr<std::optional<AgentBody>> Decode(const sessions::AgentEvent& event) {
  const size_t index = event.kind - sessions::kFirstAgentEvent;
  if (index >= std::variant_size_v<AgentBody>) return std::optional<AgentBody>();
  const json in = json::parse(event.payload, nullptr, /*allow_exceptions=*/false);
  if (in.is_discarded()) return base::DataLoss("an agent's event that is no JSON");
  return DecodeAt(index, in);
}

std::string_view GoalStateName(GoalState state) {
  static constexpr std::array<std::string_view, 8> kNames = {
      "", "ACTIVE", "WAITING", "PAUSED", "SUCCEEDED", "FINISHED_UNVERIFIED", "FAILED", "CANCELLED"};
  return kNames[static_cast<size_t>(state) % kNames.size()];
}

}  // namespace holdfast::agent
