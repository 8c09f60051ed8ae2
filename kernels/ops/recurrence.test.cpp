// recurrence.test.cpp: what the op declares, draws and judges, on the host.
#include "kernels/ops/recurrence.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

using testing::Workbench;

Problem problem_of(std::string cell, Storage storage = Storage::f32) {
  Problem p;
  p.cell = std::move(cell);
  p.storage = storage;
  p.batch = 2;
  p.hidden = 5;
  p.seq_len = 7;
  p.h0 = "random";
  p.seed = (std::uint64_t(5) << 32) + 3;
  return p;
}

TEST(RecurrenceOp, DeclaresShapesAndBytesOfTheContract) {
  const Op& op = find_op("recurrence");
  const Problem p = problem_of("lstm_cifg_diag", Storage::bf16);
  const auto specs = op.tensors(p);
  const auto shape = [&](std::string_view name) {
    for (const TensorSpec& spec : specs) {
      if (spec.name == name) return spec.shape;
    }
    return std::vector<std::int64_t>{};
  };
  EXPECT_EQ(shape("u"), (std::vector<std::int64_t>{2, 7, 3, 5}));
  EXPECT_EQ(shape("a"), (std::vector<std::int64_t>{5, 5}));
  EXPECT_EQ(shape("h"), (std::vector<std::int64_t>{2, 7, 2, 5}));
  EXPECT_EQ(shape("h0"), (std::vector<std::int64_t>{2, 2, 5}));
  EXPECT_EQ(shape("last"), (std::vector<std::int64_t>{2, 2, 5}));
  for (const TensorSpec& spec : specs) EXPECT_EQ(spec.type, spec.name == "h0" || spec.name == "last" ? Storage::f32 : Storage::bf16) << spec.name;
  EXPECT_EQ(op.bytes_min(p), 2 * (2 * 7 * 5) * (3 + 2));
  EXPECT_EQ(op.bytes_min(problem_of("gru_diag", Storage::f64)), 8 * (2 * 7 * 5) * (3 + 1));
  // Three multiply-adds and a sum each, the blend, and negate-and-add of three gates; an exponential and a reciprocal each.
  EXPECT_EQ(op.flops(problem_of("gru_diag")), (2 * 7 * 5) * (3 * 3 + 3 + 3 * 2));
  EXPECT_EQ(op.special(problem_of("gru_diag")), (2 * 7 * 5) * 3 * 2);
}

TEST(RecurrenceOp, NamesWhatThisBuildLacks) {
  const Op& op = find_op("recurrence");
  EXPECT_EQ(op.why_not(problem_of("gru_diag")), "");
  const auto lacks = [&](auto&& change, const char* words) {
    Problem p = problem_of("gru_diag");
    change(p);
    EXPECT_NE(op.why_not(p).find(words), std::string::npos) << words << ": " << op.why_not(p);
  };
  lacks([](Problem& p) { p.scope = "layer"; }, "'layer'");
  lacks([](Problem& p) { p.grad = "output"; }, "'output'");  // of pass forward
  const auto linear = [](Problem& p) { p = problem_of("linear_diag"); };
  lacks([&](Problem& p) { linear(p), p.storage = Storage::bf16; }, "linear_diag is compiled for storage f32, not for bf16");
  lacks([&](Problem& p) { linear(p), p.regime = "chaotic"; }, "no weights make it chaotic");
  EXPECT_EQ(op.why_not(problem_of("linear_diag")), "");
  lacks([](Problem& p) { p.grad = "squares"; }, "'squares'");
  for (const char* pass : {"backward", "both"}) {
    for (const char* grad : {"all", "output", "squares"}) {
      Problem p = problem_of("gru_diag");
      p.pass = pass;
      p.grad = grad;
      EXPECT_EQ(op.why_not(p), "") << pass << " " << grad;
    }
  }
}

