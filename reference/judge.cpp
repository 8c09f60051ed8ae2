// judge.cpp: the forward test of design section 6: computed states against the truth, with a bound that runs along the truth.
#include <algorithm>
#include <cmath>

#include "reference/cell_object.hpp"
#include "reference/running_bound.hpp"
#include "reference/tally.hpp"

namespace prnn {
namespace {

int components(const ChannelData& data) { return int(data.initial.size()); }

/// Steps from the first on for which a verdict can be given.
std::int64_t judged_prefix(const JudgedChannel& channel, const std::vector<double>& bound, double scale, Storage storage) {
  const Truth& truth = channel.truth;
  const int K = components(channel.data);
  for (std::int64_t l = 0; l < truth.steps; ++l) {
    for (int i = 0; i < K; ++i) {
      const std::size_t at = std::size_t(l * K + i);
      const double allowed = bound[at] + storing_error(storage, truth.states[at].high);
      if (!(bound[at] < kJudgedBelow * scale) || !(truth.difference[at] <= kReferenceMargin * allowed)) return l;
    }
  }
  return truth.steps;
}

void judge_channel(const JudgedChannel& channel, Storage storage, std::string_view gates, Tally& tally) {
  const Truth& truth = channel.truth;
  const int K = components(channel.data);
  if (std::int64_t(channel.computed.size()) != channel.data.seq_len * K) throw std::invalid_argument("judge: computed states of a channel must be [L, kState]");
  const std::vector<double> bound = forward_bound(channel.data, truth, storage, gates);
  double largest = 0;
  for (const DoubleDouble& h : truth.states) largest = std::max(largest, std::fabs(h.high));
  const std::int64_t prefix = judged_prefix(channel, bound, std::max(1.0, largest), storage);
  tally.verified(prefix);

  const auto judge_step = [&](std::int64_t l) {
    for (int i = 0; i < K; ++i) {
      const std::size_t at = std::size_t(l * K + i);
      tally.add(channel.computed[at], truth.states[at], bound[at] + storing_error(storage, truth.states[at].high), largest, storage);
    }
  };
  if (channel.steps.empty()) {
    for (std::int64_t l = 0; l < prefix; ++l) judge_step(l);
  } else {
    for (const std::int64_t l : channel.steps) {
      if (l < prefix) judge_step(l);
    }
  }
}

}  // namespace

std::vector<double> forward_bound(const ChannelData& data, const Truth& truth, Storage storage, std::string_view gates) {
  if (const CellObject* loaded = loaded_object(data.cell)) return loaded->forward_bound(data, truth, storage, gates);
  std::vector<double> bound;
  bound.reserve(truth.states.size());
  with_recurrence(data.cell, [&]<class Cell>() {
    constexpr int K = Cell::kState;
    double h[K], a[Cell::kWeights], u[Cell::kInputs];
    std::copy_n(data.initial.begin(), K, h);
    std::copy_n(data.weights.begin(), Cell::kWeights, a);
    RunningBound<Cell> running(storage, gates);
    for (std::int64_t l = 0; l < truth.steps; ++l) {
      std::copy_n(data.inputs.begin() + l * Cell::kInputs, Cell::kInputs, u);
      running.advance(h, a, u);
      bound.insert(bound.end(), std::begin(running.error), std::end(running.error));
      for (int i = 0; i < K; ++i) h[i] = truth.states[std::size_t(l * K + i)].high;
    }
  });
  return bound;
}

void judge_channels(const std::vector<JudgedChannel>& channels, Storage storage, ErrorReport& report, std::string_view gates) {
  Tally tally;
  report.channels_checked.clear();
  for (const JudgedChannel& channel : channels) {
    judge_channel(channel, storage, gates, tally);
    report.channels_checked.push_back(channel.id);
  }
  tally.fill(report);
}

void judge_forward(const Problem& problem, const std::function<std::vector<double>(std::int64_t b, std::int64_t d)>& computed, ReferenceCache& cache, ErrorReport& report) {
  std::vector<JudgedChannel> channels;
  for (const auto& [b, d] : sampled_channels(problem)) channels.push_back({{b, d}, draw_channel(problem, b, d), cache.truth(problem, b, d), computed(b, d), {}});
  judge_channels(channels, problem.storage, report, problem.gates);
}

}  // namespace prnn
