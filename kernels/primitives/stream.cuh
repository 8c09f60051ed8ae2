// stream.cuh: a thread walks its channels along the sequence, the inputs of the steps ahead already under way: what seq_fused and shooting
// are made of.
//
// A step is a chain of dependent operations (60 ns), a memory access takes many such chains, and a machine at its memory's rate has tens of
// kilobytes a multiprocessor under way. So a thread computes kAhead steps from registers while the loads of the next kAhead are in flight.
// They are issued together and first touched a whole round later: a GPU waits for groups of loads, at the first instruction that needs one.
// Neighbouring threads are neighbouring channels. A thread has V channels, so that it loads whole words of 16-bit storage.
#pragma once

#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"

namespace prnn::PRNN_BACKEND {

/// V neighbouring channels: weights and state, in compute type.
template <class Cell, class T, int V>
struct Lane {
  compute_t<T> a[V][Cell::kWeights], h[V][Cell::kState];
};

/// V neighbouring numbers as stored.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T x[V];
};

template <class T, int V>
PRNN_DEVICE Pack<T, V> load_pack(const T* p) {
  if constexpr (V == 1) {
    return {{load_stored(p)}};
  } else {
    return prnn::detail::same_bits<Pack<T, V>>(load_pair(p));
  }
}
template <class T, int V>
PRNN_DEVICE void store_pack(T* p, const compute_t<T> (&x)[V]) {
  if constexpr (V == 1) {
    store_streaming(p, x[0]);
  } else {
    store_pair_streaming(p, x[0], x[1]);
  }
}

/// Weights of V neighbouring channels, and what they start from: the initial state or 0, guarded.
template <class Cell, class T, int V>
PRNN_DEVICE void load_lane(const Layout<Cell>& at, const RecurrenceTensors<T>& t, const Place& place, bool from_initial, Lane<Cell, T, V>& lane) {
  PRNN_UNROLL for (int v = 0; v < V; ++v) {
    load_weights(at, t, place.d + v, lane.a[v]);
    PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) lane.h[v][i] = from_initial ? load(t.h0 + at.edge(place.b, i, place.d + v)) : compute_t<T>(0);
    guard_start<Cell>(lane.a[v], lane.h[v]);
  }
}

/// h of step l, of V neighbouring channels.
template <class Cell, class T, int V>
PRNN_DEVICE void store_lane(const Layout<Cell>& at, const RecurrenceTensors<T>& t, const Place& place, std::int64_t l, const Lane<Cell, T, V>& lane) {
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) {
    compute_t<T> h[V];
    PRNN_UNROLL for (int v = 0; v < V; ++v) h[v] = lane.h[v][i];
    store_pack<T, V>(t.h + at.h(place.b, l, i, place.d), h);
  }
}

/// Runs steps first .. stop - 1 of channels (b, d) .. (b, d + V - 1), u pointing at input 0 of step 0: advance(v, u) computes a step of channel
/// d + v from its guarded inputs. Before step `own` (if it is run) calls arrive(); after that step and all later ones l calls keep(l).
template <int kAhead, class Cell, class T, int V, class Advance, class Arrive, class Keep>
PRNN_DEVICE void walk(const Layout<Cell>& at, const T* u, std::int64_t first, std::int64_t own, std::int64_t stop, Advance&& advance, Arrive&& arrive, Keep&& keep) {
  struct Steps {
    Pack<T, V> u[kAhead][Cell::kInputs];
  };
  const std::int64_t step = Cell::kInputs * at.hidden;
  const T* row = u + first * step;
  const auto within = [](std::int64_t steps) { return int(steps < 0 ? 0 : steps < kAhead ? steps : kAhead); };
  const auto fetch = [&](std::int64_t left) {
    Steps steps;
    const int some = within(left);
    PRNN_UNROLL for (int j = 0; j < kAhead; ++j) {
      if (j >= some) continue;
      PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) steps.u[j][k] = load_pack<T, V>(row + j * step + k * at.hidden);
    }
    row += kAhead * step;
    return steps;
  };
  Steps now = fetch(stop - first);
  for (std::int64_t base = first; base < stop; base += kAhead) {
    const Steps ahead = fetch(stop - base - kAhead);
    const int some = within(stop - base), skip = within(own - base);
    PRNN_UNROLL for (int j = 0; j < kAhead; ++j) {
      if (j >= some) continue;
      if (j == skip && base + j == own) arrive();
      PRNN_UNROLL for (int v = 0; v < V; ++v) {
        compute_t<T> inputs[Cell::kInputs];
        PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) inputs[k] = widen(now.u[j][k].x[v]);
        guard_inputs<Cell>(inputs);
        advance(v, inputs);
      }
      if (j >= skip) keep(base + j);
    }
    now = ahead;
  }
}

}  // namespace prnn::PRNN_BACKEND
