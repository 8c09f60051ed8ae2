// affine_scan.hpp: the bare affine scan h_l = J_l h_{l-1} + r_l as a recurrence: its inputs are the maps, and it has neither weights nor gates.
// The linear solve of an iteration of Newton's method: Danieli et al. 2025 (arXiv:2510.21450), eq. 2.3 and section 2.2, diagonal and 2x2 blocks.
#pragma once

#include "kernels/cells/cell.hpp"

namespace prnn {

/// K components: K = 1 is the diagonal scan, K = 2 that of full 2x2 blocks.
template <int K>
struct AffineScan {
  static_assert(K == 1 || K == 2);
  static constexpr const char* name = K == 1 ? "diag" : "2x2";
  static constexpr int kState = K, kWeights = 1, kInputs = K * (K + 1), kGates = 0;
  static constexpr int kStoredWeights = 0;  // C++ has no arrays of no elements: the one weight is 0, and nobody stores it
  static constexpr Memory memory{};
  static constexpr bool kGuardsItself = true;

  // h [K], a [1] unused, u [K, K + 1]: row i is J_i0 .. J_i,K-1, r_i -> h_next [K]
  template <class S, class P>
  PRNN_HD static constexpr void step(const S (&h)[kState], const P (&)[kWeights], const P (&u)[kInputs], S (&h_next)[kState]) {
    for (int i = 0; i < K; ++i) {
      S sum = S(u[i * (K + 1) + K]);
      for (int j = 0; j < K; ++j) sum = u[i * (K + 1) + j] * h[j] + sum;
      h_next[i] = sum;
    }
    // What becomes infinite is NaN from that step on, in all components: 0 x h is 0 for every other number.
    S poison = P(0) * h_next[0];
    for (int i = 1; i < K; ++i) poison = poison + P(0) * h_next[i];
    for (int i = 0; i < K; ++i) h_next[i] = h_next[i] + poison;
  }
};

}  // namespace prnn
