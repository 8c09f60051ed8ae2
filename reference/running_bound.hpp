// running_bound.hpp: the bound E_l = |J_l| E_{l-1} + g_l of design section 6 along a sequence.
#pragma once

#include "kernels/api.hpp"
#include "kernels/cells/all.hpp"
#include "kernels/fault.hpp"
#include "kernels/ops/recurrence.hpp"

namespace prnn {

/// storing_error<T>() for a storage type known at run time.
inline double storing_error(Storage storage, double x) {
  switch (storage) {
    case Storage::f32: return storing_error<float>(x);
    case Storage::f64: return storing_error<double>(x);
    case Storage::bf16: return storing_error<Bf16>(x);
    case Storage::f16: return storing_error<F16>(x);
  }
  return 0;
}

template <class Cell>
struct RunningBound {
  static constexpr int K = Cell::kState;
  double unit_roundoff, gate_error;
  double error[K] = {};  // E_l; the initial state is exact

  explicit RunningBound(Storage storage, std::string_view gates = "exact")
      : unit_roundoff(prnn::unit_roundoff(compute_storage(storage))), gate_error(prnn::gate_error(storage, gates)) {}

  /// One step from h_{l-1}, component by component with the matrix |J_l|.
  void advance(const double (&h_before)[K], const double (&a)[Cell::kWeights], const double (&u)[Cell::kInputs]) {
    double f[K], abs_jacobian[K][K], g[K], next[K];
    step_and_bound<Cell>(h_before, a, u, unit_roundoff, gate_error, f, abs_jacobian, g);
    for (int i = 0; i < K; ++i) {
      next[i] = g[i];
      for (int j = 0; j < K; ++j) next[i] += PRNN_FAULT(36, abs_jacobian[i][j], abs_jacobian[j][i]) * error[j];
    }
    for (int i = 0; i < K; ++i) error[i] = next[i];
  }
};

}  // namespace prnn
