// random_shapes.emulated.test.cpp: shapes, policies, storage, passes, losses, starts and regimes drawn from a seed, through every solver on the CPU and the emulated GPU, judged by the op's own
// test: right, or not converged and says so. PRNN_TEST_SEED and PRNN_TEST_SECONDS choose another seed and, in place of a fixed number of problems, a time.
#include <gtest/gtest.h>
#include <chrono>
#include <cstdlib>
#include <random>

#include "kernels/ops/testing.hpp"
#include "kernels/solvers/backward_testing.hpp"

namespace prnn::testing {
namespace {

class Problems {
 public:
  explicit Problems(std::uint32_t seed) : random_(seed) {}

  Problem next() {
    Problem p;
    p.cell = one_of(find_op(p.op).cells());
    p.pass = one_of<std::string>({"forward", "forward", "backward", "both"});
    p.grad = one_of<std::string>({"all", "output", "squares"});
    p.storage = one_of<Storage>({kStorages, kStorages + std::size(kStorages)});
    p.gates = one_of<std::string>({"exact", "exact", "approx"});
    p.h0 = one_of<std::string>({"zero", "random"});
    p.regime = one_of(drawn_regimes());
    p.seed = random_() % 1000;
    p.batch = 1 + random_() % 3;
    p.hidden = extent({8, 16, 31, 32, 33, 64}, 40);
    p.seq_len = extent({32, 64, 127, 128, 129, 256}, 200);
    const std::pair<const char*, std::vector<std::int64_t>> keys[] = {{"threads", {32, 64, 128}}, {"steps_a_thread", {1, 2, 4}}, {"steps_a_tile", {1, 2, 4, 8}},
                                                                      {"segments", {1, 2, 3, 7}}, {"overlap", {0, 1, 5, 40}},    {"channels_a_block", {1, 2, 4, 8, 16}},
                                                                      {"prefetch", {1, 2, 4, 8}}, {"blocks_a_team", {1, 2, 3}},  {"vector_bytes", {4, 8, 16}},
                                                                      {"tiles", {0, 1}}};
    for (const auto& [key, values] : keys) {
      if (random_() % 6 == 0) p.policy[key] = one_of(values);
    }
    return p;
  }

 private:
  template <class T>
  T one_of(const std::vector<T>& list) {
    return list[random_() % list.size()];
  }
  static std::vector<std::string> drawn_regimes() {
    std::vector<std::string> list = regime_names();
    std::erase_if(list, reads_text);
    return list;
  }
  /// Edges of tiles, or anything; short ones more often.
  std::int64_t extent(const std::vector<std::int64_t>& edges, int most) {
    if (random_() % 3 == 0) return one_of(edges);
    const double share = double(random_()) / 4294967296.0;
    return 1 + std::int64_t(share * share * most);
  }
  std::mt19937 random_;
};

std::string text_of(const Problem& p) {
  std::string text = p.pass + " " + describe("", p) + " " + p.gates + " " + p.regime + " h0 " + p.h0 + " seed " + std::to_string(p.seed);
  for (const auto& [key, value] : p.policy) text += " " + key + "=" + std::to_string(value);
  return text;
}

struct Tally {
  int solved = 0, not_converged = 0;
};

void expect_right(const Problem& p, const Solver& solver, Machine& machine, Tally& tally) {
  const std::string where = std::string(machine.device()) + " " + solver.name + " " + text_of(p);
  Workbench bench(p, machine);
  const auto contents = [&](bool written) {
    std::vector<std::vector<unsigned char>> list;
    for (const auto& item : bench.tensors.items) {
      if (item.spec.written() == written) list.push_back(bench.bytes(item.spec.name));
    }
    return list;
  };
  const auto inputs = contents(false);
  const Outcome outcome = bench.solve(solver.name);
  EXPECT_FALSE(outcome.nonfinite) << where;
  EXPECT_EQ(contents(false), inputs) << where << ": inputs were written";
  if (outcome.converged == false) {
    ++tally.not_converged;
    EXPECT_FALSE(std::string_view(solver.name).starts_with("seq_")) << where << ": nothing to converge";
    return;
  }
  ++tally.solved;
  EXPECT_LE(find_op(p.op).local_ratios(p, machine, bench.tensors).worst(), kMostRatio) << where;
  if (!solver.deterministic) return;
  const auto outputs = contents(true);
  bench.solve(solver.name);
  EXPECT_EQ(contents(true), outputs) << where << ": other bits the second time";
}

TEST(RandomShapes, AreSolvedRightByEverySolverThatClaimsThem) {
  const char *chosen_seed = std::getenv("PRNN_TEST_SEED"), *chosen_seconds = std::getenv("PRNN_TEST_SECONDS");
  const auto seed = std::uint32_t(chosen_seed ? std::strtoul(chosen_seed, nullptr, 10) : 1);
  constexpr int kProblems = 6;
  SCOPED_TRACE("PRNN_TEST_SEED=" + std::to_string(seed));
  RecordProperty("seed", std::to_string(seed));
  Problems problems(seed);
  const auto start = std::chrono::steady_clock::now();
  const auto go_on = [&](int number) {
    if (!chosen_seconds) return number < kProblems;
    return std::chrono::steady_clock::now() - start < std::chrono::duration<double>(std::strtod(chosen_seconds, nullptr)) && !::testing::Test::HasFailure();
  };
  Tally tally;
  const std::unique_ptr<Machine> machines[] = {open_machine("cpu"), open_machine("emulated")};
  for (int number = 0; go_on(number); ++number) {
    const Problem drawn = problems.next();
    for (const auto& machine : machines) {
      for (const std::string& name : solver_names()) {
        Problem p = drawn;
        const Solver* solver = find_solver(name, machine->device(), p);
        if (!solver) continue;
        if (!solver->why_not(p).empty()) p.policy.clear();  // it may be the policy that this one cannot have
        if (!find_op(p.op).why_not(p).empty() || !solver->why_not(p).empty()) continue;
        expect_right(p, *solver, *machine, tally);
      }
    }
  }
  EXPECT_GT(tally.solved, chosen_seconds ? 0 : kProblems) << "hardly anything was solved";
  EXPECT_LE(tally.not_converged, tally.solved / 10) << "most of it must converge";
}

}  // namespace
}  // namespace prnn::testing
