// judge_backward.test.cpp: the verdict on gradients: its bound, how far it reaches, and that nothing wrong passes.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include <gtest/gtest.h>

#include "kernels/cells/bounded.hpp"
#include "reference/reference.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

using testing::backward_channel;
using testing::evaluate_gradients;
using testing::small_problem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// f.template operator()<T>() for the type of a storage.
template <class F>
void with_storage(Storage storage, F&& f) {
  switch (storage) {
    case Storage::f32: return f.template operator()<float>();
    case Storage::f64: return f.template operator()<double>();
    case Storage::bf16: return f.template operator()<Bf16>();
    case Storage::f16: return f.template operator()<F16>();
  }
}

/// Hidden channel d of a problem, with gradients by a plain loop in the problem's type.
JudgedHidden solved(const Problem& p, std::int64_t d = 0) {
  JudgedHidden hidden{.d = d};
  with_storage(p.storage, [&]<class T>() {
    for (std::int64_t b = 0; b < p.batch; ++b) {
      hidden.batch.push_back(backward_channel<T>(p, b, d));
      ByArgument<double> gradients = evaluate_gradients<T>(hidden.batch.back());
      hidden.inputs.push_back(std::move(gradients.inputs));
      hidden.initial.push_back(std::move(gradients.initial));
      hidden.weights.resize(gradients.weights.size());
      for (std::size_t k = 0; k < gradients.weights.size(); ++k) hidden.weights[k] += gradients.weights[k];
    }
    for (double& x : hidden.weights) x = compute_t<T>(x);
  });
  return hidden;
}

GradientReports verdict(const std::vector<JudgedHidden>& all, const Problem& p, GradientReference reference = GradientReference()) {
  GradientReports reports;
  judge_gradients(all, p.storage, p.gates, reference, reports);
  return reports;
}

/// The reports as a list, and what a solver computed for each.
std::vector<ErrorReport> each(const GradientReports& reports) { return {reports.du, reports.da, reports.dh0}; }
std::vector<double>& computed(JudgedHidden& hidden, std::size_t which) { return which == 0 ? hidden.inputs.back() : which == 1 ? hidden.weights : hidden.initial.back(); }

Problem batch_of_three(const char* cell = "lstm_cifg_diag", const char* regime = "paper", Storage storage = Storage::f32) {
  Problem p = small_problem(cell, 25, regime, storage);
  p.batch = 3;
  return p;
}

// --- the bound ------------------------------------------------------------------------------------------------------------------

TEST(GradientBound, IsRunningErrorAnalysisBackwards) {
  // Elman: J = a (1 - t^2), with t and 1 - t^2 computed: e(t) = gate, e(1 - t^2) follows from the products; written out with Bounded's operations alone.
  Problem p = small_problem("elman_diag", 7, "wide");
  const BackwardChannel channel = backward_channel<float>(p, 0, 0);
  const GradientBounds bounds = gradient_bounds(channel, Storage::f32);
  ASSERT_EQ(bounds.steps, 7);
  using B = Bounded<float>;
  const double a = channel.data.weights[0];
  B g = channel.loss.last[0];
  double weights = 0;
  for (std::size_t l = 7; l-- > 0;) {
    const double before = l == 0 ? channel.data.initial[0] : channel.states[l - 1];
    g = g + B(channel.loss.states[l]);
    B h[1], by_a[1], by_u[1];
    vjp_and_bound<ElmanDiag>({before}, {a}, {channel.data.inputs[l]}, {g}, h, by_a, by_u);
    EXPECT_EQ(bounds.inputs[l], by_u[0].error) << l;
    weights += by_a[0].error + 0x1p-24 * std::fabs(by_a[0].value);
    g = h[0];
  }
  EXPECT_EQ(bounds.initial[0], g.error);
  EXPECT_EQ(bounds.weights[0], weights);
}

TEST(GradientBound, KnowsTypeAndGates) {
  const BackwardChannel channel = backward_channel<float>(small_problem("gru_diag", 9, "paper"), 0, 0);
  const double f32 = gradient_bounds(channel, Storage::f32).inputs[0], f64 = gradient_bounds(channel, Storage::f64).inputs[0];
  EXPECT_EQ(gradient_bounds(channel, Storage::bf16).inputs[0], f32);
  EXPECT_EQ(gradient_bounds(channel, Storage::f16).inputs[0], f32);
  EXPECT_LT(f64, 0x1p-28 * f32);
  EXPECT_GT(gradient_bounds(channel, Storage::f32, "approx").inputs[0], 0x1p8 * f32);
  EXPECT_EQ(gradient_bounds(channel, Storage::f64, "approx").inputs[0], f64);
}

