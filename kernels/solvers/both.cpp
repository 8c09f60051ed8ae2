// both.cpp: pass both: the forward solver of a name, then a backward one on the h that it stored. No kernel of its own, and no solver knows of it.
//   tensors: those of both passes; h and last are outputs
#include "kernels/solvers/both.hpp"

#include <fmt/format.h>

#include <array>
#include <map>
#include <tuple>

#include "kernels/fault.hpp"

namespace prnn {
namespace {

/// Forward solvers without a backward pass of their own, and the one that has the same idea there.
constexpr std::array<std::string_view, 2> kCounterparts[] = {{"seq_graph", "seq_stepwise"}, {"newton_unfused", "reduction"}, {"newton_fused", "reduction"}};

struct Part {
  Problem problem;
  const Solver* solver;
};

Part part_of(Problem p, const char* pass, std::string_view name, std::string_view device) {
  p.pass = pass;
  const Solver* solver = find_solver(name, device, p);
  return {std::move(p), solver};
}

struct Parts {
  Part forward, backward;
};

Parts parts_of(const std::string& name, const std::string& device, const Problem& p) {
  Parts parts{part_of(p, "forward", name, device), part_of(p, "backward", name, device)};
  for (const auto& [forward, backward] : kCounterparts) {
    if (!parts.backward.solver && name == forward) parts.backward = part_of(p, "backward", backward, device);
  }
  // A forward pass that is stopped early has gradients too: those of the h that it stored.
  if (parts.backward.solver && !parts.backward.solver->iterates) parts.backward.problem.iteration_limit.reset();
  return parts;
}

class Both final : public Run {
 public:
  Both(const Parts& parts, Machine& machine)
      : forward_(parts.forward.solver->prepare(parts.forward.problem, machine)), backward_(parts.backward.solver->prepare(parts.backward.problem, machine)) {
    const std::string_view forward = forward_->solver(), backward = backward_->solver();
    if (!forward.empty() || !backward.empty())
      solver_ = fmt::format("{} + {}", forward.empty() ? parts.forward.solver->name : forward, backward.empty() ? parts.backward.solver->name : backward);
  }
  /// The backward solver's keys stand behind "backward_".
  Policy policy() const override {
    Policy all = forward_->policy();
    for (const auto& [key, value] : backward_->policy()) all["backward_" + key] = value;
    return all;
  }
  std::string_view solver() const override { return solver_; }
  int launches() const override { return forward_->launches() + backward_->launches(); }
  bool capturable() const override { return forward_->capturable() && backward_->capturable(); }
  void launch(const Tensors& tensors, Stream stream) override {
    forward_->launch(tensors, stream);
    backward_->launch(tensors, stream);
  }
  void trace(const Tensors& tensors, Stream stream) override {
    forward_->trace(tensors, stream);
    backward_->launch(tensors, stream);
  }
  /// The forward solver's, and of the backward one what went wrong, and its boundaries where the forward one has none.
  Outcome outcome() override {
    Outcome all = forward_->outcome();
    const Outcome back = backward_->outcome();
    if (back.converged) all.converged = PRNN_FAULT(60, all.converged.value_or(true), true) && *back.converged;
    if (!all.nonfinite) all.nonfinite = back.nonfinite;
    if (!all.rounds) {
      all.rounds = back.rounds;
      all.boundaries = back.boundaries;
      all.boundaries_failed = back.boundaries_failed;
    } else if (back.rounds) {
      *all.rounds += *back.rounds;
      *all.boundaries += back.boundaries.value_or(0);
      *all.boundaries_failed += back.boundaries_failed.value_or(0);
    }
    return all;
  }

 private:
  const std::unique_ptr<Run> forward_, backward_;
  std::string solver_;
};

}  // namespace

const Solver* find_both(std::string_view name_view, std::string_view device_view, const Problem& problem) {
  const std::string name(name_view), device(device_view);
  const Parts found = parts_of(name, device, problem);
  if (!found.forward.solver || !found.backward.solver) return nullptr;
  static std::map<std::tuple<std::string, std::string, std::string, Storage>, Solver> composed;
  Solver& solver = composed[{name, device, problem.cell, problem.storage}];
  solver = {.name = name,
            .device = device,
            .cell = problem.cell,
            .storage = problem.storage,
            .pass = "both",
            .iterates = found.forward.solver->iterates,
            .deterministic = found.forward.solver->deterministic && found.backward.solver->deterministic,
            .why_not =
                [name, device](const Problem& p) {
                  const Parts parts = parts_of(name, device, p);
                  const std::string why = parts.forward.solver->why_not(parts.forward.problem);
                  return why.empty() ? parts.backward.solver->why_not(parts.backward.problem) : why;
                },
            .workspace_bytes =
                [name, device](const Problem& p) {
                  const Parts parts = parts_of(name, device, p);
                  return parts.forward.solver->workspace_bytes(parts.forward.problem) + parts.backward.solver->workspace_bytes(parts.backward.problem);
                },
            .prepare = [name, device](const Problem& p, Machine& machine) -> std::unique_ptr<Run> { return std::make_unique<Both>(parts_of(name, device, p), machine); }};
  return &solver;
}

}  // namespace prnn
