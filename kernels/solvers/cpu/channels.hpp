// channels.hpp: what the CPU solvers share: loading a channel's numbers and reporting the first state that is not finite.
#pragma once

#include <cstdint>
#include <limits>
#include <mutex>

#include "kernels/api.hpp"
#include "kernels/cells/layout.hpp"
#include "kernels/ops/recurrence.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::cpu {

/// a [kWeights] of channel d and the state [kState] that channel (b, d) starts from, guarded (cell.hpp).
template <class Cell, class T>
void load_start(const Layout<Cell>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t d, compute_t<T> (&a)[Cell::kWeights], compute_t<T> (&h)[Cell::kState]) {
  for (int k = 0; k < Cell::kWeights; ++k) a[k] = k < kStoredWeights<Cell> ? to_compute(t.a[at.a(k, d)]) : compute_t<T>(0);
  for (int k = 0; k < Cell::kState; ++k) h[k] = t.h0[at.edge(b, k, d)];
  guard_start<Cell>(a, h);
}

/// u [kInputs] of step l, guarded.
template <class Cell, class T>
void load_inputs(const Layout<Cell>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t l, std::int64_t d, compute_t<T> (&u)[Cell::kInputs]) {
  for (int k = 0; k < Cell::kInputs; ++k) u[k] = to_compute(t.u[at.u(b, l, k, d)]);
  guard_inputs<Cell>(u);
}

/// Stores the state after step l, rounded once.
template <class Cell, class T>
void store_state(const Layout<Cell>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t l, std::int64_t d, const compute_t<T> (&h)[Cell::kState]) {
  for (int k = 0; k < Cell::kState; ++k) t.h[at.h(b, l, k, d)] = to_storage<T>(h[k]);
}

template <class Cell, class T>
void store_last(const Layout<Cell>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t d, const compute_t<T> (&h)[Cell::kState]) {
  for (int k = 0; k < Cell::kState; ++k) t.last[at.edge(b, k, d)] = h[k];
}

/// First (b, l, d) whose state is NaN; none if all are numbers. NaN is absorbing, so only channels that end in NaN are searched.
template <class Cell, class T>
std::optional<std::array<std::int64_t, 3>> first_nonfinite(const Layout<Cell>& at, const RecurrenceTensors<T>& t) {
  std::optional<std::array<std::int64_t, 3>> first;
  for (std::int64_t b = 0; b < at.batch; ++b) {
    for (std::int64_t d = 0; d < at.hidden; ++d) {
      if (is_finite(t.last[at.edge(b, 0, d)])) continue;
      std::int64_t l = 0;
      while (l + 1 < at.seq_len && is_finite(to_compute(t.h[at.h(b, l, 0, d)]))) ++l;
      const std::array<std::int64_t, 3> position{b, l, d};
      if (!first || position < *first) first = position;
    }
  }
  return first;
}

}  // namespace prnn::cpu
