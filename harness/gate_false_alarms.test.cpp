// gate_false_alarms.test.cpp: on simulated records: how often a gate cries wolf, and what it finds, under heavy tails, drift and clocks with two speeds.
#include <gtest/gtest.h>
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <utility>

#include "harness/gate.hpp"
#include "harness/gate_test.hpp"

namespace prnn {
namespace {

using testing::file_of;
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

// --- as harness/power_study.sh does it: sessions of two programs, calibrated by A/A sessions, run again where it is inconclusive ------------------

/// Luck of a process for a case, as a log: most are alike, some are of the other kind for as long as they live.
using Luck = std::function<double(std::mt19937_64&)>;

/// Both records of a session: two visits of each of two processes a side.
std::pair<RecordFile, RecordFile> session(const Luck& luck, int cases, double factor, std::mt19937_64& random) {
  constexpr int kProcesses = 2;
  static int number = 0;
  const std::string name = "s" + std::to_string(number++);
  std::normal_distribution<double> within(0, 0.001), step(0, 0.02);
  std::vector<CaseRecord> mine, theirs;
  double drift = 0;  // of the machine, which both share
  for (int i = 0; i < cases; ++i) {
    std::vector<double> medians[2];
    for (int process = 0; process < kProcesses; ++process) {
      const double lucks[2] = {luck(random) + std::log(factor), luck(random)};
      for (int visit = 0; visit < 2; ++visit) {
        drift += step(random);
        for (const int side : {0, 1}) medians[side].push_back(1e-4 * std::exp(drift + lucks[side] + within(random)));
      }
    }
    mine.push_back(visited(medians[0])), theirs.push_back(visited(medians[1]));
    mine.back().case_id = theirs.back().case_id = "case" + std::to_string(i);
  }
  std::pair<RecordFile, RecordFile> both{file_of(name, std::move(mine)), file_of(name + ".against", std::move(theirs))};
  both.first.head.interleaved_with = Interleaved{name, 0, "p", "c"}, both.second.head.interleaved_with = Interleaved{name, 1, "p", "c"};
  return both;
}

struct Study {
  int failed = 0, inconclusive = 0, found = 0, cases = 0;
};

Study study(const Luck& luck, int trials, double factor, const GatePolicy& policy = {}) {
  constexpr int kCases = 8, kCalibration = 10;
  std::mt19937_64 random(7);
  Study result;
  for (int t = 0; t < trials; ++t) {
    std::vector<RecordFile> calibration, partners, candidate;
    for (int i = 0; i < kCalibration; ++i) {
      auto [mine, theirs] = session(luck, kCases, 1, random);
      calibration.push_back(std::move(mine)), partners.push_back(std::move(theirs));
    }
    auto [first, beside] = session(luck, kCases, factor, random);
    candidate.push_back(std::move(first));
    const Runs runs = runs_of(std::move(calibration)), baseline = runs_of({std::move(beside)});
    GateVerdict gate = judge(runs_of(candidate), baseline, partners, &runs, policy);
    const auto worth_a_run = [&](const CaseVerdict& c) { return c.worth_a_run(policy.resample_runs); };
    while (std::any_of(gate.cases.begin(), gate.cases.end(), worth_a_run)) {
      auto [again, its_partner] = session(luck, kCases, factor, random);
      candidate.push_back(std::move(again)), partners.push_back(std::move(its_partner));
      gate = judge(runs_of(candidate), baseline, partners, &runs, policy);
    }
    result.failed += gate.finding() == Finding::slower;
    result.inconclusive += gate.finding() == Finding::inconclusive;
    result.found += static_cast<int>(gate.count(Finding::slower));
    result.cases += kCases;
  }
  return result;
}

TEST(SimulatedStudy, OfEqualBuildsEndsWithAVerdictWhateverTheLuck) {
  const auto normal = [](double deviation) { return [=](std::mt19937_64& random) { return std::normal_distribution<double>(0, deviation)(random); }; };
  const auto with = [&](double share, double off) {
    return [=](std::mt19937_64& random) { return normal(0.002)(random) + (std::uniform_real_distribution<double>(0, 1)(random) < share ? off : 0); };
  };
  const auto tails = [](std::mt19937_64& random) { return 0.003 * std::student_t_distribution<double>(3)(random); };
  constexpr int kTrials = 40;
  int failed = 0;
  for (const auto& [name, luck] : std::initializer_list<std::pair<const char*, Luck>>{
           {"normal", normal(0.005)}, {"tails", tails}, {"two speeds", with(0.5, 0.09)}, {"a slow tenth", with(0.1, 0.09)}, {"a disturbed hundredth", with(0.01, 0.1)}}) {
    const Study same = study(luck, kTrials, 1);
    EXPECT_LE(same.inconclusive, binomial_bound(kTrials, 0.05)) << name;
    failed += same.failed;
  }
  EXPECT_LE(failed, binomial_bound(5 * kTrials, 0.01));
}

TEST(SimulatedStudy, FindsThreePercentWhereProcessesDifferByHalfOfOne) {
  const Luck luck = [](std::mt19937_64& random) { return std::normal_distribution<double>(0, 0.003)(random); };
  const Study slow = study(luck, 30, 1.03);
  EXPECT_GE(slow.found, slow.cases - binomial_bound(slow.cases, 0.05));
  EXPECT_EQ(study(luck, 10, 0.9).failed, 0);
}

}  // namespace
}  // namespace prnn