TEST(GradientBound, CarriesWhatTheStatesAndTheLossAreOffBy) {
  const BackwardChannel channel = backward_channel<float>(small_problem("lstm_cifg_diag", 9, "paper"), 0, 0);
  const GradientBounds exact = gradient_bounds(channel, Storage::f64);
  GivenErrors given;
  given.loss.assign(channel.loss.states.size(), 0);
  given.loss[17] = 0x1p-10;  // of the last step's h
  const GradientBounds by_loss = gradient_bounds(channel, Storage::f64, "exact", given);
  GivenErrors states;
  states.states.assign(channel.states.size(), 0);
  states.states[6] = 0x1p-10;  // of the state that step 4 (0-based) is taken at
  const GradientBounds by_states = gradient_bounds(channel, Storage::f64, "exact", states);
  // Move the number by that error: every gradient moves by at most the bound, but for the second order, and some by nearly as much.
  BackwardChannel moved_loss = channel, moved_states = channel;
  moved_loss.loss.states[17] += 0x1p-10;
  moved_states.states[6] += 0x1p-10;
  const ByArgument<double> before = evaluate_gradients<double>(channel);
  double most = 0;
  const auto check = [&](const ByArgument<double>& after, const GradientBounds& bounds) {
    for (std::size_t i = 0; i < before.inputs.size(); ++i) {
      EXPECT_LE(std::fabs(after.inputs[i] - before.inputs[i]), 1.02 * bounds.inputs[i]);
      if (bounds.inputs[i] > 0x1p-20) most = std::max(most, std::fabs(after.inputs[i] - before.inputs[i]) / bounds.inputs[i]);
    }
    for (std::size_t i = 0; i < before.weights.size(); ++i) EXPECT_LE(std::fabs(after.weights[i] - before.weights[i]), 1.02 * bounds.weights[i]);
    for (std::size_t i = 0; i < before.initial.size(); ++i) EXPECT_LE(std::fabs(after.initial[i] - before.initial[i]), 1.02 * bounds.initial[i]);
  };
  check(evaluate_gradients<double>(moved_loss), by_loss);
  EXPECT_GT(most, 0.9);
  most = 0;
  check(evaluate_gradients<double>(moved_states), by_states);
  EXPECT_GT(most, 0.5);
  for (std::size_t i = 5 * 3; i < by_states.inputs.size(); ++i) EXPECT_EQ(by_states.inputs[i], exact.inputs[i]);  // later steps do not see that state
}

TEST(GradientBound, EndsWhereNumbersLeaveTheRange) {
  // J = 64 at h = 0: g = 2^(6 s) after s steps, beyond 2^118 in the 20th.
  BackwardChannel channel{{"elman_diag", 40, {64}, std::vector<double>(40, 0), {0}}, std::vector<double>(40, 0), {std::vector<double>(40, 0), {1}}};
  const GradientBounds f32 = gradient_bounds(channel, Storage::f32), f64 = gradient_bounds(channel, Storage::f64);
  EXPECT_EQ(f32.steps, 19);
  EXPECT_EQ(f32.inputs.size(), 19u);
  EXPECT_TRUE(f32.weights.empty() && f32.initial.empty());
  EXPECT_EQ(f64.steps, 40);
  channel.states[30] = kNan;  // h_31, which step 32 is taken at
  EXPECT_EQ(gradient_bounds(channel, Storage::f64).steps, 8);
}

// --- the verdict ------------------------------------------------------------------------------------------------------------------

TEST(GradientVerdict, PassesAPlainLoopInEveryTypeCellAndRegime) {
  double worst[3] = {};
  for (const char* cell : {"gru_diag", "lstm_cifg_diag", "elman_diag"}) {
    for (const char* regime : {"paper", "public", "corners", "wide", "expansive", "long_memory", "saturated"}) {
      for (const Storage storage : kStorages) {
        for (const char* grad : {"all", "output", "squares"}) {
          Problem p = small_problem(cell, 60, regime, storage);
          p.grad = grad;
          p.batch = 2;
          const GradientReports reports = verdict({solved(p)}, p);
          for (std::size_t which = 0; which < 3; ++which) {
            const ErrorReport report = each(reports)[which];
            ASSERT_TRUE(report.ratio_forward) << cell << " " << regime << " " << to_string(storage) << " " << which;
            EXPECT_LT(2 * *report.ratio_forward, kErrorFactor) << cell << " " << regime << " " << to_string(storage) << " " << which;
            EXPECT_EQ(*report.verified_prefix, 60);
            EXPECT_EQ(report.reference, kReferenceName);
            worst[which] = std::max(worst[which], *report.ratio_forward);
          }
        }
      }
    }
  }
  // A bound that is never approached would let mistakes pass. The errors of the 120 terms of da cancel as a random walk does.
  EXPECT_GT(worst[0], 0.25);
  EXPECT_GT(worst[1], 0.25 / std::sqrt(120.0));
  EXPECT_GT(worst[2], 0.25);
}

