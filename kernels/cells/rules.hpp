// rules.hpp: what a cell has to be, each rule with the line that a user is told (run --cell): a header that breaks one does not compile.
#pragma once

#include "kernels/cells/bounded.hpp"
#include "kernels/cells/cell.hpp"

namespace prnn {

/// Whether Cell::step takes a state of numbers S and weights and inputs of numbers P.
template <class Cell, class S, class P>
concept StepsIn = requires(const S (&h)[Cell::kState], const P (&a)[Cell::kWeights], const P (&u)[Cell::kInputs], S (&h_next)[Cell::kState]) {
  Cell::step(h, a, u, h_next);
};

/// Each rule stands on those before it. The text after "rule: " is what a user reads.
template <class Cell>
struct CellRules {
  static_assert(
      requires {
        { Cell::name } -> std::convertible_to<const char*>;
      },
      "rule: name is missing; expected static constexpr const char* name = \"...\"");
  static_assert(
      requires {
        { Cell::kState } -> std::convertible_to<int>;
        { Cell::kWeights } -> std::convertible_to<int>;
        { Cell::kInputs } -> std::convertible_to<int>;
        { Cell::kGates } -> std::convertible_to<int>;
      },
      "rule: a size is missing; expected static constexpr int kState, kWeights, kInputs, kGates");
  static_assert(Cell::kState >= 1 && Cell::kState <= 4, "rule: kState is out of range; expected 1 to 4 state components");
  static_assert(Cell::kWeights >= 1 && Cell::kWeights <= 16, "rule: kWeights is out of range; expected 1 to 16");
  static_assert(Cell::kInputs >= 1 && Cell::kInputs <= 16, "rule: kInputs is out of range; expected 1 to 16");
  static_assert(Cell::kGates >= 0 && Cell::kGates <= 16, "rule: kGates is out of range; expected 0 to 16, the calls of sigmoid() and tanh_gate()");
  static_assert(
      requires {
        { Cell::memory } -> std::convertible_to<Memory>;
      },
      "rule: memory is missing; expected static constexpr Memory memory{...}, or {} where no gate forgets");
  static_assert(Cell::memory.input >= -1 && Cell::memory.input < Cell::kInputs, "rule: memory.input is no input; expected -1, or 0 to kInputs - 1");
  static_assert(StepsIn<Cell, float, float> && StepsIn<Cell, double, double> && StepsIn<Cell, Dual<double, Cell::kState>, double>,
                "rule: step() does not fit; expected template <class S, class P> static void step(const S (&h)[kState], const P (&a)[kWeights], const P (&u)[kInputs], "
                "S (&h_next)[kState])");
};

/// Compiles a step for the kinds of numbers that it meets, so that what it cannot do with one is found first.
template <class Cell>
void compile_step() {
  const auto in = []<class S, class P>() {
    S h[Cell::kState]{}, next[Cell::kState]{};
    P a[Cell::kWeights]{}, u[Cell::kInputs]{};
    Cell::step(h, a, u, next);
  };
  in.template operator()<float, float>();
  in.template operator()<double, double>();
  in.template operator()<Dual<double, Cell::kState>, double>();
  in.template operator()<Bounded<float>, Bounded<float>>();
  const double h[Cell::kState]{}, a[Cell::kWeights]{}, u[Cell::kInputs]{};
  double f[Cell::kState], abs_jacobian[Cell::kState][Cell::kState], g[Cell::kState];
  step_and_bound<Cell>(h, a, u, 0, 0, f, abs_jacobian, g);
}

}  // namespace prnn
