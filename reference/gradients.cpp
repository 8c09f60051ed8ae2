// gradients.cpp: gradients by reverse accumulation, at 50 digits, from the derived vector-Jacobian product of the cells' one step().
#include <array>
#include <stdexcept>

#include "kernels/hash.hpp"
#include "reference/cell_object.hpp"
#include "reference/channel_in.hpp"
#include "reference/mp.hpp"
#include "reference/share_time.hpp"

namespace prnn {
namespace {

/// The states h_0 = h0, h_1 .. h_L that a channel is differentiated at, as stored.
template <class Cell>
struct StoredStates {
  const BackwardChannel& channel;

  template <class T>
  void get(std::int64_t l, T (&h)[Cell::kState]) const {
    const std::vector<double>& from = l == 0 ? channel.data.initial : channel.states;
    for (int i = 0; i < Cell::kState; ++i) h[i] = T(from[std::size_t(std::max<std::int64_t>(l - 1, 0) * Cell::kState + i)]);
  }
};

/// The same, computed at every precision; not to their end where the deadline comes before, and then gradients_of() begins nothing.
template <class Cell>
class TrueStates {
 public:
  TrueStates(const ChannelData& data, Deadline deadline) {
    run(data, deadline, fine_);
    run(data, deadline, coarse_);
  }
  void get(std::int64_t l, Mp (&h)[Cell::kState]) const { std::copy_n(fine_[std::size_t(l)].begin(), Cell::kState, h); }
  void get(std::int64_t l, MpCheck (&h)[Cell::kState]) const { std::copy_n(coarse_[std::size_t(l)].begin(), Cell::kState, h); }

 private:
  template <class T>
  static void run(const ChannelData& data, Deadline deadline, std::vector<std::array<T, Cell::kState>>& states) {
    constexpr std::int64_t kClockEvery = 64;  // steps between two looks at the clock: under 2 ms
    const ChannelIn<Cell, T> channel(data);
    T h[Cell::kState];
    channel.initial(h);
    states.push_back(std::to_array(h));
    for (std::int64_t l = 0; l < data.seq_len; ++l) {
      if (deadline != kNoDeadline && l % kClockEvery == 0 && std::chrono::steady_clock::now() >= deadline) return;
      advance<Cell>(channel, l, h);
      states.push_back(std::to_array(h));
    }
  }
  std::vector<std::array<Mp, Cell::kState>> fine_;
  std::vector<std::array<MpCheck, Cell::kState>> coarse_;
};

/// Adds to g what the loss itself has of h_l, l = 1 .. L.
template <class Cell>
struct GivenLoss {
  const ChannelGradients& loss;
  std::int64_t seq_len;

  template <class T>
  void add(std::int64_t l, const T (&h)[Cell::kState], T (&g)[Cell::kState]) const {
    const std::size_t G = loss.states.size() / std::size_t(seq_len), first = Cell::kState - G;
    for (std::size_t i = 0; i < Cell::kState; ++i) {
      if (l == seq_len) g[i] += T(loss.last[i]);
      if (loss.states.empty()) g[i] += 2 * h[i];
      else if (i >= first) g[i] += T(loss.states[std::size_t(l - 1) * G + i - first]);
    }
  }
};

template <class Cell>
struct SumOfSquares {
  Loss loss;

  template <class T>
  void add(std::int64_t, const T (&h)[Cell::kState], T (&g)[Cell::kState]) const {
    for (int i = loss == Loss::all_components ? 0 : Cell::kState - 1; i < Cell::kState; ++i) g[i] += 2 * h[i];
  }
};

/// One precision's way back.
template <class Cell, class T>
struct Adjoint {
  ChannelIn<Cell, T> channel;
  T g[Cell::kState], da[Cell::kWeights], du[Cell::kInputs];

