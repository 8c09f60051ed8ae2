// solvers.test.cpp: the CPU solvers: right at every shape, tile edges, what they say about themselves, numbers that are not finite.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"
#include "reference/reference.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

using testing::Workbench;

constexpr const char* kSolvers[] = {"seq_stepwise", "seq_fused", "newton_fused"};

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine("cpu");
  return *opened;
}

Problem problem(std::string cell, std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, Storage storage = Storage::f32) {
  Problem p;
  p.cell = std::move(cell);
  p.storage = storage;
  p.batch = batch;
  p.hidden = hidden;
  p.seq_len = seq_len;
  p.h0 = "random";
  return p;
}

/// Test 2 of design section 6 on one channel: the forward ratio against 50 digits.
double forward_ratio(const Workbench& bench, std::int64_t b, std::int64_t d) {
  const ChannelData data = draw_channel(bench.problem, b, d);
  ErrorReport report;
  judge_channels({{.id = {b, d}, .data = data, .truth = true_states(data), .computed = bench.channel("h", b, d), .steps = {}}}, bench.problem.storage, report);
  return report.ratio_forward.value();
}

TEST(EveryCpuSolver, IsRightAtEveryShapeAndStorage) {
  for (const std::string& cell : find_op("recurrence").cells()) {
    for (const Storage storage : kStorages) {
      for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 3, 2}, {1, 17, 33}, {3, 1, 40}, {2, 33, 9}}) {
        for (const char* solver : kSolvers) {
          Workbench bench(problem(cell, batch, hidden, seq_len, storage), machine());
          const Outcome outcome = bench.solve(solver);
          const std::string where = std::string(solver) + " " + cell + " " + std::string(to_string(storage)) + " L " + std::to_string(seq_len);
          EXPECT_TRUE(passes(bench.ratio_local())) << where;
          EXPECT_TRUE(passes(forward_ratio(bench, batch - 1, hidden - 1))) << where;
          EXPECT_TRUE(passes(forward_ratio(bench, 0, 0))) << where;
          EXPECT_FALSE(outcome.nonfinite) << where;
          const bool newton = std::string_view(solver) == "newton_fused";
          EXPECT_EQ(outcome.converged, newton ? std::optional(true) : std::nullopt) << where;
          EXPECT_EQ(outcome.iterations.has_value(), newton) << where;
        }
      }
    }
  }
}

TEST(EveryCpuSolver, UsesThreadsWithoutChangingABit) {
  // Beyond kStepsWorthThreads a team shares the channels: the first of them must equal those of a small problem, which one thread solves.
  for (const char* solver : kSolvers) {
    Problem large = problem("lstm_cifg_diag", 1, kStepsWorthThreads + 3, 2), small = large;
    small.hidden = 5;
    Workbench many(large, machine()), few(small, machine());
    many.solve(solver);
    few.solve(solver);
    for (std::int64_t d = 0; d < 5; ++d) EXPECT_EQ(many.channel("h", 0, d), few.channel("h", 0, d)) << solver;
    EXPECT_TRUE(passes(many.ratio_local())) << solver;
  }
}

TEST(TheCpuSequentialSolvers, AgreeToTheBitAndAtAnySplit) {
  AllStorages::for_each([&]<class T>() {
    const Problem whole = problem("gru_diag", 1, 5, 21, storage_of<T>);
    Workbench first(whole, machine()), second(whole, machine());
    first.solve("seq_stepwise");
    second.solve("seq_fused");
    EXPECT_EQ(first.bytes("h"), second.bytes("h"));
    EXPECT_EQ(first.bytes("last"), second.bytes("last"));
    const auto u = first.values<T>("u");
    const Layout<GruDiag> at = layout_of<GruDiag>(whole);
    for (const char* solver : {"seq_stepwise", "seq_fused"}) {
      Workbench head(problem("gru_diag", 1, 5, 13, storage_of<T>), machine()), tail(problem("gru_diag", 1, 5, 8, storage_of<T>), machine());
      head.put("u", std::vector<T>(u.begin(), u.begin() + at.u(0, 13, 0, 0)));
      tail.put("u", std::vector<T>(u.begin() + at.u(0, 13, 0, 0), u.end()));
      head.solve(solver);
      tail.put("h0", head.values<compute_t<T>>("last"));
      tail.solve(solver);
      EXPECT_EQ(tail.bytes("last"), first.bytes("last")) << solver;
    }
  });
}

TEST(TheCpuNewtonSolver, CarriesTilesAndConvergesInEach) {
  for (const std::string& cell : find_op("recurrence").cells()) {
    for (const std::int64_t tile : {1, 4, 7, 20, 21, 64}) {
      for (const char* regime : {"paper", "long_memory", "expansive"}) {
        Problem p = problem(cell, 2, 3, 21);
        p.regime = regime;
        p.policy = {{"steps_a_tile", tile}};
        Workbench bench(p, machine());
        const Outcome outcome = bench.solve("newton_fused", true);
        EXPECT_EQ(outcome.converged, true) << cell << " " << tile;
        EXPECT_TRUE(passes(bench.ratio_local())) << cell << " " << regime << " " << tile;
        ASSERT_EQ(std::int64_t(outcome.residual_max.size()), *outcome.iterations + 1);
        ASSERT_EQ(outcome.step_max.size(), outcome.residual_max.size());
        EXPECT_EQ(outcome.step_max[0], 0) << "the guess is no step";
        EXPECT_LE(*outcome.iterations, std::min<std::int64_t>(tile, 21) + 1);
        EXPECT_EQ(find_solver("newton_fused", "cpu", p)->prepare(p, machine())->policy(), (Policy{{"steps_a_tile", std::min<std::int64_t>(tile, 21)}}));
      }
    }
  }
}