TEST(GradientVerdict, MeasuresAnErrorInUnitsOfItsBound) {
  for (const Storage storage : kStorages) {
    const Problem p = batch_of_three("lstm_cifg_diag", "paper", storage);
    JudgedHidden hidden = solved(p);
    const BackwardChannel& channel = hidden.batch.back();
    const Gradients truth = true_gradients(channel);
    const GradientBounds bounds = gradient_bounds(channel, storage);
    const std::int64_t L = p.seq_len;
    const auto expect_ratio = [&](std::size_t which, std::size_t at, double value, double allowed) {
      double& x = computed(hidden, which)[at];
      const double before = x;
      for (const double sign : {1.0, -1.0}) {
        x = value + sign * 100 * allowed;
        const ErrorReport report = each(verdict({hidden}, p))[which];
        EXPECT_NEAR(*report.ratio_forward, 100, 0x1p-50 * (std::fabs(value) / allowed + 100)) << which;
        EXPECT_FALSE(passes(*report.ratio_forward));
        for (std::size_t other = 0; other < 3; ++other) EXPECT_TRUE(other == which || passes(*each(verdict({hidden}, p))[other].ratio_forward));
      }
      x = before;
    };
    for (const std::size_t at : {std::size_t(0), std::size_t(37), std::size_t(3 * L - 1)}) {
      const double stored = storage == compute_storage(storage) ? 0 : unit_roundoff(storage) * std::fabs(truth.inputs[at].high);
      expect_ratio(0, at, truth.inputs[at].high, bounds.inputs[at] + stored);
    }
    for (std::size_t i = 0; i < 2; ++i) expect_ratio(2, i, truth.initial[i].high, bounds.initial[i]);
    double weight = 0, weight_bound = 0;
    for (const BackwardChannel& each_channel : hidden.batch) {
      weight += true_gradients(each_channel).weights[4].high;
      weight_bound += gradient_bounds(each_channel, storage).weights[4];
    }
    if (storage != Storage::f64) expect_ratio(1, 4, weight, weight_bound);  // in f64 the sum here is no better than what is judged
  }
}

TEST(GradientVerdict, FindsOneChangedDigitAnywhere) {
  for (const char* cell : {"gru_diag", "lstm_cifg_diag", "elman_diag"}) {
    for (const Storage storage : {Storage::f32, Storage::f64}) {
      const Problem p = batch_of_three(cell, "paper", storage);
      JudgedHidden hidden = solved(p);
      GradientReference reference;
      for (std::size_t which = 0; which < 3; ++which) {
        std::vector<double>& values = computed(hidden, which);
        for (const std::size_t at : {std::size_t(0), values.size() / 2, values.size() - 1}) {
          const double before = values[at];
          values[at] *= storage == Storage::f32 ? 1.01 : 1 + 1e-10;  // da: c x bound is 1e-4 in f32, of 75 terms
          GradientReports reports;
          judge_gradients({hidden}, storage, "exact", reference, reports);
          EXPECT_FALSE(passes(*each(reports)[which].ratio_forward)) << cell << " " << which << " " << at << " " << before;
          values[at] = before;
        }
      }
    }
  }
}

TEST(GradientVerdict, NeverLosesANan) {
  const Problem p = batch_of_three();
  const JudgedHidden good = solved(p, 1);
  for (const double bad : {kNan, std::numeric_limits<double>::infinity()}) {
    for (std::size_t which = 0; which < 3; ++which) {
      JudgedHidden hidden = solved(p);
      computed(hidden, which).front() = bad;
      for (const bool first : {true, false}) {
        const ErrorReport report = each(verdict(first ? std::vector{hidden, good} : std::vector{good, hidden}, p))[which];
        EXPECT_FALSE(passes(*report.ratio_forward)) << which;
        if (!std::isnan(bad)) continue;
        for (const auto& value : {report.ratio_forward, report.abs_max, report.rel_max, report.ulp_max, report.ulp_p99, report.rms}) EXPECT_TRUE(std::isnan(*value)) << which;
      }
    }
  }
}

TEST(GradientVerdict, FindsWeightsThatMissABatchEntry) {
  const Problem p = batch_of_three();
  JudgedHidden hidden = solved(p);
  const ByArgument<double> one = evaluate_gradients<float>(hidden.batch[1]);
  for (std::size_t k = 0; k < hidden.weights.size(); ++k) hidden.weights[k] -= one.weights[k];
  const GradientReports reports = verdict({hidden}, p);
  EXPECT_FALSE(passes(*reports.da.ratio_forward));
  EXPECT_TRUE(passes(*reports.du.ratio_forward));
}

TEST(GradientVerdict, FindsWeightsThatAreSummedInTheComputeTypeWithoutCare) {
  // Terms of one sign, nearly equal: a running sum in float is rounded the same way for whole octaves of it. The batch's parts are added up with care.
  Problem p = small_problem("gru_diag", 1 << 12, "paper");
  JudgedHidden hidden{.d = 0, .batch = {}, .inputs = {}, .initial = {}, .weights = {}};
  for (std::int64_t b = 0; b < 2; ++b) {
    BackwardChannel channel = backward_channel<float>(p, b, 0);
    for (auto* values : {&channel.data.inputs, &channel.states, &channel.loss.states}) std::fill(values->begin(), values->end(), 0.3f);
    const ByArgument<double> gradients = evaluate_gradients<float>(channel);
    hidden.batch.push_back(std::move(channel));
    hidden.inputs.push_back(gradients.inputs);
    hidden.initial.push_back(gradients.initial);
  }
  GradientReference reference;
  const auto summed_in = [&]<class Sum>(Sum) {
    hidden.weights.assign(3, 0);
    for (const BackwardChannel& channel : hidden.batch) {
      const ByArgument<double> part = evaluate_gradients<float, Sum>(channel);
      for (std::size_t k = 0; k < 3; ++k) hidden.weights[k] += part.weights[k];
    }
    for (double& x : hidden.weights) x = float(x);
    GradientReports reports;
    judge_gradients({hidden}, p.storage, p.gates, reference, reports);
    EXPECT_TRUE(passes(*reports.du.ratio_forward));
    return *reports.da.ratio_forward;
  };
  EXPECT_LE(summed_in(double()), 2);
  EXPECT_GT(summed_in(float()), kErrorFactor);
}

