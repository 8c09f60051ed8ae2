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
  std::uint64_t turn = 0;
  for_every_case([&]<class Cell, class T>() {
    for (const char* grad : {"all", "output", "squares"}) {
      for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 1, 2}, {5, 3, 4}, {3, 5, 5}, {1, 33, 33}, {2, 130, 3}, {1, 2, 130}}) {
        Problem p = backward_problem(Cell::name, storage_of<T>, batch, hidden, seq_len, grad);
        if (turn % 2) p.policy = kTiny;
        for (const std::string& solver : solvers_for(p, machine())) {
          const WithSchedule set(turn++);
          testing::expect_right_gradients<Cell, T>(p, solver, machine());
        }
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
    const Problem p = backward_problem(Cell::name, Storage::f32, 2, 3, 6);
    for (const std::string& solver : solvers_for(p, machine())) testing::expect_first_nan<Cell>(p, solver, machine());
  });
}

TEST(EveryDeviceBackwardSolver, AddsToDa) {
  for_every_case([]<class Cell, class T>() {
    const Problem p = backward_problem(Cell::name, storage_of<T>, 3, 5, 17);
    for (const std::string& solver : solvers_for(p, machine())) testing::expect_accumulation<Cell, T>(p, solver, machine());
  });
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
