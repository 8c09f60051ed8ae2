// dynamics.cpp: what a channel's recurrence does to a small error, whatever the solver.
#include <algorithm>
#include <cmath>

#include "kernels/cells/growth.hpp"
#include "reference/cell_object.hpp"
#include "reference/channel_in.hpp"
#include "reference/reference.hpp"

namespace prnn {
namespace {

template <class Cell>
Dynamics dynamics_of(const ChannelData& data, const Truth& truth) {
  constexpr int K = Cell::kState;
  const ChannelIn<Cell, double> channel(data);
  double h[K], u[Cell::kInputs], f[K], jacobian[K][K];
  channel.initial(h);
  Growth<K> growth;
  Dynamics dynamics;
  for (std::int64_t l = 0; l < data.seq_len; ++l) {
    channel.inputs(l, u);
    derived_jacobian<Cell>(h, channel.a, u, f, jacobian);
    growth.advance(jacobian);
    for (int i = 0; i < K; ++i) {
      for (const double entry : jacobian[i]) dynamics.jacobian_max = max_or_nan(dynamics.jacobian_max, std::fabs(entry));
      h[i] = l < truth.steps ? truth.states[std::size_t(l * K + i)].high : f[i];
    }
  }
  dynamics.lyapunov = growth.lyapunov();
  return dynamics;
}

}  // namespace

Dynamics dynamics(const ChannelData& data, const Truth& truth) {
  if (const CellObject* loaded = loaded_object(data.cell)) return loaded->dynamics(data, truth);
  Dynamics found;
  with_recurrence(data.cell, [&]<class Cell>() { found = dynamics_of<Cell>(data, truth); });
  return found;
}

}  // namespace prnn
