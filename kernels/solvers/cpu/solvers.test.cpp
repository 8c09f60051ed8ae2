// solvers.test.cpp: the CPU solvers: right at every shape, tile and segment edges, what they say about themselves, numbers that are not finite.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"
#include "reference/reference.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

using testing::Workbench;

constexpr const char* kSolvers[] = {"seq_stepwise", "seq_fused", "newton_fused", "shooting"};

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine("cpu");
  return *opened;
}

Problem problem(std::string cell, std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, Storage storage = Storage::f32) {
  Problem p = testing::random_start_problem(std::move(cell), storage, batch, hidden, seq_len);
  p.policy = {{"segments", 5}, {"overlap", 2}};  // of shooting: too short to forget, so that boundaries fail
  return p;
}

/// With the policy that the solver ships.
Problem shipped(Problem p) {
  p.policy.clear();
  return p;
}
Problem in_regime(const char* regime, Problem p) {
  p.regime = regime;
  return p;
}
Policy policy_of(const char* solver, const Problem& p) { return find_solver(solver, "cpu", p)->prepare(p, machine())->policy(); }

/// Test 2 of design section 6 on one channel: the forward ratio against 50 digits.
double forward_ratio(const Workbench& bench, std::int64_t b, std::int64_t d) {
  const ChannelData data = draw_channel(bench.problem, b, d);
  ErrorReport report;
  judge_channels({{.id = {b, d}, .data = data, .truth = true_states(data), .computed = bench.channel("h", b, d), .steps = {}}}, bench.problem.storage, report);
  return report.ratio_forward.value();
}

TEST(EveryCpuSolver, IsRightAtEveryShapeAndStorage) {
  testing::for_every_cell_and_storage([&](const std::string& cell, Storage storage) {
    for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 3, 2}, {1, 17, 33}, {3, 1, 40}, {2, 33, 9}, {1, 1024, 21}, {2, 700, 6}}) {
      for (const char* solver : kSolvers) {
        Workbench bench(problem(cell, batch, hidden, seq_len, storage), machine());
        const Outcome outcome = bench.solve(solver);
        const std::string where = std::string(solver) + " " + cell + " " + std::string(to_string(storage)) + " L " + std::to_string(seq_len);
        EXPECT_TRUE(passes(bench.ratio_local())) << where;
        EXPECT_TRUE(passes(forward_ratio(bench, batch - 1, hidden - 1))) << where;
        EXPECT_TRUE(passes(forward_ratio(bench, 0, 0))) << where;
        EXPECT_FALSE(outcome.nonfinite) << where;
        const bool newton = std::string_view(solver) == "newton_fused", shooting = std::string_view(solver) == "shooting";
        EXPECT_EQ(outcome.converged, newton || shooting ? std::optional(true) : std::nullopt) << where;
        EXPECT_EQ(outcome.iterations.has_value(), newton) << where;
        EXPECT_EQ(outcome.rounds.has_value(), shooting) << where;
        EXPECT_EQ(outcome.boundaries.has_value() && outcome.boundaries_failed.has_value(), shooting) << where;
      }
    }
  });
}

TEST(EveryCpuSolver, UsesThreadsWithoutChangingABit) {
  // Beyond kStepsWorthThreads a team shares the channels: the first of them must equal those of a small problem, which one thread solves.
  for (const char* solver : kSolvers) {
    Problem large = problem("lstm_cifg_diag", 1, kStepsWorthThreads + 3, 2);
    large.policy = {{"segments", 2}, {"overlap", 0}};
    Problem small = large;
    small.hidden = 5;
    Workbench many(large, machine()), few(small, machine());
    many.solve(solver);
    few.solve(solver);
    for (std::int64_t d = 0; d < 5; ++d) EXPECT_EQ(many.channel("h", 0, d), few.channel("h", 0, d)) << solver;
    EXPECT_TRUE(passes(many.ratio_local())) << solver;
  }
}

TEST(TheCpuSequentialSolvers, AgreeToTheBitWhateverTheVectors) {
  // seq_stepwise is scalar code. 128 channels are read in place, 5 and 130 are gathered, 4099 (f32) make more than one strip.
  testing::for_every_cell_and_storage([&](const std::string& cell, Storage storage) {
    for (const std::int64_t hidden : {5, 128, 130, 4099}) {
      Problem p = problem(cell, 2, hidden, hidden == 4099 ? 2 : 23, storage);
      Workbench scalar(p, machine()), vectors(p, machine());
      scalar.solve("seq_stepwise");
      for (const std::int64_t bytes : {16, 32, 64}) {
        vectors.problem.policy = {{"vector_bytes", bytes}};
        if (!find_solver("seq_fused", "cpu", p)->why_not(vectors.problem).empty()) continue;  // this machine has narrower ones
        vectors.solve("seq_fused");
        EXPECT_EQ(scalar.bytes("h"), vectors.bytes("h")) << cell << " " << to_string(storage) << " " << hidden << " " << bytes;
        EXPECT_EQ(scalar.bytes("last"), vectors.bytes("last")) << cell << " " << to_string(storage) << " " << hidden << " " << bytes;
      }
    }
  });
}