TEST(TheCpuNewtonSolver, TracesTheResidualAndStepOfEachIterate) {
  const Problem p = problem("gru_diag", 1, 4, 30);
  Workbench bench(p, machine());
  const Outcome outcome = bench.solve("newton_fused", true);
  std::vector<double> residual(outcome.residual_max.size()), step(residual.size());
  for (std::int64_t d = 0; d < 4; ++d) {
    const int last = int(residual.size()) - 1;
    const NewtonIterates truth = true_iterates(draw_channel(p, 0, d), last);
    for (int k = 0; k <= last; ++k) {
      residual[std::size_t(k)] = std::max(residual[std::size_t(k)], truth.residual_max(std::size_t(k)));
      for (std::size_t i = 0; k > 0 && i < truth.states[0].size(); ++i) {
        step[std::size_t(k)] = std::max(step[std::size_t(k)], std::fabs(truth.states[std::size_t(k)][i] - truth.states[std::size_t(k - 1)][i]));
      }
    }
  }
  // |r| and |step| are differences of numbers below 1 whose own error is a few roundings and gate errors, grown by 1 / (1 - |J|) < 8 here.
  const double slack = 8 * kErrorFactor * (unit_roundoff_v<float> + gate_error_v<float>);
  for (std::size_t k = 0; k < residual.size(); ++k) {
    EXPECT_LE(std::fabs(outcome.residual_max[k] - residual[k]), slack) << k;
    EXPECT_LE(std::fabs(outcome.step_max[k] - step[k]), slack) << k;
  }
  EXPECT_GT(residual[0], 1000 * slack);
}

TEST(TheCpuNewtonSolver, NeedsOneSolveForALinearCellAndSaysWhenItStops) {
  Problem p = problem("gru_diag", 1, 4, 50);
  Workbench linear(p, machine());
  linear.put("a", std::vector<float>(12));
  EXPECT_EQ(linear.solve("newton_fused").iterations, 1);

  p.iteration_limit = 2;
  p.regime = "expansive";
  Workbench fixed(p, machine());
  const Outcome outcome = fixed.solve("newton_fused");
  EXPECT_EQ(outcome.iterations, 2);
  EXPECT_FALSE(outcome.converged) << "nothing was checked";
  EXPECT_FALSE(passes(fixed.ratio_local()));
  EXPECT_EQ(fixed.solve("newton_fused", true).residual_max.size(), 3u);
  for (const char* solver : {"seq_stepwise", "seq_fused"}) EXPECT_EQ(find_solver(solver, "cpu", p)->why_not(p), std::string(solver) + " has no iterations to limit");
  p.policy = {{"steps_a_tile", 0}};
  EXPECT_NE(find_solver("newton_fused", "cpu", p)->why_not(p), "");
}

TEST(EveryCpuSolver, ConfinesANonFiniteNumberToItsChannel) {
  const Problem p = problem("lstm_cifg_diag", 2, 5, 23);
  const Layout<LstmCifgDiag> at = layout_of<LstmCifgDiag>(p);
  for (const char* solver : kSolvers) {
    for (const std::int64_t tile : {4, 4096}) {
      Problem tiled = p;
      tiled.policy = {{"steps_a_tile", tile}};
      Workbench clean(tiled, machine()), dirty(tiled, machine());
      clean.solve(solver);
      auto u = dirty.values<float>("u");
      u[std::size_t(at.u(1, 9, 1, 2))] = INFINITY;
      u[std::size_t(at.u(1, 7, 2, 4))] = NAN;
      dirty.put("u", u);
      auto h0 = dirty.values<float>("h0");
      h0[std::size_t(at.edge(1, 1, 0))] = NAN;
      dirty.put("h0", h0);
      const Outcome outcome = dirty.solve(solver);
      EXPECT_EQ(outcome.nonfinite, (std::array<std::int64_t, 3>{1, 0, 0})) << solver;
      const auto right = clean.values<float>("h"), h = dirty.values<float>("h");
      for (std::int64_t b = 0; b < 2; ++b) {
        for (std::int64_t d = 0; d < 5; ++d) {
          const std::int64_t dead = b == 0 ? 23 : d == 2 ? 9 : d == 4 ? 7 : d == 0 ? 0 : 23;
          for (std::int64_t l = 0; l < 23; ++l) {
            for (int k = 0; k < 2; ++k) {
              const std::size_t i = std::size_t(at.h(b, l, k, d));
              if (l >= dead) {
                EXPECT_TRUE(std::isnan(h[i])) << solver << " " << b << " " << l << " " << d;
              } else if (dead == 23) {
                EXPECT_EQ(h[i], right[i]) << solver;
              } else {
                EXPECT_TRUE(std::isfinite(h[i])) << solver;
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace prnn
