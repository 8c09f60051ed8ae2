// comparison.cpp: see comparison.hpp.
#include "harness/comparison.hpp"

#include <algorithm>
#include <boost/math/distributions/fisher_f.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "harness/statistics.hpp"
#include "kernels/fault.hpp"

namespace prnn {
namespace {

constexpr double kNormal975 = 1.959963984540054;  // quantile
constexpr double kNoisier = 0.01;                 // level of the test that pairs are noisier than the calibration
constexpr std::size_t kFewestTrimmed = 10;        // below, trimming costs more degrees of freedom than a disturbed process does harm
constexpr double kTrimmedCost = 1.07;             // standard error of a trimmed mean over a mean's, of a normal law; of heavier tails it is below 1

double student_quantile(double degrees, double p) { return boost::math::quantile(boost::math::students_t(degrees), p); }

double variance(std::span<const double> values) {
  const double centre = mean(values);
  double sum = 0;
  for (const double x : values) sum += (x - centre) * (x - centre);
  return sum / static_cast<double>(values.size() - 1);
}

struct Interval95 {
  double estimate, standard_error, degrees;
};
/// most_precise, most_degrees: the standard error once all runs are there.
Comparison interval(const Interval95& now, double most_precise, double most_degrees, double miss) {
  const double half = student_quantile(now.degrees, 0.975) * now.standard_error;
  return {.estimate = now.estimate,
          .low = now.estimate - half,
          .high = now.estimate + half,
          .standard_error = now.standard_error,
          .degrees = now.degrees,
          .detectable = (student_quantile(most_degrees, 0.975) + student_quantile(most_degrees, 1 - miss)) * most_precise};
}

std::size_t trimmed_off(std::size_t count) { return count < kFewestTrimmed ? 0 : count / 5; }
double degrees_of(std::size_t count) { return static_cast<double>(count - 2 * trimmed_off(count) - 1); }
/// Standard error of a trimmed mean of so many values over the standard deviation of one.
double shrinking(std::size_t count) { return (trimmed_off(count) > 0 ? kTrimmedCost : 1) / std::sqrt(static_cast<double>(count)); }

/// The trimmed mean, and its standard error by the winsorised variance; count >= 2.
Interval95 trimmed_mean(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t count = values.size(), off = trimmed_off(count);
  const double estimate = mean(std::span(values).subspan(off, count - 2 * off));
  for (std::size_t i = 0; i < off; ++i) values[i] = values[off], values[count - 1 - i] = values[count - 1 - off];
  const double n = static_cast<double>(count), kept = (n - 2 * static_cast<double>(off)) / n;
  return {estimate, std::sqrt(variance(values) / n) / kept, degrees_of(count)};
}

/// Of the median of a pair's visits, by those visits, as if it were their mean; 0 where one visit says nothing.
double standard_error_of(const std::vector<double>& visits) { return visits.size() > 1 ? std::sqrt(variance(visits) / static_cast<double>(visits.size())) : 0; }

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

PairNoise pair_noise(std::span<const std::vector<double>> pairs) {
  if (pairs.empty()) throw std::invalid_argument("comparison: no pair has no noise");
  double squares = 0, squares_within = 0;
  for (const std::vector<double>& visits : pairs) {
    const double value = median(visits), within = standard_error_of(visits);
    squares += value * value;
    squares_within += within * within;
  }
  const auto count = static_cast<double>(pairs.size());
  return {.spread = std::sqrt(squares / count), .within = std::sqrt(squares_within / count), .degrees = count, .is_of_pairs = true};
}

PairNoise pair_noise(const RunNoise& runs) { return {.spread = std::sqrt(2) * runs.between, .within = 0, .degrees = runs.degrees}; }

Comparison compare_runs(std::span<const RunValue> candidate, std::span<const RunValue> baseline, const RunNoise& noise, std::size_t most_runs, double miss) {
  const Side mine = side_of(candidate, noise), theirs = side_of(baseline, noise);
  const double most = static_cast<double>(std::max(most_runs, candidate.size())), runs = static_cast<double>(baseline.size());
  return interval({mine.value - theirs.value, std::sqrt(mine.variance + theirs.variance), noise.degrees}, noise.between * std::sqrt(1 / most + 1 / runs), noise.degrees, miss);
}

Comparison compare_pairs(std::span<const std::vector<double>> pairs, const PairNoise& noise, std::size_t most_pairs, double miss) {
  if (pairs.empty()) throw std::invalid_argument("comparison: no pair");
  const std::size_t count = pairs.size(), most = std::max(count, most_pairs);
  std::vector<double> medians;
  for (const std::vector<double>& visits : pairs) medians.push_back(median(visits));
  if (count < kFewestRuns) {
    double variance = noise.spread * noise.spread / static_cast<double>(count);
    for (const std::vector<double>& visits : pairs) {
      const double within = standard_error_of(visits);
      variance += std::max(0.0, within * within - noise.within * noise.within) / static_cast<double>(count * count);
    }
    return interval({mean(medians), std::sqrt(variance), noise.degrees}, noise.spread * shrinking(most), noise.degrees, miss);
  }
  const Interval95 own = trimmed_mean(medians);
  const double own_spread = own.standard_error / shrinking(count), ratio = own_spread / noise.spread;
  const bool is_alone = !noise.is_of_pairs || !(ratio * ratio < boost::math::quantile(boost::math::complement(boost::math::fisher_f(own.degrees, noise.degrees), kNoisier)));
  if (is_alone) return interval(own, own_spread * shrinking(most), degrees_of(most), miss);
  const double degrees = noise.degrees + own.degrees;
  const double spread = std::sqrt((noise.degrees * noise.spread * noise.spread + own.degrees * own_spread * own_spread) / degrees);
  return interval({own.estimate, spread * shrinking(count), degrees}, spread * shrinking(most), degrees, miss);
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