TEST(RecurrenceOp, DeclaresShapesAndBytesOfTheGradients) {
  const Op& op = find_op("recurrence");
  for (const bool both : {false, true}) {
    for (const auto& [grad, G] : {std::pair{"all", 2}, {"output", 1}, {"squares", 0}}) {
      Problem p = problem_of("lstm_cifg_diag", Storage::f16);
      p.pass = both ? "both" : "backward";
      p.grad = grad;
      std::map<std::string, std::vector<std::int64_t>> given, written;
      for (const TensorSpec& spec : op.tensors(p)) {
        (spec.written() ? written : given)[spec.name] = spec.shape;
        const bool edge = spec.name == "h0" || spec.name == "last" || spec.name == "grad_last" || spec.name == "da" || spec.name == "dh0";
        EXPECT_EQ(spec.type, edge ? Storage::f32 : Storage::f16) << spec.name;
        EXPECT_EQ(spec.shared_by_batch(), spec.name == "a" || spec.name == "da") << spec.name;
      }
      const std::vector<std::int64_t> u{2, 7, 3, 5}, a{5, 5}, edge{2, 2, 5}, h{2, 7, 2, 5};
      std::map<std::string, std::vector<std::int64_t>> expected_given{{"u", u}, {"a", a}, {"h0", edge}, {"grad_last", edge}};
      if (G > 0) expected_given["grad_h"] = {2, 7, G, 5};
      std::map<std::string, std::vector<std::int64_t>> expected_written{{"du", u}, {"da", a}, {"dh0", edge}};
      (both ? expected_written : expected_given)["h"] = h;
      if (both) expected_written["last"] = edge;
      EXPECT_EQ(given, expected_given);
      EXPECT_EQ(written, expected_written);
      EXPECT_EQ(op.bytes_min(p), 2 * (2 * 7 * 5) * (2 * 3 + 2 + G + (both ? 3 + 2 : 0)));
      // A step forward is 5 multiply-adds, 3 sums, two blends of 3 and 2 for each of 4 gates; backward that, 3 a gate, 4 for each of 7 products, and G
      // sums, or a multiply-add for each of two squares.
      const std::int64_t forward = 10 + 3 + 6 + 8, backward = forward + 12 + 28 + (G > 0 ? G : 4);
      EXPECT_EQ(op.flops(p), (2 * 7 * 5) * (backward + both * forward));
      EXPECT_EQ(op.special(p), (2 * 7 * 5) * 4 * 2 * (1 + both));
    }
  }
}

TEST(RecurrenceOp, DrawsOnTheMachineWhatTheReferenceRegenerates) {
  const auto machine = testing::open_machine("cpu");
  for (const std::string& regime : regime_names()) {
    for (const Storage storage : kStorages) {
      Problem p = problem_of("gru_diag", storage);
      p.regime = regime;
      p.text = std::make_shared<const std::vector<unsigned char>>(std::vector<unsigned char>{'a', 'b', 'c'});
      const Workbench bench(p, *machine);
      for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t d = 0; d < p.hidden; ++d) {
          const ChannelData channel = draw_channel(p, b, d);
          EXPECT_EQ(bench.channel("u", b, d), channel.inputs) << regime;
          EXPECT_EQ(bench.channel("a", b, d), channel.weights) << regime;
          EXPECT_EQ(bench.channel("h0", b, d), channel.initial) << regime;
        }
      }
    }
  }
}