TEST(GradientVerdict, SumsTheTruthBeyondDouble) {
  // Two batch entries with opposite losses but for one part in 2^60: their sum is what double loses.
  Problem p = small_problem("gru_diag", 8, "paper", Storage::f64);
  BackwardChannel plus = backward_channel<double>(p, 0, 0), minus = plus;
  for (double& g : minus.loss.states) g *= -1;
  for (double& g : minus.loss.last) g *= -1;
  minus.loss.last[0] += 0x1p-48;
  const Gradients a = true_gradients(plus), b = true_gradients(minus);
  JudgedHidden hidden{.d = 0, .batch = {plus, minus}, .inputs = {}, .initial = {}, .weights = {}};
  for (const Gradients* truth : {&a, &b}) {
    hidden.inputs.emplace_back();
    hidden.initial.emplace_back();
    for (const DoubleDouble& x : truth->inputs) hidden.inputs.back().push_back(x.high);
    for (const DoubleDouble& x : truth->initial) hidden.initial.back().push_back(x.high);
  }
  for (std::size_t k = 0; k < 3; ++k) hidden.weights.push_back((a.weights[k].high + b.weights[k].high) + (a.weights[k].low + b.weights[k].low));
  // high + high is exact here, for they differ by 2^-48 of their size; so is the rest but for its last digit.
  EXPECT_LE(*verdict({hidden}, p).da.abs_max, 0x1p-52 * 0x1p-44);
}

TEST(GradientVerdict, ReportsErrorsInEveryUnit) {
  // One step of Elman at 0: du = g (1 - 0), so that the truth is -1.5 and 0.5 by hand, and da = du h_before, dh0 = du a.
  const Problem p = small_problem("elman_diag", 1, "paper", Storage::f16);
  const auto channel = [](double g) { return BackwardChannel{{"elman_diag", 1, {0.0}, {0.0}, {0.5}}, {0.0}, {{g}, {0.0}}}; };
  const double e = 0x1p-9;
  const JudgedHidden hidden{.d = 3, .batch = {channel(-1.5), channel(0.5)}, .inputs = {{-1.5 + 4 * e}, {0.5 - e}}, .initial = {{0}, {0}}, .weights = {-0.5 + 0x1p-20}};
  const GradientReports reports = verdict({hidden}, p);
  EXPECT_EQ(*reports.du.abs_max, 4 * e);
  EXPECT_EQ(*reports.du.rel_max, 4 * e / 1.5);
  EXPECT_EQ(*reports.du.ulp_max, 8);  // f16: 2^-10 apart at 1.5, 2^-11 at 0.5
  EXPECT_EQ(*reports.du.rms, e * std::sqrt(17 / 2.0));
  EXPECT_EQ(*reports.da.abs_max, 0x1p-20);
  EXPECT_EQ(*reports.da.rel_max, 0x1p-19);
  EXPECT_EQ(*reports.da.ulp_max, 16);  // compute type: 2^-24 apart at 0.5
  EXPECT_EQ(*reports.dh0.abs_max, 0);
  EXPECT_EQ(reports.du.channels_checked, (std::vector<std::array<std::int64_t, 2>>{{0, 3}, {1, 3}}));
  EXPECT_EQ(reports.dh0.channels_checked, reports.du.channels_checked);
  EXPECT_EQ(reports.da.channels_checked, (std::vector<std::array<std::int64_t, 2>>{{0, 3}}));
}

TEST(GradientVerdict, StoringASubnormalIsNotAnError) {
  Problem p = small_problem("gru_diag", 30, "paper", Storage::f16);
  JudgedHidden hidden{.d = 0, .batch = {backward_channel<F16>(p, 0, 0)}, .inputs = {}, .initial = {}, .weights = {}};
  for (double& g : hidden.batch[0].loss.states) g *= 0x1p-18;
  for (double& g : hidden.batch[0].loss.last) g *= 0x1p-18;
  ByArgument<double> gradients = evaluate_gradients<F16>(hidden.batch[0]);
  hidden.inputs = {gradients.inputs};
  hidden.initial = {gradients.initial};
  hidden.weights = gradients.weights;
  EXPECT_LE(*verdict({hidden}, p).du.ratio_forward, 1.5);
}

TEST(GradientVerdict, AnInfinityThatStoringTheTruthGivesIsNoError) {
  const Problem p = small_problem("elman_diag", 1, "paper", Storage::f16);
  const auto ratio = [&](double g, double stored) {
    const BackwardChannel channel{{"elman_diag", 1, {0.0}, {0.0}, {0.0}}, {0.0}, {{0.0}, {g}}};
    return verdict({{.d = 0, .batch = {channel}, .inputs = {{stored}}, .initial = {{0}}, .weights = {0}}}, p).du.ratio_forward.value_or(0);
  };
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(passes(ratio(70000, inf)));
  EXPECT_TRUE(passes(ratio(-70000, -inf)));
  EXPECT_FALSE(passes(ratio(70000, -inf)));
  EXPECT_FALSE(passes(ratio(50000, inf)));
  EXPECT_FALSE(passes(ratio(70000, kNan)));
  EXPECT_FALSE(passes(ratio(70000, 65504)));
}

