// channel.cuh: what the device solvers share about a channel: loading its numbers, and saying where it first was not finite.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>

#include "kernels/cells/cell.hpp"
#include "kernels/cells/layout.hpp"
#include "kernels/fault.hpp"
#include "kernels/ops/recurrence.hpp"
#include "kernels/primitives/affine.hpp"
#include "kernels/primitives/convergence.hpp"
#include "kernels/primitives/device.cuh"

namespace prnn::PRNN_BACKEND {

/// A channel's state as a value, for shuffles and shared memory.
template <class C, int K>
struct State {
  C x[K];
};

/// u [kInputs] of one step, input 0 at p; not yet guarded.
template <class Cell, class T>
PRNN_DEVICE void load_inputs(const T* p, std::int64_t hidden, compute_t<T> (&u)[Cell::kInputs]) {
  PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) u[k] = load(p + k * hidden);
}

template <class Cell, class T>
PRNN_DEVICE void load_weights(const Layout<Cell>& at, const T* weights, std::int64_t d, compute_t<T> (&a)[Cell::kWeights]) {
  PRNN_UNROLL for (int k = 0; k < Cell::kWeights; ++k) a[k] = k < kStoredWeights<Cell> ? load(weights + at.a(k, d)) : compute_t<T>(0);
}

/// The initial state of channel (b, d), guarded: NaN if it or a weight is not finite.
template <class Cell, class T>
PRNN_DEVICE void load_start(const Layout<Cell>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t d, const compute_t<T> (&a)[Cell::kWeights],
                            compute_t<T> (&h)[Cell::kState]) {
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) h[i] = load(t.h0 + at.edge(b, i, d));
  guard_start<Cell>(a, h);
}

template <class Cell, class T>
PRNN_DEVICE void store_step(const Layout<Cell>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t l, std::int64_t d, const compute_t<T> (&h)[Cell::kState]) {
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) store(t.h + at.h(b, l, i, d), h[i]);
}

template <class Cell, class T>
PRNN_DEVICE void store_last(const Layout<Cell>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t d, const compute_t<T> (&h)[Cell::kState]) {
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) t.last[at.edge(b, i, d)] = h[i];
}

template <class C>
PRNN_DEVICE C magnitude(C x) {
  return x < C(0) ? -x : x;
}

/// Layout::position of nothing.
inline constexpr std::int64_t kNowhere = std::numeric_limits<std::int64_t>::max();

/// Channel (b, d).
struct Place {
  std::int64_t b, d;
};
/// Of channel b D + d. A 64-bit division takes a hundred instructions, at the start of a kernel that may last 3 us.
template <class Cell>
PRNN_DEVICE Place place_of_channel(const Layout<Cell>& at, std::int64_t channel) {
  if (PRNN_FAULT(23, at.channels(), at.hidden) <= std::int64_t(0xffffffffu)) {
    const unsigned b = unsigned(channel) / unsigned(at.hidden);
    return {std::int64_t(b), std::int64_t(unsigned(channel) - b * unsigned(at.hidden))};
  }
  return {channel / at.hidden, channel % at.hidden};
}

/// Position of the first step of from .. to - 1 whose stored state is not finite, or of the last. H: pointer to numbers as stored, or Stored.
template <class Cell, class H>
PRNN_DEVICE std::int64_t first_nonfinite(const Layout<Cell>& at, const H& h, const Place& place, std::int64_t from, std::int64_t to) {
  const auto state = [&](std::int64_t l) {
    const std::int64_t i = at.h(place.b, l, 0, place.d);
    if constexpr (std::is_pointer_v<H>) return to_compute(h[i]);
    else return h.at(i);
  };
  while (from + 1 < to && is_finite(state(from))) ++from;
  return at.position(place.b, from, place.d);
}

/// Ends a sequential kernel, all threads of the block: *slot = the first position that is not finite among the block's channels. Each
/// block writes its own slot at every launch, so nothing needs resetting; outcome() takes the minimum. Outputs are read again only for a
/// channel that ends in NaN, which is absorbing. `bad`: this thread's channel exists and does.
template <class Cell, class H>
PRNN_DEVICE void report_first_nonfinite(const Layout<Cell>& at, const H& h, bool bad, const Place& place, std::int64_t* slot) {
  if (thread_index() == 0) *slot = kNowhere;
  barrier();
  if (bad) atomic_min(slot, first_nonfinite(at, h, place, 0, at.seq_len));
}

#ifndef __CUDACC_RTC__
/// (b, l, d) of a position; none for kNowhere. Host.
template <class Cell>
std::optional<std::array<std::int64_t, 3>> place_of(const Layout<Cell>& at, std::int64_t position) {
  if (position == kNowhere) return std::nullopt;
  const std::int64_t row = position / at.hidden;
  return std::array<std::int64_t, 3>{row / at.seq_len, row % at.seq_len, position % at.hidden};
}
#endif

}  // namespace prnn::PRNN_BACKEND
