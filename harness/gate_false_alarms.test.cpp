// gate_false_alarms.test.cpp: on simulated records: how often a gate cries wolf, and what it finds, under heavy tails, drift and clocks with two speeds.
#include <gtest/gtest.h>
#include <cmath>
#include <functional>
#include <random>

#include "harness/gate.hpp"
#include "harness/gate_test.hpp"

namespace prnn {
namespace {

using testing::in_session;
using testing::normal_noise;
using testing::runs_of;
using testing::Simulated;
using testing::simulated;
using testing::visited;

/// An upper bound that a binomial count exceeds with a probability of 1e-6.
int binomial_bound(int trials, double p) {
  double term = std::pow(1 - p, trials), sum = term;
  int count = 0;
  for (; sum < 1 - 1e-6 && count < trials; ++count) {
    term *= p / (1 - p) * (trials - count) / (count + 1);
    sum += term;
  }
  return count;
}

struct Outcomes {
  int gates_slower = 0, slower = 0, passed = 0, cases = 0;
};

/// Gates of one fresh run, `factor` slower, against `runs` A/A runs.
Outcomes simulate(const Simulated& law, int gates, int cases, int runs, double factor, const GatePolicy& policy) {
  std::mt19937_64 random(20261122);
  Outcomes outcomes;
  for (int g = 0; g < gates; ++g) {
    std::vector<RecordFile> baseline;
    for (int r = 0; r < runs; ++r) baseline.push_back(simulated(law, cases, 1, random));
    const GateVerdict gate = judge(runs_of({simulated(law, cases, factor, random)}), runs_of(std::move(baseline)), {}, nullptr, policy);
    outcomes.slower += static_cast<int>(gate.count(Finding::slower));
    outcomes.passed += static_cast<int>(gate.count(Finding::pass) + gate.count(Finding::unenforceable));
    outcomes.gates_slower += gate.count(Finding::slower) > 0;
    outcomes.cases += cases;
  }
  return outcomes;
}

double spike(std::mt19937_64& random) {  // Cauchy: no mean, no variance
  return std::tan(3.141592653589793 * (std::uniform_real_distribution<double>(0, 1)(random) - 0.5));
}

struct Law {
  const char* name;
  Simulated simulated;
};

/// Luck of a process: about 0.5 %; its samples: 1 %, with tails.
std::vector<Law> laws() {
  const auto luck = normal_noise(0.005, 0, 1).luck;
  const auto lognormal = [](std::mt19937_64& random) { return 1 + 0.01 * std::lognormal_distribution<double>(0, 1.5)(random); };
  const auto cauchy = [](std::mt19937_64& random) { return 1 + 0.005 * std::abs(spike(random)); };
  return {{"normal", {luck, normal_noise(0, 0.01, 1).sample, 15}}, {"lognormal", {luck, lognormal, 15}}, {"Cauchy", {luck, cauchy, 15}}};
}

// The worst that is no regression: every case is slower by as much as is enforced. The rate of false alarms is then the policy's over gates, not over cases.
TEST(SimulatedGates, CryWolfNoMoreOftenThanThePolicySays) {
  GatePolicy policy;
  policy.margin = 0.2;
  policy.fdr = 0.1;
  constexpr int kGates = 150;
  const Outcomes of_runs = simulate(normal_noise(0.01, 0, 1), kGates, 10, 5, 1.2, policy);
  EXPECT_LE(of_runs.gates_slower, binomial_bound(kGates, policy.fdr));
  EXPECT_GE(of_runs.gates_slower, 1);  // it is no gate that never opens
  for (const Law& law : laws()) EXPECT_LE(simulate(law.simulated, 15, 4, 5, 1.2, policy).gates_slower, binomial_bound(15, policy.fdr)) << law.name;
}

TEST(SimulatedGates, OfEqualBuildsPassAndOfSlowOnesDoNot) {
  GatePolicy policy;
  policy.margin = 0.03;
  for (const Law& law : laws()) {
    const Outcomes same = simulate(law.simulated, 10, 4, 6, 1, policy), slow = simulate(law.simulated, 10, 4, 6, 1.1, policy);
    EXPECT_EQ(same.gates_slower, 0) << law.name;
    EXPECT_GE(same.passed, same.cases - binomial_bound(same.cases, 0.05)) << law.name;  // a margin that can be enforced lets 95 % pass
    EXPECT_GE(slow.slower, slow.cases - binomial_bound(slow.cases, 0.05)) << law.name;
    const Outcomes fast = simulate(law.simulated, 5, 4, 6, 0.9, policy);
    EXPECT_EQ(fast.passed, fast.cases) << law.name;
  }
}

// Samples of one process are not independent: 100 of them, 0.1 % each, say nothing of a luck of 2 %. Who counts samples takes nearly every second equal build for a slower one.
TEST(SimulatedGates, KnowThatAProcessHasLuckOfItsOwn) {
  GatePolicy policy;
  policy.margin = 0;
  EXPECT_LE(simulate(normal_noise(0.02, 0.001, 9), 20, 4, 5, 1, policy).gates_slower, binomial_bound(20, policy.fdr));
}

// A machine that slows down while it runs: what took turns is compared all the same, what did not has the drift in its noise.
TEST(SimulatedGates, StandDrift) {
  GatePolicy policy;
  policy.margin = 0.02;
  std::mt19937_64 random(3);
  std::normal_distribution<double> step(0, 0.05), noise(0, 0.002);
  const auto slower = [&](double factor) {
    int count = 0;
    for (int g = 0; g < 30; ++g) {
      std::vector<double> mine, theirs;
      double now = 0;
      for (int k = 0; k < 12; ++k) {
        now += step(random);
        theirs.push_back(std::exp(now + noise(random))), mine.push_back(factor * std::exp(now + noise(random)));
      }
      count += judge(runs_of({in_session("f", visited(mine), "s", 0)}), runs_of({in_session("b", visited(theirs), "s", 1)}), {}, nullptr, policy).finding() == Finding::slower;
    }
    return count;
  };
  EXPECT_EQ(slower(1), 0);
  EXPECT_GE(slower(1.03), 30 - binomial_bound(30, 0.05));
}

// A device whose clock is at one of two speeds, 16 % apart, for the whole of a process. Where five A/A runs were all fast, a slow one is a false alarm of time alone, and the cycles say so.
TEST(SimulatedGates, StandClocksOfTwoSpeeds) {
  std::mt19937_64 random(5);
  const auto run = [&](double factor, bool fast, bool seen) {
    RecordFile file = simulated(normal_noise(0.002, 0.005, 9), 1, factor * (fast ? 1 : 1980.0 / 1700), random);
    if (seen) file.rows[0].clock_mhz = fast ? 1980 : 1700;
    return file;
  };
  const auto finding_of = [&](double factor, bool seen) {
    std::vector<RecordFile> baseline;
    for (int r = 0; r < 5; ++r) baseline.push_back(run(1, true, seen));
    return judge(runs_of({run(factor, false, seen)}), runs_of(std::move(baseline)), {}, nullptr, GatePolicy{}).cases.at(0).finding;
  };
  for (int g = 0; g < 10; ++g) {
    EXPECT_EQ(finding_of(1, false), Finding::slower);
    EXPECT_EQ(finding_of(1, true), Finding::inconclusive);
    EXPECT_EQ(finding_of(1.1, true), Finding::slower);
  }
}

}  // namespace
}  // namespace prnn
