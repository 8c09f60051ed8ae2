// backward.emulated.test.cpp: the device solvers of pass backward on the emulated GPU. With PRNN_TEST_DEVICE=cuda the same tests run on a GPU (ctest label gpu).
#include <array>
#include <cstdlib>
#include <set>

#include "kernels/primitives/device_emulated.hpp"
#include "kernels/solvers/backward_testing.hpp"

namespace prnn {
namespace {

using emulated::Order;
using emulated::Schedule;
using testing::backward_problem;
using testing::solvers_for;

Machine& machine() {
  const char* chosen = std::getenv("PRNN_TEST_DEVICE");
  static const std::unique_ptr<Machine> opened = testing::open_machine(chosen ? chosen : "emulated");
  return *opened;
}

/// Tiny tiles and segments, and segments that have forgotten nothing when their own steps begin.
const Policy kTiny = {{"threads", 32}, {"steps_a_thread", 1}, {"channels_a_block", 8}, {"segments", 11}, {"overlap", 2}, {"blocks_a_team", 2}};

struct WithSchedule {
  explicit WithSchedule(std::uint64_t turn) { emulated::set_schedule({std::array{Order::ascending, Order::descending, Order::random}[turn % 3], turn}); }
  ~WithSchedule() { emulated::set_schedule({}); }
};

template <class F>
void for_every_case(F&& f) {
  AllCells::for_each([&]<class Cell>() { AllStorages::for_each([&]<class T>() { f.template operator()<Cell, T>(); }); });
}

TEST(EveryDeviceBackwardSolver, IsRightAtEveryShapeStorageAndGradUnderEverySchedule) {
  std::uint64_t turn = 0, shapes = 0;
  for_every_case([&]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const auto& [batch, hidden, seq_len] :
           std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 1, 2}, {5, 3, 4}, {3, 5, 5}, {1, 33, 33}, {2, 130, 3}, {1, 2, 130}, {2, 40, 61}}) {
        Problem p = backward_problem(Cell::name, storage_of<T>, batch, hidden, seq_len, grad);
        if (shapes++ % 2) p.policy = kTiny;
        for (const std::string& solver : solvers_for(p, machine())) {
          const WithSchedule set(turn++);
          testing::expect_right_gradients<Cell, T>(p, solver, machine());
        }
      }
    }
  });
}

TEST(ApproximateGatesBackward, AreThatOfReductionAlone) {
  for_every_case([&]<class Cell, class T>() {
    Problem exact = backward_problem(Cell::name, storage_of<T>, 2, 8, 37), approx = exact;
    approx.gates = "approx";
    for (const std::string& solver : solvers_for(exact, machine())) {
      const std::string reason = find_solver(solver, machine().device(), approx)->why_not(approx);
      EXPECT_EQ(reason, exact.storage == Storage::f64 ? "double has no approximate gates" : solver == "reduction" ? "" : solver + " has exact gates alone");
      if (!reason.empty()) continue;
      testing::Workbench one(exact, machine()), other(approx, machine());
      one.solve(solver);
      EXPECT_FALSE(other.solve(solver).nonfinite);
      EXPECT_LE(find_op(approx.op).local_ratios(approx, machine(), other.tensors).worst(), testing::kMostRatio) << Cell::name;
      if (sizeof(T) == 4) {
        EXPECT_NE(one.bytes("da"), other.bytes("da")) << Cell::name;
      }
    }
  });
}

TEST(EveryDeviceBackwardSolver, GivesTheSameBitsUnderEverySchedule) {
  AllCells::for_each([]<class Cell>() {
    for (const Policy& policy : {Policy{}, kTiny}) {
      Problem p = backward_problem(Cell::name, Storage::f32, 2, 6, 45);
      p.policy = policy;
      for (const std::string& solver : solvers_for(p, machine())) {
        std::set<std::vector<unsigned char>> results[3];
        for (std::uint64_t turn = 0; turn < 6; ++turn) {
          const WithSchedule set(turn);
          testing::Workbench bench(p, machine());
          bench.solve(solver);
          for (int i = 0; i < 3; ++i) results[i].insert(bench.bytes(testing::kGradients[i]));
        }
        for (int i = 0; i < 3; ++i) EXPECT_EQ(results[i].size(), 1u) << testing::describe(solver, p) << " " << testing::kGradients[i];
      }
    }
  });
}

