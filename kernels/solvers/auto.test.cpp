// auto.test.cpp: auto on the CPU is its choice, to the bit and in all that it says.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "kernels/solvers/auto_testing.hpp"

namespace prnn {
namespace {

using testing::AsItsChoice;

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine("cpu");
  return *opened;
}

TEST(AutoOnTheCpu, IsItsChoice) {
  testing::for_every_cell_and_storage([&](const std::string& cell, Storage storage) {
    for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {1, 16, 700}, {3, 130, 9}}) {
      testing::expect_as_its_choice(testing::random_start_problem(cell, storage, batch, hidden, seq_len), machine());
      for (const char* grad : {"all", "output", "squares"}) testing::expect_as_its_choice(testing::backward_problem(cell, storage, batch, hidden, seq_len, grad), machine());
    }
  });
}

// Policies that the others refuse, at a size where segments of a channel run side by side.
TEST(AutoOnTheCpu, IsASolverWhereTheOthersRefuse) {
  const Problem p = testing::random_start_problem("lstm_cifg_diag", Storage::f32, 1, 16, 700);
  for (const auto& [policy, solver] :
       std::vector<std::pair<Policy, std::string>>{{{{"steps_a_tile", 0}, {"segments", 5}, {"overlap", 2}}, "shooting"}, {{{"overlap", -1}, {"steps_a_tile", 0}}, "seq_fused"}}) {
    testing::expect_chosen(p, policy, solver, machine());
  }
}

TEST(AutoOnTheCpu, IsAChoiceForEachPassOfBoth) {
  testing::for_every_cell_and_storage([](const std::string& cell, Storage storage) {
    if (size_of(storage) >= 4) testing::expect_both_as_its_choices(testing::backward_problem(cell, storage, 2, 16, 70), machine());
  });
}

/// A run unlike any candidate's.
class OddRun : public Run {
 public:
  int launches() const override { return 7; }
  bool capturable() const override { return false; }
  void launch(const Tensors&, Stream) override {}
  Outcome outcome() override { return {}; }
};

TEST(AutoOnTheCpu, SaysOfItselfWhatItsChoiceSays) {
  Problem p = testing::random_start_problem("gru_diag", Storage::f32, 1, 16, 700);
  p.policy = {{"overlap", -1}, {"steps_a_tile", 0}};  // seq_fused alone takes these
  const auto chosen = std::find_if(solvers().begin(), solvers().end(), [&](const Solver& s) { return &s == find_solver("seq_fused", "cpu", p); });
  const auto prepare = std::exchange(chosen->prepare, [](const Problem&, Machine&) -> std::unique_ptr<prnn::Run> { return std::make_unique<OddRun>(); });
  const auto run = find_solver("auto", "cpu", p)->prepare(p, machine());
  chosen->prepare = prepare;
  EXPECT_EQ(run->solver(), "seq_fused");
  EXPECT_EQ(run->launches(), 7);
  EXPECT_FALSE(run->capturable());
}

TEST(AutoOnTheCpu, SaysWhyItIsNotDefined) {
  Problem p = testing::random_start_problem("gru_diag", Storage::f32, 1, 16, 700);
  const Solver& solver = *find_solver("auto", "cpu", p);
  EXPECT_EQ(solver.why_not(p), "");
  p.gates = "approx";
  EXPECT_NE(solver.why_not(p).find("exact gates alone"), std::string::npos) << solver.why_not(p);
  EXPECT_EQ(solver.workspace_bytes(p), 0);
  EXPECT_THROW(solver.prepare(p, machine()), DeviceError);
  p.pass = "backward";
  EXPECT_NE(find_solver("auto", "cpu", p)->why_not(p).find("exact gates alone"), std::string::npos) << find_solver("auto", "cpu", p)->why_not(p);
  p.gates = "exact";
  EXPECT_EQ(find_solver("auto", "cpu", p)->why_not(p), "");
  p.iteration_limit = 3;
  for (const char* pass : {"forward", "backward", "both"}) {
    p.pass = pass;
    EXPECT_EQ(find_solver("auto", "cpu", p)->why_not(p), "auto has no iterations to limit") << pass;
  }
}

}  // namespace
}  // namespace prnn
