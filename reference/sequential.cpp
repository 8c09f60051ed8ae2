// sequential.cpp: states step by step, at 50 digits, from the cells' one step().
#include <algorithm>
#include <cmath>

#include "kernels/fault.hpp"
#include "reference/cell_object.hpp"
#include "reference/channel_in.hpp"
#include "reference/mp.hpp"
#include "reference/running_bound.hpp"

namespace prnn {
namespace {

template <class Cell>
Truth states_of(const ChannelData& data, Deadline deadline, std::optional<Storage> until_hopeless) {
  constexpr int K = Cell::kState;
  constexpr std::int64_t kClockEvery = 64;  // steps between two looks at the clock: under 2 ms
  // Past this the judge stops too: its scale is at least 1 and at least any state so far, and it stops four times earlier.
  constexpr double kHopeless = 4 * kJudgedBelow;
  const ChannelIn<Cell, Mp> fine(data);
  const ChannelIn<Cell, MpCheck> coarse(data);
  const ChannelIn<Cell, double> rounded(data);
  Mp h[K];
  MpCheck h_check[K];
  double h_double[K], u[Cell::kInputs], scale = 1;
  fine.initial(h);
  coarse.initial(h_check);
  rounded.initial(h_double);
  RunningBound<Cell> bound(until_hopeless.value_or(Storage::f64));

  Truth truth;
  for (std::int64_t l = 0; l < data.seq_len; ++l) {
    if (deadline != kNoDeadline && l % kClockEvery == 0 && std::chrono::steady_clock::now() >= deadline) break;
    if (until_hopeless) {
      rounded.inputs(l, u);
      bound.advance(h_double, rounded.a, u);
    }
    advance<Cell>(fine, l, h);
    advance<Cell>(coarse, l, h_check);
    double error = 0;
    for (int i = 0; i < K; ++i) {
      truth.states.push_back(split(h[i]));
      truth.difference.push_back(static_cast<float>(PRNN_FAULT(34, abs(Mp(h[i] - Mp(h_check[i]))), Mp(0))));
      h_double[i] = truth.states.back().high;
      scale = std::max(scale, std::fabs(h_double[i]));
      error = std::max(error, bound.error[i]);
    }
    truth.steps = l + 1;
    if (until_hopeless && !(error <= kHopeless * scale)) {
      truth.ends = true;
      break;
    }
  }
  return truth;
}

}  // namespace

Truth true_states(const ChannelData& data, Deadline deadline, std::optional<Storage> until_hopeless) {
  if (const CellObject* loaded = loaded_object(data.cell)) return loaded->true_states(data, deadline, until_hopeless);
  Truth truth;
  with_recurrence(data.cell, [&]<class Cell>() { truth = states_of<Cell>(data, deadline, until_hopeless); });
  return truth;
}

}  // namespace prnn
