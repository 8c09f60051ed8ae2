// gradients.hpp: the local test of pass backward: every du, da and dh0 against the reverse recursion in double, from the h that is stored.
// Element functions stand here once; recurrence.cpp loops over channels on the host, recurrence.cu on a device.
#pragma once

#include <limits>

#include "kernels/cells/bounded.hpp"
#include "kernels/fault.hpp"
#include "kernels/ops/recurrence.hpp"
#include "kernels/primitives/sum.hpp"

namespace prnn {

/// What one gradient by a weight is a sum of: the sum, the bounds of its terms' errors, and their magnitudes.
struct GradientTerms {
  CompensatedSum<double> sum;
  double error, magnitude;
};

/// The largest ratio so far; once NaN, always NaN.
PRNN_HD inline void keep_largest(double& worst, double ratio) {
  if (worst == worst && PRNN_FAULT(17, !(ratio <= worst), ratio > worst)) worst = ratio;
}

/// Above it a product within a step may leave the range of compute type C, and nothing is asked of a channel from there on.
template <class C>
inline constexpr double kLargestAdjoint = std::is_same_v<C, double> ? 0x1p960 : 0x1p96;

/// The error of terms that cannot be judged.
inline constexpr double kNoBound = std::numeric_limits<double>::infinity();

/// Error of `got`, stored as a T, over the bound; NaN where one of them is NaN and the other is not. Infinity is right where the truth rounds to it.
template <class T>
PRNN_HD double gradient_ratio(double got, double truth, double bound) {
  if ((truth != truth) != (got != got)) return not_a_number<double>();
  if constexpr (!std::is_same_v<T, compute_t<T>>) bound += storing_error<T>(truth);
  const double error = fabs(got - truth);
  if (got != got || error == 0) return 0;
  if (!is_finite(got) && PRNN_FAULT(69, (got > 0) == (truth > 0), true) && !is_finite(to_compute(to_storage<T>(compute_t<T>(fabs(truth) + bound))))) return 0;
  return error / bound;
}

/// Channel (b, d): the largest ratios of its du and dh0, and its terms of da, in terms [B, kWeights, D]. Numbers that are not finite make NaN from their step on
/// towards the start; a gradient that leaves the range of compute type ends the verdict on the channel (terms: an infinite error).
template <class Cell, class T, bool kApproximate>
PRNN_HD void judge_gradients(const Layout<Cell>& at, const BackwardTensors<T>& t, std::int64_t b, std::int64_t d, GradientTerms* terms, double& worst_du, double& worst_dh0) {
  using C = compute_t<T>;
  using Number = Bounded<C, kApproximate>;
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  Number g[K];
  GradientTerms by_weight[W];
  for (int k = 0; k < W; ++k) by_weight[k] = {CompensatedSum<double>(0), 0, 0};
  for (int i = 0; i < K; ++i) g[i] = double(t.grad_last[at.edge(b, i, d)]);
  bool judged = true;
  for (std::int64_t l = at.seq_len - 1; l >= 0 && judged; --l) {
    double h_before[K], a[W], u[I], value[K];
    load_point<Cell>(at, t, b, l, d, h_before, a, u);
    add_grad_h<Cell>(at, t, b, l, d, g);
    for (int i = 0; i < K; ++i) value[i] = g[i].value;
    guard_adjoint<Cell>(h_before, a, u, value);
    for (int i = 0; i < K; ++i) {
      g[i].value = value[i];
      judged = judged && !(fabs(value[i]) + g[i].error > kLargestAdjoint<C>);
    }
    if (!judged) break;
    Number before[K], by_a[W], by_u[I];
    vjp_and_bound<Cell>(h_before, a, u, g, before, by_a, by_u);
    for (int k = 0; k < I; ++k) keep_largest(worst_du, gradient_ratio<T>(to_compute(t.du[at.u(b, l, k, d)]), by_u[k].value, by_u[k].error));
    for (int k = 0; k < W; ++k) {
      by_weight[k].sum.add(by_a[k].value);
      by_weight[k].error += by_a[k].error;
      by_weight[k].magnitude += fabs(by_a[k].value);
    }
    for (int i = 0; i < K; ++i) g[i] = before[i];
  }
  for (int i = 0; i < K && judged; ++i) keep_largest(worst_dh0, gradient_ratio<C>(t.dh0[at.edge(b, i, d)], g[i].value, g[i].error));
  for (int k = 0; k < W; ++k) {
    if (!judged) by_weight[k].error = kNoBound;
    terms[b * at.a(W, 0) + at.a(k, d)] = by_weight[k];
  }
}

/// The ratio of da [kWeights, D] at [k, d] against the terms of all batch entries: their errors, and u_c sum |terms| for the sum.
template <class Cell, class C>
PRNN_HD double judge_weight(const Layout<Cell>& at, const GradientTerms* terms, const C* da, int k, std::int64_t d) {
  CompensatedSum<double> sum(0);
  double bound = 0;
  for (std::int64_t b = 0; b < at.batch; ++b) {
    const GradientTerms& mine = terms[b * at.a(Cell::kWeights, 0) + at.a(k, d)];
    sum.add(mine.sum);
    bound += mine.error + unit_roundoff_v<C> * mine.magnitude;
  }
  return is_finite(bound) || bound != bound ? gradient_ratio<C>(da[at.a(k, d)], sum.value(), bound) : 0;
}

#ifndef __CUDACC_RTC__
/// f.template operator()<approximate>(): whether the gates that the bounds know of are; double has no approximate ones.
template <class T, class F>
void with_gate_error(const Problem& p, F&& f) {
  if constexpr (!std::is_same_v<T, double>) {
    if (p.gates == "approx") return f.template operator()<true>();
  }
  f.template operator()<false>();
}
#endif  // __CUDACC_RTC__

}  // namespace prnn
