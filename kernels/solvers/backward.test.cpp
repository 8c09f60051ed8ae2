// backward.test.cpp: the CPU solvers of pass backward, and pass both.
#include <omp.h>

#include "kernels/primitives/policy.hpp"
#include "kernels/solvers/backward_testing.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

using testing::backward_problem;
using testing::solvers_for;
using testing::Workbench;

/// Segments that have forgotten nothing when their own steps begin.
const Policy kShort = {{"segments", 5}, {"overlap", 2}};

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine("cpu");
  return *opened;
}

/// f(problem, solver) with the shipped policy, and with short segments where a solver has any.
template <class F>
void for_every_solver(Problem p, F&& f) {
  for (const std::string& solver : solvers_for(p, machine())) f(p, solver);
  p.policy = kShort;
  for (const char* solver : {"reduction", "shooting"}) f(p, solver);
}

TEST(EveryCpuBackwardSolver, IsRightAtEveryShapeStorageAndGrad) {
  for_each_compiled([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const auto& [batch, hidden, seq_len] :
           std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 1, 2}, {1, 2, 3}, {5, 3, 4}, {3, 5, 5}, {4, 4, 1}, {1, 33, 33}, {2, 130, 5}, {33, 2, 6}, {1, 3, 130}}) {
        for_every_solver(backward_problem(Cell::name, storage_of<T>, batch, hidden, seq_len, grad),
                         [](const Problem& p, const std::string& solver) { testing::expect_right_gradients<Cell, T>(p, solver, machine()); });
      }
    }
  });
}

TEST(EveryCpuBackwardSolver, IsRightInEveryRegime) {
  AllCells::for_each([]<class Cell>() {
    for (const std::string& regime : regime_names()) {
      if (reads_text(regime)) continue;
      Problem p = backward_problem(Cell::name, Storage::f32, 2, 5, 90);
      p.regime = regime;
      if (find_op(p.op).why_not(p) != "") continue;  // a cell without chaos
      for_every_solver(p, [](const Problem& p, const std::string& solver) { testing::expect_right_gradients<Cell, float>(p, solver, machine()); });
    }
  });
}

TEST(EveryCpuBackwardSolver, MakesNanFromANonFiniteNumberOnTowardsTheStartInItsChannelAlone) {
  for_each_compiled([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const std::int64_t seq_len : {1, 6, 35}) {
        for_every_solver(backward_problem(Cell::name, storage_of<T>, 2, 3, seq_len, grad),
                         [](const Problem& p, const std::string& solver) { testing::expect_nan_placement<Cell, T>(p, solver, machine()); });
      }
    }
  });
}

TEST(EveryCpuBackwardSolver, HasTheLossInsideAsItWouldBeGiven) {
  for_each_compiled([]<class Cell, class T>() {
    for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{2, 3, 1}, {3, 5, 9}, {1, 34, 42}}) {
      for_every_solver(backward_problem(Cell::name, storage_of<T>, batch, hidden, seq_len),
                       [](const Problem& p, const std::string& solver) { testing::expect_squares_as_given<Cell, T>(p, solver, machine()); });
    }
  });
}

TEST(EveryCpuBackwardSolver, NamesTheFirstNanInTheOrderOfThePass) {
  AllCells::for_each([]<class Cell>() {
    for_every_solver(backward_problem(Cell::name, Storage::f32, 2, 3, 6),
                     [](const Problem& p, const std::string& solver) { testing::expect_first_nan<Cell>(p, solver, machine()); });
  });
}

TEST(EveryCpuBackwardSolver, AddsToDa) {
  for_each_compiled([]<class Cell, class T>() {
    for_every_solver(backward_problem(Cell::name, storage_of<T>, 3, 5, 17),
                     [](const Problem& p, const std::string& solver) { testing::expect_accumulation<Cell, T>(p, solver, machine()); });
  });
}

