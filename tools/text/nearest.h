// What somebody likely meant.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::tools {

// Insertions, deletions, replacements and swaps of neighbours that lead from one to the other. Costs the
// product of the lengths.
size_t EditDistance(std::string_view a, std::string_view b);

// The name among `names` that `word` was likely meant to be; empty when none is near.
std::string_view Nearest(std::string_view word, const std::vector<std::string>& names);

// Up to `count` file names that `name` may have been meant to be, the likeliest first: another letter case,
// another ending, a slip or two.
std::vector<std::string> NearestFiles(std::string_view name, const std::vector<std::string>& names,
                                      size_t count);

}  // namespace holdfast::tools
