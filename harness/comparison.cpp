// comparison.cpp: see comparison.hpp.
#include "harness/comparison.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "harness/statistics.hpp"
#include "kernels/fault.hpp"

namespace prnn {
namespace {

constexpr double kNormal975 = 1.959963984540054;  // quantile

double student_quantile(double degrees, double p) { return boost::math::quantile(boost::math::students_t(degrees), p); }

double variance(std::span<const double> values) {
  const double centre = mean(values);
  double sum = 0;
  for (const double x : values) sum += (x - centre) * (x - centre);
  return sum / static_cast<double>(values.size() - 1);
}

Comparison interval(double estimate, double standard_error, double degrees, double most_precise) {
  const double t975 = student_quantile(degrees, 0.975), half = t975 * standard_error;
  return {.estimate = estimate,
          .low = estimate - half,
          .high = estimate + half,
          .standard_error = standard_error,
          .degrees = degrees,
          .detectable = (t975 + student_quantile(degrees, 0.95)) * most_precise};
}

struct Side {
  double value = 0, variance = 0;
};
Side side_of(std::span<const RunValue> runs, const RunNoise& noise) {
  if (runs.empty()) throw std::invalid_argument("comparison: a side without a run");
  const auto count = static_cast<double>(runs.size());
  Side side;
  for (const RunValue& run : runs) {
    const double own = std::max(0.0, run.standard_error * run.standard_error - noise.within * noise.within);
    side.value += run.value / count;
    side.variance += (PRNN_FAULT(71, noise.between * noise.between, 0.0) + own) / (count * count);
  }
  return side;
}

}  // namespace

RunValue run_value(std::span<const double> samples, std::uint64_t seed) {
  const Interval ci95 = median_interval(samples, seed);
  if (!(minimum(samples) > 0)) throw std::invalid_argument("comparison: a sample that is not above 0");
  return {std::log(median(samples)), (std::log(ci95.high) - std::log(ci95.low)) / (2 * kNormal975)};
}

RunNoise run_noise(std::span<const RunValue> runs) {
  if (runs.size() < 2) throw std::invalid_argument("comparison: one run has no noise");
  std::vector<double> values;
  double squares = 0;
  for (const RunValue& run : runs) {
    values.push_back(run.value);
    squares += run.standard_error * run.standard_error;
  }
  return {std::sqrt(variance(values)), std::sqrt(squares / static_cast<double>(runs.size())), static_cast<double>(runs.size() - 1)};
}

Comparison compare_runs(std::span<const RunValue> candidate, std::span<const RunValue> baseline, const RunNoise& noise, std::size_t most_runs) {
  const Side mine = side_of(candidate, noise), theirs = side_of(baseline, noise);
  const double most = static_cast<double>(std::max(most_runs, candidate.size())), runs = static_cast<double>(baseline.size());
  return interval(mine.value - theirs.value, std::sqrt(mine.variance + theirs.variance), noise.degrees, noise.between * std::sqrt(1 / most + 1 / runs));
}

Comparison compare_pairs(std::span<const std::vector<double>> pairs, const RunNoise& noise, std::size_t most_pairs) {
  if (pairs.empty()) throw std::invalid_argument("comparison: no pair");
  std::vector<double> medians, visits;
  for (const std::vector<double>& pair : pairs) {
    medians.push_back(median(pair));
    visits.insert(visits.end(), pair.begin(), pair.end());
  }
  const auto count = static_cast<double>(pairs.size()), most = std::max(count, static_cast<double>(most_pairs));
  if (pairs.size() >= kFewestRuns) {
    const double spread = std::sqrt(variance(medians));
    return interval(mean(medians), spread / std::sqrt(count), count - 1, spread / std::sqrt(most));
  }
  const double of_visits = visits.size() > 1 ? variance(visits) / static_cast<double>(visits.size()) : 0, of_processes = 2 * noise.between * noise.between;
  return interval(mean(medians), std::sqrt(of_visits + of_processes / count), noise.degrees, std::sqrt(of_processes / most));
}

double p_above(const Comparison& c, double bound) {
  if (c.standard_error == 0) return c.estimate > bound ? 0 : 1;
  return boost::math::cdf(boost::math::complement(boost::math::students_t(c.degrees), (c.estimate - bound) / c.standard_error));
}

std::vector<bool> rejected(std::span<const double> p, double rate) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  const auto count = static_cast<double>(p.size());
  std::size_t largest = 0;
  for (std::size_t rank = 1; rank <= p.size(); ++rank) {
    if (p[order[rank - 1]] <= rate * PRNN_FAULT(72, static_cast<double>(rank), count) / count) largest = rank;
  }
  std::vector<bool> is_rejected(p.size(), false);
  for (std::size_t rank = 0; rank < largest; ++rank) is_rejected[order[rank]] = true;
  return is_rejected;
}

}  // namespace prnn
