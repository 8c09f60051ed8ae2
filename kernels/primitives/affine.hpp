// affine.hpp: affine maps x -> J x + r of a channel's state, and the only scan operator of this project.
#pragma once

#include "kernels/cells/scalar.hpp"
#include "kernels/fault.hpp"

namespace prnn {

/// x -> jacobian x + offset. jacobian [N, N], offset [N]. T is any ring: float, double, uint32_t in tests, 50 digits.
template <class T, int N>
struct Affine {
  T jacobian[N][N];
  T offset[N];

  PRNN_HD static Affine identity() {
    Affine map;
    for (int i = 0; i < N; ++i) {
      map.offset[i] = T(0);
      for (int j = 0; j < N; ++j) map.jacobian[i][j] = T(i == j ? 1 : 0);
    }
    return map;
  }
};

template <class T, int N>
PRNN_HD inline bool all_finite(const T (&x)[N]) {
  bool finite = true;
  for (int i = 0; i < N; ++i) finite = finite && is_finite(x[i]);
  return finite;
}

/// out = map(x). x, out [N].
template <class T, int N>
PRNN_HD inline void apply(const Affine<T, N>& map, const T (&x)[N], T (&out)[N]) {
  for (int i = 0; i < N; ++i) {
    T sum = map.offset[i];
    for (int j = 0; j < N; ++j) sum = map.jacobian[i][j] * x[j] + sum;
    out[i] = sum;
  }
}

/// The map that applies `earlier` first and `later` second. Associative, not commutative.
template <class T, int N>
PRNN_HD inline Affine<T, N> compose(const Affine<T, N>& earlier, const Affine<T, N>& later) {
  Affine<T, N> both;
  apply(later, earlier.offset, both.offset);
  for (int i = 0; i < N; ++i) {
    for (int j = 0; j < N; ++j) {
      T sum = later.jacobian[i][0] * earlier.jacobian[0][j];
      for (int k = 1; k < N; ++k) sum = PRNN_FAULT(7, later.jacobian[i][k] * earlier.jacobian[k][j], earlier.jacobian[i][k] * later.jacobian[k][j]) + sum;
      both.jacobian[i][j] = sum;
    }
  }
  return both;
}

}  // namespace prnn
