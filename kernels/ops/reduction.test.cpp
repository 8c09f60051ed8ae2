// reduction.test.cpp: op reduction: its tensors, draws and limits, what its tests accept, and the CPU solver against integers and bounds.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/primitives/policy.hpp"
#include "kernels/solvers/scan_testing.hpp"
#include "reference/reference.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

using testing::scan_problem;
using testing::ScanInputs;
using testing::ScanTruth;
using testing::Workbench;

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine("cpu");
  return *opened;
}

const Op& op() { return find_op("reduction"); }

TEST(Reduction, HasMapsAndStatesAndNoWeights) {
  for (const auto& [jacobian, K] : std::vector<std::pair<std::string, std::int64_t>>{{"diag", 1}, {"2x2", 2}}) {
    const Problem p = scan_problem(jacobian, Storage::bf16, 3, 5, 7);
    const std::vector<TensorSpec> specs = op().tensors(p);
    ASSERT_EQ(specs.size(), 4u);
    EXPECT_EQ(specs[0].name, "u");
    EXPECT_EQ(specs[0].shape, (std::vector<std::int64_t>{3, 7, K * (K + 1), 5}));
    EXPECT_EQ(specs[1].name, "h0");
    EXPECT_EQ(specs[1].type, Storage::f32);
    EXPECT_EQ(specs[2].name, "h");
    EXPECT_EQ(specs[2].shape, (std::vector<std::int64_t>{3, 7, K, 5}));
    EXPECT_EQ(specs[3].name, "last");
    EXPECT_EQ(op().bytes_min(p), 2 * 3 * 5 * 7 * (K == 1 ? 3 : 8));
    EXPECT_EQ(op().flops(p), 3 * 5 * 7 * (K == 1 ? 2 : 8));
    EXPECT_EQ(op().special(p), 0);
  }
  EXPECT_EQ(op().axis, "jacobian");
  EXPECT_EQ(op().cells(), (std::vector<std::string>{"diag", "2x2"}));
}

TEST(Reduction, SaysWhatItDoesNotDo) {
  const auto why = [](auto change) {
    Problem p = scan_problem("diag", Storage::f32, 1, 1, 2);
    change(p);
    return op().why_not(p);
  };
  EXPECT_EQ(why([](Problem&) {}), "");
  EXPECT_EQ(why([](Problem& p) { p.pass = "backward"; }), "op reduction has no pass backward");
  EXPECT_EQ(why([](Problem& p) { p.pass = "both"; }), "op reduction has no pass both");
  EXPECT_EQ(why([](Problem& p) { p.gates = "approx"; }), "op reduction has no gates");
  EXPECT_NE(why([](Problem& p) { p.regime = "wide"; }).find("regime paper"), std::string::npos);
  EXPECT_NE(why([](Problem& p) { p.weight_std = 0.5; }).find("weight_std"), std::string::npos);
  EXPECT_NE(why([](Problem& p) { p.grad = "output"; }), "");
  EXPECT_NE(why([](Problem& p) { p.scope = "layer"; }), "");
}

TEST(Reduction, DrawsContractiveMapsOfEveryKind) {
  const Problem p = scan_problem("2x2", Storage::f64, 2, 3, 500);
  double sum = 0, squares = 0;
  int swapped = 0, negative[2][2] = {}, count = 0;
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t d = 0; d < 3; ++d) {
      const ChannelData data = draw_channel(p, b, d);
      ASSERT_EQ(data.inputs.size(), 500u * 6);
      for (std::size_t l = 0; l < 500; ++l, ++count) {
        const double* const u = &data.inputs[l * 6];
        const bool swaps = std::fabs(u[1]) > std::fabs(u[0]);
        swapped += swaps;
        EXPECT_EQ(std::fabs(u[3]) > std::fabs(u[4]), swaps);
        for (int i = 0; i < 2; ++i) {
          const double row = std::fabs(u[i * 3]) + std::fabs(u[i * 3 + 1]), least = std::min(std::fabs(u[i * 3]), std::fabs(u[i * 3 + 1]));
          EXPECT_GT(row, 1 - 1.0 / 32);
          EXPECT_LE(row, 1);
          EXPECT_LT(least, 1.0 / 16);
          for (int j = 0; j < 2; ++j) negative[i][j] += u[i * 3 + j] < 0;
          sum += u[i * 3 + 2], squares += u[i * 3 + 2] * u[i * 3 + 2];
        }
      }
    }
  }
  // Five standard deviations of a fair coin, of a mean and of a variance (fourth moment 3, and less for a sum of eight uniforms).
  const double coin = 5 * std::sqrt(count) / 2;
  EXPECT_NEAR(swapped, count / 2, coin);
  for (const auto& row : negative) {
    for (const int n : row) EXPECT_NEAR(n, count / 2, coin);
  }
  EXPECT_NEAR(sum / (2 * count), 0, 5 / std::sqrt(2 * count));
  EXPECT_NEAR(squares / (2 * count), 1, 5 * std::sqrt(2.0 / (2 * count)));
}

