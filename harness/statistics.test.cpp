// statistics.test.cpp: known answers, and the coverage of the intervals on distributions whose median is known.
#include "harness/statistics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace prnn {
namespace {

using Samples = std::vector<double>;

TEST(CentreAndSpread, MatchHandComputedValues) {
  const Samples odd = {9, 1, 4}, even = {8, 1, 2, 4}, skewed = {1, 2, 3, 4, 100};
  EXPECT_EQ(median(odd), 4);
  EXPECT_EQ(median(even), 3);
  EXPECT_EQ(mean(skewed), 22);
  EXPECT_EQ(median(skewed), 3);
  EXPECT_EQ(mad(skewed), 1);  // |x - 3| = 2 1 0 1 97
  EXPECT_EQ(mad(even), 1.5);  // |x - 3| = 5 2 1 1
  EXPECT_EQ(minimum(even), 1);
  EXPECT_EQ(median(Samples{7}), 7);
  EXPECT_EQ(mad(Samples{7}), 0);
}

TEST(CentreAndSpread, RefuseAnEmptySample) {
  const Samples none, some = {1};
  EXPECT_THROW(median(none), std::invalid_argument);
  EXPECT_THROW(mad(none), std::invalid_argument);
  EXPECT_THROW(mean(none), std::invalid_argument);
  EXPECT_THROW(minimum(none), std::invalid_argument);
  EXPECT_THROW(median_interval(none), std::invalid_argument);
  EXPECT_THROW(median_ratio(none, some), std::invalid_argument);
  EXPECT_THROW(median_ratio(some, none), std::invalid_argument);
}

TEST(RandomNumbers, AreFixedByTheStandardAndReachEveryValue) {
  Random random(5489);  // the default seed, whose 10000th value the standard states (9981545732273789042)
  for (int i = 0; i < 9999; ++i) random.below(2);
  EXPECT_EQ(random.below(1u << 31), 9981545732273789042u >> 33);
  int hits[5] = {};
  for (int i = 0; i < 5000; ++i) ++hits[random.below(5)];
  for (const int n : hits) EXPECT_NEAR(n, 1000, 5 * std::sqrt(5000 * 0.2 * 0.8));
}

TEST(RandomNumbers, ShuffleIsAPermutationThatDependsOnTheSeedAlone) {
  std::vector<int> a(20), b, c;
  for (int i = 0; i < 20; ++i) a[static_cast<std::size_t>(i)] = i;
  b = c = a;
  Random(3).shuffle(b), Random(3).shuffle(c);
  EXPECT_EQ(b, c);
  EXPECT_NE(a, b);
  Random(4).shuffle(c);
  EXPECT_NE(b, c);
  std::sort(b.begin(), b.end());
  EXPECT_EQ(a, b);
  // Every order of three is as likely as any other.
  Random random(11);
  std::vector<int> orders(27);
  for (int i = 0; i < 6000; ++i) {
    std::vector<int> p = {0, 1, 2};
    random.shuffle(p);
    ++orders[static_cast<std::size_t>(9 * p[0] + 3 * p[1] + p[2])];
  }
  for (const int n : orders) EXPECT_TRUE(n == 0 || std::abs(n - 1000) < 5 * std::sqrt(6000 / 6.0 * 5 / 6));
  EXPECT_EQ(std::count(orders.begin(), orders.end(), 0), 21);
}

TEST(HashOfAText, IsFnv1a) {
  EXPECT_EQ(hash_text(""), 0xcbf29ce484222325u);
  EXPECT_EQ(hash_text("a"), 0xaf63dc4c8601ec8cu);  // published test vectors
  EXPECT_EQ(hash_text("foobar"), 0x85944171f73967e8u);
}

TEST(MedianInterval, CollapsesForEqualSamplesAndContainsTheMedian) {
  const Interval same = median_interval(Samples{2, 2, 2, 2});
  EXPECT_EQ(same.low, 2);
  EXPECT_EQ(same.high, 2);
  const Samples x = {5, 1, 9, 3, 7, 2, 8};
  const Interval i = median_interval(x, 4), again = median_interval(x, 4);
  EXPECT_LE(i.low, 5);
  EXPECT_GE(i.high, 5);
  EXPECT_LT(i.low, i.high);
  EXPECT_EQ(i.low, again.low);
  EXPECT_EQ(i.high, again.high);
}

// The bootstrap distribution of the median of three distinct values is known: P(median = x_1) = P(x_3) = 7/27, P(x_2) = 13/27. Its 2.5 % quantile is x_1.
TEST(MedianInterval, OfThreeValuesSpansThem) {
  const Interval i = median_interval(Samples{10, 30, 20});
  EXPECT_EQ(i.low, 10);
  EXPECT_EQ(i.high, 30);
}

// Of five values, P(median of a resample = x_1) = P(Binomial(5, 1/5) >= 3) = 5.8 % > 2.5 %; of seven, P(Binomial(7, 1/7) >= 4) = 1.0 % < 2.5 %, so the interval starts at x_2.
TEST(MedianInterval, TakesTheTwoAndAHalfPercentTails) {
  EXPECT_EQ(median_interval(Samples{1, 2, 3, 4, 5}).low, 1);
  EXPECT_EQ(median_interval(Samples{1, 2, 3, 4, 5}).high, 5);
  EXPECT_EQ(median_interval(Samples{1, 2, 3, 4, 5, 6, 7}).low, 2);
  EXPECT_EQ(median_interval(Samples{1, 2, 3, 4, 5, 6, 7}).high, 6);
}

// Five low values of seventeen: P(median of a resample is low) = P(Binomial(17, 5/17) >= 9) = 3.6 %, between 2.5 % and 5 %.
TEST(MedianInterval, HasTailsOfTwoAndAHalfPercentNotFive) {
  Samples low(17, 1.0), high(17, 0.0);
  for (std::size_t i = 0; i < 5; ++i) low[i] = 0, high[i] = 1;
  EXPECT_EQ(median_interval(low).low, 0);
  EXPECT_EQ(median_interval(high).high, 1);
}

// Of six values with one 1, a resample has three of it with 5.4 % and more with 0.9 %: the upper end is the mean of the two middle values, 0 and 1.
TEST(MedianInterval, AveragesTheMiddleTwoOfAnEvenResample) {
  EXPECT_EQ(median_interval(Samples{0, 0, 0, 0, 0, 1}).high, 0.5);
  EXPECT_EQ(median_interval(Samples{0, 1, 1, 1, 1, 1}).low, 0.5);
}

// An even count averages its two middle values: of two values the median of a resample is x_1, the mean, x_2 with 1/4, 1/2, 1/4.
TEST(MedianInterval, OfTwoValuesSpansThem) {
  const Interval i = median_interval(Samples{1, 2});
  EXPECT_EQ(i.low, 1);
  EXPECT_EQ(i.high, 2);
}

/// Exponential with median 1: skewed, as timings are.
Samples skewed(Random& random, int n) {
  Samples samples;
  for (int i = 0; i < n; ++i) samples.push_back(-std::log2((static_cast<double>(random.below(1u << 30)) + 0.5) / (1u << 30)));
  return samples;
}

// 400 intervals of nominal 95 %: the count that covers has a standard deviation of sqrt(400 * 0.95 * 0.05) = 4.4; the percentile bootstrap itself may be off by 2 % at n = 40.
constexpr int kTrials = 400;
const double kSlack = 4 * std::sqrt(kTrials * 0.95 * 0.05) + 0.02 * kTrials;

TEST(MedianInterval, CoversTheTrueMedianAsOftenAsItSays) {
  Random random(20);
  int covered = 0;
  for (int t = 0; t < kTrials; ++t) {
    const Interval i = median_interval(skewed(random, 40), static_cast<std::uint64_t>(t));
    covered += i.low <= 1 && 1 <= i.high;
  }
  EXPECT_NEAR(covered, 0.95 * kTrials, kSlack);
}

TEST(MedianRatio, IsNumeratorOverDenominatorAndInvertsWithThem) {
  const Samples slow = {8, 9, 7, 8, 8.5}, fast = {2, 2.1, 1.9, 2, 2.2};
  const Ratio r = median_ratio(slow, fast), inverse = median_ratio(fast, slow);
  EXPECT_EQ(r.ratio, 4);
  EXPECT_EQ(inverse.ratio, 0.25);
  EXPECT_LT(r.ci95_low, 4);
  EXPECT_GT(r.ci95_high, 4);
  EXPECT_GE(r.ci95_low, 7 / 2.2);
  EXPECT_LE(r.ci95_high, 9 / 1.9);
}

TEST(MedianRatio, TakesSidesOfDifferentLengthAndUsesMediansNotMeans) {
  const Ratio r = median_ratio(Samples{6, 6, 6, 6, 6, 6, 6000}, Samples{2, 2, 2});
  EXPECT_EQ(r.ratio, 3);
  EXPECT_EQ(r.ci95_low, 3);
  EXPECT_EQ(r.ci95_high, 3);
}

TEST(MedianRatio, CoversTheTrueRatioAsOftenAsItSays) {
  Random random(21);
  int covered = 0;
  for (int t = 0; t < kTrials; ++t) {
    Samples baseline = skewed(random, 50), mine = skewed(random, 30);
    for (double& x : baseline) x = 3 * (1 + 0.1 * x);
    for (double& x : mine) x = 1 + 0.1 * x;
    const Ratio r = median_ratio(baseline, mine, static_cast<std::uint64_t>(t));
    covered += r.ci95_low <= 3 && 3 <= r.ci95_high;
  }
  EXPECT_NEAR(covered, 0.95 * kTrials, kSlack);
}

// Common drift leaves the interval too wide, never too narrow: the reason for resampling the sides independently.
TEST(MedianRatio, StaysConservativeUnderDriftThatBothSidesShare) {
  Random random(22);
  int covered = 0;
  for (int t = 0; t < kTrials; ++t) {
    const Samples drift = skewed(random, 30);
    Samples baseline, mine;
    for (const double d : drift) baseline.push_back(2 * d), mine.push_back(d);
    const Ratio r = median_ratio(baseline, mine, static_cast<std::uint64_t>(t));
    covered += r.ci95_low <= 2 && 2 <= r.ci95_high;
  }
  EXPECT_EQ(covered, kTrials);
}

TEST(RelativeHalfWidth, TakesTheBinomialRanks) {
  Samples x;
  for (int i = 1; i <= 5; ++i) x.push_back(i);
  EXPECT_TRUE(std::isinf(relative_half_width(x)));
  x.push_back(6);  // P(Binomial(6, 1/2) < 1) = 1/64: the whole sample is a 97 % interval
  EXPECT_DOUBLE_EQ(relative_half_width(x), 0.5 * (6 - 1) / 3.5);
  for (int i = 7; i <= 100; ++i) x.push_back(i);  // n = 100: ranks 40 and 61, the textbook's
  EXPECT_DOUBLE_EQ(relative_half_width(x), 0.5 * (61 - 40) / 50.5);
}

TEST(RelativeHalfWidth, AgreesWithTheBootstrap) {
  Random random(23);
  Samples x;
  for (const double s : skewed(random, 200)) x.push_back(10 + s);
  std::sort(x.begin(), x.end());
  const Interval i = median_interval(x);
  EXPECT_NEAR(relative_half_width(x) / (0.5 * (i.high - i.low) / median(x)), 1, 0.25);
}

TEST(Plateau, NeedsTwoWindowsAndIgnoresAnIntervalThatStillShrinks) {
  Samples shrinking;
  for (int n = 20; n < 150; ++n) shrinking.push_back(1 / std::sqrt(n));
  EXPECT_FALSE(plateaued(shrinking));
  const Samples flat(2 * kPlateauWindow, 0.04);
  EXPECT_TRUE(plateaued(flat));
  EXPECT_FALSE(plateaued(std::span(flat).first(2 * kPlateauWindow - 1)));
}

TEST(Plateau, LooksAtTheLastTwoWindowsOnly) {
  Samples x(100, 1.0);
  x.insert(x.end(), kPlateauWindow, 0.5);
  EXPECT_FALSE(plateaued(x));  // halved within the last window
  x.insert(x.end(), kPlateauWindow, 0.5);
  EXPECT_TRUE(plateaued(x));
  x.insert(x.end(), kPlateauWindow, 0.6);
  EXPECT_TRUE(plateaued(x));  // worse counts as no longer shrinking
}

}  // namespace
}  // namespace prnn
