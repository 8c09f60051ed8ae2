// inject.hpp: damage that a run is asked to do (run --inject), to measure what a gate finds of it. The solvers know nothing of it: a prepared solver is wrapped, in one place, and only where a
// run was asked; its record says so, and is refused as a baseline and under results/.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/api.hpp"

namespace prnn {

struct Injection {
  std::string text;                    // as given; empty: no damage
  std::optional<double> slowdown;      // each launch is followed by work that takes this share of it, on the same stream
  std::optional<int> truncate;         // so many low bits of every element of the outputs are cleared after each launch
  std::optional<int> iteration_limit;  // a solver that iterates does exactly so many, unchecked
  std::string solver;                  // the only one that is damaged; empty: all
  bool applies_to(const Solver& s) const { return !text.empty() && (solver.empty() || solver == s.name) && (!iteration_limit || s.iterates); }
};

/// "slowdown=0.03", "truncate=4", "iteration_limit=2", each also with ":SOLVER"; throws BadInput.
Injection parse_injection(const std::string& text);

/// A prepared solver that does damage.
class InjectedRun : public Run {
 public:
  virtual ~InjectedRun() = default;
  /// To be called before it is timed, with the buffers of the timing: what its launches are measured on. A slowdown is 0 before.
  virtual void calibrate(Machine&, const std::function<Tensors()>& next) = 0;
  /// What it does, for the record.
  virtual std::string describe() const = 0;
};
std::unique_ptr<InjectedRun> prepare_injected(const Injection&, const Solver&, Problem, Machine&);

}  // namespace prnn
