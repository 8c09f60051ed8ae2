// judge.test.cpp: the verdict on states: its bound, its errors, how far it reaches, and that nothing wrong passes.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "kernels/cells/all.hpp"
#include "reference/reference.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

using testing::drawn_channel;
using testing::evaluate;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

JudgedChannel judged(const char* cell, const char* regime, std::int64_t seq_len, Storage storage = Storage::f32, std::int64_t d = 0) {
  ChannelData data = drawn_channel(cell, seq_len, regime, storage, d);
  Truth truth = true_states(data);
  std::vector<double> rounded;
  for (const DoubleDouble& h : truth.states) rounded.push_back(h.high);
  return {{0, d}, std::move(data), std::move(truth), std::move(rounded), {}};
}

ErrorReport verdict(const JudgedChannel& channel, Storage storage = Storage::f32) {
  ErrorReport report;
  judge_channels({channel}, storage, report);
  return report;
}

TEST(ForwardBound, IsTheRecurrenceOfTheContract) {
  const JudgedChannel channel = judged("elman_diag", "wide", 25);
  const std::vector<double> bound = forward_bound(channel.data, channel.truth, Storage::f32);
  const double a = channel.data.weights[0];
  double E = 0, before = channel.data.initial[0];
  for (std::size_t l = 0; l < 25; ++l) {
    const double p = a * before + channel.data.inputs[l], h = std::tanh(p), slope = 1 - h * h;
    E = std::fabs(a * slope) * E + 0x1p-24 * (std::fabs(h) + std::fabs(slope * p)) + 1.5e-7;
    EXPECT_NEAR(bound[l], E, 1e-12 * E);
    before = h;
  }
}

TEST(ForwardBound, MultipliesByTheWholeMatrix) {
  using Cell = LstmCifgDiag;
  const JudgedChannel channel = judged("lstm_cifg_diag", "wide", 20, Storage::f64);
  const std::vector<double> bound = forward_bound(channel.data, channel.truth, Storage::f64);
  double E[2] = {}, h[2], a[5], u[3];
  std::copy_n(channel.data.initial.begin(), 2, h);
  std::copy_n(channel.data.weights.begin(), 5, a);
  for (std::size_t l = 0; l < 20; ++l) {
    std::copy_n(channel.data.inputs.begin() + std::ptrdiff_t(l) * 3, 3, u);
    double f[2], jacobian[2][2], abs_jacobian[2][2], g[2], next[2];
    step_and_jacobian<Cell>(h, a, u, f, jacobian);
    step_and_bound<Cell>(h, a, u, 0x1p-53, 3e-16, f, abs_jacobian, g);
    for (int i = 0; i < 2; ++i) next[i] = std::fabs(jacobian[i][0]) * E[0] + std::fabs(jacobian[i][1]) * E[1] + g[i];
    for (int i = 0; i < 2; ++i) {
      E[i] = next[i];
      EXPECT_NEAR(bound[2 * l + std::size_t(i)], E[i], 1e-12 * E[i]);
      h[i] = channel.truth.states[2 * l + std::size_t(i)].high;
    }
  }
}

TEST(ForwardVerdict, PassesTheTruthAndMeasuresAnErrorInUnitsOfItsBound) {
  for (const Storage storage : kStorages) {
    JudgedChannel channel = judged("lstm_cifg_diag", "paper", 30, storage);
    EXPECT_LT(*verdict(channel, storage).ratio_forward, 1);
    const std::vector<double> bound = forward_bound(channel.data, channel.truth, storage);
    for (const std::size_t at : {std::size_t(0), std::size_t(31), std::size_t(59)}) {
      const double h = channel.computed[at], allowed = bound[at] + unit_roundoff(storage) * std::fabs(h);
      const double resolution = 0x1p-52 / allowed;  // of a double near 1, in units of the bound
      channel.computed[at] = h + 100 * allowed;
      EXPECT_NEAR(*verdict(channel, storage).ratio_forward, 100, resolution);
      channel.computed[at] = h - 100 * allowed;
      const ErrorReport report = verdict(channel, storage);
      EXPECT_NEAR(*report.ratio_forward, 100, resolution);
      EXPECT_NEAR(*report.abs_max, 100 * allowed, 0x1p-52);
      EXPECT_FALSE(passes(*report.ratio_forward));
      channel.computed[at] = h;
    }
  }
}

