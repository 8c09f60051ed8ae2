// adjoint.cuh: what device solvers of pass backward share: da over the batch, and where a channel's gradients first were not numbers.
#pragma once

#include "kernels/primitives/adjoint.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"

namespace prnn::PRNN_BACKEND {

/// sums [B, kWeights, D] of each batch entry -> da [kWeights, D], a thread an element, in the order of the batch.
template <class Cell, class C>
PRNN_KERNEL combine_batch_kernel(Layout<Cell> at, const CompensatedSum<C>* sums, bool accumulate, C* da) {
  const std::int64_t i = block_index() * thread_count() + thread_index();
  if (i < at.a(Cell::kWeights, 0)) combine_batch<Cell>(at, sums, int(i / at.hidden), i % at.hidden, accumulate, da);
}

/// Positions of gradients count steps from the end: the smallest is where the pass first met NaN.
template <class Cell, class T>
PRNN_DEVICE std::int64_t first_nan_gradient(const Layout<Cell>& at, const T* du, const Place& place) {
  std::int64_t l = at.seq_len - 1;
  while (l > 0 && to_compute(du[at.u(place.b, l, 0, place.d)]) == to_compute(du[at.u(place.b, l, 0, place.d)])) --l;
  return at.position(place.b, at.seq_len - 1 - l, place.d);
}

/// As report_first_nonfinite() (channel.cuh). `bad`: this thread's channel exists and its dh0 is not finite.
template <class Cell, class T>
PRNN_DEVICE void report_first_nan_gradient(const Layout<Cell>& at, const T* du, bool bad, const Place& place, std::int64_t* slot) {
  if (thread_index() == 0) *slot = kNowhere;
  barrier();
  if (bad) atomic_min(slot, first_nan_gradient(at, du, place));
}

/// (b, l, d) of such a position; none for kNowhere. Host.
template <class Cell>
std::optional<std::array<std::int64_t, 3>> place_of_gradient(const Layout<Cell>& at, std::int64_t position) {
  auto place = place_of(at, position);
  if (place) (*place)[1] = at.seq_len - 1 - (*place)[1];
  return place;
}

}  // namespace prnn::PRNN_BACKEND
