// measured.test.cpp: tables of measured times: what is refused, what is predicted between, beyond and without measurements, what is chosen.
#include "kernels/primitives/measured.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "kernels/cells/scalar.hpp"
#include "kernels/primitives/policy.hpp"

namespace prnn {
namespace {

Problem problem(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len) {
  Problem p;
  p.cell = "gru_diag";
  p.batch = batch;
  p.hidden = hidden;
  p.seq_len = seq_len;
  return p;
}

GpuInfo gpu(int sm, int multiprocessors) { return {.name = "x", .driver = "", .sm = sm, .multiprocessors = multiprocessors}; }

std::string fastest(const std::string& text, const Problem& p, std::string_view device = "cuda", const std::optional<GpuInfo>& here = {}) {
  const std::vector<Prediction> list = ranked(parse_measured(text), p, device, here);
  return list.empty() ? "" : list.front().candidate.solver;
}

// --- text ----------------------------------------------------------------------------------------------------------------

const std::string kHead = "# a comment\n\narchitecture sm_90 132 NVIDIA H200\narchitecture cpu 2\n";

TEST(MeasuredTable, ReadsEveryFieldOfALine) {
  const MeasuredTable table =
      parse_measured(kHead + "sm_90 forward gru_diag bf16 approx 8 1024 512 shooting overlap=40 segments=-1 27.5\ncpu backward own_cell f64 exact 1 2 3 x 1e3");
  ASSERT_EQ(table.architectures.size(), 2u);
  EXPECT_EQ(table.architectures[0].name, "sm_90");
  EXPECT_EQ(table.architectures[0].multiprocessors, 132);
  EXPECT_EQ(table.architectures[1].name, "cpu");
  ASSERT_EQ(table.lines.size(), 2u);
  const MeasuredTable::Line& line = table.lines[0];
  EXPECT_EQ(line.architecture, "sm_90");
  EXPECT_EQ(line.pass, "forward");
  EXPECT_EQ(line.cell, "gru_diag");
  EXPECT_EQ(line.storage, Storage::bf16);
  EXPECT_EQ(line.gates, "approx");
  EXPECT_EQ((std::array{line.batch, line.hidden, line.seq_len}), (std::array<std::int64_t, 3>{8, 1024, 512}));
  EXPECT_EQ(line.candidate, (Candidate{"shooting", {{"overlap", 40}, {"segments", -1}}}));
  EXPECT_EQ(line.time_us, 27.5);
  EXPECT_EQ(table.lines[1].pass, "backward");
  EXPECT_EQ(table.lines[1].candidate, (Candidate{"x", {}}));
  EXPECT_EQ(table.lines[1].time_us, 1000);
}

TEST(MeasuredTable, RefusesWhatItDoesNotUnderstandNamingTheLine) {
  const std::string good = "cpu forward gru_diag f32 exact 1 2 3 shooting overlap=4 5";
  EXPECT_EQ(parse_measured(kHead + good).lines.size(), 1u);
  EXPECT_EQ(parse_measured(kHead + good + "\ncpu backward gru_diag f32 exact 1 2 3 shooting overlap=4 5").lines.size(), 2u) << "another pass is another measurement";
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      parse_measured(text);
    } catch (const BadInput& error) {
      return error.what();
    }
    return "accepted";
  };
  for (const auto& [line, found] : std::vector<std::pair<std::string, std::string>>{{"architecture sm_80", "it ends early"},
                                                                                    {"architecture sm_80 0", "0"},
                                                                                    {"architecture sm_80 x", "x"},
                                                                                    {"architecture sm_ 8", "sm_"},
                                                                                    {"architecture sm_-8 8", "sm_-8"},
                                                                                    {"architecture sm_0 8", "sm_0"},
                                                                                    {"architecture gpu 8", "gpu"},
                                                                                    {"architecture sm_90 8", "sm_90"},
                                                                                    {"sm_80 forward gru_diag f32 exact 1 2 3 shooting 5", "sm_80"},
                                                                                    {"cpu", "it ends early"},
                                                                                    {"cpu gru_diag f32 exact 1 2 3 shooting 5", "gru_diag"},
                                                                                    {"cpu both gru_diag f32 exact 1 2 3 shooting 5", "both"},
                                                                                    {"cpu sideways gru_diag f32 exact 1 2 3 shooting 5", "sideways"},
                                                                                    {"cpu forward GRU f32 exact 1 2 3 shooting 5", "GRU"},
                                                                                    {"cpu forward gru_diag f31 exact 1 2 3 shooting 5", "f31"},
                                                                                    {"cpu forward gru_diag f32 exactly 1 2 3 shooting 5", "exactly"},
                                                                                    {"cpu forward gru_diag f32 exact 0 2 3 shooting 5", "0"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2.5 3 shooting 5", "2.5"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 -3 shooting 5", "-3"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 4294967296 shooting 5", "4294967296"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 99999999999999999999 shooting 5", "99999999999999999999"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3", "it ends early"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting", "it ends early"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 auto 5", "auto"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting 4 5", "4"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting overlap= 5", "overlap="},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting =4 5", "=4"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting overlap=4x 5", "overlap=4x"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting overlap=4 overlap=5 5", "overlap=5"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting 0", "0"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting -1", "-1"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting nan", "nan"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting inf", "inf"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting 5us", "5us"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting 5\r", "5\r"},
                                                                                    {"cpu\tforward gru_diag f32 exact 1 2 3 shooting 5", "cpu\tforward"},
                                                                                    {"cpu forward gru_diag f32 exact 1 2 3 shooting overlap=4 6", "the same measurement again"}}) {
    const std::string said = refusal(kHead + good + "\n" + line + "\n" + "# more");
    EXPECT_EQ(said.substr(0, said.find("; expected ")), "line 6: " + found) << line;
  }
  EXPECT_EQ(refusal(kHead).substr(0, 7), "line 4:");
  EXPECT_EQ(refusal("").substr(0, 7), "line 0:");
}

