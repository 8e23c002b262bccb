// Configuration of servers: as people have it for other programs, with our own fields beside, and nothing
// that is not understood.
#include <algorithm>
#include <initializer_list>
#include <set>
#include <utility>

#include "sandbox/command.h"
#include "tools/mcp.h"
#include "tools/mcp/message.h"

namespace holdfast::tools {
namespace {

using base::InvalidArgument;
using mcp::Json;

constexpr size_t kConfigBytesMax = 1 << 20;
constexpr size_t kServersMax = 64;
constexpr size_t kNameBytesMax = 32;
constexpr int64_t kTimeoutMsMax = 24 * 3600 * 1000;
constexpr size_t kSecretBytesMin = 6;  // what the sandbox can replace

struct TimeoutField {
  const char* name;
  int64_t McpTimeouts::*value;
};
constexpr TimeoutField kTimeoutFields[] = {
    {"probe_ms", &McpTimeouts::probe_ms},       {"startup_ms", &McpTimeouts::startup_ms},
    {"list_ms", &McpTimeouts::list_ms},         {"call_ms", &McpTimeouts::call_ms},
    {"shutdown_ms", &McpTimeouts::shutdown_ms},
};

struct LimitField {
  const char* name;
  uint64_t sandbox::Limits::*value;
};
constexpr LimitField kLimitFields[] = {
    {"memory_bytes", &sandbox::Limits::memory_bytes},
    {"processes", &sandbox::Limits::processes},
    {"open_files", &sandbox::Limits::open_files},
    {"file_bytes", &sandbox::Limits::file_bytes},
    {"disk_bytes", &sandbox::Limits::disk_bytes},
    {"disk_inodes", &sandbox::Limits::disk_inodes},
    {"cpu_ms", &sandbox::Limits::cpu_ms},
    {"kill_grace_ms", &sandbox::Limits::kill_grace_ms},
};

// One server's object, with its place in the messages.
class Reader {
 public:
  Reader(std::string place, const Json& object, const EnvironmentLookup& environment)
      : place_(std::move(place)), object_(object), environment_(environment) {}

  base::Status Error(std::string_view field, std::string_view why) const {
    return InvalidArgument(place_ + ": " + (field.empty() ? "" : "`" + std::string(field) + "` ") +
                           std::string(why));
  }

  base::Status OnlyFields(std::initializer_list<std::string_view> known) const {
    if (!object_.is_object()) return Error("", "must be an object");
    for (auto it = object_.begin(); it != object_.end(); ++it) {
      if (std::find(known.begin(), known.end(), it.key()) != known.end()) continue;
      std::string all;
      for (const std::string_view name : known) all += (all.empty() ? "" : ", ") + std::string(name);
      return Error(it.key(), "is not a known field (known: " + all + ")");
    }
    return absl::OkStatus();
  }

  bool Has(std::string_view field) const { return object_.contains(field); }
  const Json& At(std::string_view field) const { return mcp::ValueAt(object_, field); }

  base::Status Text(std::string_view field, std::string* out) const {
    if (!Has(field)) return absl::OkStatus();
    if (!At(field).is_string()) return Error(field, "must be a string");
    *out = At(field).get<std::string>();
    return absl::OkStatus();
  }

  base::Status Bool(std::string_view field, bool* out) const {
    if (!Has(field)) return absl::OkStatus();
    if (!At(field).is_boolean()) return Error(field, "must be true or false");
    *out = At(field).get<bool>();
    return absl::OkStatus();
  }

  template <typename Number>
  base::Status Count(std::string_view field, Number* out) const {
    if (!Has(field)) return absl::OkStatus();
    const Json& value = At(field);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      return Error(field, "must be a whole number, not negative");
    }
    *out = static_cast<Number>(value.get<uint64_t>());
    return absl::OkStatus();
  }

  base::Status Texts(std::string_view field, std::vector<std::string>* out) const {
    if (!Has(field)) return absl::OkStatus();
    if (!At(field).is_array()) return Error(field, "must be a list of strings");
    for (const Json& each : At(field)) {
      if (!each.is_string()) return Error(field, "must be a list of strings");
      out->push_back(each.get<std::string>());
    }
    return absl::OkStatus();
  }