TEST(GradientVerdict, JudgesTheStepsThatThereWasTimeFor) {
  const Problem p = small_problem("gru_diag", 3000, "paper");
  JudgedHidden hidden = solved(p);
  hidden.inputs[0].front() += 1;  // step 1, which comes last
  const GradientReports whole = verdict({hidden}, p);
  EXPECT_FALSE(passes(*whole.du.ratio_forward));
  const GradientReports none = verdict({hidden}, p, GradientReference(0));
  for (const ErrorReport& report : each(none)) {
    EXPECT_FALSE(report.ratio_forward || report.abs_max);
    EXPECT_EQ(*report.verified_prefix, 0);
    EXPECT_TRUE(report.channels_checked.empty());
    EXPECT_FALSE(report.null_reason.empty());
  }
  GradientReference once;
  once.of({&hidden.batch[0]}, 1);
  const GradientReports part = verdict({hidden}, p, GradientReference(once.spent_s() / 20));
  if (!part.du.ratio_forward) GTEST_SKIP() << "another process had the core";
  EXPECT_TRUE(passes(*part.du.ratio_forward));
  EXPECT_LT(*part.du.verified_prefix, p.seq_len);
  EXPECT_FALSE(part.da.ratio_forward || part.dh0.ratio_forward);
  const std::size_t first_judged = std::size_t(p.seq_len - *part.du.verified_prefix);
  // The same GradientReference would have remembered; a fresh one is as fast, give or take, so that a change at the very end is judged for sure.
  hidden.inputs[0].back() += 1;
  EXPECT_FALSE(passes(verdict({hidden}, p, GradientReference(once.spent_s() / 20)).du.ratio_forward.value_or(kNan)));
  EXPECT_GT(first_judged, 0u);
}

TEST(GradientVerdict, EndsWhereTheReferenceDoesNotKnowItself) {
  const Problem p = small_problem("lstm_cifg_diag", 20, "paper");
  const JudgedHidden hidden = solved(p);
  const Gradients truth = true_gradients(hidden.batch[0]);
  const GradientBounds bounds = gradient_bounds(hidden.batch[0], p.storage);
  const auto verdict_with = [&](std::vector<double> ByArgument<double>::*which, std::size_t at, double difference) {
    auto changed = std::make_shared<Gradients>(truth);
    (changed->difference.*which)[at] = difference;
    GradientReports reports;
    judge_gradients({hidden}, {changed}, p.storage, p.gates, reports);
    return reports;
  };
  const auto margin = [&](double bound, double factor) { return bound * kReferenceMargin * factor; };
  const std::size_t at = 3 * 11 + 1;  // of step 12: eight follow it
  EXPECT_EQ(*verdict_with(&ByArgument<double>::inputs, at, margin(bounds.inputs[at], 0.5)).du.verified_prefix, 20);
  for (const double difference : {margin(bounds.inputs[at], 2), kNan}) EXPECT_EQ(*verdict_with(&ByArgument<double>::inputs, at, difference).du.verified_prefix, 8);
  EXPECT_TRUE(verdict_with(&ByArgument<double>::weights, 2, margin(bounds.weights[2], 0.5)).da.ratio_forward);
  EXPECT_TRUE(verdict_with(&ByArgument<double>::initial, 1, margin(bounds.initial[1], 0.5)).dh0.ratio_forward);
  for (const double factor : {2.0, kNan}) {
    const GradientReports weights = verdict_with(&ByArgument<double>::weights, 2, margin(bounds.weights[2], factor));
    EXPECT_FALSE(weights.da.ratio_forward);
    EXPECT_TRUE(weights.da.channels_checked.empty());
    EXPECT_TRUE(weights.du.ratio_forward && weights.dh0.ratio_forward);
    const GradientReports initial = verdict_with(&ByArgument<double>::initial, 1, margin(bounds.initial[1], factor));
    EXPECT_FALSE(initial.dh0.ratio_forward);
    EXPECT_TRUE(initial.du.ratio_forward && initial.da.ratio_forward);
  }
  GradientReports reports;
  EXPECT_THROW(judge_gradients({hidden}, {}, p.storage, p.gates, reports), std::invalid_argument);
}

TEST(GradientVerdict, EndsWhereTheComputeTypeOverflows) {
  const Problem p = small_problem("elman_diag", 40, "paper");
  const BackwardChannel channel{{"elman_diag", 40, {64}, std::vector<double>(40, 0), {0}}, std::vector<double>(40, 0), {std::vector<double>(40, 0), {1}}};
  ByArgument<double> gradients = evaluate_gradients<float>(channel);
  ASSERT_FALSE(std::isfinite(gradients.inputs[0]));
  const GradientReports reports = verdict({{.d = 0, .batch = {channel}, .inputs = {gradients.inputs}, .initial = {gradients.initial}, .weights = gradients.weights}}, p);
  EXPECT_TRUE(passes(*reports.du.ratio_forward));
  EXPECT_EQ(*reports.du.verified_prefix, 19);
  EXPECT_FALSE(reports.da.ratio_forward || reports.dh0.ratio_forward);
}