TEST(RecurrenceOp, DrawsGradientsAndTheStatesThatBackwardIsGiven) {
  const auto machine = testing::open_machine("cpu");
  for (const Storage storage : kStorages) {
    for (const char* grad : {"all", "output", "squares"}) {
      Problem p = problem_of("lstm_cifg_diag", storage);
      Workbench forward(p, *machine);
      forward.solve("seq_stepwise");
      p.grad = grad;
      p.pass = "both";
      const Workbench both(p, *machine);
      p.pass = "backward";
      p.iteration_limit = 1;  // no state is drawn by what a case asks of its solver
      const Workbench bench(p, *machine);
      for (const char* name : {"u", "a", "h0", "h"}) EXPECT_EQ(bench.bytes(name), forward.bytes(name)) << name;
      const bool given = p.grad != "squares";  // by a tensor
      for (const char* name : {"u", "a", "h0", given ? "grad_h" : "grad_last", "grad_last"}) EXPECT_EQ(bench.bytes(name), both.bytes(name)) << name;
      for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t d = 0; d < p.hidden; ++d) {
          const ChannelGradients channel = draw_gradients(p, b, d);
          EXPECT_EQ(given ? bench.channel("grad_h", b, d) : std::vector<double>{}, channel.states);
          EXPECT_EQ(bench.channel("grad_last", b, d), channel.last);
        }
      }
    }
  }
}

TEST(RecurrenceOp, GradientsAreNormalAndDifferEverywhere) {
  Problem p = problem_of("lstm_cifg_diag", Storage::f64);
  p.seq_len = 500;
  double sum = 0, squares = 0;
  std::set<double> distinct;
  for (std::int64_t d = 0; d < p.hidden; ++d) {
    for (std::int64_t b = 0; b < p.batch; ++b) {
      ChannelGradients channel = draw_gradients(p, b, d);
      channel.states.insert(channel.states.end(), channel.last.begin(), channel.last.end());
      for (const double x : channel.states) sum += x, squares += x * x, distinct.insert(x);
    }
  }
  const double n = 2 * 5 * 501 * 2;
  EXPECT_LE(std::fabs(sum / n), 6 / std::sqrt(n));  // six deviations of a mean, and of a deviation
  EXPECT_LE(std::fabs(std::sqrt(squares / n) - 1), 6 / std::sqrt(2 * n));
  EXPECT_GE(distinct.size(), 0.9 * n);  // of 2^19 values: some meet by chance, a repeated counter halves them
}

TEST(RecurrenceOp, RegimesDrawWhatTheDesignSays) {
  Problem p = problem_of("gru_diag");
  p.hidden = 500;
  const auto spread = [&](const std::string& regime) {
    p.regime = regime;
    double weights = 0, largest = 0, inputs = 0, memory = 0;
    for (std::int64_t d = 0; d < p.hidden; ++d) {
      const ChannelData c = draw_channel(p, 0, d);
      for (const double a : c.weights) weights += a * a, largest = std::max(largest, std::fabs(a));
      for (std::size_t i = 0; i < c.inputs.size(); ++i) i % 3 == 0 ? memory += c.inputs[i] : inputs += c.inputs[i] * c.inputs[i];
    }
    return std::array<double, 4>{std::sqrt(weights / (3.0 * 500)), largest, std::sqrt(inputs / (2.0 * 7 * 500)), memory / (7.0 * 500)};
  };
  // 1500 weights, 7000 inputs: a sample deviation strays by 1/sqrt(2n), a mean by deviation/sqrt(n); six of those are allowed.
  const double weight_slack = 6 / std::sqrt(2 * 1500.0), input_slack = 6 / std::sqrt(2 * 7000.0), mean_slack = 6 / std::sqrt(3500.0);
  const auto near = [](double x, double truth, double slack) { return std::fabs(x - truth) <= truth * slack; };
  const double clipped = 0.5 * std::sqrt(0.5160585);  // deviation of N(0, 1) clipped at +-1, times 0.5
  EXPECT_TRUE(near(spread("paper")[0], clipped, weight_slack));
  EXPECT_EQ(spread("paper")[1], 0.5);
  EXPECT_TRUE(near(spread("paper")[2], 1, input_slack));
  EXPECT_TRUE(near(spread("public")[0], 2 / std::sqrt(5.0 * 500), weight_slack));
  EXPECT_EQ(spread("corners")[0], 0.5);
  EXPECT_TRUE(near(spread("corners")[2], 3, input_slack));
  EXPECT_TRUE(near(-spread("corners")[3], 6, mean_slack * 3));
  EXPECT_TRUE(near(spread("wide")[0], 1, weight_slack));
  EXPECT_TRUE(near(spread("expansive")[0], 2, weight_slack));
  EXPECT_TRUE(near(-spread("long_memory")[3], 6, mean_slack));
  EXPECT_TRUE(near(spread("saturated")[2], 60, input_slack));
  EXPECT_TRUE(near(spread("huge")[2], 1e4, input_slack));
  EXPECT_TRUE(near(spread("huge")[0], clipped, weight_slack));
  EXPECT_EQ(spread("fast_corners")[0], 0.5);
  EXPECT_TRUE(near(spread("fast_corners")[2], 3, input_slack));
  EXPECT_LE(std::fabs(spread("fast_corners")[3]), 3 * mean_slack);
  EXPECT_TRUE(near(spread("slow_gates")[2], 4, input_slack));
  EXPECT_TRUE(near(-spread("slow_gates")[3], 16, mean_slack));
  EXPECT_TRUE(near(spread("impulses")[2], 60 * std::sqrt(6 / 7.0), input_slack));  // of seven steps one is silent
  p.weight_std = 0.25;
  EXPECT_TRUE(near(spread("paper")[0], 0.25, weight_slack));
  EXPECT_TRUE(near(spread("corners")[0], 0.25, weight_slack));
  EXPECT_GT(spread("paper")[1], 0.5);  // unclipped
}

