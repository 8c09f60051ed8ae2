// statistics.hpp: what is said about a handful of timing samples: centre, spread, intervals, and when to stop sampling. Pure functions; the same seed gives the same bits on every platform.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace prnn {

/// Integers in [0, n) and shuffles from mt19937_64, whose stream the standard fixes; the standard's distributions and std::shuffle differ between libraries.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(((engine_() >> 32) * static_cast<std::uint64_t>(n)) >> 32); }  // n < 2^32
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t left = items.size(); left > 1; --left) std::swap(items[left - 1], items[below(left)]);
  }

 private:
  std::mt19937_64 engine_;
};

/// FNV-1a: a seed from a name, so that every group has an order of its own that resuming and sharding do not change.
std::uint64_t hash_text(std::string_view text);

/// All throw std::invalid_argument on an empty sample.
double median(std::span<const double> samples);  // mean of the two middle values where the count is even
double mad(std::span<const double> samples);     // median absolute deviation from the median, unscaled
double mean(std::span<const double> samples);
double minimum(std::span<const double> samples);

struct Interval {
  double low = 0, high = 0;
};

/// 95 % percentile-bootstrap interval of the median.
Interval median_interval(std::span<const double> samples, std::uint64_t seed = 1);

struct Ratio {
  double ratio = 0, ci95_low = 0, ci95_high = 0;
};

/// median(numerator) / median(denominator) with a 95 % bootstrap interval; a speedup is median_ratio(baseline's, mine). The sides are resampled independently, not by round: the ratio is then
/// exactly that of the two medians in the record, uses every sample although one side stopped earlier, and serves rows of two records alike. Drift common to both sides correlates them
/// positively, var(log a - log b) = var a + var b - 2 cov, so leaving the covariance out errs on the wide side.
Ratio median_ratio(std::span<const double> numerator, std::span<const double> denominator, std::uint64_t seed = 1);

/// Half-width over median of the distribution-free 95 % interval of the median (order statistics at n/2 -+ 0.98 sqrt n), which the bootstrap approximates: cheap enough for every sample.
/// `sorted` ascending; infinite below 6 samples, where no such interval exists.
double relative_half_width(std::span<const double> sorted);

inline constexpr std::size_t kPlateauWindow = 16;
/// More samples no longer help: the mean half-width of the last 16 is above 95 % of the 16 before. Independent noise shrinks as 1/sqrt n and gets there at n ~ 170; drift and bursts much earlier.
bool plateaued(std::span<const double> half_widths);

}  // namespace prnn
