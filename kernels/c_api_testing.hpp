// c_api_testing.hpp: holds the C interface against api.hpp, on any device.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/c_api.h"
#include "kernels/cells/all.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::testing {

/// A problem as a C program says it. Keeps the words alive.
struct CProblem {
  CProblem(const Problem& p, std::string solver_name) : solver(std::move(solver_name)), cell(p.cell), pass(p.pass), storage(to_string(p.storage)), grad(p.grad), gates(p.gates) {
    c = {.size = sizeof c,
         .cell = cell.c_str(),
         .solver = solver.c_str(),
         .pass = pass.c_str(),
         .storage = storage.c_str(),
         .grad = grad.c_str(),
         .gates = gates.c_str(),
         .batch = p.batch,
         .seq_len = p.seq_len,
         .hidden = p.hidden,
         .iteration_limit = p.iteration_limit.value_or(0),
         .accumulate_da = p.accumulate_da};
  }
  CProblem(const CProblem&) = delete;
  std::string solver, cell, pass, storage, grad, gates;
  PrnnProblem c;
};

/// The pointers of a workbench's tensors; null where the pass has none.
inline PrnnTensors pointers(const Tensors& tensors) {
  const auto at = [&](std::string_view name) -> void* {
    for (const Tensors::Item& item : tensors.items) {
      if (item.spec.name == name) return item.data;
    }
    return nullptr;
  };
  return {at("u"), at("a"), at("h0"), at("h"), at("last"), at("grad_h"), at("grad_last"), at("du"), at("da"), at("dh0")};
}

struct Device {
  explicit Device(Machine& machine) { EXPECT_EQ(prnn_device_open(std::string(machine.device()).c_str(), &c), kPrnnOk) << prnn_message(); }
  Device(const Device&) = delete;
  ~Device() { prnn_device_close(c); }
  PrnnDevice* c = nullptr;
};

inline std::vector<std::vector<unsigned char>> outputs_of(const Workbench& bench) {
  std::vector<std::vector<unsigned char>> all;
  for (const Tensors::Item& item : bench.tensors.items) {
    if (item.spec.written()) all.push_back(bench.bytes(item.spec.name));
  }
  return all;
}

/// A plan in a workspace of exactly the bytes asked for, with a border behind it that must stay as it was.
struct Planned {
  Planned(Device& device, Machine& machine, const PrnnProblem& problem) {
    EXPECT_EQ(prnn_workspace_bytes(device.c, &problem, &bytes), kPrnnOk) << prnn_message();
    memory = Buffer(machine, kAlignment + bytes + kBorder);
    machine.fill(memory.data(), 0xff, memory.bytes());
    workspace = memory.as<char>() + (kAlignment - reinterpret_cast<std::uintptr_t>(memory.data()) % kAlignment);
    EXPECT_EQ(prnn_plan_create(device.c, &problem, workspace, bytes, &plan), kPrnnOk) << prnn_message();
  }
  Planned(const Planned&) = delete;
  ~Planned() { prnn_plan_destroy(plan); }
  bool border_is_whole(Machine& machine) const {
    std::vector<unsigned char> border(kBorder);
    machine.download(border.data(), workspace + bytes, kBorder);
    return border == std::vector<unsigned char>(kBorder, 0xff);
  }
  static constexpr std::int64_t kBorder = 256, kAlignment = 256;
  std::int64_t bytes = 0;
  Buffer memory;
  char* workspace = nullptr;
  PrnnPlan* plan = nullptr;
};

inline void expect_equal(const PrnnOutcome& c, const Outcome& expected, const std::string& where) {
  const auto at = expected.nonfinite.value_or(std::array<std::int64_t, 3>{-1, -1, -1});
  EXPECT_EQ(c.converged, expected.converged ? std::int64_t(*expected.converged) : -1) << where;
  EXPECT_EQ(c.iterations, expected.iterations.value_or(-1)) << where;
  EXPECT_EQ(c.rounds, expected.rounds.value_or(-1)) << where;
  EXPECT_EQ(c.boundaries, expected.boundaries.value_or(-1)) << where;
  EXPECT_EQ(c.boundaries_failed, expected.boundaries_failed.value_or(-1)) << where;
  EXPECT_EQ(c.nonfinite_b, at[0]) << where;
  EXPECT_EQ(c.nonfinite_l, at[1]) << where;
  EXPECT_EQ(c.nonfinite_d, at[2]) << where;
}

