// gate.test.cpp: what each finding takes, case by case.
#include "harness/gate.hpp"

#include <gtest/gtest.h>
#include <cmath>
#include <functional>

#include "harness/gate_test.hpp"
#include "harness/plan.hpp"
#include "harness/testing.hpp"

namespace prnn {
namespace {

/// Of a quantile written with six decimals.
constexpr double kQuantileRounding = 0.5e-6;

using testing::file_of;
using testing::in_session;
using testing::refusal;
using testing::row_of;
using testing::runs_of;
using testing::sessions_with_itself;
using testing::visited;

/// Times are known exactly: what lies beyond the margin of 1.5 % is slower, what lies below is not.
GatePolicy exact() {
  GatePolicy policy;
  policy.uncalibrated_noise = 0;
  policy.inconclusive = 0.05;
  return policy;
}

Runs one(std::vector<CaseRecord> rows, const std::string& path = "b") { return runs_of({file_of(path, std::move(rows))}); }

CaseVerdict verdict(const CaseRecord& candidate, const CaseRecord& baseline, const GatePolicy& policy = exact()) {
  return judge(one({candidate}, "f"), one({baseline}), {}, nullptr, policy).cases.at(0);
}
Finding finding(const CaseRecord& candidate, const CaseRecord& baseline, const GatePolicy& policy = exact()) { return verdict(candidate, baseline, policy).finding; }

const CaseRecord kBase = row_of("a", {1});
CaseRecord changed(const std::function<void(CaseRecord&)>& change, const CaseRecord& from = kBase) {
  CaseRecord row = from;
  change(row);
  return row;
}
CaseRecord timed(double time_s) { return row_of("a", {time_s}); }

// --- findings ----------------------------------------------------------------------------------------------------------

TEST(AFinding, HasTheExitCodeOfTheContract) {
  EXPECT_EQ(exit_code(Finding::wrong), 2);
  EXPECT_EQ(exit_code(Finding::broken), 5);
  EXPECT_EQ(exit_code(Finding::not_converged), 3);
  EXPECT_EQ(exit_code(Finding::slower), 1);
  EXPECT_EQ(exit_code(Finding::inconclusive), 4);
  EXPECT_EQ(exit_code(Finding::unenforceable), 0);
  EXPECT_EQ(exit_code(Finding::pass), 0);
  EXPECT_EQ(to_string(Finding::wrong), "wrong");
  EXPECT_EQ(to_string(Finding::pass), "pass");
}

TEST(AFinding, OfASweepIsTheFirstInTheOrderOfTheContract) {
  GateVerdict gate;
  EXPECT_EQ(gate.finding(), Finding::pass);
  for (const Finding next : {Finding::unenforceable, Finding::inconclusive, Finding::slower, Finding::not_converged, Finding::broken, Finding::wrong}) {
    gate.cases.push_back({.case_id = "", .group_id = "", .finding = next});
    gate.cases.push_back({});
    EXPECT_EQ(gate.finding(), next);
    EXPECT_EQ(gate.count(next), 1u);
  }
}

TEST(Times, PassBelowTheMarginAndFailBeyondIt) {
  EXPECT_EQ(finding(timed(1.0149), kBase), Finding::pass);
  EXPECT_EQ(finding(timed(1.0151), kBase), Finding::slower);
  GatePolicy policy = exact();
  policy.margin = 0.5;
  EXPECT_EQ(finding(timed(1.49), kBase, policy), Finding::pass);
  EXPECT_EQ(finding(timed(1.51), kBase, policy), Finding::slower);
}

TEST(Times, ThatImproveNeverFail) {
  for (const double factor : {0.99, 0.5, 0.01}) EXPECT_EQ(finding(timed(factor), kBase), Finding::pass) << factor;
}

TEST(Times, AreSaidInTheReasonWithTheirInterval) {
  const CaseVerdict slow = verdict(timed(1.2), kBase);
  EXPECT_EQ(slow.reason, "time +20.0 % (+20.0 % .. +20.0 %): beyond the margin +1.5 %");
  EXPECT_EQ(slow.compared.at(0).basis, "1 against 1 runs, noise not calibrated");
  EXPECT_DOUBLE_EQ(slow.compared[0].ratio, 1.2);
  EXPECT_EQ(slow.compared[0].p, 0);
  EXPECT_EQ(slow.time_s, 1.2);
  EXPECT_EQ(slow.baseline_s, 1);
  EXPECT_EQ(verdict(timed(1), kBase).reason, "");
}

TEST(Times, AreInconclusiveOnBothSidesOfTheMargin) {
  GatePolicy policy = exact();
  policy.margin = 0.1;
  policy.uncalibrated_noise = 0.01;  // half the interval: 1.96 sqrt(2) 1 % = 2.8 %; detectable: (1.96 + 1.64) sqrt(1 + 1/3) 1 % = 4.2 %
  EXPECT_EQ(finding(timed(std::exp(std::log(1.1) - 0.027)), kBase, policy), Finding::inconclusive);
  EXPECT_EQ(finding(timed(std::exp(std::log(1.1) - 0.028)), kBase, policy), Finding::pass);
  EXPECT_EQ(finding(timed(std::exp(std::log(1.1) + 0.027)), kBase, policy), Finding::inconclusive);
  GatePolicy careless = policy;
  careless.fdr = 0.9;  // the whole interval has to be beyond the margin all the same
  EXPECT_EQ(finding(timed(std::exp(std::log(1.1) + 0.027)), kBase, careless), Finding::inconclusive);
  EXPECT_EQ(finding(timed(std::exp(std::log(1.1) + 0.029)), kBase, careless), Finding::slower);
  // One comparison is no sweep: 0.01 of false alarms needs 2.33 standard errors.
  EXPECT_EQ(finding(timed(std::exp(std::log(1.1) + 0.034)), kBase, policy), Finding::slower);
  EXPECT_EQ(verdict(timed(1.1), kBase, policy).reason, "time +10.0 % (+7.0 % .. +13.1 %): on both sides of the margin +10.0 %");
}

TEST(Times, BeyondTheMarginButTooLikelyByChanceAreInconclusive) {
  GatePolicy policy = exact();
  policy.margin = 0.1;
  policy.uncalibrated_noise = 0.01;
  const double late = std::exp(std::log(1.1) + 0.031);  // 2.2 standard errors beyond: p = 0.014
  EXPECT_EQ(finding(timed(late), kBase, policy), Finding::inconclusive);
  EXPECT_NEAR(verdict(timed(late), kBase, policy).compared[0].p, 0.0142, 0.0002);
  EXPECT_NE(verdict(timed(late), kBase, policy).reason.find("too likely by chance in so large a sweep"), std::string::npos);
  policy.fdr = 0.02;
  EXPECT_EQ(finding(timed(late), kBase, policy), Finding::slower);
  // Beside one that is certain a second has twice the rate; beside one more that is not slow, half.
  std::vector<CaseRecord> rows = {row_of("a", {late}), row_of("b", {2}), row_of("c", {1})}, before = {row_of("a", {1}), row_of("b", {1}), row_of("c", {1})};
  const auto of_a = [&] { return judge(one(rows, "f"), one(before), {}, nullptr, policy).cases.at(0).finding; };
  EXPECT_EQ(of_a(), Finding::inconclusive);  // 0.0142 > 0.01 x 2 / 3
  policy.fdr = 0.022;
  EXPECT_EQ(of_a(), Finding::slower);
}

TEST(AMargin, ThatIsTighterThanWhatCanBeDetectedIsUnenforceableAndDoesNotFail) {
  GatePolicy policy = exact();
  policy.uncalibrated_noise = 0.01;
  const CaseVerdict same = verdict(timed(1), kBase, policy);
  EXPECT_EQ(same.finding, Finding::unenforceable);
  const double error = 0.01 * std::sqrt(1 + 1 / 3.0), table = 0.5e-6;  // half of the last digit of a quantile
  EXPECT_NEAR(same.compared[0].detectable, std::expm1((1.959964 + 1.644854) * error), 2 * table * error * (1 + same.compared[0].detectable));
  EXPECT_EQ(same.compared[0].enforced, same.compared[0].detectable);
  EXPECT_NEAR(same.compared[0].p, 0.5 * std::erfc(-std::log1p(same.compared[0].detectable) / (0.01 * std::sqrt(2)) / std::sqrt(2)), 16 * 0x1p-53);
  EXPECT_EQ(same.reason, "time +0.0 % (-2.7 % .. +2.8 %): margin +1.5 % is unenforceable, the smallest effect detectable is +4.3 %");
  EXPECT_EQ(finding(timed(1.03), kBase, policy), Finding::inconclusive);
  EXPECT_EQ(finding(timed(1.06), kBase, policy), Finding::inconclusive);
  EXPECT_EQ(finding(timed(1.09), kBase, policy), Finding::slower);  // twice as slow is found whatever the margin
  EXPECT_NE(verdict(timed(1.09), kBase, policy).reason.find("beyond the smallest effect detectable, +4.3 %"), std::string::npos);
  EXPECT_EQ(finding(timed(0.97), kBase, policy), Finding::pass);  // wholly below the margin all the same
}

TEST(AMargin, OfACaseIsThatOfTheLastOverrideThatFits) {
  GatePolicy policy = exact();
  const auto add = [&](const std::string& expression, double margin) { policy.overrides.push_back({expression, name_filter("case", expression), margin}); };
  add("^a", 0.5);
  EXPECT_EQ(finding(timed(1.4), kBase, policy), Finding::pass);
  add("b$", 0.1);
  EXPECT_EQ(finding(timed(1.4), kBase, policy), Finding::pass);
  add("a$", 0.2);
  EXPECT_EQ(finding(timed(1.4), kBase, policy), Finding::slower);
}

TEST(AFreshRun, IsWorthItWhereItMayChangeTheVerdict) {
  CaseVerdict verdict{.finding = Finding::inconclusive, .runs = 1};
  EXPECT_TRUE(verdict.worth_a_run(2));
  EXPECT_FALSE(verdict.worth_a_run(0));
  verdict.runs = 2;
  EXPECT_TRUE(verdict.worth_a_run(2));
  verdict.runs = 3;
  EXPECT_FALSE(verdict.worth_a_run(2));
  verdict = {.finding = Finding::slower, .runs = 1};
  EXPECT_TRUE(verdict.worth_a_run(2));  // one process may have had bad luck
  verdict.runs = 2;
  EXPECT_FALSE(verdict.worth_a_run(2));
  for (const Finding other : {Finding::pass, Finding::unenforceable, Finding::broken}) {
    verdict = {.finding = other, .runs = 1};
    EXPECT_FALSE(verdict.worth_a_run(2));
  }
}

TEST(FreshRuns, AreMeasuredWithTheFirst) {
  const Runs candidate = runs_of({file_of("f", {timed(1.2)}), file_of("f.again1", {timed(1.0)}), file_of("f.again2", {row_of("b", {1})})});
  const CaseVerdict both = judge(candidate, one({kBase}), {}, nullptr, exact()).cases.at(0);
  EXPECT_DOUBLE_EQ(both.compared[0].ratio, std::sqrt(1.2));
  EXPECT_EQ(both.runs, 2u);
  EXPECT_EQ(both.compared[0].basis, "2 against 1 runs, noise not calibrated");
  // They differ by log 1.2 = 0.18, which the noise of 0 that the policy states does not.
  const double noise = std::log(1.2) / std::sqrt(2);
  EXPECT_NEAR(std::log(both.compared[0].high / both.compared[0].ratio), 1.959964 * noise * std::sqrt(1.5), kQuantileRounding * noise * std::sqrt(1.5));
  const Runs crashed = runs_of({file_of("f", {timed(1)}), file_of("f.again1", {changed([](CaseRecord& r) { r.status = Status::error, r.reason = "fault"; })})});
  const CaseVerdict crash = judge(crashed, one({kBase}), {}, nullptr, exact()).cases.at(0);
  EXPECT_EQ(crash.finding, Finding::broken);
  const Runs twice = runs_of({crashed.files[1], crashed.files[1]});
  EXPECT_EQ(judge(twice, one({kBase}), {}, nullptr, exact()).cases.at(0).reason, crash.reason);  // said once
}

TEST(ACase, HasItsGravestFindingAndEveryReason) {
  const CaseVerdict both = verdict(changed([](CaseRecord& r) { r.error->test_ratio = 9, r.iterations = 9; }, timed(2)), kBase);
  EXPECT_EQ(both.finding, Finding::wrong);
  for (const char* part : {"error / bound 9", "; 9 iterations", "; time +100.0 %"}) EXPECT_NE(both.reason.find(part), std::string::npos) << both.reason;
}

// --- device clocks -----------------------------------------------------------------------------------------------------

CaseRecord at_clock(double time_s, std::optional<double> clock_mhz) {
  return changed([&](CaseRecord& r) { r.clock_mhz = clock_mhz; }, timed(time_s));
}

TEST(ClockCycles, ConfirmWhatIsSlower) {
  EXPECT_EQ(finding(at_clock(1.2, 1500), at_clock(1, 1500)), Finding::slower);
  EXPECT_EQ(finding(at_clock(1.2, 1250), at_clock(1, 1500)), Finding::inconclusive);  // the same cycles
  EXPECT_EQ(finding(at_clock(1.2, 1480), at_clock(1, 1500)), Finding::slower);        // 18 % more
  EXPECT_EQ(finding(at_clock(1.2, 1800), at_clock(1, 1500)), Finding::slower);
  EXPECT_EQ(finding(at_clock(1.2, 1250), at_clock(1, std::nullopt)), Finding::slower);  // not seen: time alone
  EXPECT_EQ(finding(at_clock(1.2, std::nullopt), at_clock(1, 1500)), Finding::slower);
  EXPECT_EQ(finding(at_clock(1, 1800), at_clock(1, 1500)), Finding::pass);  // cycles alone fail nothing
  const CaseVerdict moved = verdict(at_clock(1.2, 1250), at_clock(1, 1500));
  EXPECT_DOUBLE_EQ(moved.compared[0].ratio_in_cycles.value(), 1);
  EXPECT_TRUE(moved.reason.starts_with("time +20.0 % (+20.0 % .. +20.0 %): the clock moved, ")) << moved.reason;
  EXPECT_EQ(verdict(at_clock(1.2, 0), at_clock(1, 1500)).compared[0].ratio_in_cycles, std::nullopt);
  const Runs twice = runs_of({file_of("f", {at_clock(1, 1000)}), file_of("f.again1", {at_clock(1, 4000)})});
  EXPECT_NEAR(judge(twice, one({at_clock(1, 1000)}), {}, nullptr, exact()).cases.at(0).compared.at(0).ratio_in_cycles.value(), 2, 1e-12);  // the mean of logs
}

// --- programs that took turns ------------------------------------------------------------------------------------------

const std::vector<double> kDrifting = {1, 2, 4, 8, 16, 32};  // of the machine: no visit is like another
std::vector<double> times(std::vector<double> list, const std::vector<double>& factors) {
  for (std::size_t k = 0; k < list.size(); ++k) list[k] *= factors[k % factors.size()];
  return list;
}

TEST(ProgramsThatTookTurns, AreComparedVisitByVisit) {
  const Runs baseline = runs_of({in_session("b", visited(kDrifting), "s", 1)});
  const auto of = [&](const std::vector<double>& factors) {
    return judge(runs_of({in_session("f", visited(times(kDrifting, factors)), "s", 0)}), baseline, {}, nullptr, exact()).cases.at(0);
  };
  EXPECT_EQ(of({1}).finding, Finding::pass);
  EXPECT_EQ(of({1.2}).finding, Finding::slower);
  EXPECT_NEAR(of({1.2}).compared[0].low, 1.2, 1e-12);  // the drift is common to both
  EXPECT_EQ(of({1.2}).compared[0].basis, "3 pairs of processes");
  EXPECT_NEAR(of({1.1, 1.3}).compared[0].low, std::sqrt(1.1 * 1.3), 1e-12);  // a pair of processes is one value, whatever its visits
  const CaseVerdict uneven = of({1.1, 1.1, 1.2, 1.2, 1.3, 1.3});
  const double a = std::log(1.1), b = std::log(1.2), c = std::log(1.3), centre = (a + b + c) / 3;
  const double deviation = std::sqrt(((a - centre) * (a - centre) + (b - centre) * (b - centre) + (c - centre) * (c - centre)) / 2);
  EXPECT_NEAR(std::log(uneven.compared[0].high), centre + 4.302653 * deviation / std::sqrt(3), kQuantileRounding * deviation / std::sqrt(3));
}

TEST(ProgramsThatTookTurns, AreNotThoseOfAnotherSession) {
  const RecordFile mine = in_session("f", visited(times(kDrifting, {1.2})), "s", 0);
  const auto basis = [&](const RecordFile& theirs) { return judge(runs_of({mine}), runs_of({theirs}), {}, nullptr, exact()).cases.at(0).compared.at(0).basis; };
  EXPECT_EQ(basis(in_session("b", visited(kDrifting), "s", 1)), "3 pairs of processes");
  EXPECT_EQ(basis(in_session("b", visited(kDrifting), "t", 1)), "1 against 1 runs, noise not calibrated");
  EXPECT_EQ(basis(in_session("b", visited(kDrifting), "s", 0)), "1 against 1 runs, noise not calibrated");
  EXPECT_EQ(basis(in_session("b", visited({1, 2, 4, 8}), "s", 1)), "1 against 1 runs, noise not calibrated");  // another number of visits
  EXPECT_EQ(basis(in_session("b", timed(1), "s", 1)), "1 against 1 runs, noise not calibrated");
}

TEST(ProgramsThatTookTurns, OfTooFewProcessesNeedTheNoise) {
  GatePolicy policy = exact();
  policy.uncalibrated_noise = 0.01;
  const Runs mine = runs_of({in_session("f", visited({1.2, 1.2}), "s", 0)}), theirs = runs_of({in_session("b", visited({1, 1}), "s", 1)});
  const Compared pair = judge(mine, theirs, {}, nullptr, policy).cases.at(0).compared.at(0);
  EXPECT_EQ(pair.basis, "1 pairs of processes, noise not calibrated");
  EXPECT_NEAR(std::log(pair.high / pair.ratio), 1.959964 * 0.01 * std::sqrt(2), kQuantileRounding * 0.01 * std::sqrt(2));
  EXPECT_NEAR(std::log1p(pair.detectable), (1.959964 + 1.644854) * 0.01 * std::sqrt(2 / 3.0), 2 * kQuantileRounding * 0.01 * std::sqrt(2 / 3.0));  // two more sessions may come
}

TEST(ProgramsThatTookTurns, OfTwoProcessesNeedTheNoiseToo) {
  GatePolicy policy = exact();
  policy.uncalibrated_noise = 0.01;
  const std::vector<double> four = {1, 1, 1, 1};
  const Runs mine = runs_of({in_session("f", visited(times(four, {1.2})), "s", 0)}), theirs = runs_of({in_session("b", visited(four), "s", 1)});
  const Compared pairs = judge(mine, theirs, {}, nullptr, policy).cases.at(0).compared.at(0);
  EXPECT_EQ(pairs.basis, "2 pairs of processes, noise not calibrated");
  EXPECT_NEAR(std::log(pairs.high / pairs.ratio), 1.959964 * 0.01, kQuantileRounding * 0.01);
}

TEST(ProgramsThatTookTurns, ArePairedByTheProcessesOfBoth) {
  CaseRecord theirs = visited(kDrifting);
  for (std::size_t k = 0; k < kDrifting.size(); ++k) (*theirs.visits)[k].process = static_cast<std::int64_t>((k + 1) / 2);
  const Runs mine = runs_of({in_session("f", visited(kDrifting), "s", 0)}), others = runs_of({in_session("b", theirs, "s", 1)});
  EXPECT_EQ(judge(mine, others, {}, nullptr, exact()).cases.at(0).compared.at(0).basis, "6 pairs of processes");
}

TEST(ProgramsThatTookTurns, HaveTheirOwnClocks) {
  const auto with_clock = [](CaseRecord row, double clock_mhz) {
    row.clock_mhz = clock_mhz;
    return row;
  };
  const Runs mine = runs_of({in_session("f", with_clock(visited(times(kDrifting, {1.2})), 1250), "s", 0)});
  EXPECT_EQ(judge(mine, runs_of({in_session("b", with_clock(visited(kDrifting), 1500), "s", 1)}), {}, nullptr, exact()).cases.at(0).finding, Finding::inconclusive);
  EXPECT_EQ(judge(mine, runs_of({in_session("b", with_clock(visited(kDrifting), 1250), "s", 1)}), {}, nullptr, exact()).cases.at(0).finding, Finding::slower);
}

TEST(ProgramsThatTookTurns, InAFreshRunAloneDoNotMakeTheFirstComparable) {
  RecordFile first = file_of("f", {timed(1)}), again = in_session("f.again1", visited(kDrifting), "t", 0);
  first.head.fingerprint = again.head.fingerprint = "there";
  EXPECT_TRUE(refusal([&] {
                judge(runs_of({first, again}), runs_of({in_session("b", visited(kDrifting), "t", 1)}), {}, nullptr, exact());
              }).starts_with("f is of another machine"));
}

TEST(ProgramsThatTookTurns, AreOnOneMachineWhateverTheirBuilds) {
  RecordFile mine = in_session("f", visited(kDrifting), "s", 0), theirs = in_session("b", visited(kDrifting), "s", 1);
  mine.head.fingerprint = "another compiler";
  EXPECT_EQ(judge(runs_of({mine}), runs_of({theirs}), {}, nullptr, exact()).cases.at(0).finding, Finding::pass);
}

TEST(ProgramsThatTookTurns, InFreshRunsAddTheirPairs) {
  const Runs candidate = runs_of({in_session("f", visited(kDrifting), "s", 0), in_session("f.again1", visited(times(kDrifting, {1.2})), "t", 0)});
  const Runs baseline = runs_of({in_session("b", visited(kDrifting), "s", 1)});
  const Compared both = judge(candidate, baseline, {in_session("f.again1.against", visited(kDrifting), "t", 1)}, nullptr, exact()).cases.at(0).compared.at(0);
  EXPECT_EQ(both.basis, "6 pairs of processes");
  EXPECT_NEAR(both.ratio, std::sqrt(1.2), 1e-12);
  // Three sessions of three pairs at most; Student's t of 8 degrees.
  EXPECT_NEAR(std::log1p(both.detectable), (2.306004 + 1.859548) * std::log(1.2) * std::sqrt(0.3) / std::sqrt(9),
              2 * kQuantileRounding * std::log(1.2) * std::sqrt(0.3) / std::sqrt(9));
}

TEST(ProgramsThatTookTurns, TakeTheNoiseOfSessionsOfOneBuild) {
  const Runs mine = runs_of({in_session("f", visited({1.2, 1.2}), "s", 0)}), theirs = runs_of({in_session("b", visited({1, 1}), "s", 1)});
  std::vector<RecordFile> partners;
  Runs calibration = sessions_with_itself({0.01, -0.02, 0.02}, partners);
  const auto compared = [&] { return judge(mine, theirs, partners, &calibration, exact()).cases.at(0).compared.at(0); };
  EXPECT_EQ(compared().basis, "1 pairs of processes, noise of 3 A/A pairs");
  EXPECT_NEAR(std::log(compared().high / compared().ratio), 3.182446 * std::sqrt(0.0009 / 3), kQuantileRounding * std::sqrt(0.0009 / 3));  // Student's t of 3 degrees
  EXPECT_NEAR(std::log1p(compared().detectable), (3.182446 + 2.353363) * std::sqrt(0.0009 / 3) / std::sqrt(3), 2 * kQuantileRounding * std::sqrt(0.0009 / 3) / std::sqrt(3));
  // One that is not of one build does not count, and two are too few: single runs tell.
  const std::string alone = "1 pairs of processes, noise of 3 A/A runs";
  for (const auto& spoil : std::vector<std::function<void(Provenance&)>>{[](Provenance& p) { p.commit = "beef"; }, [](Provenance& p) { p.dirty = true; },
                                                                         [](Provenance& p) { p.fingerprint = "there"; }, [](Provenance& p) { p.inject = "slowdown=0.1"; }}) {
    const RecordFile whole = partners[1];
    spoil(partners[1].head);
    EXPECT_EQ(compared().basis, alone);
    partners[1] = whole;
  }
  calibration.files[2].head.inject = "slowdown=0.1";
  EXPECT_EQ(compared().basis, alone);
}

TEST(AMargin, IsEnforcedWhereEqualBuildsOfTheWholeSweepStayBelowIt) {
  GatePolicy policy = exact();
  policy.uncalibrated_noise = 0.01;
  const std::vector<CaseRecord> rows = {row_of("a", {1}), row_of("b", {1}), row_of("c", {1})};
  const auto detectable = [&](const std::vector<CaseRecord>& mine, const std::vector<CaseRecord>& theirs) {
    return std::log1p(judge(one(mine, "f"), one(theirs), {}, nullptr, policy).cases.at(0).compared.at(0).detectable) / (0.01 * std::sqrt(1 + 1 / 3.0));
  };
  EXPECT_NEAR(detectable({rows[0], rows[1]}, {rows[0], rows[1]}), 1.959964 + 1.959964, 2 * kQuantileRounding);  // 5 % / 2
  EXPECT_NEAR(detectable(rows, {rows[0], rows[1]}), 1.959964 + 1.959964, 2 * kQuantileRounding) << "a case that is compared with nothing";
  policy.inconclusive = 0.005;
  EXPECT_NEAR(detectable({rows[0]}, {rows[0]}), 1.959964 + 2.575829, 2 * kQuantileRounding);
  policy.inconclusive = 0.01;
  policy.speedup_baselines = {"auto"};
  const CaseRecord with_speedup = changed([](CaseRecord& r) { r.speedup["auto"] = {2, 2, 2}; });
  EXPECT_NEAR(detectable({with_speedup}, {with_speedup}), 1.959964 + 2.575829, 2 * kQuantileRounding) << "two comparisons";
}

// --- numerics, convergence, coverage -----------------------------------------------------------------------------------

CaseRecord with_ratio(std::optional<double> test_ratio) {
  return changed([&](CaseRecord& r) { r.error->test_ratio = test_ratio; });
}

TEST(Errors, MayGrowByThePolicysFactorAboveItsFloor) {
  EXPECT_EQ(finding(with_ratio(1.5), with_ratio(1)), Finding::pass);
  EXPECT_EQ(finding(with_ratio(1.51), with_ratio(1)), Finding::wrong);
  EXPECT_EQ(finding(with_ratio(0.5), with_ratio(0.01)), Finding::pass);
  EXPECT_EQ(finding(with_ratio(0.51), with_ratio(0.01)), Finding::wrong);
  EXPECT_EQ(finding(with_ratio(0.01), with_ratio(3)), Finding::pass);
  EXPECT_EQ(finding(with_ratio(std::nan("")), with_ratio(1)), Finding::wrong);
  EXPECT_EQ(finding(with_ratio(std::nullopt), with_ratio(1)), Finding::broken);
  EXPECT_EQ(finding(with_ratio(3), with_ratio(std::nullopt)), Finding::pass);
  EXPECT_EQ(verdict(with_ratio(3), with_ratio(1)).reason, "largest error / bound 3, baseline 1: more than 1.5 times as large");
  GatePolicy policy = exact();
  policy.growth = 2, policy.floor = 5;
  EXPECT_EQ(finding(with_ratio(5), with_ratio(1), policy), Finding::pass);
  EXPECT_EQ(finding(with_ratio(5.1), with_ratio(1), policy), Finding::wrong);
  EXPECT_EQ(finding(with_ratio(5.1), with_ratio(2.6), policy), Finding::pass);
}

TEST(Errors, OfTheBaselineAreTheLargestOfItsRuns) {
  const Runs baseline = runs_of({file_of("1", {with_ratio(1)}), file_of("2", {with_ratio(3)}), file_of("3", {with_ratio(2)})});
  const auto of = [&](double ratio) { return judge(one({with_ratio(ratio)}, "f"), baseline, {}, nullptr, exact()).cases.at(0).finding; };
  EXPECT_EQ(of(4.5), Finding::pass);
  EXPECT_EQ(of(4.6), Finding::wrong);
}

TEST(Errors, AndIterationsAreThoseOfOkRows) {
  const CaseRecord stopped = changed([](CaseRecord& r) { r.status = r.expected_status = Status::wrong, r.error->test_ratio = 100, r.iterations = 100; });
  EXPECT_EQ(finding(stopped, kBase), Finding::pass);
  EXPECT_TRUE(verdict(stopped, kBase).compared.empty());  // nor has its time a meaning beside that of a right result
  EXPECT_EQ(verdict(stopped, stopped).compared.size(), 1u);
  const auto against_both = [&](const std::function<void(CaseRecord&)>& change) {
    return judge(one({changed(change)}, "f"), runs_of({file_of("1", {kBase}), file_of("2", {stopped})}), {}, nullptr, exact()).cases.at(0).finding;
  };
  EXPECT_EQ(against_both([](CaseRecord& r) { r.error->test_ratio = 9; }), Finding::wrong);
  EXPECT_EQ(against_both([](CaseRecord& r) { r.iterations = 9; }), Finding::not_converged);
}

TEST(Iterations, AndRoundsMayNotGrowBeyondThePolicy) {
  const auto with = [](std::optional<std::int64_t> iterations, std::optional<std::int64_t> rounds) {
    return changed([&](CaseRecord& r) { r.iterations = iterations, r.rounds = rounds; });
  };
  EXPECT_EQ(finding(with(6, 0), with(5, 0)), Finding::pass);
  EXPECT_EQ(finding(with(7, 0), with(5, 0)), Finding::not_converged);
  EXPECT_EQ(finding(with(1, 0), with(5, 3)), Finding::pass);
  EXPECT_EQ(finding(with(5, 1), with(5, 0)), Finding::not_converged);
  EXPECT_EQ(finding(with(std::nullopt, std::nullopt), with(5, 0)), Finding::pass);
  EXPECT_EQ(verdict(with(9, 0), with(5, 0)).reason, "9 iterations, baseline 5: at most 1 more allowed");
  EXPECT_EQ(verdict(with(5, 4), with(5, 1)).reason, "4 rounds, baseline 1: at most 0 more allowed");
  GatePolicy policy = exact();
  policy.more_iterations = 4, policy.more_rounds = 1;
  EXPECT_EQ(finding(with(9, 1), with(5, 0), policy), Finding::pass);
}

CaseRecord with_status(Status status, Status expected = Status::ok, const std::string& reason = "") {
  return changed([&](CaseRecord& r) { r.status = status, r.expected_status = expected, r.reason = reason; });
}

TEST(Statuses, ThatTheSuiteDoesNotExpectCountAsInARun) {
  EXPECT_EQ(finding(with_status(Status::wrong), kBase), Finding::wrong);
  EXPECT_EQ(finding(with_status(Status::error), kBase), Finding::broken);
  EXPECT_EQ(finding(with_status(Status::timeout), kBase), Finding::broken);
  EXPECT_EQ(finding(with_status(Status::not_converged), kBase), Finding::not_converged);
  EXPECT_EQ(finding(with_status(Status::wrong), with_status(Status::wrong)), Finding::wrong);  // what was wrong before is no better
  EXPECT_EQ(finding(with_status(Status::wrong, Status::wrong), with_status(Status::wrong, Status::wrong)), Finding::pass);
  EXPECT_EQ(finding(with_status(Status::ok, Status::wrong), with_status(Status::wrong, Status::wrong)), Finding::wrong);
  EXPECT_EQ(verdict(with_status(Status::error, Status::ok, "fault"), kBase).reason, "error where ok is expected: fault");
}

TEST(Statuses, ASkipCountsWhereTheBaselineRan) {
  const std::string excuse = undefined_combination("none");
  EXPECT_EQ(finding(with_status(Status::skipped, Status::ok, excuse), kBase), Finding::broken);
  EXPECT_EQ(finding(with_status(Status::skipped, Status::ok, excuse), with_status(Status::skipped, Status::ok, excuse)), Finding::pass);
  EXPECT_EQ(finding(with_status(Status::skipped, Status::ok, "no reason"), with_status(Status::skipped, Status::ok, "no reason")), Finding::broken);
  EXPECT_EQ(verdict(with_status(Status::skipped, Status::ok, excuse), kBase).reason, "skipped where the baseline ran it: " + excuse);
  EXPECT_EQ(finding(kBase, with_status(Status::skipped, Status::ok, excuse)), Finding::pass);
}

TEST(Coverage, OfTheBaselineIsKept) {
  const GateVerdict gate =
      judge(one({row_of("a", {1})}, "f"), runs_of({file_of("1", {row_of("a", {1}), row_of("b", {1})}), file_of("2", {row_of("b", {1}), row_of("c", {1})})}), {}, nullptr, exact());
  ASSERT_EQ(gate.cases.size(), 3u);
  EXPECT_EQ(gate.cases[0].finding, Finding::pass);
  EXPECT_EQ(gate.cases[1].case_id, "b");
  EXPECT_EQ(gate.cases[1].finding, Finding::broken);
  EXPECT_EQ(gate.cases[1].reason, "not in f, where the baseline has it");
  EXPECT_EQ(gate.cases[2].case_id, "c");
}

TEST(Coverage, OfACaseThatNoBaselineHasIsAMatterOfThePolicy) {
  const Runs candidate = one({row_of("a", {1}), row_of("new", {1})}, "f"), baseline = one({row_of("a", {1})});
  GatePolicy policy = exact();
  EXPECT_EQ(judge(candidate, baseline, {}, nullptr, policy).cases.at(1).finding, Finding::broken);
  policy.strict = false;
  EXPECT_EQ(judge(candidate, baseline, {}, nullptr, policy).cases.at(1).finding, Finding::pass);
}

TEST(Coverage, OfTimesIsKept) {
  EXPECT_EQ(finding(row_of("a", {}), kBase), Finding::broken);
  EXPECT_EQ(finding(kBase, row_of("a", {})), Finding::pass);
}

// --- machines ----------------------------------------------------------------------------------------------------------

CaseRecord with_speedup(double ratio, double time_s = 1, double width = 0) {
  return changed([&](CaseRecord& r) { r.solver = "auto", r.speedup["seq_fused"] = {ratio, ratio * (1 - width), ratio * (1 + width)}; }, timed(time_s));
}

TEST(AnotherMachine, HasNoAbsoluteTimes) {
  RecordFile mine = file_of("f", {with_speedup(4, 9)});
  mine.head.fingerprint = "there";
  const Runs candidate = runs_of({mine}), baseline = one({with_speedup(4)});
  GatePolicy policy = exact();
  EXPECT_EQ(refusal([&] { judge(candidate, baseline, {}, nullptr, policy); }),
            "f is of another machine or build than b (fingerprints there, here); expected times of one machine and build, or a policy with time.gate = \"same_machine\" and "
            "speedup.baselines");
  policy.time = GatePolicy::Time::same_machine;
  const GateVerdict gate = judge(candidate, baseline, {}, nullptr, policy);
  EXPECT_EQ(gate.finding(), Finding::pass);
  EXPECT_EQ(gate.notes, (std::vector<std::string>{"times are not compared: f is of another machine or build than b (fingerprints there, here)"}));
  EXPECT_TRUE(gate.cases.at(0).compared.empty());
  EXPECT_EQ(judge(one({with_speedup(4, 9)}, "f"), baseline, {}, nullptr, policy).finding(), Finding::slower);  // here they are
  policy.time = GatePolicy::Time::off;
  EXPECT_EQ(judge(one({with_speedup(4, 9)}, "f"), baseline, {}, nullptr, policy).finding(), Finding::pass);
}

TEST(AnotherMachine, HasSpeedupsThatCompare) {
  RecordFile mine = file_of("f", {with_speedup(4)});
  mine.head.fingerprint = "there";
  GatePolicy policy = exact();
  policy.time = GatePolicy::Time::same_machine;
  policy.speedup_baselines = {"seq_fused"};
  const auto of = [&](double ratio, double width = 0) {
    mine.rows[0].speedup["seq_fused"] = {ratio, ratio * (1 - width), ratio * (1 + width)};
    return judge(runs_of({mine}), one({with_speedup(4, 1)}), {}, nullptr, policy).cases.at(0);
  };
  EXPECT_EQ(of(3.9).finding, Finding::pass);  // margin 5 %
  EXPECT_EQ(of(3.7).finding, Finding::slower);
  EXPECT_EQ(of(8).finding, Finding::pass);
  EXPECT_NEAR(of(3.7).compared.at(0).ratio, 4 / 3.7, 1e-12);
  EXPECT_EQ(of(3.7).reason, "lost speedup over seq_fused +8.1 % (+8.1 % .. +8.1 %): beyond the margin +5.0 %");
  EXPECT_EQ(of(3.9, 0.1).finding, Finding::inconclusive);
  EXPECT_NEAR(std::log(of(4, 0.1).compared.at(0).high), std::log(1.1 / 0.9) / 2, 1e-3);
  mine.rows[0].speedup["seq_fused"] = {4, 0, 5};  // an interval without a lower end
  EXPECT_EQ(judge(runs_of({mine}), one({with_speedup(4)}), {}, nullptr, policy).cases.at(0).finding, Finding::broken);
  mine.rows[0].speedup["seq_fused"] = {4, 3, INFINITY};
  EXPECT_EQ(judge(runs_of({mine}), one({with_speedup(4)}), {}, nullptr, policy).cases.at(0).finding, Finding::broken);
  const CaseRecord itself = changed([](CaseRecord& r) { r.solver = "seq_fused", r.speedup["seq_fused"] = {1, 1, 1}; });
  EXPECT_TRUE(verdict(itself, itself, policy).compared.size() == 1 && verdict(itself, itself, policy).compared[0].metric == "time");
  mine.rows[0].speedup.clear();
  EXPECT_EQ(judge(runs_of({mine}), one({with_speedup(4)}), {}, nullptr, policy).cases.at(0).finding, Finding::broken);
  EXPECT_EQ(judge(one({with_speedup(1)}, "f"), one({with_speedup(4)}), {}, nullptr, policy).cases.at(0).compared.size(), 2u);
  policy.speedup_baselines = {"seq_stepwise"};
  EXPECT_EQ(refusal([&] { of(4); }), "speedup.baselines: b has no speedup over seq_stepwise; expected a baseline that the suite names");
}

TEST(AnotherMachine, NoiseOfASpeedupIsThatOfTwoTimes) {
  GatePolicy policy = exact();
  policy.time = GatePolicy::Time::off;
  policy.speedup_baselines = {"seq_fused"};
  policy.uncalibrated_noise = 0.01;
  const Compared c = judge(one({with_speedup(4)}, "f"), one({with_speedup(4)}), {}, nullptr, policy).cases.at(0).compared.at(0);
  EXPECT_NEAR(std::log(c.high), 1.959964 * 0.02, kQuantileRounding * 0.02);
  EXPECT_NEAR(std::log1p(c.detectable), (1.959964 + 1.644854) * 0.01 * std::sqrt(2) * std::sqrt(1 + 1 / 3.0), 2 * kQuantileRounding * 0.01 * std::sqrt(2) * std::sqrt(1 + 1 / 3.0));
}

TEST(Records, ThatHaveNothingInCommonAreRefused) {
  EXPECT_EQ(refusal([] { judge(one({row_of("x", {1})}, "f"), one({kBase}), {}, nullptr, exact()); }), "f: has no case in common with b; expected records of one suite");
  CaseRecord cuda = kBase;
  cuda.device = "cuda";
  EXPECT_EQ(refusal([&] { judge(one({cuda}, "f"), one({kBase}), {}, nullptr, exact()); }), "f: of device cuda; expected one of cpu, as b");
  RecordFile verified = file_of("f", {kBase});
  verified.head.copy_bytes_per_s.reset();
  EXPECT_TRUE(refusal([&] { judge(runs_of({verified}), one({kBase}), {}, nullptr, exact()); }).starts_with("f was not timed; expected times"));
  RecordFile other_suite = file_of("f", {kBase});
  other_suite.head.suite_sha256 = "x";
  EXPECT_EQ(judge(runs_of({other_suite}), one({kBase}), {}, nullptr, exact()).notes.size(), 1u);
}

TEST(Records, GiveTheCasesOfGroupsWholeAndNotTooMany) {
  RecordFile file = file_of("f", {row_of("a", {1}), row_of("b", {1}), row_of("c", {1}), row_of("d", {1})});
  file.rows[0].group_id = file.rows[2].group_id = "x";
  using Names = std::vector<std::string>;
  EXPECT_EQ(cases_of(file, {"x"}, 9), (Names{"a", "c"}));
  EXPECT_EQ(cases_of(file, {"b", "d", "x"}, 9), (Names{"b", "d", "a", "c"}));
  EXPECT_EQ(cases_of(file, {"b", "d", "x"}, 1), (Names{"b", "d"}));
  EXPECT_EQ(cases_of(file, {"b", "d", "x"}, 0), (Names{"b"}));
  EXPECT_EQ(cases_of(file, {}, 9), Names{});
}

// --- noise -------------------------------------------------------------------------------------------------------------

TEST(ACalibration, TakesThePlaceOfTheBaselinesOwnNoise) {
  std::vector<RecordFile> files;
  for (const double log_time : {0.0, 0.01, 0.02}) files.push_back(file_of("c", {timed(std::exp(log_time))}));
  const Runs calibration = runs_of(files), candidate = one({timed(1)}, "f");
  const Compared c = judge(candidate, one({kBase}), {}, &calibration, exact()).cases.at(0).compared.at(0);
  EXPECT_EQ(c.basis, "1 against 1 runs, noise of 3 A/A runs");
  EXPECT_NEAR(std::log(c.high), 4.302653 * 0.01 * std::sqrt(2), kQuantileRounding * 0.01 * std::sqrt(2));
  EXPECT_EQ(judge(candidate, calibration, {}, nullptr, exact()).cases.at(0).compared.at(0).basis, "1 against 3 runs, noise of 3 A/A runs");
}

TEST(Compare, GivesRatiosOfWhatBothHaveTimed) {
  const std::vector<CaseVerdict> cases = compare(one({row_of("a", {3}), row_of("b", {1}), row_of("c", {})}, "f"), one({row_of("a", {2}), row_of("c", {1})}), {}, exact());
  ASSERT_EQ(cases.size(), 1u);
  EXPECT_DOUBLE_EQ(cases[0].compared.at(0).ratio, 1.5);
}

}  // namespace
}  // namespace prnn