TEST(EveryCpuBackwardSolver, UsesThreadsWithoutChangingABit) {
  // Beyond kStepsWorthThreads a team shares the channels: the first of them must equal those of a small problem, which one thread solves.
  const Problem large = backward_problem("lstm_cifg_diag", Storage::f32, 1, kStepsWorthThreads + 3, 2);
  Problem small = large;
  small.hidden = 5;
  Workbench many(large, machine()), few(small, machine());
  for (const std::string& solver : solvers_for(large, machine())) {
    many.solve(solver);
    few.solve(solver);
    for (const char* name : testing::kGradients) {
      for (std::int64_t d = 0; d < 5; ++d) EXPECT_EQ(many.channel(name, 0, d), few.channel(name, 0, d)) << solver << " " << name;
    }
    EXPECT_LE(many.ratio_local(), 16) << solver;
  }
}

TEST(TheCpuSequentialBackwardSolvers, AreTheSameAtASplit) {
  for_each_compiled([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const char* solver : {"seq_stepwise", "seq_fused"}) testing::expect_same_at_a_split<Cell, T>(grad, solver, machine());
    }
  });
}

TEST(TheCpuSequentialBackwardSolvers, AgreeToTheBitWhateverTheVectors) {
  for_each_compiled([]<class Cell, class T>() {
    for (const std::int64_t hidden : {5, 64, 130}) {
      Workbench scalar(backward_problem(Cell::name, storage_of<T>, 3, hidden, 7), machine()), vectors(scalar.problem, machine());
      scalar.solve("seq_stepwise");
      for (const std::int64_t bytes : {16, 32, 64}) {
        vectors.problem.policy = {{"vector_bytes", bytes}};
        if (!find_solver("seq_fused", "cpu", vectors.problem)->why_not(vectors.problem).empty()) continue;  // this machine has narrower ones
        vectors.solve("seq_fused");
        for (const char* name : testing::kGradients)
          EXPECT_EQ(scalar.bytes(name), vectors.bytes(name)) << name << " " << Cell::name << " " << to_string(storage_of<T>) << " " << hidden;
      }
    }
  });
}

/// By the local test, and with an outcome that agrees with itself.
Outcome solve_and_verify(Workbench& bench, const std::string& solver) {
  const Outcome outcome = bench.solve(solver);
  const std::string where = testing::describe(solver, bench.problem) + " " + bench.problem.regime;
  EXPECT_LE(bench.ratio_local(), 16) << where;
  EXPECT_FALSE(outcome.nonfinite) << where;
  const bool shoots = solver == "shooting";
  EXPECT_EQ(outcome.converged, shoots ? std::optional(true) : std::nullopt) << where;
  EXPECT_EQ(outcome.boundaries.has_value(), shoots) << where;
  if (shoots) {
    EXPECT_EQ(outcome.rounds.value(), outcome.boundaries_failed.value() > 0) << where << ": one more run at most";
  }
  return outcome;
}
Policy policy_of(const char* solver, const Problem& p) { return find_solver(solver, "cpu", p)->prepare(p, machine())->policy(); }

constexpr const char* kInSegments[] = {"reduction", "shooting"};

TEST(TheCpuSegmentedBackwardSolvers, FinishWhateverTheRegimeAndTheCut) {
  AllCells::for_each([]<class Cell>() {
    for (const char* regime : {"paper", "corners", "wide", "saturated", "long_memory", "expansive"}) {
      for (const auto& [segments, overlap] : std::vector<std::array<std::int64_t, 2>>{{2, 0}, {7, 1}, {7, 5}, {60, 0}, {1000, 3}, {4, 59}, {4, 1000}}) {
        Problem p = backward_problem(Cell::name, Storage::f32, 2, 3, 60);
        p.regime = regime;
        p.policy = {{"segments", segments}, {"overlap", overlap}};
        Workbench bench(p, machine());
        for (const char* solver : kInSegments) solve_and_verify(bench, solver);
      }
    }
  });
}

