// What a checkpoint, a diff, an apply and a restore cost on a large tree.
//
//   workspace_bench --broker PATH --dir DIR [--files 100000] [--derived 60000] [--changes 1000] [--rounds 11]
//
// DIR is emptied, and should lie on the disk in question. Beside each figure that waits for the disk stands
// what the machine itself takes to write and sync as many bytes in the same place, in the same run, turn by
// turn.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/coding.h"
#include "memory/blob_store.h"
#include "sandbox/sandbox.h"
#include "workspace/changes.h"
#include "workspace/unified_diff.h"
#include "workspace/workspace.h"

namespace {

namespace base = holdfast::base;
namespace sb = holdfast::sandbox;
namespace ws = holdfast::workspace;

constexpr size_t kFilesPerDirectory = 100;
constexpr size_t kEdits = 10;
constexpr size_t kFileBytes = 2000;

struct Options {
  std::string broker, dir;
  size_t files = 100'000, derived = 60'000, changes = 1'000, rounds = 11;
};

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "workspace_bench: %s\n", why.c_str());
  std::exit(1);
}

void Check(const base::Status& status) {
  if (!status.ok()) Die(base::Message(status));
}

template <class T>
T Take(base::StatusOr<T> value) {
  Check(value.status());
  return *std::move(value);
}

double Ms(const std::function<void()>& run) {
  const int64_t begin = base::RealClock().MonotonicNow().ns;
  run();
  return static_cast<double>(base::RealClock().MonotonicNow().ns - begin) / 1e6;
}

double Median(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  return ms[ms.size() / 2];
}

void Print(const char* what, double ms, const std::string& beside = "") {
  std::printf("%-58s %9.1f ms  %s\n", what, ms, beside.c_str());
  std::fflush(stdout);
}

std::string PathOf(size_t file) {
  return "d" + std::to_string(file / kFilesPerDirectory) + "/f" + std::to_string(file % kFilesPerDirectory) +
         ".c";
}