TEST(BackwardTensors, KnowWhereTheLossHasItsGradient) {
  const auto machine = testing::open_machine("cpu");
  const Layout<LstmCifgDiag> at{2, 7, 5};
  for (const auto& [grad, G] : {std::pair{"all", 2}, {"output", 1}, {"squares", 2}}) {
    Problem p = problem_of("lstm_cifg_diag");
    p.pass = "backward";
    p.grad = grad;
    const Workbench bench(p, *machine);
    const BackwardTensors<float> t(bench.tensors);
    const bool squares = p.grad == "squares";
    EXPECT_EQ(t.grad_components, G);
    EXPECT_EQ(t.squares, squares);
    EXPECT_EQ(t.grad_h, bench.tensors.data<float>(squares ? "h" : "grad_h"));
    for (std::int64_t l = 0; l < 7; ++l) {
      float g[2] = {1, -2};
      const float before[2] = {1, -2};
      add_grad_h(at, t, 1, l, 3, g);
      for (int k = 0; k < 2; ++k) {
        const float x = k < 2 - G ? 0 : t.grad_h[((7 + l) * G + k - (2 - G)) * 5 + 3];
        EXPECT_EQ(g[k], before[k] + (squares ? x + x : x)) << grad << " " << l << " " << k;
      }
    }
  }
}

/// A correct result to damage: the recurrence in compute type, stored once.
template <class Cell, class T>
std::unique_ptr<Workbench> solved(Machine& machine, Storage storage) {
  auto bench = std::make_unique<Workbench>(problem_of(Cell::name, storage), machine);
  bench->solve("seq_fused");
  return bench;
}

TEST(LocalRatio, AcceptsARightResultOfEveryCellAndStorage) {
  const auto machine = testing::open_machine("cpu");
  for_each_compiled([&]<class Cell, class T>() {
    const double ratio = solved<Cell, T>(*machine, storage_of<T>)->ratio_local();
    EXPECT_GE(ratio, 0.0);
    EXPECT_TRUE(passes(ratio)) << Cell::name << " " << to_string(storage_of<T>) << " " << ratio;
  });
}