TEST(EveryDeviceBackwardSolver, MakesNanFromANonFiniteNumberOnTowardsTheStartInItsChannelAlone) {
  for_every_case([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const std::int64_t seq_len : {1, 6, 35}) {
        const Problem p = backward_problem(Cell::name, storage_of<T>, 2, 3, seq_len, grad);
        for (const std::string& solver : solvers_for(p, machine())) testing::expect_nan_placement<Cell, T>(p, solver, machine());
      }
    }
  });
}

TEST(EveryDeviceBackwardSolver, HasTheLossInsideAsItWouldBeGiven) {
  for_every_case([]<class Cell, class T>() {
    for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{2, 3, 1}, {3, 5, 9}, {1, 34, 42}}) {
      const Problem p = backward_problem(Cell::name, storage_of<T>, batch, hidden, seq_len);
      for (const std::string& solver : solvers_for(p, machine())) testing::expect_squares_as_given<Cell, T>(p, solver, machine());
    }
  });
}

TEST(EveryDeviceBackwardSolver, NamesTheFirstNanInTheOrderOfThePass) {
  AllCells::for_each([]<class Cell>() {
    for (const auto& [seq_len, policy] : {std::pair<std::int64_t, Policy>{6, {}}, {75, kTiny}}) {
      Problem p = backward_problem(Cell::name, Storage::f32, 2, 3, seq_len);
      p.policy = policy;
      for (const std::string& solver : solvers_for(p, machine())) testing::expect_first_nan<Cell>(p, solver, machine());
    }
  });
}

TEST(EveryDeviceBackwardSolver, AddsToDa) {
  for_every_case([]<class Cell, class T>() {
    for (const std::int64_t batch : {1, 3}) {  // one: some have no second launch then
      const Problem p = backward_problem(Cell::name, storage_of<T>, batch, 5, 17);
      for (const std::string& solver : solvers_for(p, machine())) testing::expect_accumulation<Cell, T>(p, solver, machine());
    }
  });
}

/// J = 10^11 at every step, and a gradient that stays in range: the product of four steps does not.
TEST(EveryDeviceBackwardSolver, IsRightOrSaysSoWhereProductsOfJacobiansOverflow) {
  for (const Policy& policy : {Policy{}, kTiny}) {
    Problem p = backward_problem("elman_diag", Storage::f32, 1, 3, 6);
    p.policy = policy;
    for (const std::string& solver : solvers_for(p, machine())) {
      testing::Workbench bench(p, machine());
      for (const char* name : {"u", "h", "h0", "grad_h", "grad_last"}) bench.put(name, std::vector<float>(bench.values<float>(name).size(), 0));
      bench.put("a", std::vector<float>(bench.values<float>("a").size(), 1e11f));
      bench.put("grad_last", std::vector<float>(3, 2e-38f));
      const Outcome outcome = bench.solve(solver);
      if (outcome.converged == std::optional(false)) continue;
      EXPECT_LE(bench.ratio_local(), 16) << testing::describe(solver, p);
      // A multiplication a step, and what its factor, a (1 - tanh^2), rounds.
      const double truth = double(2e-38f) * std::pow(double(1e11f), 6), bound = 6 * 2 * unit_roundoff_v<float>;
      EXPECT_NEAR(bench.values<float>("dh0")[1] / truth, 1, bound) << testing::describe(solver, p);
    }
  }
}

struct ShootingBackward : ::testing::Test {
  static Problem problem(const char* regime, std::int64_t hidden, std::int64_t seq_len) {
    Problem p = backward_problem("gru_diag", Storage::f32, 2, hidden, seq_len);
    p.regime = regime;
    return p;
  }
};

