// power.test.cpp: the bounds of a rate against their definition and closed forms, and what is counted as found.
#include "harness/power.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/program_test.hpp"
#include "harness/record.hpp"

namespace prnn {
namespace {

TEST(RateBounds, HaveTheirClosedFormsWhereNoneOrAllIsSeen) {
  for (const std::int64_t n : {1, 59, 300}) {
    const double tail = std::pow(0.05, 1.0 / static_cast<double>(n));
    EXPECT_NEAR(rate_at_most(0, n), 1 - tail, 1e-12);
    EXPECT_NEAR(rate_at_least(n, n), tail, 1e-12);
    EXPECT_EQ(rate_at_most(n, n), 1);
    EXPECT_EQ(rate_at_least(0, n), 0);
  }
  EXPECT_LT(rate_at_most(0, 300), 0.01);  // what the study promises: no false alarm in 300
  EXPECT_GT(rate_at_most(0, 298), 0.01);
  EXPECT_GT(rate_at_least(59, 59), 0.95);  // and 59 of 59
  EXPECT_LT(rate_at_least(58, 58), 0.95);
}

/// P(X <= k) by the recursion of the terms, in another order than the source's.
double binomial_cdf(int k, int n, double p) {
  double term = std::pow(1 - p, n), sum = term;
  for (int i = 0; i < k; ++i) sum += term *= static_cast<double>(n - i) / (i + 1) * p / (1 - p);
  return sum;
}

TEST(RateBounds, LeaveATailOfFivePercent) {
  for (const auto& [seen, trials] : {std::pair{1, 10}, {3, 10}, {9, 10}, {3, 300}, {150, 300}}) {
    EXPECT_NEAR(binomial_cdf(seen, trials, rate_at_most(seen, trials)), 0.05, 1e-9) << seen;
    EXPECT_NEAR(1 - binomial_cdf(seen - 1, trials, rate_at_least(seen, trials)), 0.05, 1e-9) << seen;
  }
}

Trial trial(const std::string& damage, int exit_code, std::vector<Trial::Case> cases = {}) { return {damage, 1, exit_code, std::move(cases)}; }

std::string shown(const std::vector<Rate>& list) {
  std::string text;
  for (const Rate& rate : list) text += rate.damage + ", " + rate.what + ": " + std::to_string(rate.seen) + "/" + std::to_string(rate.trials) + "; ";
  return text;
}

TEST(Rates, OfTheSameAgainstItselfAreFalseAlarmsAndInconclusiveGates) {
  EXPECT_EQ(shown(rates({trial("none", 0), trial("none", 1), trial("none", 4), trial("none", 4), trial("none", 5)})),
            "none, gates that fail: 2/5; none, gates that stay inconclusive: 2/5; ");
}

TEST(Rates, OfASlowdownAreByTheLengthOfALaunchAndOfTheDamagedSolver) {
  const std::vector<Trial::Case> cases = {{"x/a", "slower", 9e-6}, {"x/a/p=1", "pass", 10e-6}, {"y/a", "slower", 49e-6}, {"z/a", "inconclusive", 50e-6},
                                          {"w/a", "slower", 1.0},  {"v/a", "slower", 0},       {"x/ab", "slower", 1.0},  {"a/b", "slower", 1.0}};
  EXPECT_EQ(shown(rates({trial("slowdown=0.03:ab", 1, cases)})), "slowdown=0.03:ab, cases called slower, 50 us and more: 1/1; slowdown=0.03:ab, the least often: x/ab: 1/1; ");
  EXPECT_EQ(shown(rates({trial("slowdown=0.03", 1, cases), trial("slowdown=0.03", 0, {{"w/a", "pass", 1.0}})})),
            "slowdown=0.03, cases called slower, below 10 us: 1/1; slowdown=0.03, the least often: x/a: 1/1; "
            "slowdown=0.03, cases called slower, 10 to 50 us: 1/2; slowdown=0.03, the least often: x/a/p=1: 0/1; "
            "slowdown=0.03, cases called slower, 50 us and more: 3/5; slowdown=0.03, the least often: z/a: 0/1; ");
}

TEST(Rates, OfASlowdownNameTheCaseThatIsFoundLeastOften) {
  const auto both = [](const char* a, const char* b) { return trial("slowdown=0.1", 1, {{"a", a, 9e-6}, {"b", b, 9e-6}}); };
  EXPECT_EQ(shown(rates({both("slower", "slower"), both("pass", "slower"), both("slower", "slower")})),
            "slowdown=0.1, cases called slower, below 10 us: 5/6; slowdown=0.1, the least often: a: 2/3; ");
  // A case that is at the edge of a class is in one of them.
  EXPECT_EQ(shown(rates(
                {trial("slowdown=0.1", 1, {{"a", "slower", 9.9e-6}}), trial("slowdown=0.1", 1, {{"a", "slower", 10.2e-6}}), trial("slowdown=0.1", 1, {{"a", "slower", 10.1e-6}})})),
            "slowdown=0.1, cases called slower, 10 to 50 us: 3/3; slowdown=0.1, the least often: a: 3/3; ");
}

TEST(Rates, OfDamageToNumbersAreGatesThatFail) {
  EXPECT_EQ(shown(rates({trial("truncate=8", 2), trial("truncate=8", 0), trial("truncate=8", 4), trial("iteration_limit=1", 3)})),
            "iteration_limit=1, gates that fail: 1/1; truncate=8, gates that fail: 1/3; ");
}

TEST(Rates, AreShownWithTheBoundThatMatters) {
  const std::string text = table_of({{"none", "gates that fail", 0, 300}, {"truncate=8", "gates that fail", 59, 59}});
  EXPECT_NE(text.find("| none | gates that fail | 0 | 300 | 0.00 % | at most 0.99 % |\n"), std::string::npos) << text;
  EXPECT_NE(text.find("| truncate=8 | gates that fail | 59 | 59 | 100.00 % | at least 95.05 % |\n"), std::string::npos) << text;
}

TEST(Rates, SayTheSmallestSlowdownThatIsFound) {
  const auto rate = [](const char* damage, const char* name, std::int64_t seen) { return Rate{damage, std::string("cases called slower, ") + name, seen, 20}; };
  const std::string text = table_of({rate("slowdown=0.03", "below 10 us", 18),
                                     rate("slowdown=0.2", "below 10 us", 20),
                                     rate("slowdown=0.05", "below 10 us", 19),
                                     rate("slowdown=0.01:auto", "below 10 us", 20),
                                     rate("slowdown=0.03", "10 to 50 us", 0),
                                     {"truncate=8", "gates that fail", 9, 9}});
  EXPECT_NE(text.find("\nsmallest slowdown tried that is found in 95 % of trials, below 10 us: 5 %\n"), std::string::npos) << text;
  EXPECT_NE(text.find(", 10 to 50 us: none\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("trials, 50 us and more"), std::string::npos) << text;
}

constexpr const char* kSaid =
    R"({"exit_code":1,"verdicts":[{"cases":[{"case_id":"c/a","finding":"slower","baseline_s":1e-4,"runs":2,"compared":[{"metric":"speedup over b","ratio":9,"ci95_low":9,"ci95_high":9,"enforced":9},)"
    R"({"metric":"time","ratio":1.03,"ci95_low":1.02345,"ci95_high":1.04,"enforced":0.01}]},{"case_id":"c/b","finding":"broken","baseline_s":null,"runs":1,"compared":[]},{"case_id":"c/d","finding":"pass","baseline_s":1,"runs":1,"compared":[]},{"case_id":"c/e","finding":"unenforceable","baseline_s":1,"runs":1,"compared":[]}]}],)"
    R"("inputs":[{"role":"candidate","path":"x","sha256":"12"},{"role":"calibration","path":"y","sha256":"34"}]})";

TEST(Trials, AreReadAsTheyWereWritten) {
  const Json line = trial_line("none", 7, {}, kSaid);
  EXPECT_EQ(line["cases"][0]["ratio"], 1.03);
  EXPECT_EQ(line["cases"][0]["ci95_low"], 1.023) << "four digits";
  EXPECT_EQ(line["passed"], 1);
  EXPECT_EQ(line["unenforceable"], 1);
  EXPECT_FALSE(line.contains("core"));
  const Json pinned = trial_line("none", 7, {.core = 3, .at_once = 12}, kSaid);
  EXPECT_EQ(pinned["core"], 3);
  EXPECT_EQ(pinned["trials_at_once"], 12);
  EXPECT_EQ(line["cases"].size(), 2u) << "what passes is counted";
  EXPECT_EQ(trial_line("truncate=8", 7, {}, kSaid)["cases"].size(), 4u) << "but where it should not have";
  EXPECT_EQ(line["inputs"].size(), 1u);
  const auto path = std::filesystem::temp_directory_path() / ("prnn-trials-" + std::to_string(getpid()));
  std::ofstream(path) << line.dump() << "\n" << line.dump() << "\n";
  const auto trials = read_trials(path);
  ASSERT_EQ(trials.size(), 2u);
  EXPECT_EQ(trials[1].damage, "none");
  EXPECT_EQ(trials[1].number, 7);
  EXPECT_EQ(trials[1].exit_code, 1);
  ASSERT_EQ(trials[1].cases.size(), 2u);
  EXPECT_EQ(trials[1].cases[0].finding, "slower");
  EXPECT_EQ(trials[1].cases[0].baseline_s, 1e-4);
  EXPECT_EQ(trials[1].cases[1].baseline_s, 0);
  std::ofstream(path, std::ios::app) << "{}\n";
  try {
    read_trials(path);
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_EQ(error.what(), path.string() + ":3: expected a verdict as harness/power_study.sh writes it");
  }
  std::filesystem::remove(path);
  EXPECT_THROW(read_trials(path), BadInput);
  EXPECT_THROW(trial_line("none", 1, {}, "{}"), BadInput);
  EXPECT_THROW(trial_line("none", 1, {}, "not JSON"), BadInput);
}

class PowerStudy : public Program {
 protected:
  /// A sitting of harness/power_study.sh, as many trials at once as there are cores.
  Ended sit(const std::string& damage_and_trials, const std::string& seconds = "") {
    return prnn("suite.toml cpu study " + damage_and_trials + " " + seconds, "CORES=all PROCESSES=1 KEEP=0 '" PRNN_SOURCE_DIR "/harness/power_study.sh'");
  }
};

TEST_F(PowerStudy, GoesOnWhereASittingEnded) {
  put("suite.toml", "title = \"t\"\ncells = [\"elman_diag\"]\nsolvers = [\"seq_fused\"]\nhidden = 3\nseq_len = 2\ncache = \"hot\"\n");
  EXPECT_EQ(sit("calibration 3", "-1").code, 3) << "no time for a trial";
  const Ended calibration = sit("calibration 3");
  ASSERT_EQ(calibration.code, 0) << calibration.err;
  EXPECT_EQ(calibration.out, "") << "nothing to count yet";
  const Ended same = sit("none 2");
  EXPECT_EQ(same.code, 0) << same.err;
  ASSERT_EQ(lines("study/verdicts.jsonl"), 2);
  EXPECT_NE(same.out.find("| none | gates that fail | "), std::string::npos) << same.out;
  const Json line = Json::parse(get("study/verdicts.jsonl").substr(0, get("study/verdicts.jsonl").find('\n')));
  EXPECT_TRUE(line.contains("core"));
  EXPECT_GE(line.at("trials_at_once").get<int>(), 1);
  EXPECT_EQ(sit("none 2", "-1").code, 0) << "nothing is left";
  EXPECT_EQ(sit("truncate=12 1").code, 0);
  const Ended damaged = sit("truncate=12 1", "-1");
  EXPECT_NE(damaged.out.find("| truncate=12 | gates that fail | 1 | 1 | 100.00 % |"), std::string::npos) << damaged.out;
  EXPECT_EQ(lines("study/verdicts.jsonl"), 3);
  EXPECT_EQ(sit("warmth=1 1").code, 5);
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "study/truncate=12")) ADD_FAILURE() << entry.path() << " is left, where none was to be kept";
}

}  // namespace
}  // namespace prnn