TEST(LocalRatio, IsTheErrorOverTheBoundOfTheContract) {
  const auto machine = testing::open_machine("cpu");
  for_each_compiled([&]<class Cell, class T>() {
    constexpr int K = Cell::kState;
    Problem p = problem_of(Cell::name, storage_of<T>);
    p.batch = p.hidden = p.seq_len = 1;
    Workbench bench(p, *machine);
    std::vector<T> h;
    std::vector<compute_t<T>> last;
    for (int i = 0; i < K; ++i) {  // wrong states that every type has
      last.push_back(compute_t<T>(0.75 - 0.5 * i));
      h.push_back(to_storage<T>(last.back()));
    }
    bench.put("h", h);
    bench.put("last", last);
    const ChannelData channel = draw_channel(p, 0, 0);
    double before[K], a[Cell::kWeights], u[Cell::kInputs], f[K], abs_jacobian[K][K], g[K], expected = 0;
    std::copy_n(channel.initial.begin(), K, before);
    std::copy_n(channel.weights.begin(), Cell::kWeights, a);
    std::copy_n(channel.inputs.begin(), Cell::kInputs, u);
    const bool is_double = storage_of<T> == Storage::f64;
    step_and_bound<Cell>(before, a, u, is_double ? 0x1p-53 : 0x1p-24, is_double ? 3e-16 : 1.5e-7, f, abs_jacobian, g);
    const double u_s = unit_roundoff(storage_of<T>);
    for (int i = 0; i < K; ++i) {
      const double state = double(last[std::size_t(i)]);
      double bound = g[i] + u_s * std::fabs(state);
      for (int j = 0; j < K; ++j) bound += abs_jacobian[i][j] * (u_s * std::fabs(before[j]));
      expected = std::max(expected, std::fabs(state - f[i]) / bound);
    }
    EXPECT_DOUBLE_EQ(bench.ratio_local(), expected) << Cell::name << " " << to_string(storage_of<T>);
  });
}

TEST(LocalRatio, RejectsADamagedElementWhereverItStands) {
  const auto machine = testing::open_machine("cpu");
  AllCells::for_each([&]<class Cell>() {
    const auto bench = solved<Cell, float>(*machine, Storage::f32);
    const std::vector<float> right = bench->template values<float>("h");
    for (std::size_t i = 0; i < right.size(); ++i) {
      std::vector<float> damaged = right;
      damaged[i] += 1e-3f;
      bench->put("h", damaged);
      EXPECT_FALSE(passes(bench->ratio_local())) << Cell::name << " element " << i;
    }
  });
}

TEST(LocalRatio, RejectsPoisonAndAWrongLastState) {
  const auto machine = testing::open_machine("cpu");
  AllCells::for_each([&]<class Cell>() {
    const auto bench = solved<Cell, float>(*machine, Storage::f32);
    const std::vector<float> last = bench->template values<float>("last");
    for (std::size_t i = 0; i < last.size(); ++i) {
      std::vector<float> damaged = last;
      damaged[i] = std::nextafter(damaged[i], 2.0f);
      bench->put("last", damaged);
      EXPECT_FALSE(passes(bench->ratio_local())) << Cell::name << " component " << i;
    }
    bench->put("last", last);
    std::vector<float> h = bench->template values<float>("h");
    h[h.size() / 2] = std::nanf("");
    bench->put("h", h);
    EXPECT_FALSE(passes(bench->ratio_local())) << Cell::name;
    bench->poison_outputs();  // nothing written at all: NaN everywhere, consistently
    EXPECT_FALSE(passes(bench->ratio_local())) << Cell::name;
  });
}

TEST(LocalRatio, WantsNanAfterANonFiniteInputAndOnlyThere) {
  const auto machine = testing::open_machine("cpu");
  Workbench bench(problem_of("gru_diag"), *machine);
  std::vector<float> u = bench.values<float>("u");
  const Layout<GruDiag> at{2, 7, 5};
  u[std::size_t(at.u(1, 3, 2, 4))] = INFINITY;
  bench.put("u", u);
  bench.solve("seq_fused");
  EXPECT_TRUE(passes(bench.ratio_local()));
  std::vector<float> h = bench.values<float>("h");
  for (std::int64_t l = 0; l < 7; ++l) EXPECT_EQ(std::isnan(h[std::size_t(at.h(1, l, 0, 4))]), l >= 3) << l;
  h[std::size_t(at.h(1, 5, 0, 4))] = 0.25f;  // a number where there can be none
  bench.put("h", h);
  EXPECT_FALSE(passes(bench.ratio_local()));
}