TEST(ForwardVerdict, SubtractsTheLowPartOfTheTruth) {
  JudgedChannel channel = judged("gru_diag", "paper", 5, Storage::f64);
  EXPECT_EQ(*verdict(channel, Storage::f64).abs_max,
            std::fabs(std::max_element(channel.truth.states.begin(), channel.truth.states.end(), [](const DoubleDouble& x, const DoubleDouble& y) {
                        return std::fabs(x.low) < std::fabs(y.low);
                      })->low));
}

TEST(ForwardVerdict, NeverLosesANan) {
  for (std::size_t at = 0; at < 40; at += 13) {
    JudgedChannel channel = judged("lstm_cifg_diag", "paper", 20);
    channel.computed[at] = kNan;
    const JudgedChannel good = judged("lstm_cifg_diag", "paper", 20, Storage::f32, 1);
    for (const bool first : {true, false}) {
      ErrorReport report;
      judge_channels(first ? std::vector{channel, good} : std::vector{good, channel}, Storage::f32, report);
      for (const auto& value : {report.ratio_forward, report.abs_max, report.rel_max, report.ulp_max, report.ulp_p99, report.rms}) EXPECT_TRUE(std::isnan(*value));
      EXPECT_FALSE(passes(*report.ratio_forward));
      EXPECT_TRUE(std::isnan(report.test_ratio()));
    }
    channel.computed[at] = std::numeric_limits<double>::infinity();
    EXPECT_FALSE(passes(*verdict(channel).ratio_forward));
  }
}

TEST(ForwardVerdict, ReportsErrorsInEveryUnit) {
  // A truth made by hand: 100 states of 0.5 and one of -1.5, with errors of e at 0.5 and 4 e at 1.5.
  const std::int64_t L = 101;
  JudgedChannel channel{{2, 3}, {"elman_diag", L, {0.0}, std::vector<double>(std::size_t(L), 0.0), {0.0}}, {}, {}, {}};
  const double e = 0x1p-21;
  channel.truth.steps = L;
  channel.truth.states.assign(std::size_t(L), {0.5, 0});
  channel.truth.states[7] = {-1.5, 0};
  channel.truth.difference.assign(std::size_t(L), 0);
  for (const DoubleDouble& h : channel.truth.states) channel.computed.push_back(h.high + e);
  channel.computed[7] = -1.5 + 4 * e;
  const ErrorReport report = verdict(channel);
  EXPECT_EQ(*report.abs_max, 4 * e);
  EXPECT_EQ(*report.rel_max, 4 * e / 1.5);
  EXPECT_EQ(*report.ulp_max, 16);  // f32: 2^-24 apart at 0.5, 2^-23 at 1.5
  EXPECT_EQ(*report.ulp_p99, 8);   // 100 of 101 are at most 8
  EXPECT_NEAR(*report.rms, e * std::sqrt((100 + 16) / 101.0), 1e-12 * e);
  EXPECT_EQ(*report.verified_prefix, L);
  EXPECT_EQ(report.channels_checked, (std::vector<std::array<std::int64_t, 2>>{{2, 3}}));
  EXPECT_EQ(report.reference, kReferenceName);
  EXPECT_EQ(*verdict(channel, Storage::f64).ulp_max, 16 * 0x1p29);
  EXPECT_EQ(*verdict(channel, Storage::bf16).ulp_max, 16 * 0x1p-16);
  EXPECT_EQ(*verdict(channel, Storage::f16).ulp_max, 16 * 0x1p-13);
  channel.computed[8] = 0.5 + 6 * e;  // two of 101 lie above 8 ulp now: 99 % need the smaller of them
  EXPECT_EQ(*verdict(channel).ulp_p99, 16);
  EXPECT_EQ(*verdict(channel).ulp_max, 48);

  // 100 states of 0.5, one with an error of 3 e: 99 % are at most 8 ulp.
  channel.data.seq_len = channel.truth.steps = 100;
  channel.data.inputs.resize(100);
  channel.truth.states.assign(100, {0.5, 0});
  channel.truth.difference.assign(100, 0);
  channel.computed.assign(100, 0.5 + e);
  channel.computed[99] = 0.5 - 3 * e;
  EXPECT_EQ(*verdict(channel).ulp_p99, 8);
  EXPECT_EQ(*verdict(channel).rel_max, 3 * e / 0.5);
}

