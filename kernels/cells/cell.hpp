// cell.hpp: what a cell is, and everything that is derived from its one step(): Jacobian, vector-Jacobian product, rounding bound.
#pragma once

#include "kernels/cells/scalar.hpp"
#include "kernels/fault.hpp"

namespace prnn {

template <class... Ts>
struct TypeList {
  /// Calls f.template operator()<T>() for each T in order.
  template <class F>
  static void for_each(F&& f) {
    (f.template operator()<Ts>(), ...);
  }
};
#if defined(PRNN_CELL)
using AllStorages = TypeList<PRNN_CELL_STORAGES>;  // those that a user of a cell of his own wants (harness/cell_compiler.hpp)
#else
using AllStorages = TypeList<float, double, Bf16, F16>;
#endif

/// Which pre-activation gates forgetting and the sign that moves it towards remembering; input = -1: the cell has none.
struct Memory {
  int input = -1;
  int towards_remembering = 0;
};

/// One channel's recurrence h_l = f(h_{l-1}, u_l). See gru_diag.hpp for the shape of one.
/// Input 0 must reach every state component: guard_inputs() relies on it (cells.test.cpp checks). A cell whose step makes NaN of all that is not finite
/// itself says kGuardsItself.
template <class Cell>
concept RecurrentCell = requires(const float (&h)[Cell::kState], const float (&a)[Cell::kWeights], const float (&u)[Cell::kInputs], float (&h_next)[Cell::kState]) {
  { Cell::name } -> std::convertible_to<const char*>;
  { Cell::kGates } -> std::convertible_to<int>;
  { Cell::memory } -> std::convertible_to<Memory>;
  Cell::step(h, a, u, h_next);
  requires Cell::kState >= 1 && Cell::kState <= 16;
};

/// A cell whose step is affine in h says kAffine: its gates see inputs and weights alone, and Newton's method has nothing to iterate.
template <class Cell>
inline constexpr bool is_affine = requires {
  Cell::kAffine;
};

/// A cell whose gates are not to be approximated says kExactGatesAlone; one without gates has none to approximate.
template <class Cell>
inline constexpr bool has_approximate_gates = [] {
  if constexpr (requires { Cell::kExactGatesAlone; }) return false;
  else return Cell::kGates > 0;
}();

/// Storage types that a cell's solvers are compiled for: all, or those that it names in a list Storages.
namespace detail {
template <class Cell>
struct StoragesOfCell {
  using type = AllStorages;
};
template <class Cell>
  requires requires { typename Cell::Storages; }
struct StoragesOfCell<Cell> {
  using type = typename Cell::Storages;
};
}  // namespace detail
template <class Cell>
using StoragesOf = typename detail::StoragesOfCell<Cell>::type;

/// Weights of a cell that are in its tensor a [kStoredWeights, D]: all; a cell may say that there are none.
template <class Cell>
inline constexpr int kStoredWeights = [] {
  if constexpr (requires { Cell::kStoredWeights; }) return Cell::kStoredWeights;
  else return Cell::kWeights;
}();

/// f(h, u) [kState] and J = df/dh [kState, kState] (row: output component), at the point h that is given, from the step itself.
template <class Cell, class T>
PRNN_HD inline void derived_jacobian(const T (&h)[Cell::kState], const T (&a)[Cell::kWeights], const T (&u)[Cell::kInputs], T (&f)[Cell::kState],
                                     T (&jacobian)[Cell::kState][Cell::kState]) {
  using D = Dual<T, Cell::kState>;
  D x[Cell::kState], y[Cell::kState];
  for (int i = 0; i < Cell::kState; ++i) x[i] = D::variable(h[i], i);
  Cell::step(x, a, u, y);
  for (int i = 0; i < Cell::kState; ++i) {
    f[i] = y[i].value;
    for (int j = 0; j < Cell::kState; ++j) jacobian[i][j] = PRNN_FAULT(6, y[i].slope[j], j > i ? T(0) : y[i].slope[j]);
  }
}

/// Whether a cell brings both by hand, for speed: jacobian(h, a, u, f, jacobian) in the types that kernels compute with. `prnn run --cell` holds it against the derived one.
template <class Cell, class T>
concept HasOwnJacobian = std::is_floating_point_v<T> &&
    requires(const T (&h)[Cell::kState], const T (&a)[Cell::kWeights], const T (&u)[Cell::kInputs], T (&f)[Cell::kState], T (&jacobian)[Cell::kState][Cell::kState]) {
  Cell::jacobian(h, a, u, f, jacobian);
};

/// The same as solvers take it.
template <class Cell, class T>
PRNN_HD inline void step_and_jacobian(const T (&h)[Cell::kState], const T (&a)[Cell::kWeights], const T (&u)[Cell::kInputs], T (&f)[Cell::kState],
                                      T (&jacobian)[Cell::kState][Cell::kState]) {
  if constexpr (HasOwnJacobian<Cell, T>) Cell::jacobian(h, a, u, f, jacobian);
  else derived_jacobian<Cell>(h, a, u, f, jacobian);
}

/// Vector-Jacobian product of one step: g [kState] -> J^T g for h [kState], a [kWeights], u [kInputs].
template <class Cell, class T>
PRNN_HD inline void step_vjp(const T (&h)[Cell::kState], const T (&a)[Cell::kWeights], const T (&u)[Cell::kInputs], const T (&g)[Cell::kState], T (&grad_h)[Cell::kState],
                             T (&grad_a)[Cell::kWeights], T (&grad_u)[Cell::kInputs]) {
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  using D = Dual<T, K + W + I>;
  D xh[K], xa[W], xu[I], y[K];
  for (int i = 0; i < K; ++i) xh[i] = D::variable(h[i], i);
  for (int i = 0; i < W; ++i) xa[i] = D::variable(a[i], K + i);
  for (int i = 0; i < I; ++i) xu[i] = D::variable(u[i], K + W + i);
  Cell::step(xh, xa, xu, y);
  const auto product = [&](int direction) {
    T sum = g[0] * y[0].slope[direction];
    for (int i = 1; i < K; ++i) sum = sum + g[i] * y[i].slope[direction];
    return sum;
  };
  for (int i = 0; i < K; ++i) grad_h[i] = product(i);
  for (int i = 0; i < W; ++i) grad_a[i] = product(K + i);
  for (int i = 0; i < I; ++i) grad_u[i] = product(K + W + i);
}

/// One step in double with what bounds its rounding: value [kState], |J| [kState, kState], and g [kState] of design section 6,
/// g_i = u_c (|f_i| + sum_k |df_i/dp_k| |p_k|) + sum_k |df_i/dgate_k| gate_error, p_k the argument of gate k.
template <class Cell>
PRNN_HD inline void step_and_bound(const double (&h)[Cell::kState], const double (&a)[Cell::kWeights], const double (&u)[Cell::kInputs], double unit_roundoff, double gate_error,
                                   double (&f)[Cell::kState], double (&abs_jacobian)[Cell::kState][Cell::kState], double (&g)[Cell::kState]) {
  constexpr int K = Cell::kState, G = Cell::kGates;
  using P = Probe<K, G>;
  GateTape<G> tape;
  P x[K], y[K];
  for (int i = 0; i < K; ++i) x[i] = P(Dual<double, K + G>::variable(h[i], i), &tape);
  if constexpr (is_affine<Cell>) {  // its gates are calls of parameters
    P weights[Cell::kWeights], inputs[Cell::kInputs];
    for (int k = 0; k < Cell::kWeights; ++k) weights[k] = P(Dual<double, K + G>(a[k]), &tape);
    for (int k = 0; k < Cell::kInputs; ++k) inputs[k] = P(Dual<double, K + G>(u[k]), &tape);
    Cell::step(x, weights, inputs, y);
  } else {
    Cell::step(x, a, u, y);
  }
  for (int i = 0; i < K; ++i) {
    f[i] = y[i].dual.value;
    for (int j = 0; j < K; ++j) abs_jacobian[i][j] = fabs(y[i].dual.slope[j]);
    double arguments = fabs(f[i]), gates = 0;
    for (int k = 0; k < G; ++k) {
      const double by_gate = fabs(y[i].dual.slope[K + k]);
      arguments += by_gate * fabs(tape.slope[k] * tape.argument[k]);
      gates += by_gate;
    }
    g[i] = unit_roundoff * arguments + gates * gate_error;
  }
}

/// A non-finite input makes the channel NaN from that step on (design section 6.4): 0 x u is NaN exactly then, and costs no branch.
template <class Cell, class T>
PRNN_HD inline void guard_inputs(T (&u)[Cell::kInputs]) {
  if constexpr (requires { Cell::kGuardsItself; }) return;
  T poison = T(0) * u[0];
  for (int k = 1; k < Cell::kInputs; ++k) poison = poison + T(0) * u[k];
  u[0] = u[0] + poison;
}

/// The same for what a channel starts from: a non-finite weight or initial state makes the whole channel NaN.
template <class Cell, class T>
PRNN_HD inline void guard_start(const T (&a)[Cell::kWeights], T (&h0)[Cell::kState]) {
  T poison = T(0) * a[0];
  for (int k = 1; k < Cell::kWeights; ++k) poison = poison + T(0) * a[k];
  for (int i = 0; i < Cell::kState; ++i) poison = PRNN_FAULT(57, poison + T(0) * h0[i], poison);
  for (int i = 0; i < Cell::kState; ++i) h0[i] = h0[i] + poison;
}

}  // namespace prnn