TEST(TheCpuSegmentedBackwardSolvers, GiveTheSameBitsWithAnyThreadsVectorsAndLaunches) {
  // 3 x 12000 steps are enough to be shared out; the shipped cut must not depend on who shares them.
  for (const char* regime : {"paper", "long_memory"}) {
    for (const Policy& policy : {Policy{}, Policy{{"segments", 50}, {"overlap", 2}}}) {
      for (const char* solver : kInSegments) {
        Problem p = backward_problem("lstm_cifg_diag", Storage::f32, 1, 3, 12000);
        ASSERT_GT(p.batch * p.hidden * p.seq_len, kStepsWorthThreads);
        p.regime = regime;
        p.policy = policy;
        Workbench one(p, machine()), other(p, machine());
        const int threads = omp_get_max_threads();
        omp_set_num_threads(1);
        const Outcome outcome = solve_and_verify(one, solver);
        const Policy chosen = policy_of(solver, p);
        EXPECT_GT(chosen.at("segments"), 1);
        for (const int team : {2, 3, 7}) {
          omp_set_num_threads(team);
          EXPECT_EQ(policy_of(solver, p), chosen);
          EXPECT_EQ(other.solve(solver).boundaries_failed, outcome.boundaries_failed);
          for (const char* name : testing::kGradients) EXPECT_EQ(one.bytes(name), other.bytes(name)) << solver << " " << name << " " << team;
        }
        omp_set_num_threads(threads);
        other.problem.policy = chosen;
        for (const std::int64_t bytes : {16, 32, 64}) {
          other.problem.policy["vector_bytes"] = bytes;
          if (!find_solver(solver, "cpu", p)->why_not(other.problem).empty()) continue;  // this machine has narrower ones
          other.solve(solver);
          for (const char* name : testing::kGradients) EXPECT_EQ(one.bytes(name), other.bytes(name)) << solver << " " << name << " " << bytes;
        }
        const auto run = find_solver(solver, "cpu", p)->prepare(p, machine());
        for (int launch = 0; launch < 2; ++launch) {  // a prepared solver starts afresh at every launch
          other.poison_outputs();
          run->launch(other.tensors, nullptr);
          for (const char* name : testing::kGradients) EXPECT_EQ(one.bytes(name), other.bytes(name)) << solver << " " << name;
          EXPECT_EQ(run->outcome().boundaries_failed, outcome.boundaries_failed);
        }
      }
    }
  }
}

