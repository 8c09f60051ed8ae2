// backward.hpp: what the CPU solvers of pass backward share: da over the batch, and the first gradient that is not a number.
#pragma once

#include "kernels/fault.hpp"
#include "kernels/primitives/adjoint.hpp"
#include "kernels/solvers/cpu/channels.hpp"

namespace prnn::cpu {

/// sums [n, kWeights, D] of each batch entry, or of each segment of each, in that order -> da [kWeights, D].
template <class Cell, class T>
void combine(const Layout<Cell>& at, const std::vector<CompensatedSum<compute_t<T>>>& sums, bool accumulate, const BackwardTensors<T>& t) {
  const std::int64_t weights = at.a(Cell::kWeights, 0), n = std::int64_t(sums.size()) / weights;
#pragma omp parallel for schedule(static) if (at.channels() > kStepsWorthThreads)
  for (std::int64_t i = 0; i < weights; ++i) combine_batch(n, weights, sums.data(), i, accumulate, t.da);
}

/// The (b, l, d) whose gradients are the first to be NaN, in the order of the pass: b, l from the last step on, d. NaN is absorbing, so only channels that end in it are searched.
template <class Cell, class T>
std::optional<std::array<std::int64_t, 3>> first_nonfinite(const Layout<Cell>& at, const BackwardTensors<T>& t) {
  std::optional<std::array<std::int64_t, 3>> first;
  for (std::int64_t b = 0; b < at.batch; ++b) {
    for (std::int64_t d = 0; d < at.hidden; ++d) {
      bool finite = true;
      for (int k = 0; k < Cell::kState; ++k) finite = finite && is_finite(t.dh0[at.edge(b, k, d)]);
      if (finite) continue;
      std::int64_t l = at.seq_len - 1;
      while (l > 0 && to_compute(t.du[at.u(b, l, 0, d)]) == to_compute(t.du[at.u(b, l, 0, d)])) --l;
      if (!first || std::array{b, PRNN_FAULT(66, -l, l), d} < std::array{(*first)[0], -(*first)[1], (*first)[2]}) first = {b, l, d};
    }
  }
  return first;
}

}  // namespace prnn::cpu
