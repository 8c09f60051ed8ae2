// backward.test.cpp: the CPU solvers of pass backward, and pass both.
#include "kernels/solvers/backward_testing.hpp"
#include "reference/testing.hpp"

namespace prnn {
namespace {

using testing::backward_problem;
using testing::solvers_for;

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine("cpu");
  return *opened;
}

template <class F>
void for_every_case(F&& f) {
  AllCells::for_each([&]<class Cell>() { AllStorages::for_each([&]<class T>() { f.template operator()<Cell, T>(); }); });
}

TEST(EveryCpuBackwardSolver, IsRightAtEveryShapeStorageAndGrad) {
  for_every_case([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const auto& [batch, hidden, seq_len] :
           std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 1, 2}, {1, 2, 3}, {5, 3, 4}, {3, 5, 5}, {4, 4, 1}, {1, 33, 33}, {2, 130, 5}, {33, 2, 6}, {1, 3, 130}}) {
        const Problem p = backward_problem(Cell::name, storage_of<T>, batch, hidden, seq_len, grad);
        for (const std::string& solver : solvers_for(p, machine())) testing::expect_right_gradients<Cell, T>(p, solver, machine());
      }
    }
  });
}

TEST(EveryCpuBackwardSolver, IsRightInEveryRegime) {
  AllCells::for_each([]<class Cell>() {
    for (const std::string& regime : regime_names()) {
      if (regime == "text") continue;
      Problem p = backward_problem(Cell::name, Storage::f32, 2, 5, 90);
      p.regime = regime;
      for (const std::string& solver : solvers_for(p, machine())) testing::expect_right_gradients<Cell, float>(p, solver, machine());
    }
  });
}

TEST(EveryCpuBackwardSolver, MakesNanFromANonFiniteNumberOnTowardsTheStartInItsChannelAlone) {
  for_every_case([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const std::int64_t seq_len : {1, 6}) {
        const Problem p = backward_problem(Cell::name, storage_of<T>, 2, 3, seq_len, grad);
        for (const std::string& solver : solvers_for(p, machine())) testing::expect_nan_placement<Cell, T>(p, solver, machine());
      }
    }
  });
}

TEST(EveryCpuBackwardSolver, HasTheLossInsideAsItWouldBeGiven) {
  for_every_case([]<class Cell, class T>() {
    for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{2, 3, 1}, {3, 5, 9}, {1, 34, 42}}) {
      const Problem p = backward_problem(Cell::name, storage_of<T>, batch, hidden, seq_len);
      for (const std::string& solver : solvers_for(p, machine())) testing::expect_squares_as_given<Cell, T>(p, solver, machine());
    }
  });
}

TEST(EveryCpuBackwardSolver, NamesTheFirstNanInTheOrderOfThePass) {
  AllCells::for_each([]<class Cell>() {
    const Problem p = backward_problem(Cell::name, Storage::f32, 2, 3, 6);
    for (const std::string& solver : solvers_for(p, machine())) testing::expect_first_nan<Cell>(p, solver, machine());
  });
}

TEST(EveryCpuBackwardSolver, AddsToDa) {
  for_every_case([]<class Cell, class T>() {
    const Problem p = backward_problem(Cell::name, storage_of<T>, 3, 5, 17);
    for (const std::string& solver : solvers_for(p, machine())) testing::expect_accumulation<Cell, T>(p, solver, machine());
  });
}

TEST(EveryCpuBackwardSolver, UsesThreadsWithoutChangingABit) {
  // Beyond kStepsWorthThreads a team shares the channels: the first of them must equal those of a small problem, which one thread solves.
  const Problem large = backward_problem("lstm_cifg_diag", Storage::f32, 1, kStepsWorthThreads + 3, 2);
  Problem small = large;
  small.hidden = 5;
  testing::Workbench many(large, machine()), few(small, machine());
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
  for_every_case([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const char* solver : {"seq_stepwise", "seq_fused"}) testing::expect_same_at_a_split<Cell, T>(grad, solver, machine());
    }
  });
}

TEST(TheCpuSequentialBackwardSolvers, AgreeToTheBitWhateverTheVectors) {
  for_every_case([]<class Cell, class T>() {
    for (const std::int64_t hidden : {5, 64, 130}) {
      testing::Workbench scalar(backward_problem(Cell::name, storage_of<T>, 3, hidden, 7), machine()), vectors(scalar.problem, machine());
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

TEST(LongSums, OfDaAreAsGoodAsShortOnes) {
  // Equal terms: one running sum of 2^15 of them in float is off by hundreds of times its bound, u sum |terms| and the terms' own errors.
  const Problem p = backward_problem("gru_diag", Storage::f32, 1, 1, 1 << 15);
  testing::Workbench bench(p, machine());
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
    }
  }
}

/// A backward solver that writes down what it was given.
struct Noted {
  static inline Problem problem;
  static inline int launched = 0;
};
class NotingRun final : public Run {
 public:
  Policy policy() const override { return {{"threads", 7}}; }
  std::string_view solver() const override { return "chosen"; }
  int launches() const override { return 3; }
  bool capturable() const override { return false; }
  void launch(const Tensors&, Stream) override { ++Noted::launched; }
  Outcome outcome() override { return {.converged = false, .rounds = 2, .boundaries = 5, .boundaries_failed = 1, .nonfinite = {{1, 2, 3}}}; }
};

struct PassBothOfAnyTwo : ::testing::Test {
  PassBothOfAnyTwo() {
    solvers().push_back({.name = "reduction",
                         .device = "cpu",
                         .cell = "elman_diag",
                         .storage = Storage::f64,
                         .pass = "backward",
                         .deterministic = false,
                         .why_not = [](const Problem& p) { return std::string(p.iteration_limit ? "limited"
                                                                              : p.seed == 5     ? "seed"
                                                                                                : ""); },
                         .workspace_bytes = [](const Problem&) { return std::int64_t{1000}; },
                         .prepare = [](const Problem& p, Machine&) -> std::unique_ptr<prnn::Run> {
                           Noted::problem = p;
                           return std::make_unique<NotingRun>();
                         }});
  }
  ~PassBothOfAnyTwo() override { solvers().pop_back(); }
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
  testing::Workbench bench(p, machine());
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

}  // namespace
}  // namespace prnn