/// Outputs to the bit, outcome, and choice of solver, twice in one plan, as api.hpp has them for the same tensors.
inline void expect_as_the_solver_itself(const Problem& p, const std::string& name, Machine& machine) {
  const std::string where = name + " " + p.cell + " " + p.pass + " " + p.grad + " " + std::string(to_string(p.storage)) + " L" + std::to_string(p.seq_len);
  const Solver* solver = find_solver(name, machine.device(), p);
  ASSERT_NE(solver, nullptr) << where;
  Workbench bench(p, machine);
  const std::unique_ptr<Run> run = solver->prepare(p, machine);
  const auto start = [&] {
    bench.poison_outputs();
    if (p.accumulate_da) machine.fill(bench.tensors.at("da").data, 0, bench.tensors.at("da").spec.bytes());
  };
  start();
  run->launch(bench.tensors, machine.stream());
  machine.synchronise();
  const Outcome expected = run->outcome();
  const auto expected_outputs = outputs_of(bench);

  Device device(machine);
  const CProblem problem(p, name);
  const Planned planned(device, machine, problem.c);
  ASSERT_NE(planned.plan, nullptr) << where;
  EXPECT_EQ(prnn_plan_solver(planned.plan), run->solver().empty() ? name : run->solver()) << where;
  const PrnnTensors tensors = pointers(bench.tensors);
  for (int launch = 0; launch < 2; ++launch) {
    start();
    machine.synchronise();
    ASSERT_EQ(prnn_launch(planned.plan, &tensors, machine.stream()), kPrnnOk) << where << ": " << prnn_message();
    machine.synchronise();
    PrnnOutcome outcome;
    ASSERT_EQ(prnn_outcome(planned.plan, &outcome), kPrnnOk) << where << ": " << prnn_message();
    expect_equal(outcome, expected, where);
    if (solver->deterministic) {
      EXPECT_EQ(outputs_of(bench), expected_outputs) << where;
    }
  }
  EXPECT_TRUE(planned.border_is_whole(machine)) << where;
}

/// Every solver of the machine, cell and pass, at a size with a ragged edge; in every storage type, or (an emulated device takes its time) in one, each in turn.
inline void expect_every_solver_as_itself(Machine& machine, bool every_storage) {
  std::size_t pair = 0, turn = 0;  // of a cell and a pass; and of a solver in it
  AllCells::for_each([&]<class Cell>() {
    std::vector<Storage> storages;
    StoragesOf<Cell>::for_each([&]<class T>() { storages.push_back(storage_of<T>); });
    for (const std::string pass : {"forward", "backward", "both"}) {
      turn = pair++;
      for (const std::string& name : solver_names()) {
        const std::size_t first = turn++;
        for (std::size_t i = 0; i < (every_storage ? std::size(storages) : 1); ++i) {
          Problem p = random_start_problem(Cell::name, storages[(first + i) % std::size(storages)], 2, 3, 11);
          p.pass = pass;
          const Solver* solver = find_solver(name, machine.device(), p);
          if (solver && solver->why_not(p).empty()) expect_as_the_solver_itself(p, name, machine);
        }
      }
    }
  });
}

/// h0 and grad_last that are absent are zero; last and dh0 that are absent change nothing else.
inline void expect_absent_tensors_are_zero_or_unwanted(Machine& machine) {
  Problem p = random_start_problem("lstm_cifg_diag", Storage::bf16, 2, 3, 5);
  p.pass = "both";
  Workbench bench(p, machine);
  for (const char* name : {"h0", "grad_last"}) machine.fill(bench.tensors.at(name).data, 0, bench.tensors.at(name).spec.bytes());
  bench.solve("seq_fused");
  const auto h = bench.bytes("h"), du = bench.bytes("du"), da = bench.bytes("da");
  Device device(machine);
  const CProblem problem(p, "seq_fused");
  const Planned planned(device, machine, problem.c);
  PrnnTensors tensors = pointers(bench.tensors);
  tensors.h0 = tensors.grad_last = nullptr;
  tensors.last = tensors.dh0 = nullptr;
  bench.poison_outputs();
  machine.synchronise();
  for (int launch = 0; launch < 2; ++launch) ASSERT_EQ(prnn_launch(planned.plan, &tensors, machine.stream()), kPrnnOk) << prnn_message();
  machine.synchronise();
  EXPECT_EQ(bench.bytes("h"), h);
  EXPECT_EQ(bench.bytes("du"), du);
  EXPECT_EQ(bench.bytes("da"), da);
  EXPECT_EQ(bench.bytes("last"), std::vector<unsigned char>(std::size_t(bench.tensors.at("last").spec.bytes()), 0xff));
  EXPECT_TRUE(planned.border_is_whole(machine));
}

}  // namespace prnn::testing
