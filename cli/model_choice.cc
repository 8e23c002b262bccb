#include "cli/model_choice.h"

#include "base/file.h"

namespace holdfast::cli {
namespace {

constexpr const char* kPlaces[] = {"share/holdfast/nano", "model/nano/checkpoint"};

}  // namespace

base::StatusOr<ModelChoice> ChooseModel(const std::string& named, const std::string& program) {
  if (!named.empty()) return ModelChoice{.directory = named};
  for (std::string folder = base::ParentDirectory(program); folder != "/" && folder != ".";
       folder = base::ParentDirectory(folder)) {
    for (const char* place : kPlaces) {
      const std::string directory = folder + "/" + place;
      if (base::RealFileSystem().Stat(directory + "/config.json").ok()) return ModelChoice{directory, true};
    }
  }
  return base::NotFound("no model: name a checkpoint directory with --model DIR or HOLDFAST_MODEL");
}

std::string ShippedModelNotice(const ModelChoice& choice) {
  return "model: the small one that ships with Holdfast (" + choice.directory +
         "); it renames and finds. Name another with --model DIR";
}

}  // namespace holdfast::cli
