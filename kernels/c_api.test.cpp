// c_api.test.cpp: the C interface over the CPU's solvers: the same bits as api.hpp, and what it says of arguments that cannot be used.
#include <array>
#include <functional>
#include <limits>

#include "kernels/c_api_testing.hpp"

namespace prnn {
namespace {

using testing::CProblem;
using testing::Device;
using testing::Planned;
using testing::pointers;
using testing::Workbench;

Machine& cpu() {
  static const std::unique_ptr<Machine> opened = testing::open_machine("cpu");
  return *opened;
}

Problem small(const char* pass = "forward", const char* cell = "gru_diag") {
  Problem p = testing::random_start_problem(cell, Storage::f32, 2, 3, 5);
  p.pass = pass;
  return p;
}

TEST(TheCInterface, IsEverySolverToTheBit) { testing::expect_every_solver_as_itself(cpu()); }

TEST(TheCInterface, TakesAbsentTensorsAsZeroOrUnwanted) { testing::expect_absent_tensors_are_zero_or_unwanted(cpu()); }

TEST(TheCInterface, PassesEveryChoiceOn) {
  for (const char* grad : {"all", "output", "squares"}) {
    Problem p = small("backward", "lstm_cifg_diag");
    p.grad = grad;
    testing::expect_as_the_solver_itself(p, "auto", cpu());
    p.accumulate_da = true;
    testing::expect_as_the_solver_itself(p, "seq_fused", cpu());
  }
  Problem p = small();
  p.seq_len = 40;
  p.iteration_limit = 2;
  testing::expect_as_the_solver_itself(p, "newton_fused", cpu());
  testing::expect_as_the_solver_itself(testing::random_start_problem("gru_diag", Storage::f32, 1, 1, 3000), "shooting", cpu());  // in segments
}

TEST(TheCInterface, AccumulatesOnlyWhereAsked) {
  const Problem p = small("backward");
  Workbench bench(p, cpu());
  bench.solve("seq_fused");
  const auto once = bench.values<float>("da");
  for (const bool accumulate : {false, true}) {
    Problem asked = p;
    asked.accumulate_da = accumulate;
    Device device(cpu());
    const CProblem problem(asked, "seq_fused");
    const Planned planned(device, cpu(), problem.c);
    const PrnnTensors tensors = pointers(bench.tensors);
    bench.put("da", once);
    ASSERT_EQ(prnn_launch(planned.plan, &tensors, nullptr), kPrnnOk);
    for (std::size_t i = 0; i < once.size(); ++i) EXPECT_EQ(bench.values<float>("da")[i], accumulate ? 2 * once[i] : once[i]);
  }
}

TEST(TheCInterface, ReportsTheFirstElementThatIsNotFinite) {
  Workbench bench(small(), cpu());
  auto u = bench.values<float>("u");
  u[((1 * 5 + 3) * 3 + 0) * 3 + 2] = std::numeric_limits<float>::infinity() * 0;  // b 1, l 3, gate 0, d 2
  bench.put("u", u);
  Device device(cpu());
  const CProblem problem(small(), "seq_fused");
  const Planned planned(device, cpu(), problem.c);
  const PrnnTensors tensors = pointers(bench.tensors);
  ASSERT_EQ(prnn_launch(planned.plan, &tensors, nullptr), kPrnnOk);
  PrnnOutcome outcome;
  ASSERT_EQ(prnn_outcome(planned.plan, &outcome), kPrnnOk);
  EXPECT_EQ((std::array{outcome.nonfinite_b, outcome.nonfinite_l, outcome.nonfinite_d}), (std::array<std::int64_t, 3>{1, 3, 2}));
}

TEST(TheCInterface, SaysSizes) {
  AllCells::for_each([]<class Cell>() {
    for (const auto& [grad, pass, gradients] : {std::tuple{"all", "backward", Cell::kState}, {"output", "both", 1}, {"squares", "both", 0}, {"all", "forward", 0}}) {
      Problem p = small(pass, Cell::name);
      p.grad = grad;
      const CProblem problem(p, "auto");
      PrnnSizes sizes;
      ASSERT_EQ(prnn_sizes(&problem.c, &sizes), kPrnnOk) << prnn_message();
      EXPECT_EQ(sizes.inputs, Cell::kInputs);
      EXPECT_EQ(sizes.states, Cell::kState);
      EXPECT_EQ(sizes.weights, Cell::kWeights);
      EXPECT_EQ(sizes.gradients, gradients) << grad << " " << pass;
      EXPECT_EQ(sizes.bytes_min, find_op(p.op).bytes_min(p));
      EXPECT_EQ(sizes.flops, find_op(p.op).flops(p));
    }
  });
}

TEST(TheCInterface, TakesAPlainProblemWhereNothingIsSaid) {
  const Problem p = small();
  const CProblem said(p, "auto");
  PrnnProblem unsaid{};
  unsaid.size = sizeof unsaid;
  unsaid.cell = "gru_diag";
  unsaid.batch = p.batch;
  unsaid.seq_len = p.seq_len;
  unsaid.hidden = p.hidden;
  PrnnSizes expected, found;
  ASSERT_EQ(prnn_sizes(&said.c, &expected), kPrnnOk);
  ASSERT_EQ(prnn_sizes(&unsaid, &found), kPrnnOk) << prnn_message();
  EXPECT_EQ(found.bytes_min, expected.bytes_min);
  EXPECT_EQ(found.flops, expected.flops);
  Device device(cpu());
  unsaid.iteration_limit = 1;  // auto has none to limit: what it is refused with tells who was asked
  std::int64_t bytes = 0;
  EXPECT_EQ(prnn_workspace_bytes(device.c, &unsaid, &bytes), kPrnnUndefined);
  EXPECT_EQ(std::string(prnn_message()).substr(0, 5), "auto ") << prnn_message();
}

TEST(TheCInterface, DrawsAndJudgesAsTheHarnessDoes) {
  for (const char* pass : {"forward", "backward", "both"}) {
    Problem p = small(pass);
    p.regime = "wide";
    p.seed = 7;
    Workbench expected(p, cpu()), bench(small(pass), cpu());
    Device device(cpu());
    const CProblem problem(p, "auto");
    const PrnnTensors tensors = pointers(bench.tensors);
    ASSERT_EQ(prnn_draw(device.c, &problem.c, "wide", "random", 7, &tensors), kPrnnOk) << prnn_message();
    for (const auto& item : bench.tensors.items) {
      if (!item.spec.written()) {
        EXPECT_EQ(bench.bytes(item.spec.name), expected.bytes(item.spec.name)) << pass << " " << item.spec.name;
      }
    }
    bench.solve("seq_fused");
    expected.solve("seq_fused");
    const LocalRatios right = find_op(p.op).local_ratios(p, cpu(), expected.tensors);
    PrnnRatios ratios;
    ASSERT_EQ(prnn_judge(device.c, &problem.c, &tensors, &ratios), kPrnnOk) << prnn_message();
    EXPECT_EQ(ratios.h, right.h.value_or(-1)) << pass;
    EXPECT_EQ(ratios.du, right.du.value_or(-1)) << pass;
    EXPECT_EQ(ratios.da, right.da.value_or(-1)) << pass;
    EXPECT_EQ(ratios.dh0, right.dh0.value_or(-1)) << pass;
  }
}

TEST(TheCInterface, MeasuresItsDevice) {
  Device device(cpu());
  double copy = 0, launch = -1;
  ASSERT_EQ(prnn_device_rates(device.c, &copy, &launch), kPrnnOk);
  EXPECT_GT(copy, 1e8);  // bytes a second
  EXPECT_GE(launch, 0);
  EXPECT_LT(launch, 1e-3);
}

/// Expects a refusal with this status, whose message holds these words.
void refused(PrnnStatus status, PrnnStatus expected, const std::string& words) {
  EXPECT_EQ(status, expected) << words << ": " << prnn_message();
  EXPECT_NE(std::string(prnn_message()).find(words), std::string::npos) << prnn_message() << "; expected " << words;
}

TEST(TheCInterface, RefusesAProblemThatCannotBeSolved) {
  struct Wrong {
    std::function<void(PrnnProblem&)> make;
    PrnnStatus status;
    std::string words;
  };
  const std::vector<Wrong> all{
      {[](PrnnProblem& c) { c.size -= 8; }, kPrnnBadInput, "problem.size"},
      {[](PrnnProblem& c) { c.size += 8; }, kPrnnBadInput, "problem.size"},
      {[](PrnnProblem& c) { c.cell = nullptr; }, kPrnnBadInput, "problem.cell"},
      {[](PrnnProblem& c) { c.cell = "gru"; }, kPrnnBadInput, "problem.cell: 'gru'; expected"},
      {[](PrnnProblem& c) { c.solver = "fast"; }, kPrnnBadInput, "problem.solver: 'fast'"},
      {[](PrnnProblem& c) { c.pass = "sideways"; }, kPrnnBadInput, "problem.pass: 'sideways'"},
      {[](PrnnProblem& c) { c.storage = "f8"; }, kPrnnBadInput, "problem.storage: 'f8'"},
      {[](PrnnProblem& c) { c.grad = "none"; }, kPrnnBadInput, "problem.grad: 'none'"},
      {[](PrnnProblem& c) { c.gates = "rough"; }, kPrnnBadInput, "problem.gates: 'rough'"},
      {[](PrnnProblem& c) { c.batch = 0; }, kPrnnBadInput, "problem.batch: 0"},
      {[](PrnnProblem& c) { c.seq_len = -1; }, kPrnnBadInput, "problem.seq_len: -1"},
      {[](PrnnProblem& c) { c.hidden = 0; }, kPrnnBadInput, "problem.hidden: 0"},
      {[](PrnnProblem& c) { c.batch = c.seq_len = c.hidden = std::int64_t(1) << 21; }, kPrnnBadInput, "expected at most"},
      {[](PrnnProblem& c) { c.iteration_limit = -1; }, kPrnnBadInput, "problem.iteration_limit: -1"},
      {[](PrnnProblem& c) { c.iteration_limit = std::int64_t(1) << 31; }, kPrnnBadInput, "problem.iteration_limit: 2147483648"},
      {[](PrnnProblem& c) { c.iteration_limit = 3; }, kPrnnUndefined, "seq_fused does not iterate"},
      {[](PrnnProblem& c) { c.solver = "newton_fused", c.pass = "backward"; }, kPrnnUndefined, "newton_fused has no pass backward on cpu"},
      {[](PrnnProblem& c) { c.gates = "approx"; }, kPrnnUndefined, "exact gates alone"},
      {[](PrnnProblem& c) { c.grad = "output"; }, kPrnnUndefined, "pass forward is given no gradients"},
  };
  Device device(cpu());
  for (const Wrong& wrong : all) {
    CProblem problem(small(), "seq_fused");
    wrong.make(problem.c);
    std::int64_t bytes = -1;
    refused(prnn_workspace_bytes(device.c, &problem.c, &bytes), wrong.status, wrong.words);
    EXPECT_EQ(bytes, -1);
    alignas(256) char workspace[256];
    PrnnPlan* plan = reinterpret_cast<PrnnPlan*>(workspace);
    refused(prnn_plan_create(device.c, &problem.c, workspace, sizeof workspace, &plan), wrong.status, wrong.words);
    EXPECT_EQ(plan, nullptr);
  }
}

TEST(TheCInterface, RefusesPointersThatCannotBeUsed) {
  Device device(cpu());
  const CProblem problem(small("both"), "seq_fused");
  PrnnDevice* opened = device.c;
  refused(prnn_device_open("gpu", &opened), kPrnnBadInput, "device: 'gpu'; expected");
  EXPECT_EQ(opened, nullptr);
  refused(prnn_device_open(nullptr, &opened), kPrnnBadInput, "device: NULL");
  refused(prnn_device_open("cpu", nullptr), kPrnnBadInput, "opened: NULL");
  std::int64_t bytes = 0;
  refused(prnn_workspace_bytes(nullptr, &problem.c, &bytes), kPrnnBadInput, "device: NULL");
  refused(prnn_workspace_bytes(device.c, nullptr, &bytes), kPrnnBadInput, "problem: NULL");
  refused(prnn_workspace_bytes(device.c, &problem.c, nullptr), kPrnnBadInput, "bytes: NULL");
  refused(prnn_sizes(&problem.c, nullptr), kPrnnBadInput, "sizes: NULL");

  Planned planned(device, cpu(), problem.c);
  PrnnPlan* plan = nullptr;
  refused(prnn_plan_create(device.c, &problem.c, nullptr, planned.bytes, &plan), kPrnnBadInput, "workspace: NULL");
  refused(prnn_plan_create(device.c, &problem.c, planned.workspace + 64, planned.bytes, &plan), kPrnnBadInput, "workspace: not aligned to 256");
  refused(prnn_plan_create(device.c, &problem.c, planned.workspace, planned.bytes - 1, &plan), kPrnnBadInput, "expected prnn_workspace_bytes()");
  EXPECT_EQ(plan, nullptr);

  Workbench bench(small("both"), cpu());
  refused(prnn_launch(nullptr, nullptr, nullptr), kPrnnBadInput, "plan: NULL");
  refused(prnn_launch(planned.plan, nullptr, nullptr), kPrnnBadInput, "tensors: NULL");
  const auto launch_without = [&](auto member, const std::string& name) {
    PrnnTensors tensors = pointers(bench.tensors);
    tensors.*member = nullptr;
    refused(prnn_launch(planned.plan, &tensors, nullptr), kPrnnBadInput, "tensors." + name + ": NULL");
  };
  launch_without(&PrnnTensors::u, "u");
  launch_without(&PrnnTensors::a, "a");
  launch_without(&PrnnTensors::h, "h");
  launch_without(&PrnnTensors::grad_h, "grad_h");
  launch_without(&PrnnTensors::du, "du");
  launch_without(&PrnnTensors::da, "da");
  PrnnTensors tensors = pointers(bench.tensors);
  tensors.du = static_cast<char*>(tensors.du) + 8;
  refused(prnn_launch(planned.plan, &tensors, nullptr), kPrnnBadInput, "tensors.du: not aligned to 16");
  refused(prnn_outcome(nullptr, nullptr), kPrnnBadInput, "plan: NULL");

  tensors = pointers(bench.tensors);
  refused(prnn_draw(device.c, &problem.c, "wild", "zero", 1, &tensors), kPrnnBadInput, "regime: 'wild'");
  refused(prnn_draw(device.c, &problem.c, "paper", "one", 1, &tensors), kPrnnBadInput, "h0: 'one'");
  refused(prnn_draw(device.c, &problem.c, "text", "zero", 1, &tensors), kPrnnBadInput, "text");
  const CProblem untrained(small("both", "elman_diag"), "seq_fused");
  refused(prnn_draw(device.c, &untrained.c, "trained", "zero", 1, &tensors), kPrnnUndefined, "no model of elman_diag");
  tensors.h0 = nullptr;
  refused(prnn_draw(device.c, &problem.c, "paper", "zero", 1, &tensors), kPrnnBadInput, "tensors.h0: NULL");
  PrnnRatios ratios;
  refused(prnn_judge(device.c, &problem.c, &tensors, &ratios), kPrnnBadInput, "tensors.h0: NULL");
  EXPECT_STREQ(prnn_plan_solver(nullptr), "");
  EXPECT_STREQ(prnn_plan_solver(planned.plan), "seq_fused");
}

}  // namespace
}  // namespace prnn
