// sequential.cpp: states step by step and gradients by reverse accumulation, at 50 digits, from the cells' one step().
#include <algorithm>
#include <cmath>

#include "reference/mp.hpp"
#include "reference/running_bound.hpp"

namespace prnn {
namespace {

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
    for (int k = 0; k < Cell::kInputs; ++k) u[k] = T(data.inputs[std::size_t(l * Cell::kInputs + k)]);
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
      truth.difference.push_back(static_cast<float>(abs(Mp(h[i] - Mp(h_check[i])))));
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

std::vector<DoubleDouble> split_all(const Mp* values, std::size_t count) {
  std::vector<DoubleDouble> out(count);
  std::transform(values, values + count, out.begin(), split);
  return out;
}

template <class Cell>
Gradients gradients_of(const ChannelData& data, Loss loss) {
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  const ChannelIn<Cell, Mp> channel(data);
  std::vector<std::array<Mp, K>> before(static_cast<std::size_t>(data.seq_len));  // h_{l-1} of every step
  Mp h[K];
  channel.initial(h);
  for (std::int64_t l = 0; l < data.seq_len; ++l) {
    std::copy(std::begin(h), std::end(h), before[std::size_t(l)].begin());
    advance<Cell>(channel, l, h);
  }

  // g_l = dLoss/dh_l in total: the loss's own 2 h_l, and what step l+1 hands back.
  Mp handed_back[K], grad_a[W];
  std::fill(std::begin(handed_back), std::end(handed_back), Mp(0));
  std::fill(std::begin(grad_a), std::end(grad_a), Mp(0));
  std::vector<Mp> grad_u(static_cast<std::size_t>(data.seq_len * I));
  for (std::int64_t l = data.seq_len - 1; l >= 0; --l) {
    Mp g[K], u[I], h_before[K], by_a[W], by_u[I];
    for (int i = 0; i < K; ++i) g[i] = handed_back[i] + (loss == Loss::all_components || i == K - 1 ? Mp(2) * h[i] : Mp(0));
    std::copy_n(before[std::size_t(l)].begin(), K, h_before);
    channel.inputs(l, u);
    step_vjp<Cell, Mp>(h_before, channel.a, u, g, handed_back, by_a, by_u);
    for (int k = 0; k < W; ++k) grad_a[k] += by_a[k];
    std::copy_n(by_u, I, grad_u.begin() + l * I);
    std::copy_n(h_before, K, h);
  }
  return {split_all(grad_a, W), split_all(grad_u.data(), grad_u.size()), split_all(handed_back, K)};
}

}  // namespace

Truth true_states(const ChannelData& data, Deadline deadline, std::optional<Storage> until_hopeless) {
  Truth truth;
  with_cell(data.cell, [&]<class Cell>() { truth = states_of<Cell>(data, deadline, until_hopeless); });
  return truth;
}

Gradients true_gradients(const ChannelData& data, Loss loss) {
  Gradients gradients;
  with_cell(data.cell, [&]<class Cell>() { gradients = gradients_of<Cell>(data, loss); });
  return gradients;
}

}  // namespace prnn