TEST(GradientVerdict, RefusesGradientsOfAnotherShape) {
  const Problem p = batch_of_three();
  const JudgedHidden right = solved(p);
  const auto refused = [&](auto&& change) {
    JudgedHidden wrong = right;
    change(wrong);
    EXPECT_THROW(verdict({wrong}, p), std::invalid_argument);
  };
  refused([](JudgedHidden& hidden) { hidden.inputs[1].pop_back(); });
  refused([](JudgedHidden& hidden) { hidden.initial[2].pop_back(); });
  refused([](JudgedHidden& hidden) { hidden.weights.pop_back(); });
  refused([](JudgedHidden& hidden) { hidden.inputs.pop_back(); });
  refused([](JudgedHidden& hidden) { hidden.initial.pop_back(); });
  refused([](JudgedHidden& hidden) { hidden.batch.clear(); });
}

TEST(GradientVerdict, JudgesTheSampledChannelsOfAProblem) {
  Problem p = small_problem("gru_diag", 20, "paper");
  p.batch = 2;
  p.hidden = 9;
  p.pass = "backward";
  p.grad = "output";
  std::vector<std::int64_t> asked;
  std::int64_t wrong_d = -1;
  const auto channel_of = [&](std::string_view tensor, std::int64_t b, std::int64_t d) -> std::vector<double> {
    const BackwardChannel channel = backward_channel<float>(p, b, d == wrong_d ? d - 1 : d);
    if (tensor == "h") return channel.states;
    ByArgument<double> gradients = evaluate_gradients<float>(channel);
    if (tensor == "du") return gradients.inputs;
    if (tensor == "dh0") return gradients.initial;
    EXPECT_EQ(tensor, "da");
    asked.push_back(d);
    const ByArgument<double> other = evaluate_gradients<float>(backward_channel<float>(p, 1 - b, d == wrong_d ? d - 1 : d));
    for (std::size_t k = 0; k < gradients.weights.size(); ++k) gradients.weights[k] += other.weights[k];
    return gradients.weights;
  };
  GradientReference reference;
  GradientReports reports;
  reports.du.ratio_local = 0.25;
  judge_backward(p, channel_of, reference, reports);
  for (const ErrorReport& report : each(reports)) EXPECT_TRUE(passes(*report.ratio_forward));
  EXPECT_EQ(reports.du.ratio_local, 0.25);
  std::vector<std::int64_t> expected;
  for (const auto& [b, d] : sampled_channels(p)) {
    if (std::find(expected.begin(), expected.end(), d) == expected.end()) expected.push_back(d);
  }
  EXPECT_EQ(asked, expected);
  EXPECT_EQ(reports.du.channels_checked.size(), 2 * expected.size());
  EXPECT_EQ(reports.da.channels_checked.size(), expected.size());
  // Off by 2^-12 of itself: what coarse gates may do, and exact ones may not.
  const auto coarse = [&](std::string_view tensor, std::int64_t b, std::int64_t d) {
    std::vector<double> values = channel_of(tensor, b, d);
    if (tensor != "h") {
      for (double& x : values) x *= 1 + 0x1p-12;
    }
    return values;
  };
  for (const char* gates : {"approx", "exact"}) {
    p.gates = gates;
    judge_backward(p, coarse, reference, reports);
    EXPECT_EQ(passes(*reports.du.ratio_forward), p.gates == "approx");
  }
  wrong_d = 8;
  judge_backward(p, channel_of, reference, reports);
  for (const ErrorReport& report : each(reports)) EXPECT_FALSE(passes(*report.ratio_forward));
}

// --- end to end -----------------------------------------------------------------------------------------------------------------

GradientReports end_to_end(const JudgedHidden& hidden, const Problem& p, GradientReference reference = GradientReference()) {
  GradientReports reports;
  compare_end_to_end({hidden}, p.grad == "squares", p.storage, p.gates, reference, reports);
  return reports;
}

/// The largest errors of the reports as they must be, and how much a truth in double may change them.
struct Expected {
  double abs[3] = {}, rel[3] = {}, roundoff = 0;
};
void note(Expected& e, std::size_t which, const std::vector<double>& computed, const std::vector<double>& truth) {
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    largest = std::max(largest, std::fabs(truth[i]));
    error = std::max(error, std::fabs(computed[i] - truth[i]));
  }
  e.abs[which] = std::max(e.abs[which], error);
  e.rel[which] = std::max(e.rel[which], error / largest);
}

/// A plain loop forward and back in double, on the problem's own u, a and h0, as the truth.
Expected expected_by_double(const Problem& p, const JudgedHidden& hidden) {
  Expected expected;
  std::vector<double> weights(hidden.weights.size(), 0);
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const BackwardChannel channel = backward_channel<double>(p, b, hidden.d);
    const ByArgument<double> truth = evaluate_gradients<double>(channel);
    note(expected, 0, hidden.inputs[std::size_t(b)], truth.inputs);
    note(expected, 2, hidden.initial[std::size_t(b)], truth.initial);
    for (std::size_t k = 0; k < weights.size(); ++k) weights[k] += truth.weights[k];
    GivenErrors given{.states = forward_bound(channel.data, true_states(channel.data), Storage::f64), .loss = {}};
    if (p.grad == "squares") {
      for (const double error : given.states) given.loss.push_back(2 * error);
    }
    const GradientBounds bounds = gradient_bounds(channel, Storage::f64, "exact", given);
    for (const auto* values : {&bounds.inputs, &bounds.initial, &bounds.weights}) {
      for (const double bound : *values) expected.roundoff = std::max(expected.roundoff, kErrorFactor * double(p.batch) * bound);
    }
  }
  note(expected, 1, hidden.weights, weights);
  return expected;
}