std::string TextOf(size_t file, size_t round) {
  std::string text;
  for (size_t line = 0; text.size() < kFileBytes; ++line) {
    text += "line " + std::to_string(line) + " of " + std::to_string(file) + "\n";
  }
  return text + "round " + std::to_string(round) + "\n";
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {
    std::filesystem::remove_all(options_.dir);
    std::filesystem::create_directories(Tree());
    options_.dir = std::filesystem::canonical(options_.dir);
    sandbox_ = Take(sb::Sandbox::Start({.broker_path = options_.broker}));
    blobs_ = Take(OpenBlobs());
  }
  ~Bench() {
    workspace_.reset();
    blobs_.reset();
    std::filesystem::remove_all(options_.dir);
  }

  void Run() {
    std::printf("%zu files, %zu ignored files in the layer, %zu changes, medians of %zu\n", options_.files,
                options_.derived, options_.changes, options_.rounds);
    MakeTree();
    Print("open: a stat of every file, and a session", Ms([&] { Open(); }));
    Checkpoints("checkpoint after ten edits");
    Derive();
    Checkpoints("the same, ignored files in the layer");
    Changes();
  }

 private:
  std::string Tree() const { return options_.dir + "/tree"; }
  base::StatusOr<std::unique_ptr<holdfast::memory::BlobStore>> OpenBlobs() const {
    return holdfast::memory::BlobStore::Open(base::RealFileSystem(), {.directory = options_.dir + "/blobs"});
  }

  void MakeTree() {
    for (size_t i = 0; i < options_.files; ++i) {
      if (i % kFilesPerDirectory == 0) {
        std::filesystem::create_directory(Tree() + "/d" + std::to_string(i / kFilesPerDirectory));
      }
      std::ofstream(Tree() + "/" + PathOf(i), std::ios::binary) << TextOf(i, 0);
    }
    std::ofstream(Tree() + "/.gitignore") << "build/\n";
    sync();  // not part of what is measured
  }

  void Open() {
    ws::WorkspaceOptions options{.tree = Tree(), .directory = options_.dir + "/state"};
    options.policy.limits.disk_inodes = 2'000'000;
    workspace_ = Take(ws::Workspace::Open(std::move(options), *sandbox_, *blobs_));
  }

  void Edit(size_t file) {
    const std::string text = TextOf(file, ++round_);
    Check(ws::ReplaceFile(*workspace_->files(), PathOf(file), base::AsBytes(text), 0644));
  }

  // What the disk takes for as many bytes, appended to one file.
  double OwnSync(size_t bytes) {
    const std::string path = options_.dir + "/sync";
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const std::string text(bytes, 'x');
    const double ms = Ms([&] {
      if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || fdatasync(fd) != 0) {
        Die("writing " + path);
      }
    });
    close(fd);
    return ms;
  }

  void Checkpoints(const char* what) {
    std::vector<double> ms, own;
    for (size_t round = 0; round < options_.rounds; ++round) {
      for (size_t i = 0; i < kEdits; ++i) Edit((round * kEdits + i) * 97 % options_.files);
      ms.push_back(Ms([&] { Take(workspace_->Checkpoint()); }));
      own.push_back(OwnSync(kEdits * 2 * kFileBytes));
    }
    char beside[100];
    std::snprintf(beside, sizeof(beside), "(worst %.1f; writing and syncing as much: %.1f, worst %.1f)",
                  *std::max_element(ms.begin(), ms.end()), Median(own),
                  *std::max_element(own.begin(), own.end()));
    Print(what, Median(ms), beside);
  }

  void Derive() {
    const std::string script = "set -e; mkdir build; for ((i = 0; i < " + std::to_string(options_.derived) +
                               "; ++i)); do if ((i % 100 == 0)); then d=build/$((i / 100)); mkdir $d; fi; "
                               "echo $i > $d/o$i; done";
    const auto outcome = Take(workspace_->session()->Run(sb::ShellCommand(script)));
    if (!outcome.ok()) Die("making ignored files: " + Describe(outcome) + Render(outcome.output));
    ws::CheckpointResult result;
    const double ms = Ms([&] { result = Take(workspace_->Checkpoint()); });
    if (result.derived.files != options_.derived) Die("ignored files were not recognised");
    Print("checkpoint right after they were made", ms);
  }

  void Changes() {
    const ws::ManifestId before = workspace_->current();
    for (size_t i = 0; i < options_.changes; ++i) Edit(i * 89 % options_.files);
    Print("checkpoint after the changes", Ms([&] { Take(workspace_->Checkpoint()); }));
    const ws::ManifestId after = workspace_->current();
    std::vector<double> diff, text, restore;
    size_t bytes = 0, changed = 0;
    for (size_t round = 0; round < options_.rounds; ++round) {
      ws::WorkspaceChanges changes;
      diff.push_back(Ms([&] { changes = Take(ws::CompareWorkspace(*workspace_, *blobs_)); }));
      text.push_back(Ms([&] {
        bytes = Take(ws::UnifiedDiff(changes.diff, *blobs_, nullptr, {.text_bytes_max = 1 << 30})).size();
      }));
      changed = changes.diff.changes.size();
    }
    Print("three-way diff", Median(diff), "(" + std::to_string(changed) + " paths)");
    Print("its unified text", Median(text), "(" + std::to_string(bytes / 1024) + " KiB)");
    for (size_t round = 0; round < std::min<size_t>(options_.rounds, 3); ++round) {
      restore.push_back(Ms([&] { Take(workspace_->Restore(before)); }));
      restore.push_back(Ms([&] { Take(workspace_->Restore(after)); }));
    }
    Print("restore, there and back, each", Median(restore));
    double own = 0;
    for (size_t i = 0; i < changed; ++i) own += OwnSync(kFileBytes);
    ws::ApplyReport report;
    const double apply =
        Ms([&] { report = Take(ws::ApplyWorkspace(*workspace_, *blobs_, {.everything = true})); });
    if (report.Count(ws::ApplyFate::kApplied) != changed) Die("not all was applied");
    char beside[100];
    std::snprintf(beside, sizeof(beside), "(as many syncs of as many bytes: %.1f)", own);
    Print("apply, with the layer emptied after it", apply, beside);
  }

  Options options_;
  std::unique_ptr<sb::Sandbox> sandbox_;
  std::unique_ptr<holdfast::memory::BlobStore> blobs_;
  std::unique_ptr<ws::Workspace> workspace_;
  size_t round_ = 0;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const auto number = [&] { return static_cast<size_t>(std::strtoull(argv[i + 1], nullptr, 10)); };
    if (name == "--broker") {
      options.broker = argv[i + 1];
    } else if (name == "--dir") {
      options.dir = argv[i + 1];
    } else if (name == "--files") {
      options.files = number();
    } else if (name == "--derived") {
      options.derived = number();
    } else if (name == "--changes") {
      options.changes = number();
    } else if (name == "--rounds") {
      options.rounds = number();
    } else {
      Die("unknown option " + name);
    }
  }
  if (options.dir.empty() || options.files < options.changes || options.rounds == 0) {
    Die("--dir DIR is needed, at least as many --files as --changes, and --rounds");
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  Bench(Parse(argc, argv)).Run();
  return 0;
}