/// Right gradients to damage.
template <class Cell, class T>
std::unique_ptr<Workbench> differentiated(Machine& machine, const char* pass = "backward") {
  Problem p = problem_of(Cell::name, storage_of<T>);
  p.pass = pass;
  auto bench = std::make_unique<Workbench>(p, machine);
  bench->solve("seq_stepwise");
  return bench;
}

LocalRatios ratios_of(const Workbench& bench) { return find_op("recurrence").local_ratios(bench.problem, bench.machine, bench.tensors); }

TEST(GradientRatios, RejectADamagedElementWhereverItStandsAndNameItsTensor) {
  const auto machine = testing::open_machine("cpu");
  AllCells::for_each([&]<class Cell>() {
    const auto bench = differentiated<Cell, float>(*machine, "both");
    const LocalRatios right = ratios_of(*bench);
    EXPECT_TRUE(right.h && passes(right.worst()));
    const auto at = [](LocalRatios& ratios, std::string_view name) -> std::optional<double>& { return name == "du" ? ratios.du : name == "da" ? ratios.da : ratios.dh0; };
    for (const char* name : {"du", "da", "dh0"}) {
      const std::vector<float> values = bench->template values<float>(name);
      for (std::size_t i = 0; i < values.size(); ++i) {
        std::vector<float> damaged = values;
        for (const float wrong : {values[i] + 1e-3f, std::nanf(""), INFINITY}) {
          damaged[i] = wrong;
          bench->put(name, damaged);
          LocalRatios found = ratios_of(*bench);
          EXPECT_FALSE(passes(at(found, name).value())) << Cell::name << " " << name << " " << i;
          EXPECT_FALSE(passes(found.worst()));
          at(found, name) = at(const_cast<LocalRatios&>(right), name);
          EXPECT_EQ(found.worst(), right.worst()) << "no other tensor is to blame";
        }
      }
      bench->put(name, values);
    }
  });
}

TEST(GradientRatios, RejectPoisonAndANumberWhereThereCanBeNone) {
  const auto machine = testing::open_machine("cpu");
  const auto bench = differentiated<GruDiag, float>(*machine);
  std::vector<float> u = bench->values<float>("u");
  const Layout<GruDiag> at{2, 7, 5};
  u[std::size_t(at.u(1, 3, 2, 4))] = INFINITY;
  bench->put("u", u);
  bench->solve("seq_stepwise");
  EXPECT_TRUE(passes(bench->ratio_local()));
  for (const auto& [name, index] : {std::pair{"du", at.u(1, 2, 1, 4)}, {"da", at.a(2, 4)}, {"dh0", at.edge(1, 0, 4)}}) {
    std::vector<float> values = bench->values<float>(name);
    ASSERT_TRUE(std::isnan(values[std::size_t(index)])) << name;
    const std::vector<float> right = values;
    values[std::size_t(index)] = 0.25f;
    bench->put(name, values);
    EXPECT_FALSE(passes(bench->ratio_local())) << name;
    bench->put(name, right);
  }
  bench->poison_outputs();
  const LocalRatios poisoned = ratios_of(*bench);
  for (const auto& ratio : {poisoned.du, poisoned.da, poisoned.dh0}) EXPECT_TRUE(std::isnan(ratio.value()));
}

