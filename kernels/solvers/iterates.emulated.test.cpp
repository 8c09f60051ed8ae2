// iterates.emulated.test.cpp: the first three iterates of every Newton solver, on the CPU and on the emulated GPU, are those of the whole
// Newton system solved at 50 digits, to roundoff.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/convergence.hpp"
#include "reference/reference.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

TEST(EveryNewtonSolver, MakesTheTrueIteratesOfTheWholeSystem) {
  constexpr int kCount = 3;
  std::set<std::string> seen;
  for (const Solver& solver : solvers()) {
    if (!solver.iterates || solver.device == "cuda" || compute_storage(solver.storage) != solver.storage) continue;
    seen.insert(solver.device + " " + solver.name);
    const auto machine = testing::open_machine(solver.device);
    for (const std::string regime : {"paper", "wide", "corners"}) {
      Problem p;
      p.cell = solver.cell;
      p.storage = solver.storage;
      p.batch = 2;
      p.hidden = 3;
      p.seq_len = 60;  // one tile of every solver's shipped policy
      p.regime = regime;
      p.h0 = "random";
      for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t d = 0; d < p.hidden; ++d) {
          std::int64_t judged = 0;
          const auto run = [&](int iteration_limit) {
            Problem fixed = p;
            fixed.iteration_limit = iteration_limit;
            testing::Workbench bench(fixed, *machine);
            const Outcome outcome = bench.solve(solver.name);
            EXPECT_EQ(outcome.iterations, iteration_limit);
            EXPECT_FALSE(outcome.converged) << "nothing was checked";
            return bench.channel("h", b, d);
          };
          const double ratio = iterate_ratio(draw_channel(p, b, d), kCount, p.storage, run, &judged);
          EXPECT_TRUE(passes(ratio)) << solver.device << " " << solver.name << " " << p.cell << " " << regime << " " << ratio;
          EXPECT_GT(judged, 0);
        }
      }
    }
  }
  EXPECT_EQ(seen, (std::set<std::string>{"cpu newton_fused", "emulated newton_fused", "emulated newton_unfused"}));
}

TEST(NewtonUnfused, StopsOnlyWhereEveryStepPasses) {
  // Where a cell expands, the last step is often the only one that does not pass yet: in each length it is another row of a transposing block, and in the last the second step of a thread.
  const auto machine = testing::open_machine("emulated");
  for (const std::int64_t seq_len : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
    Problem p;
    p.cell = "gru_diag";
    p.hidden = 64;
    p.seq_len = seq_len;
    p.regime = "expansive";
    testing::Workbench bench(p, *machine);
    const Outcome outcome = bench.solve("newton_unfused", true);
    EXPECT_EQ(outcome.converged, true);
    double scale = 1;
    for (const float h : bench.values<float>("h")) scale = std::max(scale, std::fabs(double(h)));
    ASSERT_EQ(std::int64_t(outcome.residual_max.size()), *outcome.iterations + 1);
    EXPECT_LE(outcome.residual_max.back(), kNewtonFactor * unit_roundoff(p.storage) * scale) << seq_len << " steps";
  }
}

TEST(EveryNewtonSolver, SaysHowManyStepsItTakesAtOnce) {
  // By what it says the reference repeats its iterates: two solves over several tiles differ from the solution by far more than by rounding, which is all that is left.
  for (const Solver& solver : solvers()) {
    if (!solver.iterates || solver.pass != "forward" || solver.device == "cuda" || solver.storage != Storage::f64) continue;
    const auto machine = testing::open_machine(solver.device);
    Problem p;
    p.cell = solver.cell;
    p.storage = solver.storage;
    p.batch = 2;
    p.hidden = 3;
    p.seq_len = 83;
    p.regime = "wide";
    p.h0 = "random";
    p.iteration_limit = 2;
    for (const std::int64_t tile : {16, 32, 83}) {
      if (solver.device == "cpu") p.policy = {{"steps_a_tile", tile}};
      else if (solver.name == "newton_fused" && tile < 83) p.policy = {{"threads", 2 * tile}, {"channels_a_block", 4}, {"steps_a_thread", 2}};
      else p.policy = {};
      testing::Workbench bench(p, *machine);
      const Outcome outcome = bench.solve(solver.name);
      ASSERT_TRUE(outcome.steps_a_tile);
      if (solver.name == "newton_unfused" || !p.policy.empty()) {
        EXPECT_EQ(outcome.steps_a_tile, solver.name == "newton_unfused" ? p.seq_len : tile);
      }
      double most = 0, left = 0;
      for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t d = 0; d < p.hidden; ++d) {
          const ChannelData data = draw_channel(p, b, d);
          const std::vector<DoubleDouble> exact = last_iterate(data, *p.iteration_limit, *outcome.steps_a_tile, p.seq_len), truth = true_states(data).states;
          const std::vector<double> computed = bench.channel("h", b, d);
          for (std::size_t at = 0; at < exact.size(); ++at) {
            most = max_or_nan(most, std::fabs(computed[at] - exact[at].high) / std::max(1.0, std::fabs(exact[at].high)));
            left = max_or_nan(left, std::fabs(exact[at].high - truth[at].high));
          }
        }
      }
      const double rounding = testing::kMostRatio * double(p.seq_len) * 0x1p-53;
      EXPECT_GT(left, rounding);
      EXPECT_LE(most, rounding) << solver.device << " " << solver.name << " " << p.cell << " tile " << tile;  // rounding, where another tile would leave as much as is left
    }
  }
}

}  // namespace
}  // namespace prnn
