// From the runtime's nouns to the broker's messages and back.
#pragma once

#include <vector>

#include "sandbox/broker/wire.h"
#include "sandbox/client/supervisor.h"

namespace holdfast::sandbox {

wire::SessionSpec SessionMessage(const Policy& policy);
wire::JobSpec JobMessage(const Policy& policy, uint64_t session, const Command& command,
                         const JobRecord& job);
// All but the output.
Outcome OutcomeOf(const wire::JobEnd& end, const Limits& limits);

// The three pipes of a job.
class JobPipes {
 public:
  // The near ends go into `job`. None are made for a terminal.
  base::Status Make(const Command& command, JobRecord& job);
  std::vector<int> ForJob() const;
  void CloseForJob();

 private:
  Descriptor input_, output_, error_;
};

}  // namespace holdfast::sandbox
