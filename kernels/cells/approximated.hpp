// approximated.hpp: a cell in float with approximate gates, as a cell of its own: kernels take it like any other.
#pragma once

#include "kernels/cells/cell.hpp"

namespace prnn {

template <class Cell>
struct Approximated : Cell {
  static constexpr int kState = Cell::kState, kWeights = Cell::kWeights, kInputs = Cell::kInputs;
  using Gate = Approx;  // of step_values()

  PRNN_HD static void step(const float (&h)[kState], const float (&a)[kWeights], const float (&u)[kInputs], float (&h_next)[kState]) {
    Approx x[kState], w[kWeights], in[kInputs], y[kState];
    for (int i = 0; i < kState; ++i) x[i] = h[i];
    for (int k = 0; k < kWeights; ++k) w[k] = a[k];
    for (int k = 0; k < kInputs; ++k) in[k] = u[k];
    Cell::step(x, w, in, y);
    for (int i = 0; i < kState; ++i) h_next[i] = y[i].x;
  }
  /// Derivatives of the exact cell along the same state: they guide Newton and are no result.
  using Cell::step;
};

/// f.template operator()<Cell or Approximated<Cell>>() for gates exact | approx; double has no approximate gates.
template <class Cell, class T, class F>
void with_gates(bool approximate, F&& f) {
  if constexpr (!std::is_same_v<T, double> && has_approximate_gates<Cell>) {
    if (approximate) return f.template operator()<Approximated<Cell>>();
  }
  f.template operator()<Cell>();
}

}  // namespace prnn
