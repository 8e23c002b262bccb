// Nodes of a manifest from anywhere: nothing crashes or hangs, and what is taken for good is what its own
// bytes are made of again.
//
// The input is nodes, each after its length in two bytes. The last is the root; 32 bytes of 0xN0 in a node
// become the id of node N, so that the nodes name one another.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/coding.h"
#include "workspace/manifest.h"

namespace holdfast::workspace {
namespace {

constexpr size_t kNodesMax = 16;

void Run(std::string_view input) {
  std::map<BlobId, std::string> nodes;
  std::vector<BlobId> ids;
  while (input.size() >= 2 && ids.size() < kNodesMax) {
    const size_t size = static_cast<uint8_t>(input[0]) | static_cast<size_t>(static_cast<uint8_t>(input[1]))
                                                             << 8;
    std::string node(input.substr(2, size));
    input.remove_prefix(std::min(input.size(), size + 2));
    for (size_t n = 0; n < ids.size(); ++n) {
      const std::string mark(32, static_cast<char>(n << 4));
      for (size_t at = 0; (at = node.find(mark, at)) != node.npos; at += mark.size()) {
        node.replace(at, mark.size(), base::AsText(ids[n]));
      }
    }
    ids.push_back(base::Sha256Of(base::AsBytes(node)));
    nodes[ids.back()] = std::move(node);
  }
  if (ids.empty()) return;
  const NodeSource source = [&](const BlobId& id, size_t bytes_max) -> base::StatusOr<std::string> {
    const auto it = nodes.find(id);
    if (it == nodes.end() || it->second.size() > bytes_max) return base::NotFound("node");
    return it->second;
  };
  const ManifestLimits limits{.node_bytes_max = 1 << 16, .entries_max = 10'000, .path_bytes_max = 1 << 20};
  VisitBlobs(
      ids.back(), source, [budget = 10'000](const BlobId&) mutable { return --budget > 0; }, limits)
      .IgnoreError();
  const auto manifest = DecodeManifest(ids.back(), source, limits);
  if (!manifest.ok()) return;
  const auto again = IdOf(*manifest);
  HF_CHECK(again.ok());
  HF_CHECK(*again == ids.back());
}

}  // namespace
}  // namespace holdfast::workspace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::workspace::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
