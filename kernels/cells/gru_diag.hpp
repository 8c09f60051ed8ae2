// gru_diag.hpp: diagonal GRU.
// Danieli et al. 2025 (arXiv:2510.21450), eq. 3.1a with A = diag(a); per channel, u = B x + b precomputed:
//   z = sigmoid(a_z h + u_z),  r = sigmoid(a_r h + u_r),  c = tanh(a_c (h r) + u_c),  h' = (1 - z) h + z c.
#pragma once

#include "kernels/cells/cell.hpp"
#include "kernels/fault.hpp"

namespace prnn {

struct GruDiag {
  static constexpr const char* name = "gru_diag";
  static constexpr int kState = 1, kWeights = 3, kInputs = 3, kGates = 3;
  static constexpr Memory memory{.input = 0, .towards_remembering = -1};

  // h [1], a [3] = (a_z, a_r, a_c), u [3] = (u_z, u_r, u_c) -> h_next [1]
  template <class S, class P>
  PRNN_HD static constexpr void step(const S (&h)[kState], const P (&a)[kWeights], const P (&u)[kInputs], S (&h_next)[kState]) {
    const S z = sigmoid(a[0] * h[0] + u[0]);
    const S r = sigmoid(a[1] * h[0] + PRNN_FAULT(1, u[1], u[0]));
    const S c = tanh_gate(a[2] * (h[0] * r) + u[2]);
    h_next[0] = (P(1) - z) * h[0] + z * c;
  }
};

}  // namespace prnn
