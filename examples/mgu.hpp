// mgu.hpp: minimal gated unit, diagonal; no part of the program: ./prnn run suites/quick.toml --device cpu --cell examples/mgu.hpp
// Zhou et al. 2016 (arXiv:1603.09420), one gate; per channel, u precomputed:
//   f = sigmoid(a_f h + u_f),  c = tanh(a_c (f h) + u_c),  h' = (1 - f) h + f c.
#pragma once
#include "kernels/cells/cell.hpp"

namespace prnn {

struct Mgu {
  static constexpr const char* name = "mgu";
  static constexpr int kState = 1, kWeights = 2, kInputs = 2, kGates = 2;
  static constexpr Memory memory{.input = 0, .towards_remembering = -1};

  // h [1], a [2] = (a_f, a_c), u [2] = (u_f, u_c) -> h_next [1]
  template <class S, class P>
  PRNN_HD static constexpr void step(const S (&h)[kState], const P (&a)[kWeights], const P (&u)[kInputs], S (&h_next)[kState]) {
    const S f = sigmoid(a[0] * h[0] + u[0]);
    const S c = tanh_gate(a[1] * (f * h[0]) + u[1]);
    h_next[0] = (P(1) - f) * h[0] + f * c;
  }
};

}  // namespace prnn
