// truncation.cpp: what Newton's method leaves when it is stopped: its exact iterate, without a system, and the two parts of the error of a computed one.
#include <algorithm>
#include <cmath>

#include "kernels/fault.hpp"
#include "reference/cell_object.hpp"
#include "reference/channel_in.hpp"
#include "reference/mp.hpp"

namespace prnn {
namespace {

/// Newton's iterates of one step from those of the step before: with x = h^k_{l-1} and y = h^{k+1}_{l-1}, the linear equation of step l says
/// h^{k+1}_l = f(x) + J(x) (y - x), for h^k_l cancels; h^0_l = f(0, u_l). So all iterates go along the sequence together, without a system.
template <class Cell>
std::vector<DoubleDouble> last_iterate_of(const ChannelData& data, int count, std::int64_t steps_a_tile, std::int64_t steps, Deadline deadline) {
  constexpr int K = Cell::kState;
  constexpr std::int64_t kClockEvery = 16;
  using State = std::array<Mp, K>;
  const ChannelIn<Cell, Mp> channel(data);
  Mp start[K], u[Cell::kInputs], x[K], f[K], jacobian[K][K];
  channel.initial(start);
  std::vector<State> before(std::size_t(count) + 1), now(before.size());
  std::copy_n(start, K, before.back().begin());
  std::vector<DoubleDouble> last;
  for (std::int64_t l = 0; l < steps; ++l) {
    if (deadline != kNoDeadline && l % kClockEvery == 0 && std::chrono::steady_clock::now() >= deadline) break;
    if (PRNN_FAULT(67, l % steps_a_tile, l) == 0) std::fill(before.begin(), before.end() - 1, State(before.back()));
    channel.inputs(l, u);
    std::fill_n(x, K, Mp(0));
    Cell::step(x, channel.a, u, f);
    std::copy_n(f, K, now[0].begin());
    for (std::size_t k = 0; k < std::size_t(count); ++k) {
      std::copy_n(before[k].begin(), K, x);
      derived_jacobian<Cell>(x, channel.a, u, f, jacobian);
      for (int i = 0; i < K; ++i) {
        now[k + 1][std::size_t(i)] = f[i];
        for (std::size_t j = 0; j < K; ++j) now[k + 1][std::size_t(i)] += jacobian[i][j] * (before[k + 1][j] - x[j]);
      }
    }
    for (const Mp& h : now.back()) last.push_back(split(h));
    std::swap(before, now);
  }
  return last;
}

}  // namespace

std::vector<DoubleDouble> last_iterate(const ChannelData& data, int count, std::int64_t steps_a_tile, std::int64_t steps, Deadline deadline) {
  if (const CellObject* loaded = loaded_object(data.cell)) return loaded->last_iterate(data, count, steps_a_tile, steps, deadline);
  std::vector<DoubleDouble> last;
  with_cell(data.cell, [&]<class Cell>() { last = last_iterate_of<Cell>(data, count, steps_a_tile, steps, deadline); });
  return last;
}

Truncation judge_truncation(const Problem& p, int count, std::int64_t steps_a_tile, const std::function<std::vector<double>(std::int64_t, std::int64_t)>& computed,
                            ReferenceCache& cache) {
  const auto distance = [](const DoubleDouble& x, const DoubleDouble& y) { return std::fabs((x.high - y.high) + (x.low - y.low)); };
  Truncation all;
  for (const auto& [b, d] : sampled_channels(p)) {
    const Truth truth = cache.truth(p, b, d);
    const std::vector<DoubleDouble>& exact = cache.last_iterate(p, b, d, count, steps_a_tile, truth.steps);
    const std::vector<double> states = computed(b, d);
    for (std::size_t at = 0; at < exact.size(); ++at) {
      all.truncation_max = max_or_nan(all.truncation_max, distance(exact[at], truth.states[at]));
      all.rounding_max = max_or_nan(all.rounding_max, distance({states[at], 0}, exact[at]));
    }
    const std::int64_t steps = std::int64_t(exact.size()) * p.seq_len / std::int64_t(states.size());
    all.verified_prefix = all.channels_checked.empty() ? steps : std::min(all.verified_prefix, steps);
    all.channels_checked.push_back({b, d});
  }
  return all;
}

}  // namespace prnn