TEST_F(ShootingBackward, PutsTheStartsRightWhereNothingWasForgottenInOneRound) {
  for (const int blocks : {2, 5, 17}) {  // a cluster, one of no power of two, a grid
    for (const char* solver_regime : {"long_memory", "paper"}) {
      Problem p = problem(solver_regime, 5, 70 * blocks);
      p.policy = {{"segments", blocks}, {"overlap", 0}};
      testing::Workbench bench(p, machine());
      const Outcome outcome = bench.solve("shooting");
      EXPECT_EQ(outcome.converged, true);
      EXPECT_EQ(outcome.rounds, 1);
      EXPECT_GT(outcome.boundaries_failed, 0);
      EXPECT_LE(outcome.boundaries_failed, outcome.boundaries);
      EXPECT_GE(outcome.boundaries, p.batch * p.hidden);
      EXPECT_LE(bench.ratio_local(), 16);
    }
  }
}

TEST_F(ShootingBackward, HasNoRoundWhereTheOverlapForgets) {
  testing::Workbench bench(problem("paper", 8, 500), machine());
  const Outcome outcome = bench.solve("shooting");
  EXPECT_EQ(outcome.rounds, 0);
  EXPECT_EQ(outcome.boundaries_failed, 0);
  EXPECT_GT(outcome.boundaries, 0);
  EXPECT_LE(bench.ratio_local(), 16);
}

/// Only the loss at the end: the adjoint decays to nothing, and what is small is right as well.
TEST_F(ShootingBackward, IsRightWhereTheAdjointHasDecayed) {
  testing::Workbench bench(problem("paper", 8, 400), machine());
  bench.put("grad_h", std::vector<float>(bench.values<float>("grad_h").size(), 0));
  const Outcome outcome = bench.solve("shooting");
  EXPECT_EQ(outcome.rounds, 1);
  EXPECT_LE(bench.ratio_local(), 16);
}

TEST_F(ShootingBackward, RefusesWhatItCannotLaunch) {
  Problem p = problem("paper", 64, 500);
  const auto why_not = [&](const char* solver, Policy policy) {
    p.policy = std::move(policy);
    return find_solver(solver, machine().device(), p)->why_not(p);
  };
  EXPECT_EQ(why_not("shooting", {{"segments", 0}}), "policy segments = 0: must be 1 to 1048576");
  EXPECT_EQ(why_not("shooting", {{"overlap", -1}}), "policy overlap = -1: must be 0 to 1048576");
  for (const char* solver : {"reduction", "shooting"}) {
    EXPECT_EQ(why_not(solver, {{"threads", 48}}), "policy threads = 48: must be a power of two from 32 to 512");
    EXPECT_EQ(why_not(solver, {{"channels_a_block", 512}}), "policy channels_a_block = 512: must be a power of two from 1 to 256");
  }
  p.iteration_limit = 3;
  for (const char* solver : {"reduction", "shooting"}) EXPECT_EQ(why_not(solver, {}), std::string(solver) + " has no iterations to limit");
}

TEST(TheDeviceSequentialBackwardSolver, IsTheSameAtASplit) {
  for_every_case([]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const char* solver : {"seq_stepwise", "seq_fused"}) testing::expect_same_at_a_split<Cell, T>(grad, solver, machine());
    }
  });
}

TEST(PassBothOnAGpu, IsItsPartsAndAGraphGoesWithStepwise) {
  for (const char* grad : {"all", "output", "squares"}) {
    for (const char* solver : {"seq_stepwise", "seq_graph"})
      testing::expect_both_as_its_parts(backward_problem("lstm_cifg_diag", Storage::bf16, 2, 5, 9, grad), solver, "seq_stepwise", machine());
    testing::expect_both_as_its_parts(backward_problem("gru_diag", Storage::f32, 2, 5, 9, grad), "seq_fused", "seq_fused", machine());
  }
}

}  // namespace
}  // namespace prnn