  // Replaces `${NAME}`. A `$` before anything else stands for itself.
  base::Status Expand(std::string_view field, std::string* text) const {
    std::string out;
    for (size_t at = 0; at < text->size();) {
      const size_t start = text->find("${", at);
      out.append(*text, at, start - at);
      if (start == std::string::npos) break;
      const size_t end = text->find('}', start);
      if (end == std::string::npos) return Error(field, "holds `${` without `}`");
      const std::string name = text->substr(start + 2, end - start - 2);
      const auto value = environment_ ? environment_(name) : std::nullopt;
      if (!value.has_value()) return Error(field, "needs the variable `" + name + "`, which is not set");
      out += *value;
      at = end + 1;
    }
    *text = std::move(out);
    return absl::OkStatus();
  }

  Reader Within(std::string_view field) const {
    return Reader(place_ + ": `" + std::string(field) + "`", At(field), environment_);
  }
  Reader Within(std::string_view field, size_t i) const {
    return Reader(place_ + ": `" + std::string(field) + "` " + std::to_string(i + 1), At(field)[i],
                  environment_);
  }

 private:
  const std::string place_;
  const Json& object_;
  const EnvironmentLookup& environment_;
};

base::Status ReadMount(const Reader& reader, sandbox::ExtraMount* mount) {
  HF_RETURN_IF_ERROR(reader.OnlyFields({"host", "inside", "access", "required"}));
  HF_RETURN_IF_ERROR(reader.Text("host", &mount->host));
  HF_RETURN_IF_ERROR(reader.Text("inside", &mount->inside));
  HF_RETURN_IF_ERROR(reader.Bool("required", &mount->required));
  std::string access = "read";
  HF_RETURN_IF_ERROR(reader.Text("access", &access));
  if (access != "read" && access != "write") return reader.Error("access", "must be \"read\" or \"write\"");
  mount->access = access == "write" ? sandbox::Access::kReadWrite : sandbox::Access::kReadOnly;
  return absl::OkStatus();
}

base::Status ReadLimits(const Reader& reader, sandbox::Limits* limits) {
  HF_RETURN_IF_ERROR(reader.OnlyFields({"memory_bytes", "processes", "open_files", "file_bytes", "disk_bytes",
                                        "disk_inodes", "cpu_ms", "kill_grace_ms"}));
  for (const LimitField& field : kLimitFields) {
    HF_RETURN_IF_ERROR(reader.Count(field.name, &(limits->*field.value)));
  }
  return absl::OkStatus();
}

base::Status ReadTimeouts(const Reader& reader, McpTimeouts* timeouts) {
  HF_RETURN_IF_ERROR(reader.OnlyFields({"probe_ms", "startup_ms", "list_ms", "call_ms", "shutdown_ms"}));
  for (const TimeoutField& field : kTimeoutFields) {
    HF_RETURN_IF_ERROR(reader.Count(field.name, &(timeouts->*field.value)));
  }
  return absl::OkStatus();
}

base::Status ReadEra(const Reader& reader, McpEra* era) {
  std::string name = "auto";
  HF_RETURN_IF_ERROR(reader.Text("era", &name));
  if (name == "auto") {
    *era = McpEra::kAuto;
  } else if (name == "modern") {
    *era = McpEra::kModern;
  } else if (name == "legacy") {
    *era = McpEra::kLegacy;
  } else {
    return reader.Error("era", "must be \"auto\", \"modern\" or \"legacy\"");
  }
  return absl::OkStatus();
}

// What is ours: the fields of "holdfast".
base::Status ReadOwnFields(const Reader& reader, McpServerConfig* config) {
  HF_RETURN_IF_ERROR(
      reader.OnlyFields({"network", "mounts", "limits", "timeouts", "trust_annotations", "era", "tools"}));
  std::string network = "off";
  HF_RETURN_IF_ERROR(reader.Text("network", &network));
  if (network != "off" && network != "host") return reader.Error("network", "must be \"off\" or \"host\"");
  config->network = network == "host" ? sandbox::Network::kHost : sandbox::Network::kOff;
  HF_RETURN_IF_ERROR(reader.Bool("trust_annotations", &config->trust_annotations));
  HF_RETURN_IF_ERROR(ReadEra(reader, &config->era));
  if (reader.Has("mounts")) {
    if (!reader.At("mounts").is_array()) return reader.Error("mounts", "must be a list of objects");
    for (size_t i = 0; i < reader.At("mounts").size(); ++i) {
      HF_RETURN_IF_ERROR(ReadMount(reader.Within("mounts", i), &config->mounts.emplace_back()));
    }
  }
  if (reader.Has("limits")) HF_RETURN_IF_ERROR(ReadLimits(reader.Within("limits"), &config->limits));
  if (reader.Has("timeouts")) HF_RETURN_IF_ERROR(ReadTimeouts(reader.Within("timeouts"), &config->timeouts));
  if (reader.Has("tools")) HF_RETURN_IF_ERROR(reader.Texts("tools", &config->tools.emplace()));
  return absl::OkStatus();
}

base::Status ReadEnvironment(const Reader& reader, McpServerConfig* config) {
  if (!reader.Has("env")) return absl::OkStatus();
  const Json& variables = reader.At("env");
  if (!variables.is_object()) return reader.Error("env", "must be an object of strings");
  for (auto it = variables.begin(); it != variables.end(); ++it) {
    if (!it->is_string()) return reader.Error("env", "must be an object of strings");
    std::string value = it->get<std::string>();
    HF_RETURN_IF_ERROR(reader.Expand("env", &value));
    config->environment.emplace_back(it.key(), std::move(value));
  }
  return absl::OkStatus();
}

// False in `enabled` for a server that is switched off; it is checked all the same.
base::StatusOr<McpServerConfig> ReadServer(const std::string& name, const Reader& reader, bool* enabled) {
  McpServerConfig config;
  config.name = name;
  if (reader.Has("url") || reader.Has("headers")) {
    return reader.Error("url", "names a server over HTTP; only programs (`command`) can be used");
  }
  HF_RETURN_IF_ERROR(
      reader.OnlyFields({"command", "args", "env", "cwd", "type", "disabled", "description", "holdfast"}));
  std::string type = "stdio", description;
  HF_RETURN_IF_ERROR(reader.Text("type", &type));
  if (type != "stdio") return reader.Error("type", "must be \"stdio\"; other transports cannot be used");
  HF_RETURN_IF_ERROR(reader.Text("description", &description));
  if (!reader.Has("command")) return reader.Error("command", "is missing");
  HF_RETURN_IF_ERROR(reader.Text("command", &config.argv.emplace_back()));
  HF_RETURN_IF_ERROR(reader.Texts("args", &config.argv));
  for (std::string& argument : config.argv) HF_RETURN_IF_ERROR(reader.Expand("args", &argument));
  HF_RETURN_IF_ERROR(reader.Text("cwd", &config.directory));
  HF_RETURN_IF_ERROR(reader.Expand("cwd", &config.directory));
  HF_RETURN_IF_ERROR(ReadEnvironment(reader, &config));
  bool disabled = false;
  HF_RETURN_IF_ERROR(reader.Bool("disabled", &disabled));
  *enabled = !disabled;
  if (reader.Has("holdfast")) HF_RETURN_IF_ERROR(ReadOwnFields(reader.Within("holdfast"), &config));
  HF_RETURN_IF_ERROR(Validate(config));
  return config;
}

bool IsServerName(std::string_view name) {
  const auto is_good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  // The first `__` of a tool's full name ends the server's, so that no two servers share one.
  return !name.empty() && name.size() <= kNameBytesMax && std::all_of(name.begin(), name.end(), is_good) &&
         name.find("__") == std::string_view::npos && name.back() != '_';
}

base::Status ValidateTimeouts(const std::string& place, const McpTimeouts& timeouts) {
  for (const TimeoutField& field : kTimeoutFields) {
    const int64_t value = timeouts.*field.value;
    if (value < 1 || value > kTimeoutMsMax) {
      return InvalidArgument(place + "timeouts: " + field.name + " is " + std::to_string(value) +
                             ", must be 1 to " + std::to_string(kTimeoutMsMax));
    }
  }
  if (timeouts.probe_ms > timeouts.startup_ms) {
    return InvalidArgument(place + "timeouts: probe_ms is more than startup_ms");
  }
  return absl::OkStatus();
}

base::Status ValidateBounds(const std::string& place, const McpBounds& bounds) {
  const bool good = bounds.message_bytes_max >= 1024 &&
                    bounds.waiting_bytes_max >= bounds.message_bytes_max &&
                    bounds.request_bytes_max >= 1024 && bounds.calls_max >= 1 && bounds.pages_max >= 1 &&
                    bounds.tools_max >= 1 && bounds.error_bytes >= 1 && bounds.restarts_max >= 1 &&
                    bounds.unanswered_calls_max >= 1 && bounds.backoff_ms_min >= 1 &&
                    bounds.backoff_ms_max >= bounds.backoff_ms_min && bounds.backoff_ms_max <= kTimeoutMsMax;
  return good ? absl::OkStatus() : InvalidArgument(place + "bounds: one is too small, or two do not fit");
}

}  // namespace

