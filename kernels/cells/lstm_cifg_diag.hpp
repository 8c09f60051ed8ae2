// lstm_cifg_diag.hpp: diagonal LSTM with peepholes and a coupled input/forget gate. State (c, h).
// Danieli et al. 2025 (arXiv:2510.21450), eq. 3.1b; per channel, u precomputed:
//   f = sigmoid(a_f h + u_f + c_f c),  z = tanh(a_z h + u_z),  c' = f c + (1 - f) z,
//   o = sigmoid(a_o h + u_o + c_o c'),  h' = o tanh(c').
// c', not c, stands inside o: the exact Jacobian differentiates through it. The published kernels evaluate that part at the
// iterate instead, which agrees at the solution only.
#pragma once

#include "kernels/cells/cell.hpp"
#include "kernels/fault.hpp"

namespace prnn {

struct LstmCifgDiag {
  static constexpr const char* name = "lstm_cifg_diag";
  static constexpr int kState = 2, kWeights = 5, kInputs = 3, kGates = 4;
  static constexpr Memory memory{.input = 0, .towards_remembering = +1};

  // h [2] = (c, h), a [5] = (a_f, a_o, a_z, c_f, c_o), u [3] = (u_f, u_o, u_z) -> h_next [2]
  template <class S, class P>
  PRNN_HD static constexpr void step(const S (&h)[kState], const P (&a)[kWeights], const P (&u)[kInputs], S (&h_next)[kState]) {
    const S f = sigmoid(a[0] * h[1] + u[0] + a[3] * h[0]);
    const S z = tanh_gate(a[2] * h[1] + u[2]);
    const S c = f * h[0] + (P(1) - f) * z;
    const S o = sigmoid(a[1] * h[1] + u[1] + a[4] * PRNN_FAULT(3, c, h[0]));
    h_next[0] = c;
    h_next[1] = o * tanh_gate(c);
  }
};

}  // namespace prnn
