// adjoint.hpp: one step of the backward pass as the plain solvers take it, on host and device.
#pragma once

#include "kernels/fault.hpp"
#include "kernels/ops/recurrence.hpp"
#include "kernels/primitives/sum.hpp"

namespace prnn {

/// g [kState] = dLoss/dh_l in total -> J^T g for h_{l-1}, in g, and u_l [kInputs]; that for a [kWeights] is added to da.
template <class Cell, class C>
PRNN_HD inline void adjoint_step(const C (&h_before)[Cell::kState], const C (&a)[Cell::kWeights], const C (&u)[Cell::kInputs], C (&g)[Cell::kState],
                                 CompensatedSum<C> (&da)[Cell::kWeights], C (&du)[Cell::kInputs]) {
  guard_adjoint<Cell>(h_before, a, u, g);
  C before[Cell::kState], by_a[Cell::kWeights];
  step_vjp<Cell, C>(h_before, a, u, g, before, by_a, du);
  for (int k = 0; k < Cell::kWeights; ++k) da[k].add(by_a[k]);
  for (int i = 0; i < Cell::kState; ++i) g[i] = before[i];
}

/// Step l of channel (b, d), from g_l without grad_h_l to g_{l-1} without grad_h_{l-1}; stores du_l, rounded once.
template <class Cell, class T>
PRNN_HD inline void adjoint_step(const Layout<Cell>& at, const BackwardTensors<T>& t, std::int64_t b, std::int64_t l, std::int64_t d, compute_t<T> (&g)[Cell::kState],
                                 CompensatedSum<compute_t<T>> (&da)[Cell::kWeights]) {
  compute_t<T> h_before[Cell::kState], a[Cell::kWeights], u[Cell::kInputs], du[Cell::kInputs];
  load_point<Cell>(at, t, b, l, d, h_before, a, u);
  add_grad_h<Cell>(at, t, b, l, d, g);
  adjoint_step<Cell>(h_before, a, u, g, da, du);
  for (int k = 0; k < Cell::kInputs; ++k) t.du[at.u(b, l, k, d)] = to_storage<T>(du[k]);
}

/// da at i, of kWeights x D in all, from what each batch entry summed, sums [B, kWeights D], in the order of the batch.
template <class C>
PRNN_HD inline void combine_batch(std::int64_t batch, std::int64_t weights, const CompensatedSum<C>* sums, std::int64_t i, bool accumulate, C* da) {
  CompensatedSum<C> total(PRNN_FAULT(32, accumulate, false) ? da[i] : C(0));
  for (std::int64_t b = 0; b < batch; ++b) total.add(sums[PRNN_FAULT(31, b, 0) * weights + i]);
  da[i] = total.value();
}

}  // namespace prnn
