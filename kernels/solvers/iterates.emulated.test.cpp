// iterates.emulated.test.cpp: the first three iterates of every Newton solver, on the CPU and on the emulated GPU, are those of the whole
// Newton system solved at 50 digits, to roundoff.
#include <gtest/gtest.h>

#include <set>

#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
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

}  // namespace
}  // namespace prnn
