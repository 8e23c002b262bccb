#include "tools/text/nearest.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace holdfast::tools {
namespace {

constexpr size_t kNameBytesMax = 255;

std::string Folded(std::string_view name) {
  std::string folded;
  for (const char c : name) {
    if (c != '_' && c != '-') folded += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return folded;
}

std::string_view Stem(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos || dot == 0 ? name : name.substr(0, dot);
}

}  // namespace

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] =
          std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::string_view Nearest(std::string_view word, const std::vector<std::string>& names) {
  const std::string wanted = Folded(word.substr(0, kNameBytesMax));
  std::string_view best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  for (const std::string& name : names) {
    if (name.size() > kNameBytesMax) continue;
    const std::string folded = Folded(name);
    if (folded.empty() || wanted.empty()) continue;
    // "old" for "old_string", "file_path" for "path".
    const auto within = [](const std::string& part, const std::string& whole) {
      return part.size() >= 2 && (whole.starts_with(part) || whole.ends_with(part));
    };
    size_t distance = EditDistance(wanted, folded);
    if (within(wanted, folded) || within(folded, wanted)) distance = std::min<size_t>(distance, 1);
    const size_t distance_max = 1 + std::min(wanted.size(), folded.size()) / 4;
    if (distance <= distance_max && distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

std::vector<std::string> NearestFiles(std::string_view name, const std::vector<std::string>& names,
                                      size_t count) {
  const std::string wanted = Folded(name.substr(0, kNameBytesMax));
  std::vector<std::pair<size_t, std::string>> near;
  for (const std::string& candidate : names) {
    const std::string folded = Folded(candidate);
    const size_t distance_max = std::max<size_t>(1, std::min(wanted.size(), folded.size()) / 4);
    if (Folded(Stem(candidate)) == Folded(Stem(name))) {
      near.emplace_back(wanted == folded ? 0 : 1, candidate);
    } else if (std::max(wanted.size(), folded.size()) - std::min(wanted.size(), folded.size()) <=
               distance_max) {
      const size_t distance = EditDistance(wanted, folded);
      if (distance <= distance_max) near.emplace_back(distance, candidate);
    }
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> out;
  for (size_t i = 0; i < near.size() && i < count; ++i) out.push_back(std::move(near[i].second));
  return out;
}

}  // namespace holdfast::tools