TEST(ErrorEndToEnd, IsWhatAPlainLoopInDoubleFinds) {
  for (const char* cell : {"gru_diag", "lstm_cifg_diag", "elman_diag"}) {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const Storage storage : {Storage::bf16, Storage::f16, Storage::f32}) {
        Problem p = batch_of_three(cell, "paper", storage);
        p.grad = grad;
        const JudgedHidden hidden = solved(p, 2);
        const GradientReports reports = end_to_end(hidden, p), stored = verdict({hidden}, p);
        const Expected expected = expected_by_double(p, hidden);
        EXPECT_LT(expected.roundoff, 0x1p-38);
        for (std::size_t which = 0; which < 3; ++which) {
          const ErrorReport report = each(reports)[which], at_stored = each(stored)[which];
          EXPECT_NEAR(report.abs_max.value(), expected.abs[which], expected.roundoff) << cell << " " << grad << " " << to_string(storage) << " " << which;
          EXPECT_NEAR(report.rel_max.value(), expected.rel[which], 0x1p-10 * expected.rel[which]) << cell << " " << grad << " " << to_string(storage) << " " << which;
          EXPECT_TRUE(passes(at_stored.ratio_forward.value()));
          EXPECT_FALSE(report.ratio_forward) << "no verdict";
          EXPECT_EQ(report.verified_prefix, 25);
          EXPECT_EQ(report.channels_checked, at_stored.channels_checked);
          EXPECT_EQ(report.reference, kReferenceName);
          // da and dh0 are kept in f32: given the stored states they are right to about 2^-24, and no better than these, 2^-9, end to end. dh0 is one number of few terms.
          if (storage == Storage::bf16 && which > 0) {
            EXPECT_GT(*report.abs_max, (which == 1 ? 0x1p8 : 0x1p4) * *at_stored.abs_max) << cell << " " << grad << " " << which;
          }
        }
      }
    }
  }
}

TEST(ErrorEndToEnd, IsWhatTheChainRuleSays) {
  // Elman by hand, in long double: h' = tanh(a h + u), s = g (1 - h'^2), du = s, da += s h, g = a s.
  for (const bool squares : {false, true}) {
    Problem p = batch_of_three("elman_diag", "wide", Storage::bf16);
    p.grad = squares ? "squares" : "all";
    const JudgedHidden hidden = solved(p, 1);
    Expected expected;
    std::vector<long double> da(1, 0);
    for (std::size_t b = 0; b < 3; ++b) {
      const auto& [data, states, loss] = hidden.batch[b];
      const std::size_t L = std::size_t(p.seq_len);
      const long double a = data.weights[0];
      std::vector<long double> h(L + 1, data.initial[0]);
      for (std::size_t l = 1; l <= L; ++l) h[l] = std::tanh(a * h[l - 1] + data.inputs[l - 1]);
      std::vector<double> du(L);
      long double g = loss.last[0];
      for (std::size_t l = L; l >= 1; --l) {
        g += squares ? 2 * h[l] : (long double)(loss.states[l - 1]);
        const long double s = g * (1 - h[l] * h[l]);
        du[l - 1] = double(s);
        da[0] += s * h[l - 1];
        g = a * s;
      }
      note(expected, 0, hidden.inputs[b], du);
      note(expected, 2, hidden.initial[b], {double(g)});
    }
    note(expected, 1, hidden.weights, {double(da[0])});
    for (std::size_t which = 0; which < 3; ++which) {
      EXPECT_GT(expected.abs[which], 0x1p-16);
      EXPECT_NEAR(each(end_to_end(hidden, p))[which].abs_max.value(), expected.abs[which], 0x1p-40) << which;  // 2^-53 of numbers below 2^5, which errors of the sums may double
    }
  }
}

TEST(ErrorEndToEnd, IsThatOfTheStoredStatesWhereTheseAreAsGoodAsTheGradients) {
  for (const char* cell : {"gru_diag", "lstm_cifg_diag", "elman_diag"}) {
    const Problem p = batch_of_three(cell, "paper", Storage::f64);
    const JudgedHidden hidden = solved(p);
    const double roundoff = expected_by_double(p, hidden).roundoff;
    for (std::size_t which = 0; which < 3; ++which) {
      const ErrorReport report = each(end_to_end(hidden, p))[which], stored = each(verdict({hidden}, p))[which];
      EXPECT_LE(*report.abs_max, roundoff);
      EXPECT_LE(*stored.abs_max, roundoff);
      EXPECT_GT(*report.abs_max, 0);
    }
    EXPECT_LT(roundoff, 0x1p-38);
  }
}

