// comparison.test.cpp: known answers from tables, and the coverage of the intervals where each process has luck of its own.
#include "harness/comparison.hpp"

#include <gtest/gtest.h>
#include <cmath>
#include <functional>
#include <random>
#include <stdexcept>

namespace prnn {
namespace {

constexpr double kNormal975 = 1.959964;
// Student's t (Abramowitz and Stegun, table 26.10): quantiles 0.95 and 0.975.
constexpr double kT95Of2 = 2.919986, kT975Of2 = 4.302653;
constexpr double kTable = 1e-6;  // relative: their digits

TEST(WhatARunSays, IsItsMedianAndTheWidthOfItsInterval) {
  const RunValue same = run_value(std::vector<double>{2, 2, 2}, 1);
  EXPECT_DOUBLE_EQ(same.value, std::log(2.0));
  EXPECT_EQ(same.standard_error, 0);
  const RunValue spread = run_value(std::vector<double>{10, 30, 20}, 1);  // the bootstrap interval of three values spans them
  EXPECT_DOUBLE_EQ(spread.value, std::log(20.0));
  EXPECT_NEAR(spread.standard_error, std::log(3.0) / (2 * kNormal975), kTable);
  EXPECT_EQ(run_value(std::vector<double>{1e-6}, 1).standard_error, 0);
  EXPECT_THROW(run_value(std::vector<double>{}, 1), std::invalid_argument);
  EXPECT_THROW(run_value(std::vector<double>{1, 0, 1}, 1), std::invalid_argument);
}

TEST(NoiseOfRuns, IsTheirStandardDeviationWithItsDegreesOfFreedom) {
  const RunNoise noise = run_noise(std::vector<RunValue>{{1, 0.3}, {3, 0.4}, {5, 0}});
  EXPECT_DOUBLE_EQ(noise.between, 2);
  EXPECT_DOUBLE_EQ(noise.within, std::sqrt(0.25 / 3));
  EXPECT_EQ(noise.degrees, 2);
  EXPECT_THROW(run_noise(std::vector<RunValue>{{1, 0}}), std::invalid_argument);
}

TEST(ComparedRuns, HaveAnIntervalOfStudentOverTheRuns) {
  const RunNoise noise{.between = 0.1, .within = 0.03, .degrees = 2};
  const Comparison c = compare_runs(std::vector<RunValue>{{1.5, 0.02}}, std::vector<RunValue>{{0.5, 0}, {0.7, 0.01}}, noise, 3);
  EXPECT_DOUBLE_EQ(c.estimate, 1.5 - 0.6);
  EXPECT_DOUBLE_EQ(c.standard_error, 0.1 * std::sqrt(1 + 1 / 2.0));  // nobody is noisier within than the calibration
  EXPECT_NEAR(c.high - c.estimate, kT975Of2 * c.standard_error, kTable);
  EXPECT_NEAR(c.estimate - c.low, kT975Of2 * c.standard_error, kTable);
  EXPECT_NEAR(c.detectable, (kT975Of2 + kT95Of2) * 0.1 * std::sqrt(1 / 3.0 + 1 / 2.0), kTable);
  EXPECT_EQ(c.degrees, 2);
}

TEST(ComparedRuns, TakeARunThatIsNoisierWithinAtItsWord) {
  const RunNoise noise{.between = 0.1, .within = 0.3};
  const Comparison c = compare_runs(std::vector<RunValue>{{0, 0.5}, {0, 0.3}}, std::vector<RunValue>{{0, 0.4}}, noise, 1);
  EXPECT_NEAR(c.standard_error * c.standard_error, (0.01 + 0.25 - 0.09 + 0.01) / 4 + 0.01 + 0.16 - 0.09, 8 * 0x1p-53);  // eight terms below 1
  EXPECT_NEAR(c.high, kNormal975 * c.standard_error, kTable);                                                           // noise that is known: the normal law
  EXPECT_NEAR(c.detectable, (kNormal975 + 1.644854) * 0.1 * std::sqrt(1 / 2.0 + 1), kTable);                            // there are more runs than are to come
  EXPECT_THROW(compare_runs({}, std::vector<RunValue>{{0, 0}}, noise, 1), std::invalid_argument);
  EXPECT_THROW(compare_runs(std::vector<RunValue>{{0, 0}}, {}, noise, 1), std::invalid_argument);
}

TEST(ComparedPairs, KnowTheirSpreadThemselves) {
  const std::vector<std::vector<double>> pairs = {{0.9, 1, 5}, {2, 4}, {5}};  // medians 1, 3, 5
  const Comparison c = compare_pairs(pairs, {.between = 99}, 12);
  EXPECT_DOUBLE_EQ(c.estimate, 3);
  EXPECT_DOUBLE_EQ(c.standard_error, 2 / std::sqrt(3));
  EXPECT_NEAR(c.high, 3 + kT975Of2 * c.standard_error, 10 * kTable);
  EXPECT_NEAR(c.detectable, (kT975Of2 + kT95Of2) * 2 / std::sqrt(12), 10 * kTable);
  EXPECT_EQ(c.degrees, 2);
  EXPECT_NEAR(compare_pairs(pairs, {.between = 99}, 1).detectable, (kT975Of2 + kT95Of2) * 2 / std::sqrt(3), 10 * kTable);
  EXPECT_THROW(compare_pairs({}, {}, 1), std::invalid_argument);
}

TEST(ComparedPairs, OfTooFewProcessesAddTheNoiseOfTwo) {
  const Comparison c = compare_pairs(std::vector<std::vector<double>>{{1, 3}, {5, 7}}, {.between = 0.5, .degrees = 2}, 4);
  EXPECT_DOUBLE_EQ(c.estimate, 4);
  EXPECT_DOUBLE_EQ(c.standard_error, std::sqrt(20.0 / 3 / 4 + 2 * 0.25 / 2));
  EXPECT_NEAR(c.low, 4 - kT975Of2 * c.standard_error, 10 * kTable);
  EXPECT_NEAR(c.detectable, (kT975Of2 + kT95Of2) * std::sqrt(2 * 0.25 / 4), kTable);
  EXPECT_DOUBLE_EQ(compare_pairs(std::vector<std::vector<double>>{{1}}, {.between = 0.5}, 1).standard_error, std::sqrt(0.5));  // one visit says nothing of its spread
}

TEST(PAboveABound, IsThatOfTheInterval) {
  const Comparison c = compare_runs(std::vector<RunValue>{{1, 0}}, std::vector<RunValue>{{0, 0}}, {.between = 0.2, .degrees = 2}, 1);
  constexpr double kRounding = 16 * 0x1p-53;  // a density below 0.4 times some roundings of a quantile of 4.3
  EXPECT_NEAR(p_above(c, c.low), 0.025, kRounding);
  EXPECT_NEAR(p_above(c, c.estimate), 0.5, kRounding);
  EXPECT_NEAR(p_above(c, c.high), 0.975, kRounding);
  const Comparison sure = compare_runs(std::vector<RunValue>{{1, 0}}, std::vector<RunValue>{{0, 0}}, {}, 1);  // no noise at all
  EXPECT_EQ(p_above(sure, 0.9), 0);
  EXPECT_EQ(p_above(sure, 1), 1);
  EXPECT_EQ(sure.low, 1);
}

// Benjamini and Hochberg (1995), section 3.2: 15 p values, rate 0.05: the four smallest are rejected.
TEST(FalseDiscoveryControl, RejectsWhatItsAuthorsDid) {
  const std::vector<double> p = {0.3240, 0.0001, 0.0278, 0.0298, 0.0344, 0.0004, 0.0459, 0.4262, 0.0095, 0.5719, 0.6528, 0.0019, 0.7590, 1.0, 0.0201};
  const std::vector<bool> is_rejected = rejected(p, 0.05);
  for (std::size_t i = 0; i < p.size(); ++i) EXPECT_EQ(is_rejected[i], p[i] <= 0.0095) << p[i];
}

TEST(FalseDiscoveryControl, GoesByTheLargestRankThatFits) {
  EXPECT_EQ(rejected(std::vector<double>{0.04, 0.05, 0.03}, 0.05), (std::vector<bool>{true, true, true}));  // 0.03 alone is above 0.05 / 3
  EXPECT_EQ(rejected(std::vector<double>{0.04, 0.06, 0.03}, 0.05), (std::vector<bool>{false, false, false}));
  EXPECT_EQ(rejected(std::vector<double>{0.01, 0.9}, 0.02), (std::vector<bool>{true, false}));
  EXPECT_EQ(rejected(std::vector<double>{0.011, 0.9}, 0.02), (std::vector<bool>{false, false}));
  EXPECT_TRUE(rejected({}, 0.05).empty());
}

/// How often 95 % intervals of a true 0 miss it: within 4 standard deviations of 5 %.
void expect_coverage(const std::function<Comparison(std::mt19937_64&)>& compare) {
  constexpr int kTrials = 4000;
  std::mt19937_64 random(7);
  int misses = 0;
  for (int i = 0; i < kTrials; ++i) {
    const Comparison c = compare(random);
    misses += c.low > 0 || c.high < 0;
  }
  EXPECT_NEAR(misses, 0.05 * kTrials, 4 * std::sqrt(kTrials * 0.05 * 0.95));
}

TEST(ComparedRuns, CoverTheTruthWithFewCalibrationRuns) {
  std::normal_distribution<double> luck(0, 0.02);
  expect_coverage([&](std::mt19937_64& random) {
    std::vector<RunValue> baseline(4);
    for (RunValue& run : baseline) run.value = luck(random);
    return compare_runs(std::vector<RunValue>{{luck(random), 0}}, baseline, run_noise(baseline), 1);
  });
}

// A run's own samples know its median, 1 % or 3 %, and nothing of its luck, 2 %: the candidate is noisier within than the calibration.
TEST(ComparedRuns, CoverTheTruthOfANoisierCandidate) {
  std::normal_distribution<double> luck(0, 0.02), within(0, 0.01), noisier(0, 0.03);
  expect_coverage([&](std::mt19937_64& random) {
    std::vector<RunValue> baseline(30);
    for (RunValue& run : baseline) run = {luck(random) + within(random), 0.01};
    return compare_runs(std::vector<RunValue>{{luck(random) + noisier(random), 0.03}}, baseline, run_noise(baseline), 1);
  });
}

TEST(ComparedPairs, CoverTheTruthWhereProcessesHaveLuckAndTheMachineDrifts) {
  std::normal_distribution<double> luck(0, 0.02), visit(0, 0.01), drift(0, 0.1);
  expect_coverage([&](std::mt19937_64& random) {
    std::vector<std::vector<double>> pairs(5);
    double now = 0;
    for (std::vector<double>& pair : pairs) {
      const double mine = luck(random), theirs = luck(random);
      for (int k = 0; k < 2; ++k) {
        now += drift(random);  // of both: it cancels
        pair.push_back((now + mine + visit(random)) - (now + theirs + visit(random)));
      }
    }
    return compare_pairs(pairs, {}, 5);
  });
}

}  // namespace
}  // namespace prnn
