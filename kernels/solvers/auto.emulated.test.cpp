// auto.emulated.test.cpp: auto on the emulated GPU is its choice, to the bit and in all that it says. With PRNN_TEST_DEVICE=cuda on a GPU.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/solvers/auto_testing.hpp"

namespace prnn {
namespace {

using testing::AsItsChoice;

Machine& machine() {
  const char* chosen = std::getenv("PRNN_TEST_DEVICE");
  static const std::unique_ptr<Machine> opened = testing::open_machine(chosen ? chosen : "emulated");
  return *opened;
}

TEST(AutoOnAGpu, IsItsChoice) {
  testing::for_every_cell_and_storage([&](const std::string& cell, Storage storage) {
    for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 9, 40}}) {
      testing::expect_as_its_choice(testing::random_start_problem(cell, storage, batch, hidden, seq_len), machine());
      testing::expect_as_its_choice(testing::backward_problem(cell, storage, batch, hidden, seq_len), machine());
    }
  });
}

// Policies that the others refuse; where that leaves two, one thread a channel is the slower for so few channels.
TEST(AutoOnAGpu, IsEverySolverWhereTheOthersRefuse) {
  const Problem p = testing::random_start_problem("gru_diag", Storage::f32, 1, 64, 128);
  for (const auto& [policy, solver] : std::vector<std::pair<Policy, std::string>>{{{{"steps_a_thread", 9}, {"segments", 5}, {"overlap", 2}}, "shooting"},
                                                                                  {{{"overlap", -1}, {"threads", 64}, {"steps_a_thread", 1}}, "newton_fused"},
                                                                                  {{{"overlap", -1}, {"channels_a_block", 3}, {"threads", 64}}, "seq_fused"}}) {
    testing::expect_chosen(p, policy, solver, machine());
  }
}

TEST(AutoOnAGpu, IsInPassBackwardWhatTheOthersRefuse) {
  const Problem p = testing::backward_problem("lstm_cifg_diag", Storage::f32, 1, 64, 128);
  testing::expect_chosen(p, {{"overlap", -1}, {"threads", 512}}, "reduction", machine());
  testing::expect_chosen(p, {{"threads", 96}}, "seq_fused", machine());
}

TEST(AutoOnAGpu, IsAChoiceForEachPassOfBoth) {
  for (const char* cell : {"gru_diag", "lstm_cifg_diag"}) testing::expect_both_as_its_choices(testing::backward_problem(cell, Storage::f32, 2, 9, 40), machine());
}

TEST(AutoOnAGpu, TakesApproximateGatesWhereASolverHasThem) {
  Problem p = testing::random_start_problem("gru_diag", Storage::f32, 1, 40, 64);
  p.gates = "approx";
  const AsItsChoice seen = testing::expect_as_its_choice(p, machine());
  EXPECT_NE(seen.solver, "newton_fused") << "it has exact gates alone";
  p.storage = Storage::f64;
  EXPECT_EQ(find_solver("auto", machine().device(), p)->why_not(p), "double has no approximate gates");
  p.storage = Storage::f32;
  p.iteration_limit = 3;
  EXPECT_EQ(find_solver("auto", machine().device(), p)->why_not(p), "auto has no iterations to limit");
}

}  // namespace
}  // namespace prnn
