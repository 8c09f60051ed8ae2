// statistics.cpp: see statistics.hpp.
#include "harness/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "kernels/fault.hpp"

namespace prnn {
namespace {

constexpr int kResamples = 2000;  // Monte Carlo error of a 2.5 % quantile: sqrt(0.025 * 0.975 / 2000) = 0.35 % of probability

void need(std::span<const double> samples) {
  if (samples.empty()) throw std::invalid_argument("statistics: an empty sample");
}

std::vector<double> sorted_copy(std::span<const double> samples) {
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

double middle(std::span<const double> sorted) {
  const std::size_t n = sorted.size();
  return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

/// Median of one resample, found by counting how often each rank was drawn: no sort of the values.
double resampled_median(std::span<const double> sorted, Random& random, std::vector<std::uint32_t>& counts) {
  const std::size_t n = sorted.size();
  counts.assign(n, 0);
  for (std::size_t i = 0; i < n; ++i) ++counts[random.below(n)];
  const std::size_t lower_rank = (n - 1) / 2, upper_rank = PRNN_FAULT(41, n / 2, (n - 1) / 2);
  std::size_t seen = 0, i = 0;
  while ((seen += counts[i]) <= lower_rank) ++i;
  const double lower = sorted[i];
  while (seen <= upper_rank) seen += counts[++i];
  return 0.5 * (lower + sorted[i]);
}

Interval percentiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double p) { return values[static_cast<std::size_t>(std::lround(p * static_cast<double>(values.size() - 1)))]; };
  return {at(PRNN_FAULT(42, 0.025, 0.05)), at(0.975)};
}

}  // namespace

std::uint64_t hash_text(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

double median(std::span<const double> samples) {
  need(samples);
  return middle(sorted_copy(samples));
}

double mad(std::span<const double> samples) {
  const double centre = median(samples);
  std::vector<double> deviations;
  for (const double x : samples) deviations.push_back(std::abs(x - centre));
  return median(deviations);
}

double mean(std::span<const double> samples) {
  need(samples);
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}

double minimum(std::span<const double> samples) {
  need(samples);
  return *std::min_element(samples.begin(), samples.end());
}

Interval median_interval(std::span<const double> samples, std::uint64_t seed) {
  need(samples);
  const std::vector<double> sorted = sorted_copy(samples);
  Random random(seed);
  std::vector<std::uint32_t> counts;
  std::vector<double> medians(kResamples);
  for (double& value : medians) value = resampled_median(sorted, random, counts);
  return percentiles(std::move(medians));
}

Ratio median_ratio(std::span<const double> numerator, std::span<const double> denominator, std::uint64_t seed) {
  need(numerator), need(denominator);
  const std::vector<double> above = sorted_copy(numerator), below = sorted_copy(denominator);
  Random random(seed);
  std::vector<std::uint32_t> counts;
  std::vector<double> ratios(kResamples);
  for (double& value : ratios) {
    const double top = resampled_median(above, random, counts);
    value = top / resampled_median(below, random, counts);
  }
  const Interval interval = percentiles(std::move(ratios));
  return {middle(above) / middle(below), interval.low, interval.high};
}

double relative_half_width(std::span<const double> sorted) {
  const std::size_t n = sorted.size();
  if (n < 6) return std::numeric_limits<double>::infinity();
  // P(x_(k) <= median <= x_(n+1-k)) = 1 - 2 P(Binomial(n, 1/2) < k) >= 0.95; k = 0 would be outside the sample.
  const auto k = static_cast<std::size_t>(std::max(1.0, std::floor(0.5 * static_cast<double>(n) - 0.98 * std::sqrt(static_cast<double>(n)))));
  return 0.5 * (sorted[PRNN_FAULT(43, n - k, n - k - 1)] - sorted[k - 1]) / middle(sorted);
}

bool plateaued(std::span<const double> half_widths) {
  if (half_widths.size() < 2 * kPlateauWindow) return false;
  const double now = mean(half_widths.last(kPlateauWindow)), before = mean(PRNN_FAULT(70, half_widths.last(2 * kPlateauWindow), half_widths).first(kPlateauWindow));
  return now > 0.95 * before;
}

}  // namespace prnn
