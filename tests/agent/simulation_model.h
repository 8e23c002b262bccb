// What all simulated sessions share and no crash changes: a model that has learnt nothing but has to follow
// the grammar, its tokenizer, and the prompt with the tools. As small as they get, since scenarios spend most
// of their time here.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "agent/dialogue.h"
#include "model/engine.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include "sessions/scheduler.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::agent::simulation {

// Schema lines of the simulated tools (simulation_tools.h), in the order of the prompt.
std::vector<std::string> ToolLines();

// Tokens that turns are led by.
struct MarkIds {
  int32_t dsml = 0;
  int32_t eos = 0;
  int32_t open = 0;              // "\n\n<": a block of calls
  int32_t close = 0;             // "</": the end of a value
  std::vector<int32_t> letters;  // of values
  std::vector<int32_t> changes;  // names of tools that change files
};

// One for a process. One thread at a time.
class SharedModel {
 public:
  static SharedModel& Get();

  model::Engine& engine() { return *engine_; }
  const model::Tokenizer& tokenizer() const { return *tokenizer_; }
  const Dialogue& dialogue() const { return *dialogue_; }

  // Limits a turn further than `grammar` does, by what was sampled of it alone: a few tokens of text, then a
  // block of calls with short values; one turn in eight has no block, and ends the work.
  std::unique_ptr<sessions::TokenConstraint> Narrow(std::unique_ptr<sessions::TokenConstraint> grammar,
                                                    std::span<const int32_t> begun) const;

 private:
  SharedModel();

  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
  std::unique_ptr<model::Tokenizer> tokenizer_;
  MarkIds marks_;
  std::unique_ptr<Dialogue> dialogue_;
  std::unique_ptr<model::Checkpoint> checkpoint_;
  std::unique_ptr<model::Backend> backend_;
  std::unique_ptr<model::Engine> engine_;
};

}  // namespace holdfast::agent::simulation
