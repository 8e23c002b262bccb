// Runs a fuzz target without libFuzzer: on every file of a corpus folder, and on mutations of each that are
// the same in every run.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr uint32_t kMutations = 200;  // of each file

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string Mutate(std::string text, uint64_t seed, uint32_t mutation) {
  uint64_t position = 0;
  const auto below = [&](size_t bound) {
    const holdfast::base::RandomPoint point = {.seed = seed, .stream = mutation, .position = position++};
    return bound == 0 ? 0 : static_cast<size_t>(holdfast::base::RandomBits(point, 0) % bound);
  };
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    const size_t at = below(text.size() + 1), length = std::min(below(12), text.size() - at);
    switch (below(4)) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, 1, static_cast<char>(below(256)));
        break;
      case 2:
        text.insert(at, text.substr(below(text.size() + 1), 1 + below(40)));
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> paths;
  if (argc == 2 && std::filesystem::is_directory(argv[1])) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
      paths.push_back(entry.path().string());
  }
  if (paths.empty()) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER (with at least one file)\n", argv[0]);
    return 1;
  }
  std::sort(paths.begin(), paths.end());
  Run("");
  for (size_t i = 0; i < paths.size(); ++i) {
    std::ifstream file(paths[i], std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    Run(text);
    for (uint32_t mutation = 0; mutation < kMutations; ++mutation) Run(Mutate(text, i, mutation));
  }
  std::printf("replayed %zu files with %u mutations each\n", paths.size(), kMutations);
  return 0;
}
