// recurrence.test.cpp: what the op declares, draws and judges, on the host.
#include "kernels/ops/recurrence.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

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
  lacks([](Problem& p) { p.pass = "backward"; }, "'backward'");
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
  p.weight_std = 0.25;
  EXPECT_TRUE(near(spread("paper")[0], 0.25, weight_slack));
  EXPECT_TRUE(near(spread("corners")[0], 0.25, weight_slack));
  EXPECT_GT(spread("paper")[1], 0.5);  // unclipped
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
  AllCells::for_each([&]<class Cell>() {
    AllStorages::for_each([&]<class T>() {
      const double ratio = solved<Cell, T>(*machine, storage_of<T>)->ratio_local();
      EXPECT_GE(ratio, 0.0);
      EXPECT_TRUE(passes(ratio)) << Cell::name << " " << to_string(storage_of<T>) << " " << ratio;
    });
  });
}

TEST(LocalRatio, IsTheErrorOverTheBoundOfTheContract) {
  const auto machine = testing::open_machine("cpu");
  AllCells::for_each([&]<class Cell>() {
    AllStorages::for_each([&]<class T>() {
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

TEST(MaxOrNan, NeverLosesANan) {
  const double nan = std::nan("");
  EXPECT_TRUE(std::isnan(max_or_nan(nan, 1)));
  EXPECT_TRUE(std::isnan(max_or_nan(1, nan)));
  EXPECT_EQ(max_or_nan(1, 2), 2);
  EXPECT_EQ(max_or_nan(2, 1), 2);
}

}  // namespace
}  // namespace prnn