sandbox::Limits McpLimits() {
  return {.wall_ms = 0,
          .idle_ms = 0,
          .cpu_ms = 0,
          .memory_bytes = 2 * sandbox::kGiB,
          .processes = 256,
          .output_bytes = uint64_t{1} << 60,
          .kill_grace_ms = 2'000};
}

base::Status Validate(const McpServerConfig& config) {
  if (!IsServerName(config.name)) {
    return InvalidArgument(
        "MCP server `" + sandbox::MakeSafe(config.name.substr(0, 64)) +
        "`: the name must be 1 to 32 of [A-Za-z0-9_-], without `__`, and not end with `_`");
  }
  const std::string place = "MCP server `" + config.name + "`: ";
  const auto annotated = [&](const base::Status& status) {
    return base::Annotate(status, place + "not usable");
  };
  if (config.argv.empty() || config.argv[0].empty()) return InvalidArgument(place + "`command` is empty");
  const sandbox::Command command = {.argv = config.argv, .directory = config.directory};
  HF_RETURN_IF_ERROR(annotated(sandbox::Validate(command)));
  HF_RETURN_IF_ERROR(annotated(sandbox::Validate(config.limits)));
  HF_RETURN_IF_ERROR(annotated(sandbox::Normalise(McpPolicy(config, "/nowhere")).status()));
  if (config.tools.has_value()) {
    std::set<std::string> names(config.tools->begin(), config.tools->end());
    if (names.size() != config.tools->size()) return InvalidArgument(place + "`tools` has a name twice");
  }
  HF_RETURN_IF_ERROR(ValidateTimeouts(place, config.timeouts));
  return ValidateBounds(place, config.bounds);
}

base::StatusOr<std::vector<McpServerConfig>> ParseMcpConfig(std::string_view json,
                                                            const EnvironmentLookup& environment) {
  if (json.size() > kConfigBytesMax) return InvalidArgument("MCP configuration: longer than 1 MiB");
  if (mcp::ShapeOf(json).depth > mcp::kMessageDepthMax) {
    return InvalidArgument("MCP configuration: nested too deeply");
  }
  const Json object = Json::parse(json, nullptr, false);
  if (object.is_discarded()) return InvalidArgument("MCP configuration: malformed JSON");
  const Reader top("MCP configuration", object, environment);
  HF_RETURN_IF_ERROR(top.OnlyFields({"mcpServers"}));
  const Json& servers = top.At("mcpServers");
  if (!servers.is_object()) return top.Error("mcpServers", "must be an object");
  if (servers.size() > kServersMax) {
    return top.Error("mcpServers", "has more than " + std::to_string(kServersMax) + " servers");
  }
  std::vector<McpServerConfig> configs;
  for (auto it = servers.begin(); it != servers.end(); ++it) {
    bool enabled = true;
    const Reader reader("MCP server `" + sandbox::MakeSafe(it.key().substr(0, 64)) + "`", *it, environment);
    HF_ASSIGN_OR_RETURN(McpServerConfig config, ReadServer(it.key(), reader, &enabled));
    if (enabled) configs.push_back(std::move(config));
  }
  return configs;
}

std::vector<sandbox::Secret> McpSecrets(const McpServerConfig& config) {
  std::vector<sandbox::Secret> secrets;
  for (const auto& [name, value] : config.environment) {
    if (sandbox::LooksSecret(name) && value.size() >= kSecretBytesMin) secrets.push_back({name, value});
  }
  return secrets;
}

sandbox::Policy McpPolicy(const McpServerConfig& config, std::string directory) {
  sandbox::Policy policy;
  policy.workspace.host = directory + "/tree";
  policy.workspace.inside = "/workspace";
  policy.workspace.mode = sandbox::WorkspaceMode::kOverlay;
  policy.workspace.layer = std::move(directory) + "/layer";
  policy.network = config.network;
  policy.mounts = config.mounts;
  policy.set_environment = config.environment;
  policy.limits = config.limits;
  return policy;
}

}  // namespace holdfast::tools
