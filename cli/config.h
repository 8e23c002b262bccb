// The configuration: a value is what its flag says, else its environment variable, else the project's file,
// else the user's, else the default.
//
//   user      $XDG_CONFIG_HOME/holdfast/config.toml, else ~/.config/holdfast/config.toml
//   project   .holdfast/config.toml in the working directory or the nearest one above it that has one
//
// Files are a part of TOML: `[table]`, `key = value`, comments; a value is a string, a whole number, true or
// false. An unknown key, a wrong type or a key given twice is an error that names file and line.
//
// A project's file may come from somebody who is not to be trusted. So it may set only what bounds or shapes
// sessions: never a program, a path, an address, or anything of the sandbox.
//
// Every key is described in docs/configuration.md. Threads: one.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

enum class ConfigType { kString, kInteger, kBoolean };

struct ConfigKey {
  std::string_view name;  // "log.level"
  std::string_view flag;  // "--log-level"
  std::string_view variable;
  ConfigType type = ConfigType::kString;
  bool project = false;   // may stand in a project's file
  std::string_view help;  // one line
};

// All there are, by name.
std::span<const ConfigKey> ConfigKeys();

struct ConfigValue {
  std::string text;    // "true", "7", "warning"
  std::string origin;  // "HOLDFAST_LOG_LEVEL", ".holdfast/config.toml:3"
};

struct ConfigPlaces {
  std::string user_file;
  std::string project_file;  // empty: none
};

// Where the files are for this process, whether they exist or not.
ConfigPlaces FindConfigPlaces();

class Config {
 public:
  // Reads both files, as far as they exist, and the environment. InvalidArgument with file and line.
  static base::StatusOr<Config> Load(const ConfigPlaces& places);

  // What a key is set to outside of the command line; none: nowhere.
  std::optional<ConfigValue> Find(std::string_view key) const;

  // Makes what is set the default of the options of `command` that have the flags of keys, so that flags and
  // variables go before it, and takes their `required` away. InvalidArgument for a value that an option
  // refuses, with its origin. Before the command line is parsed.
  base::Status ApplyTo(CLI::App& command) const;

 private:
  base::Status ReadFile(const std::string& path, bool project);
  base::Status ReadLine(std::string_view line, bool project, const std::string& origin, std::string* table);

  std::map<std::string, ConfigValue, std::less<>> values_;
};

}  // namespace holdfast::cli
