#include "cli/config.h"

#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "CLI/CLI.hpp"
#include "base/file.h"

namespace holdfast::cli {
namespace {

constexpr uint64_t kFileBytesMax = 1 << 20;
constexpr ConfigType kInteger = ConfigType::kInteger;
constexpr ConfigType kBoolean = ConfigType::kBoolean;
constexpr ConfigType kString = ConfigType::kString;

constexpr ConfigKey kKeys[] = {
    {"broker", "--broker", "HOLDFAST_BROKER", kString, false, "Program of the sandbox"},
    {"connections", "--connections", "HOLDFAST_CONNECTIONS", kInteger, false,
     "Most connections, of each door"},
    {"data", "--data", "HOLDFAST_DATA", kString, false, "Data directory"},
    {"goal.calls", "--calls", "HOLDFAST_GOAL_CALLS", kInteger, true, "Tool calls that a goal may take"},
    {"goal.minutes", "--minutes", "HOLDFAST_GOAL_MINUTES", kInteger, true,
     "Working time of a goal, in minutes"},
    {"goal.profile", "--profile", "HOLDFAST_GOAL_PROFILE", kString, true, "Tools and prompt of new sessions"},
    {"goal.tokens", "--tokens", "HOLDFAST_GOAL_TOKENS", kInteger, true, "Tokens that a goal may take"},
    {"kv", "--kv", "HOLDFAST_KV", kString, false, "How KV is kept"},
    {"log.file", "--log-file", "HOLDFAST_LOG_FILE", kString, false, "File of the log"},
    {"log.json", "--log-json", "HOLDFAST_LOG_JSON", kBoolean, false, "The log is JSON lines"},
    {"log.level", "--log-level", "HOLDFAST_LOG_LEVEL", kString, false, "debug, info, warning or error"},
    {"metrics", "--metrics", "HOLDFAST_METRICS", kString, false, "Address of the metrics"},
    {"model", "--model", "HOLDFAST_MODEL", kString, false, "Checkpoint directory"},
    {"notify", "--notify", "HOLDFAST_NOTIFY", kString, false, "Program that is told when a person is needed"},
    {"precision", "--precision", "HOLDFAST_PRECISION", kString, false, "Precision of the model"},
    {"reflection", "--reflection", "HOLDFAST_REFLECTION", kBoolean, false, "The API describes itself"},
    {"socket", "--socket", "HOLDFAST_SOCKET", kString, false, "Unix socket of the API"},
    {"tcp.address", "--tcp", "HOLDFAST_TCP", kString, false, "TCP address of the API"},
    {"tcp.certificate", "--tls-cert", "HOLDFAST_TLS_CERT", kString, false, "Certificate of the TCP door"},
    {"tcp.client_ca", "--tls-client-ca", "HOLDFAST_TLS_CLIENT_CA", kString, false,
     "Clients need a certificate of this authority"},
    {"tcp.key", "--tls-key", "HOLDFAST_TLS_KEY", kString, false, "Key of the certificate"},
    {"threads", "--threads", "HOLDFAST_THREADS", kInteger, false, "Threads that compute"},
};

const ConfigKey* FindKey(std::string_view name) {
  for (const ConfigKey& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsInteger(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

bool IsBareKey(std::string_view text) {
  return !text.empty() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.-") == std::string_view::npos;
}

// A quoted string at the start of `text`; what follows it stays there.
base::StatusOr<std::string> TakeString(std::string_view* text) {
  const char quote = text->front();
  std::string value;
  for (size_t i = 1; i < text->size(); ++i) {
    const char c = (*text)[i];
    if (c == quote) {
      *text = text->substr(i + 1);
      return value;
    }
    if (c != '\\' || quote == '\'') {
      value += c;
      continue;
    }
    const char escaped = ++i < text->size() ? (*text)[i] : '\0';
    if (escaped != '\\' && escaped != '"' && escaped != 'n' && escaped != 't') break;
    value += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
  }
  return base::InvalidArgument("a string that does not end, or an escape other than \\\\ \\\" \\n \\t");
}

struct Parsed {
  ConfigType type = kString;
  std::string text;
};

base::StatusOr<Parsed> ParseValue(std::string_view text) {
  Parsed parsed;
  if (text.starts_with('"') || text.starts_with('\'')) {
    HF_ASSIGN_OR_RETURN(parsed.text, TakeString(&text));
  } else {
    const size_t end = std::min(text.find('#'), text.size());
    parsed.text = Trim(text.substr(0, end));
    text.remove_prefix(end);
    if (parsed.text == "true" || parsed.text == "false") {
      parsed.type = kBoolean;
    } else if (IsInteger(parsed.text)) {
      parsed.type = kInteger;
    } else {
      return base::InvalidArgument("want a string in quotes, a whole number, true or false");
    }
  }
  text = Trim(text);
  if (!text.empty() && text.front() != '#') return base::InvalidArgument("something follows the value");
  return parsed;
}

std::string_view TypeName(ConfigType type) {
  switch (type) {
    case kString:
      return "a string";
    case kInteger:
      return "a whole number";
    case kBoolean:
      return "true or false";
  }
  return "";
}

}  // namespace

std::span<const ConfigKey> ConfigKeys() { return kKeys; }

ConfigPlaces FindConfigPlaces() {
  ConfigPlaces places;
  const std::string xdg = Variable("XDG_CONFIG_HOME");
  places.user_file = (xdg.empty() ? Variable("HOME") + "/.config" : xdg) + "/holdfast/config.toml";
  char* const working = getcwd(nullptr, 0);
  std::string directory = working == nullptr ? "" : working;
  std::free(working);
  while (!directory.empty()) {
    const std::string file = (directory == "/" ? "" : directory) + "/.holdfast/config.toml";
    if (base::RealFileSystem().Stat(file).ok()) {
      places.project_file = file;
      break;
    }
    if (directory == "/") break;
    directory = base::ParentDirectory(directory);
  }
  return places;
}

base::StatusOr<Config> Config::Load(const ConfigPlaces& places) {
  Config config;
  // The later goes before the earlier.
  HF_RETURN_IF_ERROR(config.ReadFile(places.user_file, /*project=*/false));
  if (!places.project_file.empty())
    HF_RETURN_IF_ERROR(config.ReadFile(places.project_file, /*project=*/true));
  for (const ConfigKey& key : kKeys) {
    const std::string name(key.variable);
    const std::string value = Variable(name.c_str());
    if (value.empty()) continue;
    const bool fits = key.type == kString || (key.type == kInteger && IsInteger(value)) ||
                      (key.type == kBoolean && (value == "true" || value == "false"));
    if (!fits) return base::InvalidArgument(name + ": want " + std::string(TypeName(key.type)));
    config.values_[std::string(key.name)] = {.text = value, .origin = name};
  }
  return config;
}

base::Status Config::ReadFile(const std::string& path, bool project) {
  const auto text = base::RealFileSystem().ReadFile(path, kFileBytesMax);
  if (absl::IsNotFound(text.status())) return {};
  HF_RETURN_IF_ERROR(text.status());
  Config file;
  std::string table;
  int number = 0;
  for (size_t at = 0; at < text->size();) {
    const size_t end = std::min(text->find('\n', at), text->size());
    const std::string origin = path + ":" + std::to_string(++number);
    const auto line = std::string_view(*text).substr(at, end - at);
    if (const base::Status read = file.ReadLine(line, project, origin, &table); !read.ok()) {
      return base::Annotate(read, origin);
    }
    at = end + 1;
  }
  for (auto& [key, value] : file.values_) values_[key] = std::move(value);
  return {};
}

base::Status Config::ReadLine(std::string_view line, bool project, const std::string& origin,
                              std::string* table) {
  line = Trim(line);
  if (line.empty() || line.front() == '#') return {};
  if (line.front() == '[') {
    const size_t end = line.find(']');
    const std::string_view rest = end == std::string_view::npos ? "?" : Trim(line.substr(end + 1));
    const std::string_view name = Trim(line.substr(1, end == std::string_view::npos ? 0 : end - 1));
    if (!IsBareKey(name) || (!rest.empty() && rest.front() != '#'))
      return base::InvalidArgument("want [TABLE]");
    *table = std::string(name) + ".";
    return {};
  }
  const size_t equals = line.find('=');
  const std::string_view bare = Trim(line.substr(0, equals));
  if (equals == std::string_view::npos || !IsBareKey(bare)) return base::InvalidArgument("want KEY = VALUE");
  const std::string name = *table + std::string(bare);
  const ConfigKey* const key = FindKey(name);
  if (key == nullptr) {
    return base::InvalidArgument("unknown key `" + name + "`; `holdfast config` lists those there are");
  }
  if (project && !key->project) {
    return base::InvalidArgument("a project may not set `" + name + "`; set it in your own file (" +
                                 FindConfigPlaces().user_file + ") or by " + std::string(key->flag));
  }
  HF_ASSIGN_OR_RETURN(Parsed parsed, ParseValue(Trim(line.substr(equals + 1))));
  if (parsed.type != key->type) {
    return base::InvalidArgument("`" + name + "`: want " + std::string(TypeName(key->type)));
  }
  const auto [at, added] = values_.try_emplace(name, ConfigValue{std::move(parsed.text), origin});
  if (!added) return base::InvalidArgument("`" + name + "` was set before, at " + at->second.origin);
  return {};
}

std::optional<ConfigValue> Config::Find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? std::nullopt : std::optional(found->second);
}

base::Status Config::ApplyTo(CLI::App& command) const {
  for (const ConfigKey& key : kKeys) {
    CLI::Option* const option = command.get_option_no_throw(std::string(key.flag));
    const auto value = Find(key.name);
    if (option == nullptr || !value.has_value()) continue;
    try {
      option->default_val(value->text);
      option->required(false);
    } catch (const CLI::Error& error) {
      return base::InvalidArgument(value->origin + ": `" + std::string(key.name) + "`: " + error.what());
    }
  }
  return {};
}

}  // namespace holdfast::cli
