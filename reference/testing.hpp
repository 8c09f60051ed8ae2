// testing.hpp: channels to judge, and plain loops that are right, for tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/cells/all.hpp"
#include "kernels/ops/recurrence.hpp"
#include "reference/reference.hpp"

namespace prnn::testing {

/// A small problem with a random initial state.
inline Problem small_problem(const char* cell, std::int64_t seq_len, const char* regime, Storage storage = Storage::f32) {
  Problem p;
  p.cell = cell;
  p.regime = regime;
  p.seq_len = seq_len;
  p.storage = storage;
  p.h0 = "random";
  return p;
}

/// Channel (0, d) of it.
inline ChannelData drawn_channel(const char* cell, std::int64_t seq_len, const char* regime, Storage storage = Storage::f32, std::int64_t d = 0) {
  return draw_channel(small_problem(cell, seq_len, regime, storage), 0, d);
}

/// h [L, kState] of a plain loop in the compute type of T, stored as T.
template <class T>
std::vector<double> evaluate(const ChannelData& data) {
  std::vector<double> out;
  with_cell(data.cell, [&]<class Cell>() {
    compute_t<T> h[Cell::kState], a[Cell::kWeights], u[Cell::kInputs], next[Cell::kState];
    std::copy_n(data.initial.begin(), Cell::kState, h);
    std::copy_n(data.weights.begin(), Cell::kWeights, a);
    for (std::int64_t l = 0; l < data.seq_len; ++l) {
      std::copy_n(data.inputs.begin() + l * Cell::kInputs, Cell::kInputs, u);
      Cell::step(h, a, u, next);
      for (int i = 0; i < Cell::kState; ++i) {
        h[i] = next[i];
        out.push_back(to_compute(to_storage<T>(h[i])));
      }
    }
  });
  return out;
}

/// Channel (b, d) of a problem with the states that a plain loop in T stores, and its loss: drawn at random, or of these states.
template <class T>
BackwardChannel backward_channel(const Problem& p, std::int64_t b, std::int64_t d) {
  return channel_at(p, b, d, evaluate<T>(draw_channel(p, b, d)));
}

/// du (stored as T), dh0 and this channel's part of da of a plain loop back in the compute type of T. da is summed in Sum: double is what a good summation has.
template <class T, class Sum = double>
ByArgument<double> evaluate_gradients(const BackwardChannel& channel) {
  ByArgument<double> out;
  with_cell(channel.data.cell, [&]<class Cell>() {
    constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
    const std::int64_t L = channel.data.seq_len, G = std::int64_t(channel.loss.states.size()) / L;
    compute_t<T> h[K], a[W], u[I], g[K], by_h[K], by_a[W], by_u[I];
    Sum sum[W] = {};
    std::copy_n(channel.data.weights.begin(), W, a);
    std::copy_n(channel.loss.last.begin(), K, g);
    out.inputs.resize(std::size_t(L * I));
    for (std::int64_t l = L - 1; l >= 0; --l) {
      if (l == 0) std::copy_n(channel.data.initial.begin(), K, h);
      else std::copy_n(channel.states.begin() + (l - 1) * K, K, h);
      std::copy_n(channel.data.inputs.begin() + l * I, I, u);
      for (std::int64_t i = 0; i < G; ++i) g[K - G + i] += compute_t<T>(channel.loss.states[std::size_t(l * G + i)]);
      step_vjp<Cell>(h, a, u, g, by_h, by_a, by_u);
      for (int k = 0; k < W; ++k) sum[k] += by_a[k];
      for (int k = 0; k < I; ++k) out.inputs[std::size_t(l * I + k)] = to_compute(to_storage<T>(by_u[k]));
      std::copy_n(by_h, K, g);
    }
    for (const Sum x : sum) out.weights.push_back(compute_t<T>(x));
    out.initial.assign(g, g + K);
  });
  return out;
}

}  // namespace prnn::testing