TEST(Reduction, DrawsOnTheMachineWhatAChannelIsRegeneratedAs) {
  for (const char* jacobian : {"diag", "2x2"}) {
    for (const Storage storage : kStorages) {
      const Problem p = scan_problem(jacobian, storage, 2, 3, 20);
      const Workbench bench(p, machine());
      const ChannelData data = draw_channel(p, 1, 2);
      EXPECT_EQ(bench.channel("u", 1, 2), data.inputs);
      EXPECT_EQ(bench.channel("h0", 1, 2), data.initial);
      EXPECT_EQ(data.weights, std::vector<double>{0});
      EXPECT_NE(bench.channel("u", 0, 2), data.inputs);
    }
  }
}

TEST(Reduction, DiagonalMapsForgetSlowly) {
  const ChannelData data = draw_channel(scan_problem("diag", Storage::f64, 1, 1, 4096), 0, 0);
  double log_product = 0;
  int negative = 0;
  for (std::size_t l = 0; l < 4096; ++l) {
    const double J = data.inputs[2 * l];
    EXPECT_GT(std::fabs(J), 1 - 1.0 / 32);
    EXPECT_LE(std::fabs(J), 1);
    log_product += std::log(std::fabs(J));
    negative += J < 0;
  }
  // Uniform on a stretch of 1/32: a mean of -1/64 (and -1/64^2 / 1.5 of the logarithm's curve), a deviation of 1/32 / sqrt(12).
  EXPECT_NEAR(log_product / 4096, -1.0 / 64 - 1.0 / 6144, 5.0 / 32 / std::sqrt(12 * 4096.0));
  EXPECT_NEAR(negative, 2048, 5 * 32);
}

/// Every length up to `most`, of the same maps: what is beyond is left alone.
void expect_integers_up_to(const char* jacobian, std::int64_t most) {
  Workbench bench(scan_problem(jacobian, Storage::f32, 1, 3, most), machine());
  ScanInputs in = testing::integer_inputs(bench.problem, 1);
  testing::put_scan<float>(bench, in);
  const ScanTruth truth = testing::scan_truth(bench.problem, in);
  const std::vector<float> states(truth.states.begin(), truth.states.end());
  const std::size_t step = states.size() / std::size_t(most);
  for (std::int64_t& seq_len = bench.problem.seq_len = 1; seq_len <= most; ++seq_len) {
    EXPECT_FALSE(bench.solve("seq_fused").nonfinite);
    const std::vector<float> h = bench.values<float>("h"), last = bench.values<float>("last");
    const std::size_t known = std::size_t(seq_len) * step;
    ASSERT_EQ(std::memcmp(h.data(), states.data(), known * sizeof(float)), 0) << jacobian << " L " << seq_len;
    ASSERT_EQ(std::memcmp(last.data(), &states[known - step], step * sizeof(float)), 0) << jacobian << " L " << seq_len;
    ASSERT_TRUE(known == h.size() || std::isnan(h[known])) << jacobian << " L " << seq_len;
  }
}

template <class T>
void expect_integers(const char* jacobian, std::int64_t seq_len) {
  Workbench bench(scan_problem(jacobian, storage_of<T>, 2, 3, seq_len), machine());
  ScanInputs in = testing::integer_inputs(bench.problem, unsigned(seq_len));
  testing::put_scan<T>(bench, in);
  const Outcome outcome = bench.solve("seq_fused");
  EXPECT_FALSE(outcome.nonfinite);
  testing::expect_exact<T>(bench, testing::scan_truth(bench.problem, in), std::string(jacobian) + " L " + std::to_string(seq_len));
  EXPECT_EQ(bench.ratio_local(), 0) << jacobian << " L " << seq_len;
}

