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
constexpr double kT95Of2 = 2.919986, kT975Of2 = 4.302653, kT95Of8 = 1.859548, kT975Of8 = 2.306004;
constexpr double kT95Of10 = 1.812461, kT975Of10 = 2.228139, kT95Of11 = 1.795885, kT975Of11 = 2.200985;
constexpr double kTable = 1e-6;  // relative: their digits
constexpr double kMiss = 0.05;

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
  const Comparison c = compare_runs(std::vector<RunValue>{{1.5, 0.02}}, std::vector<RunValue>{{0.5, 0}, {0.7, 0.01}}, noise, 3, kMiss);
  EXPECT_DOUBLE_EQ(c.estimate, 1.5 - 0.6);
  EXPECT_DOUBLE_EQ(c.standard_error, 0.1 * std::sqrt(1 + 1 / 2.0));  // nobody is noisier within than the calibration
  EXPECT_NEAR(c.high - c.estimate, kT975Of2 * c.standard_error, kTable);
  EXPECT_NEAR(c.estimate - c.low, kT975Of2 * c.standard_error, kTable);
  EXPECT_NEAR(c.detectable, (kT975Of2 + kT95Of2) * 0.1 * std::sqrt(1 / 3.0 + 1 / 2.0), kTable);
  EXPECT_EQ(c.degrees, 2);
}

TEST(ComparedRuns, TakeARunThatIsNoisierWithinAtItsWord) {
  const RunNoise noise{.between = 0.1, .within = 0.3};
  const Comparison c = compare_runs(std::vector<RunValue>{{0, 0.5}, {0, 0.3}}, std::vector<RunValue>{{0, 0.4}}, noise, 1, kMiss);
  EXPECT_NEAR(c.standard_error * c.standard_error, (0.01 + 0.25 - 0.09 + 0.01) / 4 + 0.01 + 0.16 - 0.09, 8 * 0x1p-53);  // eight terms below 1
  EXPECT_NEAR(c.high, kNormal975 * c.standard_error, kTable);                                                           // noise that is known: the normal law
  EXPECT_NEAR(c.detectable, (kNormal975 + 1.644854) * 0.1 * std::sqrt(1 / 2.0 + 1), kTable);                            // there are more runs than are to come
  EXPECT_THROW(compare_runs({}, std::vector<RunValue>{{0, 0}}, noise, 1, kMiss), std::invalid_argument);
  EXPECT_THROW(compare_runs(std::vector<RunValue>{{0, 0}}, {}, noise, 1, kMiss), std::invalid_argument);
}

using Pairs = std::vector<std::vector<double>>;

TEST(NoiseOfPairs, IsWhatTheyAreOffZero) {
  const PairNoise noise = pair_noise(Pairs{{1, 5, 9}, {-1}, {3, 3}, {0, 2}});  // medians 5, -1, 3, 1; of their visits' standard errors squared: 16 / 3, 0, 0, 1
  EXPECT_DOUBLE_EQ(noise.spread, 3);
  EXPECT_DOUBLE_EQ(noise.within, std::sqrt((16.0 / 3 + 1) / 4));
  EXPECT_EQ(noise.degrees, 4);
  EXPECT_TRUE(noise.is_of_pairs);
  EXPECT_THROW(pair_noise(Pairs{}), std::invalid_argument);
  const PairNoise of_runs = pair_noise(RunNoise{.between = 3, .within = 9, .degrees = 7});
  EXPECT_DOUBLE_EQ(of_runs.spread, 3 * std::sqrt(2));
  EXPECT_EQ(of_runs.within, 0) << "visits are no samples of a run";
  EXPECT_EQ(of_runs.degrees, 7);
  EXPECT_FALSE(of_runs.is_of_pairs);
}

