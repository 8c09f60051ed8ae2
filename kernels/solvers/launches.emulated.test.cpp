// launches.emulated.test.cpp: a solver's result does not depend on how its launch is made: again and again, beside others, out of a recorded graph. On the
// emulated GPU a few times under several schedules; with PRNN_TEST_DEVICE=cuda a hundred times on a GPU (ctest label gpu).
#include <array>
#include <cstdlib>

#include <gtest/gtest.h>

#include "kernels/ops/testing.hpp"
#include "kernels/primitives/device_emulated.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn {
namespace {

using emulated::Order;
using testing::Workbench;

const char* device() {
  const char* chosen = std::getenv("PRNN_TEST_DEVICE");
  return chosen ? chosen : "emulated";
}
bool on_gpu() { return std::string_view(device()) == "cuda"; }
Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine(device());
  return *opened;
}

/// Bytes of all that a launch writes.
std::vector<unsigned char> results(const Workbench& bench) {
  std::vector<unsigned char> all;
  for (const Tensors::Item& item : bench.tensors.items) {
    if (!item.spec.written()) continue;
    const std::vector<unsigned char> bytes = bench.bytes(item.spec.name);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

/// f(solver, problem) for every solver of the device, pass and cell, in two storage types: a short batch, and one sequence that is cut among blocks.
template <class F>
void for_every_solver(F&& f) {
  for (const char* pass : {"forward", "backward"}) {
    AllCells::for_each([&]<class Cell>() {
      for (const Storage storage : {Storage::f32, Storage::bf16}) {
        if (storage != Storage::f32 && !on_gpu()) continue;
        for (const auto& [batch, hidden, seq_len] : {std::array<std::int64_t, 3>{2, 40, 70}, {1, 8, on_gpu() ? 4099 : 259}}) {
          Problem p = testing::random_start_problem(Cell::name, storage, batch, hidden, seq_len);
          p.pass = pass;
          for (const std::string& name : solver_names()) {
            const Solver* const solver = find_solver(name, device(), p);
            if (solver && solver->why_not(p).empty()) f(*solver, p);
          }
        }
      }
    });
  }
}

std::string describe(const Solver& solver, const Problem& p) {
  return std::string(solver.name) + " " + p.pass + " " + p.cell + " " + std::string(to_string(p.storage)) + " L " + std::to_string(p.seq_len);
}

TEST(EveryDeviceSolverLaunched, AHundredTimesGivesTheSameBits) {
  for_every_solver([&](const Solver& solver, const Problem& p) {
    if (!solver.deterministic) return;
    Workbench bench(p, machine());
    const auto run = solver.prepare(p, machine());
    std::vector<unsigned char> first;
    for (int turn = 0; turn < (on_gpu() ? 100 : 3); ++turn) {
      emulated::set_schedule({std::array{Order::ascending, Order::random, Order::descending}[std::size_t(turn) % 3], std::uint64_t(turn)});
      bench.poison_outputs();
      run->launch(bench.tensors, machine().stream());
      if (turn == 0) first = results(bench);
      EXPECT_EQ(results(bench) == first, true) << describe(solver, p) << " turn " << turn;
    }
    emulated::set_schedule({});
  });
}

TEST(EveryDeviceSolverLaunched, OnTwoStreamsAtOnceIsItselfOnEach) {
  const std::unique_ptr<Machine> beside = testing::open_machine(device());
  for_every_solver([&](const Solver& solver, const Problem& p) {
    Problem other = p;
    other.seed = 2;
    Workbench here(p, machine()), there(other, *beside);
    const auto run_here = solver.prepare(p, machine()), run_there = solver.prepare(other, *beside);
    std::vector<unsigned char> alone[2];
    Workbench* const benches[] = {&here, &there};
    prnn::Run* const runs[] = {run_here.get(), run_there.get()};
    for (int i = 0; i < 2; ++i) {
      runs[i]->launch(benches[i]->tensors, benches[i]->machine.stream());
      alone[i] = results(*benches[i]);
      benches[i]->poison_outputs();
      benches[i]->machine.synchronise();
    }
    EXPECT_EQ(alone[0] == alone[1], false) << describe(solver, p) << ": the problems are the same";
    for (int turn = 0; turn < (on_gpu() ? 20 : 1); ++turn) {
      for (int i = 0; i < 2; ++i) runs[i]->launch(benches[i]->tensors, benches[i]->machine.stream());
    }
    for (int i = 0; i < 2; ++i) {
      if (solver.deterministic) {
        EXPECT_EQ(results(*benches[i]) == alone[i], true) << describe(solver, p) << " stream " << i;
      } else {
        EXPECT_LE(benches[i]->ratio_local(), testing::kMostRatio) << describe(solver, p) << " stream " << i;
      }
    }
  });
}

TEST(EveryDeviceSolverLaunched, OutOfARecordedGraphIsItself) {
  int replayed = 0;
  for_every_solver([&](const Solver& solver, const Problem& p) {
    Workbench bench(p, machine());
    const auto run = solver.prepare(p, machine());
    if (!run->capturable()) return;
    run->launch(bench.tensors, machine().stream());
    const std::vector<unsigned char> direct = results(bench);
    bench.poison_outputs();
    if (!machine().time_graph([&](Stream stream, int) { run->launch(bench.tensors, stream); }, 3)) return;
    ++replayed;
    if (solver.deterministic) {
      EXPECT_EQ(results(bench) == direct, true) << describe(solver, p);
    } else {
      EXPECT_LE(bench.ratio_local(), testing::kMostRatio) << describe(solver, p);
    }
  });
  EXPECT_EQ(replayed > 0, on_gpu()) << "graphs are the GPU's";
}

}  // namespace
}  // namespace prnn