/// Of a prediction, a logarithm: no more than 16 roundings of numbers as large as it, or 1.
double rounding(double logarithm) { return 16 * unit_roundoff_v<double> * std::max(std::fabs(logarithm), 1.0); }
/// Of its power of two, which turns an absolute error into ln 2 times as large a relative one.
double time_rounding(double time_us) { return std::log(2.0) * rounding(std::log2(time_us)) * time_us; }

// --- prediction ----------------------------------------------------------------------------------------------------------

TEST(PredictedTime, IsBilinearOnAGridAndBeyondIt) {
  const auto time = [](double x, double y) { return 1 + x / 16 + y / 32 + x * y / 64; };
  std::vector<MeasuredPoint> points;
  for (const double x : {6.0, 9.0}) {
    for (const double y : {4.0, 8.0}) points.push_back({x, y, time(x, y)});
  }
  for (const double x : {0.0, 6.0, 7.5, 9.0, 15.0}) {
    for (const double y : {0.0, 4.0, 5.0, 8.0, 16.0}) EXPECT_NEAR(predicted_time(points, x, y), time(x, y), rounding(time(x, y))) << x << " " << y;
  }
}

TEST(PredictedTime, BendsAtTheMeasurementsAndFollowsTheNearestTwoBeyond) {
  // The slope is 1/4, beyond 1 (channels) and 4 (seq_len) 3/4, measured there and elsewhere: a line through any other two points would miss it.
  const auto bent = [](double v) { return v / 4 + std::max(v, 0.0) / 2; };
  const auto time = [&](double x, double y) { return bent(x - 1) + bent(y - 4); };
  std::vector<MeasuredPoint> points;
  for (const double x : {3.0, 1.0, 0.0, -2.0}) {
    for (const double y : {9.0, 0.0, 4.0, 5.0, 2.0}) points.push_back({x, y, time(x, y)});
  }
  for (const double x : {-9.0, -1.0, 0.5, 1.0, 2.0, 8.0}) {
    for (const double y : {-8.0, 1.0, 3.0, 4.5, 6.0, 20.0}) EXPECT_NEAR(predicted_time(points, x, y), time(x, y), rounding(time(x, y))) << x << " " << y;
  }
}