TEST(ComparedPairs, KnowTheirSpreadThemselves) {
  const Pairs pairs = {{0.9, 1, 5}, {2, 4}, {5}};  // medians 1, 3, 5
  const Comparison c = compare_pairs(pairs, {.spread = 99}, 9, kMiss);
  EXPECT_DOUBLE_EQ(c.estimate, 3);
  EXPECT_DOUBLE_EQ(c.standard_error, 2 / std::sqrt(3));
  EXPECT_NEAR(c.high, 3 + kT975Of2 * c.standard_error, 10 * kTable);
  EXPECT_NEAR(c.detectable, (kT975Of8 + kT95Of8) * 2 / std::sqrt(9), 10 * kTable);  // what nine pairs will know of their spread
  EXPECT_EQ(c.degrees, 2);
  EXPECT_NEAR(compare_pairs(pairs, {.spread = 99}, 1, kMiss).detectable, (kT975Of2 + kT95Of2) * 2 / std::sqrt(3), 10 * kTable);
  EXPECT_THROW(compare_pairs(Pairs{}, {}, 1, kMiss), std::invalid_argument);
}

TEST(ComparedPairs, PoolTheirSpreadWithThatOfPairsOfOneBuild) {
  const Pairs pairs = {{1}, {3}, {5}};
  const Comparison c = compare_pairs(pairs, {.spread = 1, .degrees = 8, .is_of_pairs = true}, 12, kMiss);
  EXPECT_EQ(c.degrees, 10);
  EXPECT_NEAR(c.standard_error, std::sqrt((8 * 1 + 2 * 4) / 10.0 / 3), kTable);
  EXPECT_NEAR(c.high, 3 + kT975Of10 * c.standard_error, 10 * kTable);
  EXPECT_NEAR(c.detectable, (kT975Of10 + kT95Of10) * std::sqrt(1.6 / 12) * 1.07, 10 * kTable);  // twelve are trimmed
}

// F(2, 8) is above 8.649 with 1 % (Abramowitz and Stegun, table 26.9): a spread of 2 against one of 0.680.
TEST(ComparedPairs, AreAloneWhereTheyAreNoisierThanThoseOfOneBuild) {
  const Pairs pairs = {{1}, {3}, {5}};
  const auto against = [&](double spread) { return compare_pairs(pairs, {.spread = spread, .degrees = 8, .is_of_pairs = true}, 3, kMiss); };
  EXPECT_EQ(against(2 / std::sqrt(8.64)).degrees, 10);
  EXPECT_EQ(against(2 / std::sqrt(8.66)).degrees, 2);
  EXPECT_DOUBLE_EQ(against(0.1).standard_error, 2 / std::sqrt(3));
  EXPECT_EQ(against(0).degrees, 2);
  EXPECT_EQ(compare_pairs(Pairs{{3}, {3}, {3}}, {.spread = 0, .degrees = 8, .is_of_pairs = true}, 3, kMiss).standard_error, 0);
}

TEST(ComparedPairs, FromTenOnAreTrimmedByAFifthAtEachEnd) {
  Pairs pairs;
  for (const double value : {9.0, 2.0, 8.0, 3.0, 1000.0, 4.0, 7.0, 5.0, 1.0, 6.0}) pairs.push_back({value});
  const Comparison c = compare_pairs(pairs, {}, 20, kMiss);
  EXPECT_DOUBLE_EQ(c.estimate, 5.5);                                     // of 3 to 8
  const double squares = 6 * 2.5 * 2.5 + 2 * 1.5 * 1.5 + 2 * 0.5 * 0.5;  // of 3 3 3 4 5 6 7 8 8 8
  EXPECT_NEAR(c.standard_error, std::sqrt(squares / 9 / 10) / 0.6, kTable);
  EXPECT_EQ(c.degrees, 5);
  EXPECT_NEAR(c.detectable, (kT975Of11 + kT95Of11) * c.standard_error / std::sqrt(2), 10 * kTable);
  pairs.pop_back();
  EXPECT_GT(compare_pairs(pairs, {}, 9, kMiss).estimate, 100) << "nine are not";
}

