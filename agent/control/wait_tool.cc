#include <algorithm>
#include <optional>

#include "agent/agent_event.h"
#include "agent/control/control_tool_parts.h"
#include "base/clock.h"
#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

constexpr int64_t kMsPerSecond = 1000;

// Relative to the workspace: "/repo/a" is "a" where commands see it at /repo. None for what leads out of it,
// or is no path.
std::optional<std::string> RelativePath(std::string_view path, std::string_view inside) {
  if (!inside.empty() && path.starts_with(inside)) {
    path.remove_prefix(inside.size());
    if (!path.starts_with('/')) return std::nullopt;
    path.remove_prefix(1);
  }
  if (path.empty() || path.front() == '/' || path.find('\0') != std::string_view::npos) return std::nullopt;
  for (std::string_view rest = path; !rest.empty();) {
    const size_t end = std::min(rest.find('/'), rest.size());
    if (rest.substr(0, end) == "..") return std::nullopt;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return std::string(path);
}

bool IsName(std::string_view name, size_t bytes_max) {
  return !name.empty() && name.size() <= bytes_max && std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
  });
}

class WaitTool final : public ControlTool {
 public:
  using ControlTool::ControlTool;

 private:
  tools::ToolResult Answer(const tools::ToolContext& context, const nlohmann::json& arguments) override {
    WaitSet wait{.call = host_.call(),
                 .process = arguments.value("process", std::string()),
                 .file = arguments.value("file", std::string()),
                 .signal = arguments.value("signal", std::string())};
    const int64_t seconds = arguments.value("seconds", int64_t{0});
    if (arguments.empty()) return tools::Failed(data_.result("nothing").Fill({}));
    if (FactsAhead(host_).wait().has_value()) return tools::Failed(data_.result("waiting").Fill({}));
    if (arguments.contains("process") && !host_.IsRunning(wait.process)) {
      return tools::Failed(data_.result("no_process").Fill({}));
    }
    if (arguments.contains("file")) {
      auto path = RelativePath(wait.file, context.inside);
      if (!path || path->size() > Bound("path_bytes_max")) {
        return tools::Failed(data_.result("bad_file").Fill({}));
      }
      wait.file = *std::move(path);
    }
    if (arguments.contains("signal") && !IsName(wait.signal, Bound("signal_bytes_max"))) {
      return tools::Failed(
          data_.result("bad_signal").Fill({{"limit", std::to_string(Bound("signal_bytes_max"))}}));
    }
    Begin(wait, seconds);
    return tools::Succeeded(data_.result("waits").Fill({{"conditions", Conditions(wait, seconds)}}));
  }

  void Begin(WaitSet wait, int64_t seconds) {
    if (seconds > 0) {
      const int64_t ms = seconds * kMsPerSecond;
      wait.until_utc_ms = host_.NowUtcMs() + ms;
      host_.Change(sessions::TimerSet{
          .timer = std::string(kWaitTimer), .due_utc_ms = wait.until_utc_ms, .remaining_ms = ms});
    }
    host_.Change(Encode(wait));
  }

  std::string Conditions(const WaitSet& wait, int64_t seconds) const {
    std::string text;
    const auto add = [&](std::string condition) {
      if (!text.empty()) text += data_.result("or").Fill({});
      text += condition;
    };
    if (seconds > 0) add(data_.result("seconds").Fill({{"seconds", std::to_string(seconds)}}));
    if (!wait.process.empty()) add(data_.result("process").Fill({{"id", wait.process}}));
    if (!wait.file.empty()) add(data_.result("file").Fill({{"path", wait.file}}));
    if (!wait.signal.empty()) add(data_.result("signal").Fill({{"name", wait.signal}}));
    return text;
  }
};

}  // namespace

base::StatusOr<std::unique_ptr<tools::Tool>> MakeWaitTool(ControlHost& host) {
  return MakeControlTool<WaitTool>("wait@1", host);
}

}  // namespace holdfast::agent