  explicit Adjoint(const ChannelData& data) : channel(data) {
    std::fill(std::begin(g), std::end(g), T(0));
    std::fill(std::begin(da), std::end(da), T(0));
  }
  /// Step l = L .. 1: du of it, its part of da, and g of h_{l-1}.
  template <class States, class LossTerm>
  void step(std::int64_t l, const States& states, const LossTerm& loss) {
    T h[Cell::kState], before[Cell::kState], u[Cell::kInputs], by_h[Cell::kState], by_a[Cell::kWeights];
    states.get(l, h);
    states.get(l - 1, before);
    channel.inputs(l - 1, u);
    loss.add(l, h, g);
    step_vjp<Cell, T>(before, channel.a, u, g, by_h, by_a, du);
    for (int k = 0; k < Cell::kWeights; ++k) da[k] += by_a[k];
    std::copy(std::begin(by_h), std::end(by_h), std::begin(g));
  }
};

template <class Cell, class States, class LossTerm>
Gradients gradients_of(const ChannelData& data, const States& states, const LossTerm& loss, Deadline deadline) {
  constexpr std::int64_t kClockEvery = 16;  // steps between two looks at the clock: under 3 ms
  Adjoint<Cell, Mp> fine(data);
  Adjoint<Cell, MpCheck> coarse(data);
  const std::int64_t L = data.seq_len;
  Gradients out;
  out.inputs.resize(std::size_t(L) * Cell::kInputs);
  out.difference.inputs.resize(out.inputs.size());
  const auto store = [](const Mp* values, const MpCheck* check, int count, DoubleDouble* to, double* difference) {
    for (int k = 0; k < count; ++k) {
      to[k] = split(values[k]);
      difference[k] = static_cast<double>(abs(Mp(values[k] - Mp(check[k]))));
    }
  };
  for (; out.steps < L; ++out.steps) {
    if (deadline != kNoDeadline && out.steps % kClockEvery == 0 && std::chrono::steady_clock::now() >= deadline) break;
    const std::int64_t l = L - out.steps;
    fine.step(l, states, loss);
    coarse.step(l, states, loss);
    const std::size_t at = std::size_t(l - 1) * Cell::kInputs;
    store(fine.du, coarse.du, Cell::kInputs, &out.inputs[at], &out.difference.inputs[at]);
  }
  if (out.steps < L) {
    const std::ptrdiff_t unknown = (L - out.steps) * Cell::kInputs;
    out.inputs.erase(out.inputs.begin(), out.inputs.begin() + unknown);
    out.difference.inputs.erase(out.difference.inputs.begin(), out.difference.inputs.begin() + unknown);
    return out;
  }
  out.weights.resize(Cell::kWeights);
  out.difference.weights.resize(Cell::kWeights);
  out.initial.resize(Cell::kState);
  out.difference.initial.resize(Cell::kState);
  store(fine.da, coarse.da, Cell::kWeights, out.weights.data(), out.difference.weights.data());
  store(fine.g, coarse.g, Cell::kState, out.initial.data(), out.difference.initial.data());
  return out;
}

template <class Cell>
void expect_shapes(const BackwardChannel& channel) {
  const auto& [data, states, loss] = channel;
  const std::size_t L = std::size_t(data.seq_len), given = loss.states.size();
  if (data.inputs.size() != L * Cell::kInputs || data.weights.size() != Cell::kWeights || data.initial.size() != Cell::kState || loss.last.size() != Cell::kState)
    throw std::invalid_argument("gradients: expected u [L, kInputs], a [kWeights], h0 and grad_last [kState]");
  if (!states.empty() && states.size() != L * Cell::kState) throw std::invalid_argument("gradients: expected states [L, kState], or none");
  if (given != L && given != L * Cell::kState && (given != 0 || !states.empty()))
    throw std::invalid_argument("gradients: expected grad_h [L, kState or 1], or none at the true states");
}

std::uint64_t hash_of(const BackwardChannel& channel) {
  std::uint64_t hash = hash_bytes(channel.data.cell.data(), channel.data.cell.size());
  for (const std::vector<double>* values : {&channel.data.weights, &channel.data.inputs, &channel.data.initial, &channel.states, &channel.loss.states, &channel.loss.last}) {
    const std::size_t size = values->size();
    hash = hash_bytes(&size, sizeof size, hash);
    hash = hash_bytes(values->data(), size * sizeof(double), hash);
  }
  return hash;
}

}  // namespace

BackwardChannel channel_at(const Problem& p, std::int64_t b, std::int64_t d, std::vector<double> states) {
  BackwardChannel channel{draw_channel(p, b, d), std::move(states), draw_gradients(p, b, d)};
  if (p.grad == "squares") {
    for (const double h : channel.states) channel.loss.states.push_back(2 * h);
  }
  return channel;
}

Gradients true_gradients(const BackwardChannel& channel, Deadline deadline) {
  if (const CellObject* loaded = loaded_object(channel.data.cell)) return loaded->gradients(channel, deadline);
  Gradients gradients;
  with_cell(channel.data.cell, [&]<class Cell>() {
    expect_shapes<Cell>(channel);
    const GivenLoss<Cell> loss{channel.loss, channel.data.seq_len};
    gradients = channel.states.empty() ? gradients_of<Cell>(channel.data, TrueStates<Cell>(channel.data, deadline), loss, deadline)
                                       : gradients_of<Cell>(channel.data, StoredStates<Cell>{channel}, loss, deadline);
  });
  return gradients;
}

Gradients true_gradients(const ChannelData& data, Loss loss) {
  Gradients gradients;
  with_cell(data.cell, [&]<class Cell>() { gradients = gradients_of<Cell>(data, TrueStates<Cell>(data, kNoDeadline), SumOfSquares<Cell>{loss}, kNoDeadline); });
  return gradients;
}

std::vector<std::shared_ptr<const Gradients>> GradientReference::end_to_end(const std::vector<const BackwardChannel*>& channels, std::size_t group) {
  const double before_s = spent_s_;
  auto out = within(std::min(kEndToEndShare * limit_s_ - end_to_end_s_, limit_s_ - spent_s_), channels, group);
  end_to_end_s_ += spent_s_ - before_s;
  return out;
}

std::vector<std::shared_ptr<const Gradients>> GradientReference::within(double seconds, const std::vector<const BackwardChannel*>& channels, std::size_t group) {
  constexpr std::size_t kRemembered = 1 << 23;  // numbers of 24 bytes; beyond, all is forgotten
  std::vector<std::uint64_t> hashes;
  std::vector<std::size_t> missing;
  std::size_t remembered = 0;
  for (const auto& [hash, gradients] : known_) remembered += gradients->inputs.size();
  if (remembered > kRemembered) known_.clear();
  std::vector<std::shared_ptr<const Gradients>> out(channels.size());
  for (std::size_t c = 0; c < channels.size(); ++c) {
    hashes.push_back(hash_of(*channels[c]));
    const auto at = known_.find(hashes.back());
    if (at == known_.end()) missing.push_back(c);
    else out[c] = at->second;
  }
  spent_s_ += share_time(missing.size(), std::max<std::size_t>(group, 1), seconds,
                         [&](std::size_t i, Deadline deadline) { out[missing[i]] = std::make_shared<Gradients>(true_gradients(*channels[missing[i]], deadline)); });
  for (const std::size_t c : missing) known_[hashes[c]] = out[c];
  return out;
}

}  // namespace prnn