TEST(ComparedPairs, OfTooFewProcessesAddTheNoiseAndWhatTheirVisitsKnowLess) {
  const Pairs pairs = {{1, 3}, {5, 7}};  // each pair's visits say 1 of its standard error
  const Comparison c = compare_pairs(pairs, {.spread = 0.5, .degrees = 2}, 4, kMiss);
  EXPECT_DOUBLE_EQ(c.estimate, 4);
  EXPECT_DOUBLE_EQ(c.standard_error, std::sqrt(0.25 / 2 + 2 * 1.0 / 4));
  EXPECT_NEAR(c.low, 4 - kT975Of2 * c.standard_error, 10 * kTable);
  EXPECT_NEAR(c.detectable, (kT975Of2 + kT95Of2) * 0.5 / std::sqrt(4), kTable);
  EXPECT_DOUBLE_EQ(compare_pairs(pairs, {.spread = 0.5, .within = 0.6, .degrees = 2}, 4, kMiss).standard_error, std::sqrt(0.25 / 2 + 2 * (1 - 0.36) / 4));
  EXPECT_DOUBLE_EQ(compare_pairs(pairs, {.spread = 0.5, .within = 2, .degrees = 2}, 4, kMiss).standard_error, std::sqrt(0.25 / 2));
  EXPECT_DOUBLE_EQ(compare_pairs(Pairs{{1}}, {.spread = 0.5}, 1, kMiss).standard_error, 0.5);  // one visit says nothing of its spread
}

TEST(PAboveABound, IsThatOfTheInterval) {
  const Comparison c = compare_runs(std::vector<RunValue>{{1, 0}}, std::vector<RunValue>{{0, 0}}, {.between = 0.2, .degrees = 2}, 1, kMiss);
  constexpr double kRounding = 16 * 0x1p-53;  // a density below 0.4 times some roundings of a quantile of 4.3
  EXPECT_NEAR(p_above(c, c.low), 0.025, kRounding);
  EXPECT_NEAR(p_above(c, c.estimate), 0.5, kRounding);
  EXPECT_NEAR(p_above(c, c.high), 0.975, kRounding);
  const Comparison sure = compare_runs(std::vector<RunValue>{{1, 0}}, std::vector<RunValue>{{0, 0}}, {}, 1, kMiss);  // no noise at all
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
    return compare_runs(std::vector<RunValue>{{luck(random), 0}}, baseline, run_noise(baseline), 1, kMiss);
  });
}

// A run's own samples know its median, 1 % or 3 %, and nothing of its luck, 2 %: the candidate is noisier within than the calibration.
TEST(ComparedRuns, CoverTheTruthOfANoisierCandidate) {
  std::normal_distribution<double> luck(0, 0.02), within(0, 0.01), noisier(0, 0.03);
  expect_coverage([&](std::mt19937_64& random) {
    std::vector<RunValue> baseline(30);
    for (RunValue& run : baseline) run = {luck(random) + within(random), 0.01};
    return compare_runs(std::vector<RunValue>{{luck(random) + noisier(random), 0.03}}, baseline, run_noise(baseline), 1, kMiss);
  });
}

TEST(ComparedPairs, CoverTheTruthTogetherWithFewOfOneBuild) {
  std::normal_distribution<double> luck(0, 0.02);
  const auto draw = [&](std::size_t count, std::mt19937_64& random) {
    Pairs pairs(count);
    for (std::vector<double>& pair : pairs) pair = {luck(random)};
    return pairs;
  };
  for (const std::size_t count : {1, 2, 4, 15}) {
    expect_coverage([&](std::mt19937_64& random) { return compare_pairs(draw(count, random), pair_noise(draw(10, random)), count, kMiss); });
  }
}

TEST(ComparedPairs, CoverTheTruthWhereProcessesHaveLuckAndTheMachineDrifts) {
  std::normal_distribution<double> luck(0, 0.02), visit(0, 0.01), drift(0, 0.1);
  for (const std::size_t count : {5, 15})
    expect_coverage([&](std::mt19937_64& random) {
      std::vector<std::vector<double>> pairs(count);
      double now = 0;
      for (std::vector<double>& pair : pairs) {
        const double mine = luck(random), theirs = luck(random);
        for (int k = 0; k < 2; ++k) {
          now += drift(random);  // of both: it cancels
          pair.push_back((now + mine + visit(random)) - (now + theirs + visit(random)));
        }
      }
      return compare_pairs(pairs, {}, 5, kMiss);
    });
}

}  // namespace
}  // namespace prnn