TEST(Reduction, IntegersAreExactAtEveryLength) {
  for (const char* jacobian : {"diag", "2x2"}) {
    expect_integers_up_to(jacobian, 1100);
    expect_integers<float>(jacobian, 300);
    expect_integers<double>(jacobian, 700);
    expect_integers<Bf16>(jacobian, 700);
    expect_integers<F16>(jacobian, 700);
  }
}

TEST(Reduction, RandomMapsAreWithinTheComponentwiseBound) {
  for (const char* jacobian : {"diag", "2x2"}) {
    Workbench bench(scan_problem(jacobian, Storage::f32, 2, 3, 1000), machine());
    ScanInputs in = testing::random_inputs(bench.problem, 1, 0.999);
    testing::put_scan<float>(bench, in);
    bench.solve("auto");
    testing::expect_within_bound<float>(bench, testing::scan_truth(bench.problem, in), jacobian);
    EXPECT_TRUE(passes(bench.ratio_local()));
  }
}

TEST(Reduction, BothTestsPassTheSolverAndSeeASmallError) {
  for (const char* jacobian : {"diag", "2x2"}) {
    for (const Storage storage : kStorages) {
      Workbench bench(scan_problem(jacobian, storage, 2, 5, 600), machine());
      const Outcome outcome = bench.solve("seq_fused");
      EXPECT_FALSE(outcome.nonfinite || outcome.iterations || outcome.converged);
      EXPECT_TRUE(passes(bench.ratio_local())) << jacobian;
      const ChannelData data = draw_channel(bench.problem, 1, 4);
      const auto judge = [&](const std::vector<double>& computed) {
        ErrorReport report;
        judge_channels({{.id = {1, 4}, .data = data, .truth = true_states(data), .computed = computed, .steps = {}}}, storage, report);
        return report;
      };
      std::vector<double> computed = bench.channel("h", 1, 4);
      const ErrorReport right = judge(computed);
      EXPECT_TRUE(passes(right.ratio_forward.value())) << jacobian;
      EXPECT_EQ(right.verified_prefix, 600) << jacobian;
      double scale = 0;
      for (const double h : computed) scale = std::max(scale, std::fabs(h));
      computed[computed.size() - 3] += scale;  // more than 16 roundings of bf16
      EXPECT_FALSE(passes(judge(computed).ratio_forward.value())) << jacobian;
    }
  }
}

/// The local ratio after one number of h or `last` has been changed by so many times the largest state.
double ratio_after(const char* jacobian, const char* tensor, std::size_t index, double by) {
  Workbench bench(scan_problem(jacobian, Storage::f32, 1, 2, 700), machine());
  bench.solve("seq_fused");
  std::vector<float> values = bench.values<float>(tensor);
  values[index] += float(by * 20);
  bench.put(tensor, values);
  return bench.ratio_local();
}

TEST(Reduction, TheLocalTestSeesOneWrongNumberAnywhere) {
  for (const std::size_t index : {0u, 1u, 255u * 2, 256u * 2 + 1, 257u * 2, 698u * 2}) EXPECT_GT(ratio_after("diag", "h", index, 1e-5), kErrorFactor) << index;
  for (const std::size_t index : {0u, 2u, 3u, 255u * 4 + 1, 256u * 4 + 3, 698u * 4}) EXPECT_GT(ratio_after("2x2", "h", index, 1e-5), kErrorFactor) << index;
  EXPECT_TRUE(std::isnan(ratio_after("diag", "last", 1, 1e-3)));
  EXPECT_TRUE(std::isnan(ratio_after("diag", "h", 699 * 2, 1e-3))) << "the stored state is no longer the last one";
}

TEST(Reduction, TheLocalBoundIsInProportionToWhatIsSummed) {
  // h = 1 throughout: J = 0.5, r = 0.5. M, summed from 64 steps before, is 1 too, so an error of n u in the last step is n u over u (1 + 1 + 1 + 0.5).
  Workbench bench(scan_problem("diag", Storage::f32, 1, 1, 300), machine());
  std::vector<float> maps(600, 0.5f);
  bench.put("u", maps);
  bench.put("h0", std::vector<float>{1});
  bench.solve("seq_fused");
  EXPECT_EQ(bench.ratio_local(), 0);
  std::vector<float> h = bench.values<float>("h");
  h.back() = 1 + 0x1p-20f;  // 16 u
  bench.put("h", h);
  bench.put("last", std::vector<float>{h.back()});
  EXPECT_NEAR(bench.ratio_local(), 16 / 3.5, 16 / 3.5 * 0x1p-18);
}

