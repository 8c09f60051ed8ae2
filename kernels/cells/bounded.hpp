// bounded.hpp: running error analysis as a type of number: a value in double, and a bound on the error of the same computation in type Compute.
// Wilkinson 1986, "Error analysis revisited"; Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.3.
#pragma once

#include "kernels/cells/cell.hpp"

namespace prnn {

/// Every operation rounds once in Compute, a gate adds its stated error, plain numbers are exact. As T of Dual and step_vjp it bounds derivatives.
/// Exact zeros and ones of Dual are rounded like any number: looking for them costs more than it saves (0.7 against 0.5 us a GRU step on a CPU).
template <class Compute, bool ApproximateGates = false>
struct Bounded {
  static constexpr double kUnitRoundoff = unit_roundoff_v<Compute>;
  static constexpr double kUnderflow = std::is_same_v<Compute, double> ? 0x1p-1074 : 0x1p-150;  // of a product: half the smallest subnormal (double holds no half)
  static constexpr double kGateError = ApproximateGates ? kApproxGateError : gate_error_v<Compute>;
  double value, error;

  Bounded() = default;
  PRNN_HD Bounded(double exact) : value(exact), error(0) {}
  PRNN_HD Bounded(double value, double error) : value(value), error(error) {}
};

template <class C, bool A>
PRNN_HD inline Bounded<C, A> operator+(const Bounded<C, A>& x, const Bounded<C, A>& y) {
  const double sum = x.value + y.value;
  return {sum, x.error + y.error + Bounded<C, A>::kUnitRoundoff * fabs(sum)};
}
template <class C, bool A>
PRNN_HD inline Bounded<C, A> operator*(const Bounded<C, A>& x, const Bounded<C, A>& y) {
  const double product = x.value * y.value;
  return {product, (fabs(x.value) + x.error) * y.error + fabs(y.value) * x.error + (Bounded<C, A>::kUnitRoundoff * fabs(product) + Bounded<C, A>::kUnderflow)};
}
template <class C, bool A>
PRNN_HD inline Bounded<C, A> operator-(const Bounded<C, A>& x) {
  return {-x.value, x.error};
}
template <class C, bool A>
PRNN_HD inline Bounded<C, A> operator-(const Bounded<C, A>& x, const Bounded<C, A>& y) {
  return x + -y;
}

namespace detail {
/// slope: of the gate at x; steepest: of the gate anywhere, which bounds the error where that of x is too large for the first order.
template <class C, bool A>
PRNN_HD inline Bounded<C, A> bounded_gate(const Bounded<C, A>& x, double value, double slope, double steepest) {
  return {value, (x.error < 0x1p-4 ? slope : steepest) * x.error + Bounded<C, A>::kGateError};
}
}  // namespace detail

template <class C, bool A>
PRNN_HD inline Bounded<C, A> sigmoid(const Bounded<C, A>& x) {
  const double s = sigmoid(x.value);
  return detail::bounded_gate(x, s, s * (1 - s), 0.25);
}
template <class C, bool A>
PRNN_HD inline Bounded<C, A> tanh_gate(const Bounded<C, A>& x) {
  const double t = tanh_gate(x.value);
  return detail::bounded_gate(x, t, 1 - t * t, 1);
}

/// Vector-Jacobian product of one step at exact h [kState], a [kWeights], u [kInputs] with the bound of each gradient, given g [kState] and its bound.
template <class Cell, class Number>
PRNN_HD inline void vjp_and_bound(const double (&h)[Cell::kState], const double (&a)[Cell::kWeights], const double (&u)[Cell::kInputs], const Number (&g)[Cell::kState],
                                  Number (&grad_h)[Cell::kState], Number (&grad_a)[Cell::kWeights], Number (&grad_u)[Cell::kInputs]) {
  Number bounded_h[Cell::kState], bounded_a[Cell::kWeights], bounded_u[Cell::kInputs];
  for (int i = 0; i < Cell::kState; ++i) bounded_h[i] = h[i];
  for (int k = 0; k < Cell::kWeights; ++k) bounded_a[k] = a[k];
  for (int k = 0; k < Cell::kInputs; ++k) bounded_u[k] = u[k];
  step_vjp<Cell>(bounded_h, bounded_a, bounded_u, g, grad_h, grad_a, grad_u);
}

}  // namespace prnn