TEST(ForwardVerdict, StoringASubnormalIsNotAnError) {
  // An LSTM whose output gate is almost shut: h ~ 1e-6 is subnormal in f16, where rounding is absolute.
  ChannelData data{"lstm_cifg_diag", 12, {0, 0, 0, 0, 0}, {}, {0.5, 0}};
  for (int l = 0; l < 12; ++l) data.inputs.insert(data.inputs.end(), {0.0, -13.0 - 0.125 * l, 0.5});
  const JudgedChannel channel{{0, 0}, data, true_states(data), evaluate<F16>(data), {}};
  const ErrorReport report = verdict(channel, Storage::f16);
  EXPECT_LT(*report.ratio_forward, 1.5);
  EXPECT_LE(*report.ulp_max, 1);
}

TEST(ForwardVerdict, EndsWhereTheBoundSaysNothing) {
  ChannelData data{"elman_diag", 60, {8.0}, std::vector<double>(60, 0.0), {0x1p-30}};
  JudgedChannel channel{{0, 0}, data, true_states(data), {}, {}};
  for (const DoubleDouble& h : channel.truth.states) channel.computed.push_back(h.high);
  const std::vector<double> bound = forward_bound(data, channel.truth, Storage::f32);
  const std::int64_t prefix = *verdict(channel).verified_prefix;
  ASSERT_GT(prefix, 0);
  ASSERT_LT(prefix, 60);
  EXPECT_LT(bound[std::size_t(prefix - 1)], kJudgedBelow);
  EXPECT_GE(bound[std::size_t(prefix)], kJudgedBelow);
  channel.computed[std::size_t(prefix)] = 77;
  EXPECT_TRUE(passes(*verdict(channel).ratio_forward));  // beyond the prefix the local test alone judges
  channel.steps = {0, prefix};
  EXPECT_TRUE(passes(*verdict(channel).ratio_forward));
  channel.steps.clear();
  channel.computed[std::size_t(prefix - 1)] = 77;
  EXPECT_FALSE(passes(*verdict(channel).ratio_forward));
}

TEST(ForwardVerdict, EndsWhereTheReferenceDoesNotKnowItself) {
  JudgedChannel channel = judged("gru_diag", "paper", 40);
  const std::vector<double> bound = forward_bound(channel.data, channel.truth, Storage::f32);
  channel.truth.difference[17] = float(bound[17] * kReferenceMargin / 2);
  EXPECT_EQ(*verdict(channel).verified_prefix, 40);
  channel.truth.difference[17] = float(bound[17] * kReferenceMargin * 4);
  EXPECT_EQ(*verdict(channel).verified_prefix, 17);
  channel.truth.difference[17] = float(kNan);
  EXPECT_EQ(*verdict(channel).verified_prefix, 17);
}