TEST(Reduction, TheLocalBoundCountsTheInitialState) {
  // h = 1 - 1 = 0 with M = 1 + 1: an error of 16 u is 16 u over u (0 + 2 + 1), the last for h0 and nothing for storing 0.
  Workbench bench(scan_problem("diag", Storage::f32, 1, 1, 1), machine());
  bench.put("u", std::vector<float>{1, -1});
  bench.put("h0", std::vector<float>{1});
  for (const char* tensor : {"h", "last"}) bench.put(tensor, std::vector<float>{0x1p-20f});
  EXPECT_NEAR(bench.ratio_local(), 16.0 / 3, 1e-3);
}

TEST(Reduction, ANumberThatIsNotFiniteStaysInItsChannel) {
  for (const char* jacobian : {"diag", "2x2"}) {
    const int K = std::string_view(jacobian) == "diag" ? 1 : 2, I = K * (K + 1);
    const Workbench clean = [&] {
      Workbench bench(scan_problem(jacobian, Storage::f32, 1, 3, 40), machine());
      bench.solve("seq_fused");
      return bench;
    }();
    for (int k = 0; k < I; ++k) {
      for (const float bad : {std::nanf(""), HUGE_VALF}) {
        Workbench bench(scan_problem(jacobian, Storage::f32, 1, 3, 40), machine());
        std::vector<float> u = bench.values<float>("u");
        u[std::size_t((17 * I + k) * 3 + 1)] = bad;
        bench.put("u", u);
        EXPECT_EQ(bench.solve("seq_fused").nonfinite, (std::array<std::int64_t, 3>{0, 17, 1}));
        EXPECT_TRUE(passes(bench.ratio_local()));
        for (const int d : {0, 2}) EXPECT_EQ(bench.channel("h", 0, d), clean.channel("h", 0, d));
        const std::vector<double> h = bench.channel("h", 0, 1), before = clean.channel("h", 0, 1);
        for (int i = 0; i < 40 * K; ++i) {
          if (i < 17 * K) EXPECT_EQ(h[std::size_t(i)], before[std::size_t(i)]);
          else EXPECT_TRUE(std::isnan(h[std::size_t(i)])) << i;
        }
      }
    }
  }
}

TEST(Reduction, AStateThatOverflowsIsNotANumberFromThereOn) {
  Workbench bench(scan_problem("diag", Storage::f32, 1, 1, 200), machine());
  bench.put("u", std::vector<float>(400, 4.0f));
  bench.put("h0", std::vector<float>{1});
  const Outcome outcome = bench.solve("seq_fused");
  ASSERT_TRUE(outcome.nonfinite);
  const std::vector<double> h = bench.channel("h", 0, 0);
  const std::size_t first = std::size_t((*outcome.nonfinite)[1]);
  EXPECT_TRUE(std::isfinite(h[first - 1]));
  for (std::size_t l = first; l < 200; ++l) EXPECT_TRUE(std::isnan(h[l])) << l;
}

TEST(Reduction, AutoTakesTheSolverThatIsThere) {
  const Problem p = scan_problem("2x2", Storage::f32, 1, 4, 10);
  const std::unique_ptr<prnn::Run> run = find_solver("auto", "cpu", p)->prepare(p, machine());
  EXPECT_EQ(run->solver(), "seq_fused");
  const std::vector<std::string> names = solver_names("reduction");
  EXPECT_NE(std::find(names.begin(), names.end(), "auto"), names.end());
  EXPECT_EQ(std::find(names.begin(), names.end(), "shooting"), names.end());
  const std::vector<std::string> others = solver_names("recurrence");
  EXPECT_EQ(std::find(others.begin(), others.end(), "scan_chained"), others.end());
}

TEST(Reduction, TheDynamicsAreThoseOfItsMaps) {
  ChannelData data{"diag", 50, {0}, {}, {1}};
  for (int l = 0; l < 50; ++l) data.inputs.insert(data.inputs.end(), {l % 2 ? -0.5 : 0.25, 1.0});
  const Dynamics found = dynamics(data, true_states(data));
  EXPECT_NEAR(found.lyapunov, std::log(0.125) / 2, 1e-12);
  EXPECT_EQ(found.jacobian_max, 0.5);
}

}  // namespace
}  // namespace prnn