TEST(TheCpuSegmentedBackwardSolvers, AreRightWhereProductsAndGuessesLeaveTheRangeOfNumbers) {
  // Three segments of 70 steps: the Jacobians of the first and the last are 1, those of the second 4 or 1/4, so that its product is 2^140 or 2^-140. h is given as 0: no
  // Jacobian depends on it. The weights let a gate decide: 1 - tanh^2 = 1/4, 1, 1/16 in an Elman cell; in the others another, 1/8, 1/2, 1/32.
  struct Point {
    std::vector<float> a;
    std::map<int, std::vector<float>> u;  // by log2 of the Jacobian
  };
  const std::map<std::string, Point> points{
      {"elman_diag", {{4}, {{0, {1.3169579f}}, {2, {0}}, {-2, {2.0634371f}}}}},
      {"gru_diag", {{0, 0, 8}, {{0, {20, -1.9459101f, 0}}, {2, {20, 0, 0}}, {-2, {20, -3.4339872f, 0}}}}},
      {"lstm_cifg_diag", {{0, 0, 8, 0, 0}, {{0, {-20, -1.9459101f, 0}}, {2, {-20, 0, 0}}, {-2, {-20, -3.4339872f, 0}}}}},
  };
  AllCells::for_each([&]<class Cell>() {
    if (is_affine<Cell>) return;  // its Jacobian is at most 1
    constexpr int K = Cell::kState;
    const Point& point = points.at(Cell::name);
    const auto prepared = [&](std::vector<int> logs, float grad_last) {
      Problem p = backward_problem(Cell::name, Storage::f32, 1, 1, std::int64_t(70 * logs.size()));
      p.policy = {{"segments", 3}, {"overlap", 0}};
      Workbench bench(p, machine());
      std::vector<float> u;
      for (const int log : logs) {
        for (int l = 0; l < 70; ++l) u.insert(u.end(), point.u.at(log).begin(), point.u.at(log).end());
      }
      bench.put("a", point.a);
      bench.put("u", u);
      bench.put("h0", std::vector<float>(K));
      for (const char* name : {"h", "grad_h"}) bench.put(name, std::vector<float>(70 * logs.size() * K));
      bench.put("grad_last", std::vector<float>(K, grad_last));
      return bench;
    };
    /// To the bit where the segments' starts are exact: down to the third.
    const auto expect_as_sequential = [](Workbench& bench, const std::string& solver) {
      const Outcome outcome = bench.solve(solver);
      const std::vector<float> du = bench.values<float>("du");
      EXPECT_EQ(outcome.nonfinite, bench.solve("seq_fused").nonfinite) << solver;
      const std::vector<float> truth = bench.values<float>("du");
      for (std::size_t i = 0; i < du.size(); ++i) EXPECT_TRUE(du[i] == truth[i] || (std::isnan(du[i]) && std::isnan(truth[i]))) << solver << " " << Cell::name << " " << i;
      return outcome;
    };
    for (const std::string solver : kInSegments) {
      for (const int log : {2, -2}) {
        Workbench bench = prepared({0, log, 0}, std::ldexp(1.f, -50 * log));
        const Outcome outcome = solve_and_verify(bench, solver);
        EXPECT_NEAR(std::log2(std::fabs(bench.values<float>("dh0")[K - 1])), 20 * log, 4) << solver << " " << Cell::name;
        if (solver == "shooting") {
          EXPECT_EQ(outcome.boundaries_failed, 2);
        }
      }
      // An adjoint that does leave it is NaN from there on.
      Workbench overflows = prepared({0, 2, 0}, 1);
      EXPECT_TRUE(expect_as_sequential(overflows, solver).nonfinite);
      // The loss takes away what the second segment starts from, so that adjoints are 0 until it gives something at its last, but the guess does not know it and overflows.
      Workbench first = prepared({0}, 1), cancels = prepared({0, 2, 0}, 1);
      first.solve("seq_fused");
      std::vector<float> grad_h(210 * K);
      for (int i = 0; i < K; ++i) {
        grad_h[std::size_t(139 * K + i)] = -first.values<float>("dh0")[std::size_t(i)];
        grad_h[std::size_t(70 * K + i)] = 1;
      }
      cancels.put("grad_h", grad_h);
      EXPECT_FALSE(expect_as_sequential(cancels, solver).nonfinite);
      EXPECT_NE(cancels.values<float>("dh0")[K - 1], 0);
    }
  });
}

TEST(TheCpuBackwardShootingSolver, NeedsOnePassWhereAdjointsForget) {
  for_each_compiled([]<class Cell, class T>() {
    const Problem p = backward_problem(Cell::name, storage_of<T>, 2, 3, 300);
    Workbench bench(p, machine());
    const Outcome outcome = solve_and_verify(bench, "shooting");
    const std::int64_t segments = policy_of("shooting", p).at("segments");
    EXPECT_GE(segments, 2);
    EXPECT_EQ(*outcome.boundaries, 2 * 3 * (segments - 1));
    EXPECT_EQ(*outcome.boundaries_failed, 0) << testing::describe("shooting", p);
  });
}

TEST(TheCpuBackwardShootingSolver, MendsBoundariesInOneRoundWhereAdjointsRemember) {
  for_each_compiled([]<class Cell, class T>() {
    for (const std::int64_t hidden : {3, 64}) {
      Problem p = backward_problem(Cell::name, storage_of<T>, 2, hidden, 240);
      p.regime = "long_memory";
      p.policy = {{"segments", 24}, {"overlap", 0}};
      Workbench bench(p, machine());
      const Outcome outcome = solve_and_verify(bench, "shooting");
      EXPECT_EQ(*outcome.boundaries, 2 * hidden * 23);
      EXPECT_EQ(*outcome.boundaries_failed, *outcome.boundaries) << "no adjoint is the guess, 0";
      EXPECT_EQ(*outcome.rounds, 1);
    }
  });
}

