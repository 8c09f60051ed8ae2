// channel_in.hpp: a channel's numbers in the type that the reference computes with.
#pragma once

#include <algorithm>

#include "kernels/cells/all.hpp"
#include "kernels/fault.hpp"
#include "reference/reference.hpp"

namespace prnn {

/// A channel's numbers in type T; double -> T is exact.
template <class Cell, class T>
struct ChannelIn {
  const ChannelData& data;
  T a[Cell::kWeights];

  explicit ChannelIn(const ChannelData& channel) : data(channel) {
    for (int k = 0; k < Cell::kWeights; ++k) a[k] = T(data.weights[std::size_t(k)]);
  }
  void initial(T (&h)[Cell::kState]) const {
    for (int k = 0; k < Cell::kState; ++k) h[k] = T(data.initial[std::size_t(k)]);
  }
  void inputs(std::int64_t l, T (&u)[Cell::kInputs]) const {
    for (int k = 0; k < Cell::kInputs; ++k) {
      const double given = data.inputs[std::size_t(l * Cell::kInputs + k)];
      u[k] = T(PRNN_FAULT(33, given, float(given)));
    }
  }
};

/// h <- f(h, u_l).
template <class Cell, class T>
void advance(const ChannelIn<Cell, T>& channel, std::int64_t l, T (&h)[Cell::kState]) {
  T u[Cell::kInputs], next[Cell::kState];
  channel.inputs(l, u);
  Cell::step(h, channel.a, u, next);
  std::copy(std::begin(next), std::end(next), std::begin(h));
}

}  // namespace prnn
