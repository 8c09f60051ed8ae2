// convergence.hpp: when a Newton iterate is good enough; one rule for every Newton solver.
#pragma once

#include "kernels/fault.hpp"
#include "kernels/primitives/affine.hpp"

namespace prnn {

/// Design section 6.3: |r| <= 8 u_c x scale.
inline constexpr double kNewtonFactor = 8;

/// How well one step of a Newton iterate fits, r = f(before) - h.
struct Fit {
  bool passes = true;  // |r| <= 8 u_c max(1, |h|): stricter than design section 6.3, whose scale is the channel's largest |h|
  bool close = true;   // |r| <= 8 u_c (|h| + |J| |before|): within c of the local bound (design section 6.1) wherever that is

  /// counts: whether the step is one of the channel's; as a number, because a branch would keep the steps of a thread apart.
  PRNN_HD void also(const Fit& step, bool counts = true) {
    passes = passes & (step.passes | !counts);
    close = close & (step.close | !counts);
  }
  /// Whether a channel has converged at this iterate, `passed_before` saying that every step passed at the iterate before too: the solve in
  /// between has then removed all of r but its second order and its rounding. Passing alone would accept 8 u_c where rounding is far less.
  PRNN_HD bool converged(bool passed_before) const { return passes && PRNN_FAULT(58, close || passed_before, true); }
};

/// linear: (J, r) at the iterate; h, before [K]: its state at this step and at the one before.
template <class C, int K>
PRNN_HD inline Fit fit_of(const Affine<C, K>& linear, const C (&h)[K], const C (&before)[K]) {
  constexpr C kTolerance = C(kNewtonFactor * unit_roundoff_v<C>);
  const auto magnitude = [](C x) { return x < C(0) ? -x : x; };
  Fit fit;
  for (int i = 0; i < K; ++i) {
    const C r = magnitude(linear.offset[i]), size = magnitude(h[i]);
    C moved = size;
    for (int j = 0; j < K; ++j) moved = magnitude(linear.jacobian[i][j] * before[j]) + moved;
    if (!(r <= kTolerance * (size > C(1) ? size : C(1)))) fit.passes = false;
    if (!(r <= kTolerance * moved)) fit.close = false;
  }
  return fit;
}

}  // namespace prnn
