// The subcommands of `holdfast`, one registration function each, in the file of the same name.
// A registration function adds its subcommand, options and help to `parent`; `result` outlives the parse,
// and the subcommand leaves its outcome there when it runs.
#pragma once

#include "base/status.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

void AddBackup(CLI::App& parent, base::Status& result);
void AddChanges(CLI::App& parent, base::Status& result);  // diff, apply, discard
void AddChat(CLI::App& parent, base::Status& result);
void AddDaemonCommands(CLI::App& parent, base::Status& result);  // status, stop, logs, completion
void AddDoctor(CLI::App& parent, base::Status& result);
void AddKv(CLI::App& parent, base::Status& result);
void AddModelGenerate(CLI::App& parent, base::Status& result);
void AddModelInfo(CLI::App& parent, base::Status& result);
void AddModelLogits(CLI::App& parent, base::Status& result);
void AddModelSynth(CLI::App& parent, base::Status& result);
void AddModelTokenize(CLI::App& parent, base::Status& result);
void AddGoalResume(CLI::App& parent, base::Status& result);
void AddGoalRun(CLI::App& parent, base::Status& result);
void AddServe(CLI::App& parent, base::Status& result);
void AddSessionAudit(CLI::App& parent, base::Status& result);
void AddSessionLook(CLI::App& parent, base::Status& result);
void AddSessionTransfer(CLI::App& parent, base::Status& result);
void AddSessions(CLI::App& parent, base::Status& result);  // sessions, show, watch, events
void AddSteer(CLI::App& parent, base::Status& result);     // send, approve, deny, pause, ...
void AddTools(CLI::App& parent, base::Status& result);
void AddModelDetokenize(CLI::App& parent, base::Status& result);
void AddModelRender(CLI::App& parent, base::Status& result);
void AddModelParse(CLI::App& parent, base::Status& result);

}  // namespace holdfast::cli
