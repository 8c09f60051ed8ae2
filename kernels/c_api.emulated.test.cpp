// c_api.emulated.test.cpp: the C interface over the device solvers. With PRNN_TEST_DEVICE=cuda the same tests run on a GPU (ctest label gpu).
#include <cstdlib>

#include "kernels/c_api_testing.hpp"

namespace prnn {
namespace {

Machine& machine() {
  const char* chosen = std::getenv("PRNN_TEST_DEVICE");
  static const std::unique_ptr<Machine> opened = testing::open_machine(chosen ? chosen : "emulated");
  return *opened;
}

TEST(TheCInterfaceOnADevice, IsEverySolverToTheBit) { testing::expect_every_solver_as_itself(machine(), std::string(machine().device()) == "cuda"); }

TEST(TheCInterfaceOnADevice, TakesAbsentTensorsAsZeroOrUnwanted) { testing::expect_absent_tensors_are_zero_or_unwanted(machine()); }

// Solvers that share a sequence among blocks keep barriers in the workspace, which start from zero although the workspace does not.
TEST(TheCInterfaceOnADevice, HasSolversFillTheirWorkspaceThemselves) {
  for (const char* pass : {"forward", "backward"}) {
    Problem p = testing::random_start_problem("gru_diag", Storage::f32, 1, 4, 700);
    p.pass = pass;
    testing::expect_as_the_solver_itself(p, "shooting", machine());
  }
}

}  // namespace
}  // namespace prnn