TEST(ErrorEndToEnd, SeesAForwardPassThatWasStoppedEarly) {
  // Newton's guess f(0, u_l) in place of the states: the gradients are right for what was stored, and far from those of the problem.
  Problem p = batch_of_three("gru_diag", "wide", Storage::f32);
  JudgedHidden hidden{.d = 0, .batch = {}, .inputs = {}, .initial = {}, .weights = std::vector<double>(3, 0)};
  for (std::int64_t b = 0; b < p.batch; ++b) {
    std::vector<double> guess;
    const ChannelData data = draw_channel(p, b, 0);
    for (std::size_t l = 0; l < std::size_t(p.seq_len); ++l)
      guess.push_back(
          testing::evaluate<float>({data.cell, 1, data.weights, {data.inputs.begin() + std::ptrdiff_t(3 * l), data.inputs.begin() + std::ptrdiff_t(3 * l + 3)}, {0}})[0]);
    hidden.batch.push_back(channel_at(p, b, 0, guess));
    const ByArgument<double> gradients = evaluate_gradients<float>(hidden.batch.back());
    hidden.inputs.push_back(gradients.inputs);
    hidden.initial.push_back(gradients.initial);
    for (std::size_t k = 0; k < 3; ++k) hidden.weights[k] += gradients.weights[k];
  }
  for (std::size_t which = 0; which < 3; ++which) {
    EXPECT_TRUE(passes(*each(verdict({hidden}, p))[which].ratio_forward));
    EXPECT_GT(*each(end_to_end(hidden, p))[which].rel_max, 0x1p-6) << which;
  }
}

TEST(ErrorEndToEnd, IsAbsentWhereTheTruthIsNotKnown) {
  const auto expect_absent = [](const GradientReports& reports) {
    for (const ErrorReport& report : each(reports)) {
      for (const auto& value : {report.abs_max, report.rel_max, report.ulp_max, report.ulp_p99, report.rms, report.ratio_forward}) EXPECT_FALSE(value);
      EXPECT_NE(report.null_reason, "");
      EXPECT_EQ(report.verified_prefix, 0);
    }
  };
  const Problem p = batch_of_three();
  expect_absent(end_to_end(solved(p), p, GradientReference(0)));
  // A chaotic channel: errors grow by exp(0.55) a step (measured in double over 2500 steps), so that after 400 steps 40 digits are gone, and after 40 most are there.
  for (const std::int64_t L : {40, 400}) {
    BackwardChannel channel{{"gru_diag", L, {-8, 0, -16}, {}, {0.25}}, {}, {std::vector<double>(std::size_t(L), 0.5), {1}}};
    for (std::int64_t l = 0; l < L; ++l) channel.data.inputs.insert(channel.data.inputs.end(), {1, 32, 4});
    channel.states = testing::evaluate<float>(channel.data);
    const JudgedHidden hidden{
        .d = 0, .batch = {channel}, .inputs = {evaluate_gradients<float>(channel).inputs}, .initial = {{0}}, .weights = evaluate_gradients<float>(channel).weights};
    if (L == 400) expect_absent(end_to_end(hidden, p));
    else EXPECT_TRUE(end_to_end(hidden, p).du.abs_max);
  }
}

TEST(ErrorEndToEnd, IsOfPassBothAlone) {
  for (const char* pass : {"backward", "both"}) {
    for (const char* grad : {"all", "squares"}) {
      Problem p = small_problem("gru_diag", 20, "paper", Storage::bf16);
      p.pass = pass;
      p.grad = grad;
      p.batch = 3;
      p.hidden = 1;
      const JudgedHidden hidden = solved(p);
      const auto channel_of = [&](std::string_view tensor, std::int64_t b, std::int64_t) {
        return tensor == "h"     ? hidden.batch[std::size_t(b)].states
               : tensor == "du"  ? hidden.inputs[std::size_t(b)]
               : tensor == "dh0" ? hidden.initial[std::size_t(b)]
                                 : hidden.weights;
      };
      GradientReference reference;
      GradientReports reports, apart;
      judge_backward(p, channel_of, reference, reports, &apart);
      for (std::size_t which = 0; which < 3; ++which) {
        EXPECT_TRUE(passes(*each(reports)[which].ratio_forward));
        EXPECT_EQ(each(apart)[which].abs_max, p.pass == "both" ? each(end_to_end(hidden, p))[which].abs_max : std::nullopt);
      }
    }
  }
}

TEST(ErrorEndToEnd, RefusesOtherShapes) {
  const Problem p = batch_of_three();
  JudgedHidden hidden = solved(p);
  hidden.inputs[1].pop_back();
  EXPECT_THROW(end_to_end(hidden, p), std::invalid_argument);
}

TEST(GradientReference, IsPartOfTheCacheAndOfItsLimit) {
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "prnn_judge_backward";
  const Problem p = small_problem("gru_diag", 50, "paper");
  ReferenceCache cache(directory, 1000);
  GradientReports reports;
  judge_gradients({solved(p)}, p.storage, p.gates, cache, reports);
  EXPECT_TRUE(reports.du.ratio_forward);
  EXPECT_GT(cache.spent_s(), 0);
  ReferenceCache none(directory, 0);
  judge_gradients({solved(p)}, p.storage, p.gates, none, reports);
  EXPECT_FALSE(reports.du.ratio_forward);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace prnn