TEST(ForwardVerdict, TakesTheLeastPrefixAndSaysWhenThereIsNone) {
  const JudgedChannel whole = judged("gru_diag", "paper", 30);
  JudgedChannel cut = judged("gru_diag", "paper", 30, Storage::f32, 1);
  cut.truth.steps = 11;
  cut.truth.states.resize(11);
  cut.truth.difference.resize(11);
  ErrorReport report;
  judge_channels({whole, cut}, Storage::f32, report);
  EXPECT_EQ(*report.verified_prefix, 11);
  EXPECT_TRUE(report.ratio_forward);
  judge_channels({cut, whole}, Storage::f32, report);
  EXPECT_EQ(*report.verified_prefix, 11);
  cut.truth = {};
  report = {};
  judge_channels({cut}, Storage::f32, report);
  EXPECT_FALSE(report.ratio_forward || report.abs_max);
  EXPECT_EQ(*report.verified_prefix, 0);
  EXPECT_FALSE(report.null_reason.empty());
  judge_channels({}, Storage::f32, report);
  EXPECT_EQ(*report.verified_prefix, 0);
}

TEST(ForwardVerdict, JudgesOnlyTheStepsAskedFor) {
  JudgedChannel channel = judged("gru_diag", "paper", 10);
  channel.computed[4] += 1;
  channel.steps = {0, 3, 5, 9};
  EXPECT_TRUE(passes(*verdict(channel).ratio_forward));
  channel.steps = {4};
  EXPECT_FALSE(passes(*verdict(channel).ratio_forward));
}

TEST(ForwardVerdict, RefusesStatesOfAnotherShape) {
  JudgedChannel channel = judged("gru_diag", "paper", 10);
  channel.computed.pop_back();
  EXPECT_THROW(verdict(channel), std::invalid_argument);
}

TEST(ForwardVerdict, JudgesTheSampledChannelsOfAProblem) {
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "prnn_judge_forward";
  Problem p;
  p.cell = "gru_diag";
  p.batch = 2;
  p.hidden = 9;
  p.seq_len = 20;
  ReferenceCache cache(directory);
  ErrorReport report;
  report.ratio_local = 0.25;
  std::vector<std::array<std::int64_t, 2>> asked;
  const auto good = [&](std::int64_t b, std::int64_t d) {
    asked.push_back({b, d});
    return evaluate<float>(draw_channel(p, b, d));
  };
  judge_forward(p, good, cache, report);
  EXPECT_EQ(asked, sampled_channels(p));
  EXPECT_EQ(report.channels_checked, asked);
  EXPECT_TRUE(passes(*report.ratio_forward));
  EXPECT_EQ(report.ratio_local, 0.25);
  const auto swapped = [&](std::int64_t b, std::int64_t d) { return evaluate<float>(draw_channel(p, b, (d + 1) % p.hidden)); };
  judge_forward(p, swapped, cache, report);
  EXPECT_FALSE(passes(*report.ratio_forward));
  std::filesystem::remove_all(directory);
}

TEST(ErrorFactor, IsWellAboveWhatCorrectEvaluationReaches) {
  static_assert(kErrorFactor <= 16);
  for (const char* cell : {"gru_diag", "lstm_cifg_diag", "elman_diag"}) {
    for (const char* regime : {"paper", "public", "corners", "wide", "expansive", "long_memory", "saturated"}) {
      for (std::int64_t d = 0; d < 2; ++d) {
        JudgedChannel channel = judged(cell, regime, 120, Storage::f32, d);
        channel.computed = evaluate<float>(channel.data);
        EXPECT_LT(2 * *verdict(channel).ratio_forward, kErrorFactor) << cell << " " << regime;
        channel.data = drawn_channel(cell, 120, regime, Storage::f64, d);
        channel.truth = true_states(channel.data);
        channel.computed = evaluate<double>(channel.data);
        EXPECT_LT(2 * *verdict(channel, Storage::f64).ratio_forward, kErrorFactor) << cell << " " << regime;
      }
    }
  }
}

TEST(ErrorFactor, NanNeverPasses) {
  EXPECT_TRUE(passes(0));
  EXPECT_TRUE(passes(kErrorFactor));
  EXPECT_FALSE(passes(std::nextafter(kErrorFactor, 100)));
  EXPECT_FALSE(passes(kNan));
  EXPECT_FALSE(passes(std::numeric_limits<double>::infinity()));
}

}  // namespace
}  // namespace prnn