TEST(PredictedTime, NeitherFallsNorOutrunsTheWorkWhereNothingIsMeasured) {
  const std::vector<MeasuredPoint> steep = {{0, 0, 0}, {0, 1, 5}}, falling = {{0, 0, 3}, {1, 0, 1}};
  EXPECT_EQ(predicted_time(steep, 0, 2), 6);
  EXPECT_EQ(predicted_time(steep, 0, -1), -1);
  EXPECT_EQ(predicted_time(steep, 0, 0.5), 2.5) << "between measurements they are believed";
  EXPECT_EQ(predicted_time(falling, 2, 0), 1);
  EXPECT_EQ(predicted_time(falling, -1, 0), 3);
  EXPECT_EQ(predicted_time(falling, 0.5, 0), 2);
}

TEST(PredictedTime, DoesWithoutMeasurements) {
  EXPECT_EQ(predicted_time({{3, 4, 5}}, 100, -100), 5) << "one point: everywhere the same";
  EXPECT_EQ(predicted_time({{3, 4, 5}, {3, 4, 7}}, 0, 0), 6) << "the same place twice: the mean";
  EXPECT_EQ(predicted_time({{3, 4, 5}, {3, 6, 6}}, 100, 5), 5.5) << "one column: whatever the channels";
  EXPECT_EQ(predicted_time({{3, 4, 5}, {3, 6, 6}}, 100, 8), 7);
  EXPECT_EQ(predicted_time({{3, 4, 5}, {5, 4, 6}}, 9, 100), 8) << "one row: whatever the length";
  EXPECT_EQ(predicted_time({{3, 4, 5}, {5, 8, 6}}, 4, 100), 5.5) << "each column its own length: as if it were the same";
  // The upper right corner is missing: its column goes on as it went, 3/4 a step, from 7.5 at y = 6.
  const std::vector<MeasuredPoint> ragged = {{3, 4, 1}, {3, 6, 2}, {3, 8, 3}, {5, 4, 6}, {5, 6, 7.5}};
  EXPECT_EQ(predicted_time(ragged, 5, 8), 9);
  EXPECT_EQ(predicted_time(ragged, 4, 8), (3 + 9) / 2.0);
  // A column of one point has the slope of the others at its channels: between 1/2 and 3/4 a step, in the middle 5/8.
  std::vector<MeasuredPoint> lonely = ragged;
  lonely.push_back({4, 4, 100});
  EXPECT_EQ(predicted_time(lonely, 4, 4), 100);
  EXPECT_EQ(predicted_time(lonely, 4, 6), 100 + 2 * (0.5 + 0.75) / 2);
}

TEST(Ranked, PicksTheWinnerThatAHandFinds) {
  // Microseconds: a takes seq_len; b takes 100 whatever the length. They cross at seq_len = 100.
  const std::string text =
      "architecture sm_90 132\n"
      "sm_90 forward gru_diag f32 exact 1 64 16 a 16\nsm_90 forward gru_diag f32 exact 1 64 1024 a 1024\n"
      "sm_90 forward gru_diag f32 exact 1 64 16 b 100\nsm_90 forward gru_diag f32 exact 1 64 1024 b 100\n";
  EXPECT_EQ(fastest(text, problem(1, 64, 99)), "a");
  EXPECT_EQ(fastest(text, problem(1, 64, 101)), "b");
  EXPECT_EQ(fastest(text, problem(1, 64, 1)), "a");
  EXPECT_EQ(fastest(text, problem(4, 16, 4000)), "b");
  EXPECT_EQ(fastest(text, problem(7, 33, 99)), "a") << "one column: channels make no difference";
  const std::vector<Prediction> both = ranked(parse_measured(text), problem(1, 64, 128), "emulated", {});
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].candidate.solver, "b");
  EXPECT_NEAR(both[0].time_us, 100, time_rounding(100));
  EXPECT_NEAR(both[1].time_us, 128, time_rounding(128));
  EXPECT_EQ(fastest(text, problem(1, 64, 99), "cpu"), "") << "no times of a CPU";
}

TEST(Ranked, TakesTheFirstOfEquals) {
  for (const std::string order : {"xyz", "zyx"}) {
    std::string text = "architecture cpu 2\n";
    for (const char name : order) text += std::string("cpu forward gru_diag f32 exact 1 64 16 ") + name + " 5\n";
    const std::vector<Prediction> list = ranked(parse_measured(text), problem(1, 1, 1), "cpu", {});
    std::string names;
    for (const Prediction& prediction : list) names += prediction.candidate.solver;
    EXPECT_EQ(names, order);
  }
}

