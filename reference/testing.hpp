// testing.hpp: channels to judge, and plain loops that are right, for tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/cells/all.hpp"
#include "kernels/ops/recurrence.hpp"

namespace prnn::testing {

/// Channel (0, d) of a small problem, with a random initial state.
inline ChannelData drawn_channel(const char* cell, std::int64_t seq_len, const char* regime, Storage storage = Storage::f32, std::int64_t d = 0) {
  Problem p;
  p.cell = cell;
  p.regime = regime;
  p.seq_len = seq_len;
  p.storage = storage;
  p.h0 = "random";
  return draw_channel(p, 0, d);
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

}  // namespace prnn::testing
