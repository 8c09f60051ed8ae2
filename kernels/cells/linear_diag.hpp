// linear_diag.hpp: linear recurrences with diagonal, input-dependent transitions: the yardstick that a nonlinear cell is compared with. N states a channel.
// N = 1, h' = f h + (1 - f) a u_x with f = sigmoid(u_f), is the recurrence of HGRN (Qin et al. 2023, arXiv:2311.04823, eq. 2, real) and minGRU (Feng et al.
// 2024, arXiv:2410.01201, section 3.1). N > 1 is the selective scan of Mamba (Gu and Dao 2023, arXiv:2312.00752, eq. 2a and 4) with its initial
// A_i = -i (S4D-Real, section 3.6): the zero-order hold h_i' = exp(D A_i) h_i + A_i^-1 (exp(D A_i) - 1) B_i x with D = softplus(-u_f) is, for
// exp(-D) = sigmoid(u_f),
//   f = sigmoid(u_f),  h_i' = f^i h_i + (1 - f^i) a_i u_x,  a_i = B_i / i,  i = 1 .. N.
// Simplified: B is a weight of the channel, not drawn from the input and shared by all channels; the states are stored, their sum C h is not formed; A is fixed.
#pragma once

#include "kernels/cells/cell.hpp"

namespace prnn {

template <int N>
struct LinearDiag {
  static_assert(N == 1 || N == 16);
  static constexpr const char* name = N == 1 ? "linear_diag" : "linear_diag16";
  static constexpr int kState = N, kWeights = N, kInputs = 2, kGates = 1;
  static constexpr Memory memory{.input = 0, .towards_remembering = +1};
  static constexpr bool kAffine = true;
  static constexpr bool kExactGatesAlone = true;
  using Storages = TypeList<float>;

  // h [N], a [N], u [2] = (u_f, u_x) -> h_next [N]
  template <class S, class P>
  PRNN_HD static constexpr void step(const S (&h)[kState], const P (&a)[kWeights], const P (&u)[kInputs], S (&h_next)[kState]) {
    const P f = sigmoid(u[0]);
    P power = f;
    for (int i = 0; i < N; ++i) {
      h_next[i] = power * h[i] + (P(1) - power) * (a[i] * u[1]);
      if (i + 1 < N) power = power * f;
    }
  }
};

}  // namespace prnn