TEST(Ranked, GivesNewtonFusedOnAGpuTheTimeOfItsWholeTiles) {
  const Problem p = problem(13, 94, 281);
  const std::int64_t computed = newton_computed_steps(p, 1);
  ASSERT_GT(computed, p.seq_len);
  ASSERT_EQ(computed % 16, 0);
  const auto time_us = [](const std::string& solver, const Problem& at, const char* device) {  // a microsecond a step
    const std::string architecture = std::string(device) == "cpu" ? "cpu" : "sm_90", head = architecture + " forward gru_diag f32 exact 13 94 ";
    return ranked(parse_measured("architecture " + architecture + " 132\n" + head + "16 " + solver + " 16\n" + head + "4096 " + solver + " 4096\n"), at, device, {}).at(0).time_us;
  };
  EXPECT_NEAR(time_us("newton_fused", p, "cuda"), double(computed), time_rounding(double(computed)));
  EXPECT_NEAR(time_us("newton_fused threads=32", p, "cuda"), double(ceil_div(p.seq_len, 16) * 16), time_rounding(281)) << "4 slots of 4 steps";
  EXPECT_NEAR(time_us("shooting", p, "cuda"), 281, time_rounding(281));
  EXPECT_NEAR(time_us("newton_fused", p, "cpu"), 281, time_rounding(281));
}

TEST(Ranked, TellsOverridesApart) {
  const std::vector<Prediction> list = ranked(parse_measured("architecture cpu 2\ncpu forward gru_diag f32 exact 1 64 16 s overlap=1 9\ncpu forward gru_diag f32 exact 1 64 16 s "
                                                             "overlap=2 7\ncpu forward gru_diag f32 exact 1 64 16 s 8\n"),
                                              problem(1, 64, 16), "cpu", {});
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0].candidate, (Candidate{"s", {{"overlap", 2}}}));
  EXPECT_EQ(list[1].candidate, (Candidate{"s", {}}));
  EXPECT_EQ(list[2].candidate, (Candidate{"s", {{"overlap", 1}}}));
}

TEST(Ranked, GivesAnotherGpuAsManyChannelsAMultiprocessor) {
  // Microseconds on 100 multiprocessors: a takes batch x hidden, b always 512.
  const std::string text =
      "architecture sm_90 100\n"
      "sm_90 forward gru_diag f32 exact 1 64 16 a 64\nsm_90 forward gru_diag f32 exact 8 512 16 a 4096\n"
      "sm_90 forward gru_diag f32 exact 1 64 16 b 512\nsm_90 forward gru_diag f32 exact 8 512 16 b 512\n";
  const Problem p = problem(2, 300, 16);
  EXPECT_EQ(fastest(text, p, "cuda", gpu(90, 100)), "b");
  EXPECT_EQ(fastest(text, p, "cuda", gpu(90, 0)), "b") << "not known: as if it had as many";
  EXPECT_EQ(fastest(text, p, "cuda", {}), "b");
  EXPECT_EQ(fastest(text, p, "cuda", gpu(90, 200)), "a");
  EXPECT_NEAR(ranked(parse_measured(text), p, "cuda", gpu(90, 200))[0].time_us, 300, time_rounding(300));
  EXPECT_NEAR(ranked(parse_measured(text), p, "cuda", gpu(90, 25))[1].time_us, 2400, time_rounding(2400));
}

TEST(Ranked, GoesByTheNearestArchitecture) {
  const std::string text =
      "architecture cpu 2\narchitecture sm_70 80\narchitecture sm_90 132\n"
      "sm_90 forward gru_diag f32 exact 1 1 1 nine 1\nsm_70 forward gru_diag f32 exact 1 1 1 seven 1\ncpu forward gru_diag f32 exact 1 1 1 host 1\n";
  for (const auto& [sm, name] : std::vector<std::pair<int, std::string>>{{60, "seven"}, {75, "seven"}, {80, "seven"}, {86, "nine"}, {90, "nine"}, {120, "nine"}})
    EXPECT_EQ(fastest(text, problem(1, 1, 1), "cuda", gpu(sm, 132)), name) << sm;
  EXPECT_EQ(fastest(text, problem(1, 1, 1), "emulated"), "seven") << "no GPU: the first of the table";
  EXPECT_EQ(fastest(text, problem(1, 1, 1), "cpu"), "host");
}