TEST(TheCpuBackwardShootingSolver, MovesTheStartsThatHaveToMoveAndNoOthers) {
  // Channel 1 of 3 holds (u_z = -20: h' = h) at steps 45 .. 139 from the end. Own steps begin at 100, 140, 180, 220, 260, each 60 after their start: the first two boundaries
  // fail, the third's segment forgets for 40 steps.
  Problem p = backward_problem("gru_diag", Storage::f32, 1, 3, 300);
  p.policy = {{"segments", 6}, {"overlap", 60}};
  const Layout<GruDiag> at = layout_of<GruDiag>(p);
  Workbench forgets(p, machine()), mixed(p, machine());
  auto u = mixed.values<float>("u");
  for (std::int64_t l = 45; l < 140; ++l) u[std::size_t(at.u(0, 299 - l, 0, 1))] = -20;
  mixed.put("u", u);
  EXPECT_EQ(solve_and_verify(forgets, "shooting").boundaries_failed, 0);
  const Outcome outcome = solve_and_verify(mixed, "shooting");
  EXPECT_EQ(outcome.boundaries, 15);
  EXPECT_EQ(outcome.boundaries_failed, 2);
  for (const std::int64_t d : {0, 2}) {
    for (const char* name : testing::kGradients) EXPECT_EQ(forgets.channel(name, 0, d), mixed.channel(name, 0, d)) << name;
  }
}

TEST(TheCpuSegmentedBackwardSolvers, CutToFillVectorsAndRefuseWhatCannotBeCut) {
  const auto segments = [](const char* solver, std::int64_t batch, std::int64_t hidden, std::int64_t seq_len) {
    return policy_of(solver, backward_problem("gru_diag", Storage::f32, batch, hidden, seq_len)).at("segments");
  };
  const std::int64_t bytes = policy_of("seq_fused", backward_problem("gru_diag", Storage::f32, 1, 1, 1)).at("vector_bytes");
  const std::int64_t overlap = shooting_overlap(1, 1000, sizeof(float));
  for (const char* solver : kInSegments) {
    EXPECT_EQ(segments(solver, 1, 1, 1000), bytes);
    EXPECT_EQ(segments(solver, 1, bytes / 8, 1000), 8);
    EXPECT_EQ(segments(solver, 1, 4096, 1000), 1) << "enough channels";
    EXPECT_EQ(segments(solver, 1, 1, 1 << 16), bytes * omp_get_num_procs());
  }
  EXPECT_EQ(segments("shooting", 2, bytes / 4, 1000), 2);
  EXPECT_EQ(segments("reduction", 2, bytes / 8, 1000), 1) << "three runs of a quarter";
  EXPECT_EQ(segments("shooting", 1, 1, overlap + 16), 2) << "8 own steps at least";
  EXPECT_EQ(segments("shooting", 1, 1, overlap + 15), 1);
  EXPECT_EQ(segments("reduction", 1, 1, 48), 6);
  EXPECT_EQ(segments("reduction", 1, 1, 47), 1);
  for (const char* solver : kInSegments) {
    Problem p = backward_problem("gru_diag", Storage::f32, 1, 1, 100);
    const Solver& found = *find_solver(solver, "cpu", p);
    EXPECT_EQ(found.why_not(p), "");
    EXPECT_GT(found.workspace_bytes(p), 0);
    for (const auto& [key, value] : std::vector<std::pair<const char*, std::int64_t>>{{"segments", 0}, {"overlap", -1}, {"vector_bytes", 48}, {"vector_bytes", 8}}) {
      p.policy = {{key, value}};
      EXPECT_TRUE(found.why_not(p).starts_with("policy " + std::string(key))) << solver << " " << key;
    }
    p.policy.clear();
    p.iteration_limit = 2;
    EXPECT_EQ(found.why_not(p), std::string(solver) + " has no iterations to limit");
  }
}

