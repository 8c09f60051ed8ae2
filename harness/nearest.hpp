// nearest.hpp: the known name that a mistyped one was meant to be.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace prnn {

/// Insertions, deletions, substitutions and swaps of neighbours that turn a into b (optimal string alignment).
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) next[j] = std::min(next[j], before[j - 2] + 1);
    }
    before = std::exchange(row, next);
  }
  return row[b.size()];
}

/// The nearest of known to name, at most a third of its letters (and at least one, two from four letters on) away; empty: none is near.
inline std::string nearest(std::string_view name, const std::vector<std::string>& known) {
  std::size_t best = std::max(name.size() / 3, std::size_t{name.size() >= 4 ? 2u : 1u}) + 1;
  std::string found;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best && distance < name.size()) {
      best = distance;
      found = candidate;
    }
  }
  return found;
}

/// "; did you mean 'hidden'?", or "; known: a, b, c" where nothing is near.
inline std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
  if (const std::string near = nearest(name, known); !near.empty()) return "; did you mean '" + near + "'?";
  std::string text = "; known:";
  for (const std::string& candidate : known) text += (&candidate == &known.front() ? " " : ", ") + candidate;
  return text;
}

}  // namespace prnn