TEST(Ranked, TakesTimesOfThePassAlone) {
  const std::string text =
      "architecture sm_90 132\narchitecture sm_70 80\narchitecture cpu 2\n"
      "sm_90 forward gru_diag f32 exact 1 1 1 nine 1\nsm_70 forward gru_diag f32 exact 1 1 1 seven 1\nsm_70 backward gru_diag f32 exact 1 1 1 back 9\n"
      "cpu forward gru_diag f32 exact 1 1 1 x 1\ncpu forward gru_diag f32 exact 1 1 1 y 2\ncpu forward elman_diag f64 approx 1 1 1 z 1\n"
      "cpu backward gru_diag f32 exact 1 1 1 x 4\ncpu backward gru_diag f32 exact 1 1 1 y 3\n";
  Problem p = problem(1, 1, 1);
  p.pass = "backward";
  for (const char* grad : {"all", "output", "squares"}) {
    p.grad = grad;
    const std::vector<Prediction> list = ranked(parse_measured(text), p, "cpu", {});
    ASSERT_EQ(list.size(), 2u) << grad;
    EXPECT_EQ(list[0].candidate.solver, "y") << grad;
    EXPECT_EQ(list[0].time_us, 3) << grad;
    EXPECT_EQ(list[1].candidate.solver, "x") << grad;
    EXPECT_EQ(list[1].time_us, 4) << grad;
  }
  p.cell = "elman_diag", p.storage = Storage::f64, p.gates = "approx";
  EXPECT_EQ(fastest(text, p, "cpu"), "y") << "what the other pass has is no nearer to it";
  EXPECT_EQ(fastest(text, p, "cuda", gpu(90, 132)), "back") << "the nearest architecture that has times of the pass";
  EXPECT_EQ(fastest(text, p, "emulated"), "back");
  p.pass = "forward";
  EXPECT_EQ(fastest(text, p, "cpu"), "z");
  EXPECT_EQ(fastest(text, p, "cuda", gpu(90, 132)), "nine");
}

TEST(Ranked, KeepsScansAndCellsApart) {
  const std::string scans = "architecture sm_90 132\nsm_90 forward diag f32 exact 1 1 1 narrow 1\nsm_90 forward 2x2 f32 exact 1 1 1 wide 1\n";
  const std::string cells = "sm_90 forward gru_diag f32 exact 1 1 1 gru 1\nsm_90 forward lstm_cifg_diag f32 exact 1 1 1 lstm 1\n";
  Problem p = problem(1, 1, 1);
  p.op = "reduction", p.cell = "diag";
  EXPECT_EQ(fastest(scans + cells, p), "narrow");
  p.cell = "2x2", p.storage = Storage::bf16;
  EXPECT_EQ(fastest(scans + cells, p), "wide");
  EXPECT_EQ(fastest("architecture sm_90 132\nsm_90 forward diag f32 exact 1 1 1 narrow 1\n" + cells, p), "narrow") << "one that is like it";
  EXPECT_EQ(fastest("architecture sm_90 132\n" + cells, p), "") << "no times of scans";
  EXPECT_EQ(fastest(scans, problem(1, 1, 1)), "") << "no times of cells";
  EXPECT_EQ(fastest("architecture sm_70 80\nsm_70 forward diag f32 exact 1 1 1 seven 1\n" + scans.substr(0, 23) + cells, p, "cuda", gpu(90, 132)), "seven")
      << "the nearest architecture that has times of scans";
}

