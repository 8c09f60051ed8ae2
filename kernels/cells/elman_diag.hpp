// elman_diag.hpp: diagonal Elman network, the smallest nonlinear recurrence: h' = tanh(a h + u).
// Elman 1990, "Finding structure in time", with a diagonal recurrent matrix.
#pragma once

#include "kernels/cells/cell.hpp"
#include "kernels/fault.hpp"

namespace prnn {

struct ElmanDiag {
  static constexpr const char* name = "elman_diag";
  static constexpr int kState = 1, kWeights = 1, kInputs = 1, kGates = 1;
  static constexpr Memory memory{};

  // h [1], a [1], u [1] -> h_next [1]
  template <class S, class P>
  PRNN_HD static constexpr void step(const S (&h)[kState], const P (&a)[kWeights], const P (&u)[kInputs], S (&h_next)[kState]) {
    h_next[0] = tanh_gate(PRNN_FAULT(2, a[0], -a[0]) * h[0] + u[0]);
  }
};

}  // namespace prnn