TEST(LongSums, OfDaAreAsGoodAsShortOnes) {
  // Equal terms: one running sum of 2^15 of them in float is off by hundreds of times its bound, u sum |terms| and the terms' own errors.
  const Problem p = backward_problem("gru_diag", Storage::f32, 1, 1, 1 << 15);
  Workbench bench(p, machine());
  for (const char* name : {"u", "h", "grad_h"}) bench.put(name, std::vector<float>(std::size_t(bench.tensors.at(name).spec.elements()), 0.3f));
  for (const std::string& solver : solvers_for(p, machine())) {
    bench.solve(solver);
    EXPECT_LE(find_op(p.op).local_ratios(p, machine(), bench.tensors).da.value(), 2) << solver;
  }
  const auto all = [&](const char* name) {
    const std::vector<float> values = bench.values<float>(name);
    return std::vector<double>(values.begin(), values.end());
  };
  const BackwardChannel channel{{p.cell, p.seq_len, all("a"), all("u"), all("h0")}, all("h"), {all("grad_h"), all("grad_last")}};
  const auto ratio_of = [&](const std::vector<double>& weights) {
    bench.put("da", std::vector<float>(weights.begin(), weights.end()));
    return find_op(p.op).local_ratios(p, machine(), bench.tensors).da.value();
  };
  EXPECT_LE(ratio_of(testing::evaluate_gradients<float, double>(channel).weights), 2);
  EXPECT_GT(ratio_of(testing::evaluate_gradients<float, float>(channel).weights), kErrorFactor) << "and so the local test finds such a sum";
}

TEST(PassBoth, IsItsParts) {
  for (const char* grad : {"all", "output", "squares"}) {
    for (const Storage storage : kStorages) {
      for (const char* solver : {"seq_stepwise", "seq_fused"})
        testing::expect_both_as_its_parts(backward_problem("lstm_cifg_diag", storage, 2, 5, 9, grad), solver, solver, machine());
      Problem p = backward_problem("lstm_cifg_diag", storage, 2, 5, 29, grad);
      p.policy = kShort;
      testing::expect_both_as_its_parts(p, "shooting", "shooting", machine());
      testing::expect_both_as_its_parts(p, "newton_fused", "reduction", machine());
    }
  }
}

TEST(PassBoth, OfANewtonSolverThatStopsEarlyHasTheGradientsOfWhatItStored) {
  AllCells::for_each([]<class Cell>() {
    if (is_affine<Cell>) return;  // one iteration is not early
    for (const char* grad : {"all", "output", "squares"}) {
      Problem p = backward_problem(Cell::name, Storage::f32, 2, 5, 129, grad);
      p.pass = "both";
      p.iteration_limit = 1;
      Workbench bench(p, machine());
      const Outcome outcome = bench.solve("newton_fused");
      EXPECT_EQ(outcome.iterations, 1);
      EXPECT_FALSE(outcome.converged) << "nothing was checked";
      const LocalRatios found = find_op(p.op).local_ratios(p, machine(), bench.tensors);
      EXPECT_GT(found.h.value(), 16) << Cell::name << " " << grad;
      for (const auto& ratio : {found.du, found.da, found.dh0}) EXPECT_LE(ratio.value(), 16) << Cell::name << " " << grad;
    }
  });
}

/// A backward solver that writes down what it was given.
struct Noted {
  static inline Problem problem;
  static inline int launched = 0;
};
class NotingRun final : public Run {
 public:
  explicit NotingRun(Outcome said) : said_(std::move(said)) {}
  Policy policy() const override { return {{"threads", 7}}; }
  std::string_view solver() const override { return "chosen"; }
  int launches() const override { return 3; }
  bool capturable() const override { return false; }
  void launch(const Tensors&, Stream) override { ++Noted::launched; }
  Outcome outcome() override { return said_; }

 private:
  const Outcome said_;
};

/// In the place of `reduction`.
struct PassBothOfAnyTwo : ::testing::Test {
  static Solver& solver_of(std::string_view name, std::string_view pass) {
    return *std::find_if(solvers().begin(), solvers().end(),
                         [&](const Solver& s) { return s.name == name && s.device == "cpu" && s.cell == "elman_diag" && s.storage == Storage::f64 && s.pass == pass; });
  }
  Solver& replaced = solver_of("reduction", "backward");
  const Solver real = replaced;

  PassBothOfAnyTwo() {
    replaced.deterministic = false;
    replaced.why_not = [](const Problem& p) { return std::string(p.iteration_limit ? "limited" : p.seed == 5 ? "seed" : ""); };
    replaced.workspace_bytes = [](const Problem&) { return std::int64_t{1000}; };
    replaced.prepare = [](const Problem& p, Machine&) -> std::unique_ptr<prnn::Run> {
      Noted::problem = p;
      return std::make_unique<NotingRun>(Outcome{.converged = false, .rounds = 2, .boundaries = 5, .boundaries_failed = 1, .nonfinite = {{1, 2, 3}}});
    };
  }
  ~PassBothOfAnyTwo() override { replaced = real; }
};