TEST(Ranked, TakesWhatItDoesNotKnowForWhatIsLikeIt) {
  const std::string text =
      "architecture cpu 2\n"
      "cpu forward lstm_cifg_diag f32 exact 1 1 1 lstm 1\ncpu forward gru_diag f32 exact 1 1 1 gru 1\n"
      "cpu forward gru_diag bf16 exact 1 1 1 bf16 1\ncpu forward gru_diag f32 approx 1 1 1 approx 1\n";
  const auto chosen = [&](const char* cell, Storage storage, const char* gates) {
    Problem p = problem(1, 1, 1);
    p.cell = cell, p.storage = storage, p.gates = gates;
    return fastest(text, p, "cpu");
  };
  EXPECT_EQ(chosen("gru_diag", Storage::f32, "exact"), "gru");
  EXPECT_EQ(chosen("lstm_cifg_diag", Storage::f32, "exact"), "lstm");
  EXPECT_EQ(chosen("elman_diag", Storage::f32, "exact"), "gru") << "one state component";
  EXPECT_EQ(chosen("elman_diag", Storage::bf16, "exact"), "bf16");
  EXPECT_EQ(chosen("gru_diag", Storage::f64, "exact"), "gru");
  EXPECT_EQ(chosen("gru_diag", Storage::f16, "approx"), "bf16") << "of the same size";
  EXPECT_EQ(chosen("lstm_cifg_diag", Storage::f16, "exact"), "lstm");
  EXPECT_EQ(chosen("gru_diag", Storage::f32, "approx"), "approx");
  EXPECT_EQ(chosen("gru_diag", Storage::bf16, "approx"), "bf16");
  EXPECT_EQ(chosen("lstm_cifg_diag", Storage::f64, "approx"), "lstm");
  const std::string only = "architecture cpu 2\ncpu forward elman_diag f64 approx 1 1 1 only 1\n";
  EXPECT_EQ(fastest(only, problem(1, 1, 1), "cpu"), "only") << "nothing is like it: anything";
}

TEST(Ranked, TellsRowsOfWholeWordsFromOthers) {
  const std::string text =
      "architecture cpu 2\n"
      "cpu forward gru_diag f32 exact 1 64 16 whole 1\ncpu forward gru_diag f32 exact 1 64 16 odd 2\n"
      "cpu forward gru_diag f32 exact 1 63 16 whole 2\ncpu forward gru_diag f32 exact 1 63 16 odd 1\n";
  for (const std::int64_t hidden : {4, 64, 100}) EXPECT_EQ(fastest(text, problem(1, hidden, 16), "cpu"), "whole") << hidden;
  for (const std::int64_t hidden : {63, 65, 101}) EXPECT_EQ(fastest(text, problem(1, hidden, 16), "cpu"), "odd") << hidden;
  for (const std::int64_t hidden : {1, 62}) EXPECT_EQ(fastest(text, problem(1, hidden, 16), "cpu"), "whole") << hidden << ": fewer channels than the table has odd ones";
  EXPECT_EQ(fastest(text, problem(2, 62, 16), "cpu"), "odd");
  Problem p = problem(1, 100, 16);  // 200 bytes
  p.storage = Storage::bf16;
  EXPECT_EQ(fastest(text, p, "cpu"), "odd");
  p.hidden = 104;
  EXPECT_EQ(fastest(text, p, "cpu"), "whole");
  EXPECT_EQ(fastest("architecture cpu 2\ncpu forward gru_diag f32 exact 1 64 16 whole 1\n", problem(1, 63, 16), "cpu"), "whole") << "no other was measured";
}

// --- choice --------------------------------------------------------------------------------------------------------------

TEST(Choose, GivesTheCandidatesOverridesAndTheUsersAboveThem) {
  const MeasuredTable table =
      parse_measured("architecture cpu 2\ncpu forward gru_diag f32 exact 1 64 16 shooting overlap=33 segments=4 1\ncpu forward gru_diag f32 exact 1 64 16 seq_fused 2\n");
  Problem p = problem(1, 64, 16);
  Choice choice = choose(table, p, "cpu", {});
  EXPECT_EQ(choice.solver, find_solver("shooting", "cpu", p));
  EXPECT_EQ(choice.problem.policy, (Policy{{"overlap", 33}, {"segments", 4}}));
  EXPECT_EQ(choice.why_not, "");
  p.policy = {{"overlap", 7}, {"threads", 64}};
  choice = choose(table, p, "cpu", {});
  EXPECT_EQ(choice.problem.policy, (Policy{{"overlap", 7}, {"segments", 4}, {"threads", 64}}));
  EXPECT_EQ(choice.problem.seq_len, 16);
}