TEST(GradientRatios, TakeTheRoundingOfASixteenBitTypeAndNoMore) {
  const auto machine = testing::open_machine("cpu");
  const auto check = [&]<class T>() {
    const auto bench = differentiated<LstmCifgDiag, T>(*machine);
    const std::vector<T> du = bench->template values<T>("du");
    EXPECT_TRUE(passes(bench->ratio_local()));
    std::vector<T> moved = du;
    for (T& x : moved) x.bits = std::uint16_t(x.bits + 64);  // by 64 units in the last place, 128 roundings
    bench->put("du", moved);
    EXPECT_FALSE(passes(bench->ratio_local()));
  };
  check.template operator()<Bf16>();
  check.template operator()<F16>();
}

TEST(GradientRatios, KnowHowApproximateGatesAre) {
  const auto machine = testing::open_machine("cpu");
  const auto bench = differentiated<GruDiag, float>(*machine);
  const LocalRatios exact = ratios_of(*bench);
  bench->problem.gates = "approx";
  const LocalRatios approx = ratios_of(*bench);
  // The same error under another bound. A step rounds some ten times a gate, by less than half of a gate's error: at least a tenth of the exact bound is gates.
  const double allowed = 0.1 * kApproxGateError / gate_error_v<float>;
  EXPECT_GT(exact.du.value(), allowed * approx.du.value());
  EXPECT_GT(exact.da.value(), allowed * approx.da.value());
  EXPECT_GT(exact.dh0.value(), allowed * approx.dh0.value());
}

TEST(GradientRatios, TakeInfinityWhereTheStorageTypeHasNoSuchNumberAndOnlyThere) {
  const auto machine = testing::open_machine("cpu");
  const auto bench = differentiated<GruDiag, F16>(*machine);
  const Layout<GruDiag> at{2, 7, 5};
  std::vector<float> last = bench->values<float>("grad_last");
  last[std::size_t(at.edge(0, 0, 1))] = 1e7f;  // du of the last step is some 1e6, beyond 65504
  bench->put("grad_last", last);
  bench->solve("seq_stepwise");
  std::vector<F16> du = bench->values<F16>("du");
  std::size_t infinite = du.size();
  for (std::size_t i = 0; i < du.size(); ++i) {
    if (std::isinf(to_compute(du[i]))) infinite = i;
  }
  ASSERT_LT(infinite, du.size());
  EXPECT_TRUE(passes(bench->ratio_local()));
  du[infinite].bits ^= 0x8000;
  bench->put("du", du);
  EXPECT_FALSE(passes(bench->ratio_local()));
}

TEST(GradientRatios, AskNothingOfAChannelBeyondTheRangeOfItsType) {
  const auto machine = testing::open_machine("cpu");
  const auto bench = differentiated<GruDiag, float>(*machine);
  const Layout<GruDiag> at{2, 7, 5};
  std::vector<float> last = bench->values<float>("grad_last");
  last[std::size_t(at.edge(0, 0, 1))] = 0x1p97f;
  bench->put("grad_last", last);
  bench->poison_outputs();
  EXPECT_TRUE(std::isnan(bench->ratio_local())) << "the other channels are judged";
  bench->solve("seq_stepwise");
  EXPECT_TRUE(passes(bench->ratio_local()));
  std::vector<float> du = bench->values<float>("du");
  du[std::size_t(at.u(0, 6, 0, 1))] = 7;
  bench->put("du", du);
  EXPECT_TRUE(passes(bench->ratio_local()));
  last[std::size_t(at.edge(0, 0, 1))] = 0x1p95f;
  bench->put("grad_last", last);
  EXPECT_FALSE(passes(bench->ratio_local()));
}

TEST(MaxOrNan, NeverLosesANan) {
  const double nan = std::nan("");
  EXPECT_TRUE(std::isnan(max_or_nan(nan, 1)));
  EXPECT_TRUE(std::isnan(max_or_nan(1, nan)));
  EXPECT_EQ(max_or_nan(1, 2), 2);
  EXPECT_EQ(max_or_nan(2, 1), 2);
}

}  // namespace
}  // namespace prnn