TEST_F(PassBothOfAnyTwo, NewtonGoesWithReductionAndStopsAlone) {
  Problem p = backward_problem("elman_diag", Storage::f64, 1, 3, 4);
  p.pass = "both";
  const Solver* solver = find_solver("newton_fused", "cpu", p);
  ASSERT_TRUE(solver);
  EXPECT_EQ(solver->pass, "both");
  EXPECT_TRUE(solver->iterates);
  EXPECT_FALSE(solver->deterministic);
  EXPECT_EQ(find_solver("newton_fused", "cpu", p), solver);
  EXPECT_EQ(find_solver("reduction", "cpu", p), nullptr) << "it has no forward pass";
  EXPECT_EQ(find_solver("seq_graph", "cpu", p), nullptr) << "it has none on a CPU";
  p.iteration_limit = 2;
  EXPECT_EQ(solver->why_not(p), "");
  Problem forward = p;
  forward.pass = "forward";
  const Solver& newton = *find_solver("newton_fused", "cpu", forward);
  EXPECT_EQ(solver->workspace_bytes(p), newton.workspace_bytes(forward) + 1000);
  Workbench bench(p, machine());
  const std::unique_ptr<prnn::Run> run = solver->prepare(p, machine()), alone = newton.prepare(forward, machine());
  EXPECT_EQ(Noted::problem.pass, "backward");
  EXPECT_FALSE(Noted::problem.iteration_limit);
  EXPECT_EQ(run->solver(), "newton_fused + chosen");
  EXPECT_EQ(run->launches(), alone->launches() + 3);
  EXPECT_FALSE(run->capturable());
  Policy policy = alone->policy();
  policy["backward_threads"] = 7;
  EXPECT_EQ(run->policy(), policy);
  Noted::launched = 0;
  run->launch(bench.tensors, nullptr);
  run->trace(bench.tensors, nullptr);
  EXPECT_EQ(Noted::launched, 2);
  const Outcome outcome = run->outcome();
  EXPECT_EQ(outcome.iterations, 2);
  EXPECT_EQ(outcome.converged, false);
  EXPECT_EQ(outcome.rounds, 2);
  EXPECT_EQ(outcome.boundaries, 5);
  EXPECT_EQ(outcome.boundaries_failed, 1);
  EXPECT_EQ(outcome.residual_max.size(), 3u) << "the forward solver's trace";
  EXPECT_EQ(outcome.nonfinite, (std::array<std::int64_t, 3>{1, 2, 3}));
  p.seed = 5;
  EXPECT_EQ(solver->why_not(p), "seed");
  p.gates = "approx";
  EXPECT_EQ(solver->why_not(p), "double has no approximate gates");
}

TEST_F(PassBothOfAnyTwo, HasConvergedWhereBothHaveThatSaySo) {
  Solver& newton = solver_of("newton_fused", "forward");
  const Solver real_newton = newton;
  Problem p = backward_problem("elman_diag", Storage::f64, 1, 3, 4);
  p.pass = "both";
  const std::optional<bool> said[] = {std::nullopt, true, false};
  for (const auto& forward : said) {
    for (const auto& backward : said) {
      const auto prepare = [](std::optional<bool> converged) {
        return [converged](const Problem&, Machine&) -> std::unique_ptr<prnn::Run> { return std::make_unique<NotingRun>(Outcome{.converged = converged}); };
      };
      newton.prepare = prepare(forward);
      replaced.prepare = prepare(backward);
      const Outcome outcome = find_solver("newton_fused", "cpu", p)->prepare(p, machine())->outcome();
      const bool both = forward.value_or(true) && backward.value_or(true);
      EXPECT_EQ(outcome.converged, forward || backward ? std::optional(both) : std::nullopt);
    }
  }
  newton = real_newton;
}

}  // namespace
}  // namespace prnn