TEST(TheCpuSequentialSolvers, ContinueAtAnySplit) {
  AllStorages::for_each([&]<class T>() {
    const Problem whole = problem("gru_diag", 1, 5, 21, storage_of<T>);
    Workbench first(whole, machine());
    first.solve("seq_stepwise");
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
        EXPECT_EQ(policy_of("newton_fused", p), (Policy{{"steps_a_tile", std::min<std::int64_t>(tile, 21)}}));
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
  for (const char* regime : {"paper", "long_memory", "expansive"}) {
    // One solve is the answer at 50 digits, and converged by design section 6.3; where large terms cancel, rounding may ask for another.
    const Problem once = in_regime(regime, problem("linear_diag", 2, 4, 40));
    EXPECT_LT(true_iterates(draw_channel(once, 1, 3), 1).residual_max(1), 1e-40) << regime;
    Workbench yardstick(once, machine());
    const Outcome outcome = yardstick.solve("newton_fused", true);
    float scale = 1;
    for (const float h : yardstick.values<float>("h")) scale = std::max(scale, std::fabs(h));
    EXPECT_GE(outcome.iterations, 1) << regime;
    EXPECT_LE(outcome.iterations, 2) << regime;
    EXPECT_GT(outcome.residual_max.at(0), 0.01) << regime;
    EXPECT_LE(outcome.residual_max.at(1), 8 * unit_roundoff_v<float> * scale) << regime;
    EXPECT_TRUE(passes(yardstick.ratio_local())) << regime;
  }

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

TEST(TheCpuNewtonSolver, ReportsAnIterateThatOverflowsAtAFixedCount) {
  // The scan runs products of J = 1e4 over 60 steps from a residual that is not small.
  Problem p = problem("elman_diag", 1, 3, 60);
  p.iteration_limit = 1;
  Workbench bench(p, machine());
  bench.put("a", std::vector<float>{0.5f, 1e4f, 0.5f});
  bench.put("u", std::vector<float>(180));
  bench.put("h0", std::vector<float>{0.5f, 0.5f, 0.5f});
  const Outcome outcome = bench.solve("newton_fused");
  ASSERT_TRUE(outcome.nonfinite);
  EXPECT_EQ((*outcome.nonfinite)[2], 1);
  const auto h = bench.values<float>("h");
  for (std::int64_t l = 0; l < 60; ++l) {
    EXPECT_EQ(std::isnan(h[std::size_t(l * 3 + 1)]), l >= (*outcome.nonfinite)[1]) << l;
    EXPECT_TRUE(std::isfinite(h[std::size_t(l * 3)])) << l;
  }
}

/// Rounds, boundaries and results of shooting, where every boundary's fate is known by the regime and the overlap.
Outcome solve_and_verify(Workbench& bench) {
  const Outcome outcome = bench.solve("shooting");
  const Problem& p = bench.problem;
  const std::string where = p.cell + " " + std::string(to_string(p.storage)) + " " + p.regime + " D " + std::to_string(p.hidden);
  EXPECT_EQ(outcome.converged, true) << where;
  EXPECT_FALSE(outcome.nonfinite) << where;
  EXPECT_TRUE(passes(bench.ratio_local())) << where << " " << bench.ratio_local();
  EXPECT_TRUE(passes(forward_ratio(bench, 0, 0))) << where;
  EXPECT_TRUE(passes(forward_ratio(bench, p.batch - 1, p.hidden - 1))) << where;
  EXPECT_LE(*outcome.rounds, *outcome.boundaries / (p.batch * p.hidden)) << where << ": the exact prefix grows by a segment a round";
  return outcome;
}

TEST(TheCpuShootingSolver, NeedsOnePassWhereStatesForget) {
  testing::for_every_cell_and_storage([&](const std::string& cell, Storage storage) {
    const Problem p = shipped(problem(cell, 2, 3, 300, storage));
    Workbench bench(p, machine());
    const Outcome outcome = solve_and_verify(bench);
    const std::int64_t segments = policy_of("shooting", p).at("segments");
    EXPECT_GE(segments, 2);
    EXPECT_EQ(*outcome.boundaries, 2 * 3 * (segments - 1));
    EXPECT_EQ(*outcome.rounds, 0);
    EXPECT_EQ(*outcome.boundaries_failed, 0);
  });
}

TEST(TheCpuShootingSolver, MendsBoundariesByNewtonWhereStatesRemember) {
  testing::for_every_cell_and_storage([&](const std::string& cell, Storage storage) {
    for (const std::int64_t hidden : {3, 64}) {  // gathered, in place
      Problem p = in_regime("long_memory", problem(cell, 2, hidden, 240, storage));
      p.policy = {{"segments", 24}, {"overlap", 0}};
      Workbench bench(p, machine());
      const Outcome outcome = solve_and_verify(bench);
      EXPECT_EQ(*outcome.boundaries, 2 * hidden * 23);
      EXPECT_GT(*outcome.boundaries_failed, 2 * hidden * 22) << "nobody ends in the guess";
      EXPECT_GT(*outcome.rounds, 1);
      // Without Jacobians a change moves on by a segment a round: 23 rounds.
      if (cell != "elman_diag") {
        EXPECT_LE(*outcome.rounds, 16) << cell << " " << to_string(storage);
      }
    }
  });
}

TEST(TheCpuShootingSolver, NeedsTwoRoundsWithoutRounding) {
  // a = 0, z = 1/2, c = +-1: h' = (h + c) / 2, a linear cell whose states are exact in 48 bits. Every boundary fails. The first round takes every end
  // one segment on and finds the Jacobians; with them the second is exact.
  for (const std::int64_t hidden : {3, 64}) {
    Problem p = problem("gru_diag", 1, hidden, 48, Storage::f64);
    p.policy = {{"segments", 24}, {"overlap", 0}};
    const Layout<GruDiag> at = layout_of<GruDiag>(p);
    Workbench linear(p, machine());
    auto u = linear.values<double>("u");
    for (std::int64_t l = 0; l < 48; ++l) {
      for (std::int64_t d = 0; d < hidden; ++d) {
        u[std::size_t(at.u(0, l, 0, d))] = 0;
        u[std::size_t(at.u(0, l, 2, d))] = (l * l + d) % 3 == 0 ? 40 : -40;
      }
    }
    linear.put("u", u);
    linear.put("a", std::vector<double>(std::size_t(3 * hidden)));
    linear.put("h0", std::vector<double>(std::size_t(hidden)));
    const Outcome outcome = linear.solve("shooting");
    EXPECT_EQ(outcome.boundaries_failed, outcome.boundaries);
    EXPECT_EQ(*outcome.rounds, 2);
    EXPECT_EQ(linear.ratio_local(), 0);
  }
}

TEST(TheCpuShootingSolver, FinishesWhateverTheRegimeAndTheCut) {
  for (const std::string& cell : find_op("recurrence").cells()) {
    for (const char* regime : {"paper", "corners", "wide", "saturated", "long_memory", "expansive"}) {
      for (const auto& [segments, overlap] : std::vector<std::array<std::int64_t, 2>>{{2, 0}, {7, 1}, {7, 5}, {60, 0}, {1000, 3}, {4, 59}, {4, 1000}}) {
        Problem p = in_regime(regime, problem(cell, 1, 6, 60));
        p.policy = {{"segments", segments}, {"overlap", overlap}};
        Workbench bench(p, machine());
        const Outcome outcome = solve_and_verify(bench);
        EXPECT_EQ(*outcome.boundaries == 0, overlap >= 59);
        EXPECT_EQ(*outcome.rounds > 0, *outcome.boundaries_failed > 0);
        if (overlap == 0) {
          EXPECT_GT(*outcome.boundaries_failed, 0) << cell << " " << regime << " " << segments;
        }
      }
    }
  }
}

TEST(TheCpuShootingSolver, GivesTheSameBitsAgainAndWithAnyVectors) {
  for (const Storage storage : kStorages) {
    for (const std::int64_t hidden : {3, 64}) {
      Problem p = in_regime("corners", problem("lstm_cifg_diag", 2, hidden, 90, storage));
      p.policy = {{"segments", 9}, {"overlap", 3}, {"vector_bytes", 16}};
      Workbench first(p, machine()), again(p, machine());
      const Outcome outcome = solve_and_verify(first);
      EXPECT_GT(*outcome.rounds, 0);
      for (const std::int64_t bytes : {16, 32, 64}) {
        again.problem.policy["vector_bytes"] = bytes;
        if (!find_solver("shooting", "cpu", p)->why_not(again.problem).empty()) continue;
        EXPECT_EQ(again.solve("shooting").rounds, outcome.rounds);
        EXPECT_EQ(first.bytes("h"), again.bytes("h")) << to_string(storage) << " " << hidden << " " << bytes;
        EXPECT_EQ(first.bytes("last"), again.bytes("last"));
      }
      const auto run = find_solver("shooting", "cpu", p)->prepare(p, machine());
      for (int launch = 0; launch < 2; ++launch) {  // a prepared solver starts afresh at every launch
        again.poison_outputs();
        run->launch(again.tensors, nullptr);
        EXPECT_EQ(first.bytes("h"), again.bytes("h"));
        EXPECT_EQ(run->outcome().boundaries_failed, outcome.boundaries_failed);
      }
    }
  }
}

TEST(TheCpuShootingSolver, LeavesChannelsThatPassAsTheyAre) {
  // Channel 1 of 3 never forgets (u_z = -20: h' = h); its neighbours forget within the overlap.
  const Problem p = shipped(problem("gru_diag", 1, 3, 300));
  const Layout<GruDiag> at = layout_of<GruDiag>(p);
  Workbench forgets(p, machine()), mixed(p, machine());
  auto u = mixed.values<float>("u");
  for (std::int64_t l = 0; l < 300; ++l) u[std::size_t(at.u(0, l, 0, 1))] = -20;
  mixed.put("u", u);
  EXPECT_EQ(forgets.solve("shooting").rounds, 0);
  const Outcome outcome = mixed.solve("shooting");
  EXPECT_EQ(*outcome.boundaries_failed, *outcome.boundaries / 3);
  EXPECT_GT(*outcome.rounds, 0);
  EXPECT_TRUE(passes(mixed.ratio_local()));
  for (const std::int64_t d : {0, 2}) EXPECT_EQ(forgets.channel("h", 0, d), mixed.channel("h", 0, d));
  EXPECT_NE(forgets.channel("h", 0, 1), mixed.channel("h", 0, 1));
}

TEST(TheCpuShootingSolver, CountsBoundariesOfTheFirstTest) {
  // A NaN in segment 2, later than the overlap with segment 3: at first that boundary alone fails, then the others after it, one a round.
  Problem p = problem("gru_diag", 1, 3, 300);
  p.policy = {{"segments", 6}, {"overlap", 60}};  // 40 own steps each, the first 100
  const Layout<GruDiag> at = layout_of<GruDiag>(p);
  Workbench bench(p, machine());
  auto u = bench.values<float>("u");
  u[std::size_t(at.u(0, 119, 2, 1))] = NAN;
  bench.put("u", u);
  const Outcome outcome = bench.solve("shooting");
  EXPECT_EQ(*outcome.boundaries, 15);
  EXPECT_EQ(*outcome.boundaries_failed, 1);
  EXPECT_EQ(*outcome.rounds, 3);
  EXPECT_EQ(outcome.converged, true);
  EXPECT_EQ(outcome.nonfinite, (std::array<std::int64_t, 3>{0, 119, 1}));
}

TEST(TheCpuShootingSolver, CutsToFillVectorsAndRefusesWhatCannotBeCut) {
  const auto segments = [](std::int64_t batch, std::int64_t hidden, std::int64_t seq_len) {
    return policy_of("shooting", shipped(problem("gru_diag", batch, hidden, seq_len))).at("segments");
  };
  const std::int64_t bytes = policy_of("seq_fused", problem("gru_diag", 1, 1, 1)).at("vector_bytes");
  EXPECT_EQ(segments(1, 1, 1000), bytes);
  EXPECT_EQ(segments(2, bytes / 4, 1000), 2);
  EXPECT_EQ(segments(1, 4096, 1000), 1) << "enough channels";
  const std::int64_t overlap = shooting_overlap(1, 1000, sizeof(float));
  EXPECT_EQ(segments(1, 1, overlap + 16), 2) << "8 own steps at least";
  EXPECT_EQ(segments(1, 1, overlap + 15), 1);

  Problem p = problem("gru_diag", 1, 1, 100);
  const Solver& shooting = *find_solver("shooting", "cpu", p);
  EXPECT_EQ(shooting.why_not(p), "");
  EXPECT_GT(shooting.workspace_bytes(p), 0);
  const auto refuses = [&](const char* key, std::int64_t value) {
    Problem bad = p;
    bad.policy = {{key, value}};
    return shooting.why_not(bad).starts_with("policy " + std::string(key));
  };
  EXPECT_TRUE(refuses("segments", 0) && refuses("overlap", -1) && refuses("vector_bytes", 48) && refuses("vector_bytes", 128) && refuses("vector_bytes", 8));
  p.iteration_limit = 2;
  EXPECT_EQ(shooting.why_not(p), "shooting has no iterations to limit");
}

TEST(EveryCpuSolver, ConfinesANonFiniteNumberToItsChannel) {
  const Problem p = problem("lstm_cifg_diag", 2, 5, 23);
  const Layout<LstmCifgDiag> at = layout_of<LstmCifgDiag>(p);
  for (const char* solver : kSolvers) {
    for (const std::int64_t tile : {4, 4096}) {
      Problem tiled = p;
      tiled.policy["steps_a_tile"] = tile;
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