TEST(Choose, PassesOverWhatIsNotDefinedAndSaysWhyNothingIs) {
  const std::string text =
      "architecture cpu 2\ncpu forward gru_diag f32 exact 1 64 16 none_such 1\ncpu forward gru_diag f32 exact 1 64 16 shooting overlap=-1 2\ncpu forward gru_diag f32 exact 1 64 "
      "16 newton_fused 3\n"
      "cpu forward gru_diag f32 exact 1 64 16 seq_fused 4\n";
  Problem p = problem(1, 64, 16);
  EXPECT_EQ(choose(parse_measured(text), p, "cpu", {}).solver, find_solver("newton_fused", "cpu", p)) << "the table's own override is refused by shooting";
  p.policy = {{"steps_a_tile", 0}};
  EXPECT_EQ(choose(parse_measured(text), p, "cpu", {}).solver, find_solver("seq_fused", "cpu", p)) << "the user's is refused by newton_fused";
  p.policy["vector_bytes"] = 3;
  const Choice none = choose(parse_measured(text), p, "cpu", {});
  EXPECT_EQ(none.solver, nullptr);
  EXPECT_EQ(none.why_not, "none_such does not run on cpu");
  EXPECT_EQ(choose(parse_measured(text), p, "cuda", {}).why_not, "no solver of pass forward was measured for cuda");
}

TEST(Choose, GivesASolverOfThePass) {
  const MeasuredTable table = parse_measured(
      "architecture cpu 2\narchitecture sm_90 132\n"
      "cpu backward gru_diag f32 exact 1 64 16 newton_fused 1\ncpu backward gru_diag f32 exact 1 64 16 seq_fused 2\ncpu forward gru_diag f32 exact 1 64 16 shooting 1\n"
      "sm_90 backward gru_diag f32 exact 1 64 16 shooting overlap=33 1\nsm_90 backward gru_diag f32 exact 1 64 16 reduction 2\nsm_90 forward gru_diag f32 exact 1 64 16 seq_fused "
      "1\n");
  Problem p = problem(1, 64, 16);
  p.pass = "backward";
  const auto expect_chosen = [&](const char* device, const char* solver, const Policy& policy) {
    const Choice choice = choose(table, p, device, {});
    ASSERT_TRUE(choice.solver) << choice.why_not;
    EXPECT_EQ(choice.solver->name, solver);
    EXPECT_EQ(choice.solver->pass, "backward");
    EXPECT_EQ(choice.problem.pass, "backward");
    EXPECT_EQ(choice.problem.policy, policy);
  };
  expect_chosen("cpu", "seq_fused", {});  // newton_fused has no such pass
  expect_chosen("emulated", "shooting", {{"overlap", 33}});
  p.policy = {{"overlap", -1}};
  expect_chosen("emulated", "reduction", {{"overlap", -1}});
  const Choice none = choose(parse_measured("architecture sm_90 132\nsm_90 forward gru_diag f32 exact 1 64 16 shooting 1\n"), p, "emulated", {});
  EXPECT_EQ(none.solver, nullptr);
  EXPECT_EQ(none.why_not, "no solver of pass backward was measured for emulated");
}

TEST(ShippedTable, NamesOnlyWhatExistsAndIsAccepted) {
  EXPECT_LT(auto_table().size(), 256u << 10) << "it is read at the first use of auto";
  const MeasuredTable table = parse_measured(auto_table());
  std::set<std::string> measured;
  for (const MeasuredTable::Line& line : table.lines) {
    const std::string device = line.architecture == "cpu" ? "cpu" : "emulated";
    measured.insert(device + " " + line.pass);
    Problem p = problem(line.batch, line.hidden, line.seq_len);
    p.op = line.cell == "diag" || line.cell == "2x2" ? "reduction" : "recurrence";
    p.pass = line.pass, p.cell = line.cell, p.storage = line.storage, p.gates = line.gates, p.policy = line.candidate.overrides;
    const Solver* solver = find_solver(line.candidate.solver, device, p);
    ASSERT_TRUE(solver) << line.candidate.solver << " " << line.pass << " " << line.cell << " on " << device;
    EXPECT_TRUE(solver->deterministic) << line.candidate.solver << ": auto says that it is";
    EXPECT_EQ(solver->why_not(p), "") << line.candidate.solver << " " << line.cell << " " << to_string(line.storage) << " " << line.gates << " " << line.seq_len;
  }
  EXPECT_EQ(measured, (std::set<std::string>{"cpu backward", "cpu forward", "emulated backward", "emulated forward"}));
}

}  // namespace
}  // namespace prnn
