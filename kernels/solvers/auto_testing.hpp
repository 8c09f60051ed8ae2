// auto_testing.hpp: holds solver auto against the solver that it chose, on any machine.
#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>

#include "kernels/primitives/measured.hpp"
#include "kernels/solvers/backward_testing.hpp"

namespace prnn::testing {

/// The choice that auto made.
struct AsItsChoice {
  std::string solver;
  Policy policy;
};

inline void expect_equal(const Outcome& a, const Outcome& b, const std::string& where) {
  EXPECT_EQ(a.iterations, b.iterations) << where;
  EXPECT_EQ(a.converged, b.converged) << where;
  EXPECT_EQ(a.rounds, b.rounds) << where;
  EXPECT_EQ(a.boundaries, b.boundaries) << where;
  EXPECT_EQ(a.boundaries_failed, b.boundaries_failed) << where;
  EXPECT_EQ(a.residual_max, b.residual_max) << where;
  EXPECT_EQ(a.step_max, b.step_max) << where;
  EXPECT_EQ(a.nonfinite, b.nonfinite) << where;
}

/// Expects of auto: the choice of the shipped table, its outputs to the bit, its outcome (launched, traced, after an input that is not finite)
/// and everything it says about itself.
inline AsItsChoice expect_as_its_choice(const Problem& p, Machine& machine) {
  const std::string where = p.pass + " " + describe("auto", p) + " on " + std::string(machine.device());
  const Choice choice = choose(parse_measured(auto_table()), p, machine.device(), machine.gpu());
  const Solver* found = find_solver("auto", machine.device(), p);
  if (!found || !choice.solver) throw DeviceError(where + ": " + (found ? choice.why_not : "auto has no such pass"));
  const Solver& solver = *found;
  EXPECT_EQ(solver.why_not(p), "") << where;
  EXPECT_EQ(solver.pass, p.pass) << where;
  EXPECT_EQ(choice.solver->pass, p.pass) << where;
  EXPECT_EQ(solver.workspace_bytes(p), choice.solver->workspace_bytes(choice.problem)) << where;

  Workbench bench(p, machine);
  if (p.storage == Storage::f32) {  // one input of the last channel, in its middle
    auto u = bench.values<float>("u");
    u[u.size() / 2 / std::size_t(p.hidden) * std::size_t(p.hidden) + std::size_t(p.hidden) - 1] = std::numeric_limits<float>::infinity();
    bench.put("u", u);
  }
  const std::unique_ptr<Run> mine = solver.prepare(p, machine), theirs = choice.solver->prepare(choice.problem, machine);
  EXPECT_EQ(mine->solver(), choice.solver->name) << where;
  EXPECT_EQ(theirs->solver(), "") << where;
  EXPECT_EQ(mine->policy(), theirs->policy()) << where;
  EXPECT_EQ(mine->launches(), theirs->launches()) << where;
  EXPECT_EQ(mine->capturable(), theirs->capturable()) << where;
  for (const bool traced : {false, true}) {
    std::vector<std::vector<unsigned char>> outputs[2];
    Outcome outcomes[2];
    int i = 0;
    for (Run* run : {mine.get(), theirs.get()}) {
      bench.poison_outputs();
      traced ? run->trace(bench.tensors, machine.stream()) : run->launch(bench.tensors, machine.stream());
      machine.synchronise();
      for (const Tensors::Item& item : bench.tensors.items) {
        if (item.spec.written()) outputs[i].push_back(bench.bytes(item.spec.name));
      }
      outcomes[i++] = run->outcome();
    }
    EXPECT_TRUE(outputs[0] == outputs[1]) << where;
    expect_equal(outcomes[0], outcomes[1], where);
    EXPECT_EQ(outcomes[0].nonfinite.has_value(), p.storage == Storage::f32) << where;
  }
  return {std::string(mine->solver()), mine->policy()};
}

/// Expects of auto for pass both: the choice for each pass, with its outputs to the bit, and both names.
inline void expect_both_as_its_choices(const Problem& p, Machine& machine) {
  Problem both = p, forward = p, backward = p;
  both.pass = "both", forward.pass = "forward", backward.pass = "backward";
  const MeasuredTable table = parse_measured(auto_table());
  const Choice first = choose(table, forward, machine.device(), machine.gpu()), then = choose(table, backward, machine.device(), machine.gpu());
  const std::string where = describe("auto", p) + " both on " + std::string(machine.device());
  const Solver* solver = find_solver("auto", machine.device(), both);
  ASSERT_TRUE(solver && first.solver && then.solver) << where;
  EXPECT_EQ(solver->why_not(both), "") << where;
  EXPECT_TRUE(solver->deterministic) << where;
  EXPECT_EQ(solver->workspace_bytes(both), first.solver->workspace_bytes(first.problem) + then.solver->workspace_bytes(then.problem)) << where;
  EXPECT_EQ(solver->prepare(both, machine)->solver(), first.solver->name + " + " + then.solver->name) << where;
  expect_both_as_its_parts(p, "auto", "auto", machine);
}

/// Expects auto to choose `solver` under a policy that the others refuse, and to hand the policy on.
inline void expect_chosen(Problem p, const Policy& policy, const std::string& solver, Machine& machine) {
  p.policy = policy;
  const AsItsChoice seen = expect_as_its_choice(p, machine);
  EXPECT_EQ(seen.solver, solver);
  for (const auto& [key, value] : seen.policy) {
    const auto asked = policy.find(key);
    EXPECT_TRUE(asked == policy.end() || asked->second == value) << solver << " " << key << " " << value;
  }
}

}  // namespace prnn::testing
