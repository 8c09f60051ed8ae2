// judge_backward.cpp: the forward test of design section 6 for gradients: du, da and dh0 against 50 digits, with the bound that Bounded carries back along the sequence.
// The backward pass is linear in g, so that the bound holds however large it grows: no step is left out for that.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/cells/bounded.hpp"
#include "reference/cell_object.hpp"
#include "reference/mp.hpp"
#include "reference/tally.hpp"

namespace prnn {
namespace {

double largest_finite(Storage storage) { return storage == Storage::f16 ? 65504 : storage == Storage::f64 ? std::numeric_limits<double>::max() : 0x1.fep127; }

/// f.template operator()<Number>() for the arithmetic that computes in that type with those gates.
template <class F>
void with_bounded(Storage storage, std::string_view gates, F&& f) {
  if (compute_storage(storage) == Storage::f64) f.template operator()<Bounded<double>>();
  else if (gates == "approx") f.template operator()<Bounded<float, true>>();
  else f.template operator()<Bounded<float>>();
}

template <class Cell, class Number>
GradientBounds bounds_of(const BackwardChannel& channel, Storage storage, const GivenErrors& given) {
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  const ChannelData& data = channel.data;
  const std::int64_t L = data.seq_len, G = std::int64_t(channel.loss.states.size()) / L;
  const double most = 0x1p-10 * largest_finite(compute_storage(storage));  // intermediate results may be that much larger
  const auto at = [](const std::vector<double>& values, std::int64_t i) { return values.empty() ? 0 : values[std::size_t(i)]; };
  Number a[W], g[K];
  for (int k = 0; k < W; ++k) a[k] = data.weights[std::size_t(k)];
  for (int i = 0; i < K; ++i) g[i] = channel.loss.last[std::size_t(i)];
  GradientBounds bounds;
  bounds.weights.assign(W, 0);
  bounds.inputs.resize(std::size_t(L * I));
  double sum[W] = {};
  for (; bounds.steps < L; ++bounds.steps) {
    const std::int64_t l = L - 1 - bounds.steps;
    Number h[K], u[I], by_h[K], by_a[W], by_u[I];
    for (int i = 0; i < K; ++i) h[i] = l == 0 ? Number(data.initial[std::size_t(i)]) : Number(channel.states[std::size_t((l - 1) * K + i)], at(given.states, (l - 1) * K + i));
    for (int k = 0; k < I; ++k) u[k] = data.inputs[std::size_t(l * I + k)];
    for (std::int64_t i = 0; i < G; ++i) g[K - G + i] = g[K - G + i] + Number(channel.loss.states[std::size_t(l * G + i)], at(given.loss, l * G + i));
    step_vjp<Cell>(h, a, u, g, by_h, by_a, by_u);
    double size = 0;
    for (int k = 0; k < W; ++k) size = max_or_nan(size, std::fabs(sum[k] += by_a[k].value) + by_a[k].error);
    for (int k = 0; k < I; ++k) size = max_or_nan(size, std::fabs(by_u[k].value) + by_u[k].error);
    for (int i = 0; i < K; ++i) size = max_or_nan(size, std::max(std::fabs(g[i].value) + g[i].error, std::fabs(by_h[i].value) + by_h[i].error));
    if (!(size <= most)) break;
    for (int k = 0; k < W; ++k) bounds.weights[std::size_t(k)] += by_a[k].error + Number::kUnitRoundoff * std::fabs(by_a[k].value);
    for (int k = 0; k < I; ++k) bounds.inputs[std::size_t(l * I + k)] = by_u[k].error;
    std::copy_n(by_h, K, g);
  }
  bounds.inputs.erase(bounds.inputs.begin(), bounds.inputs.begin() + (L - bounds.steps) * I);
  if (bounds.steps < L) bounds.weights.clear();
  else
    for (const Number& x : g) bounds.initial.push_back(x.error);
  return bounds;
}

struct Tallies {
  Tally du, da, dh0;
};

double largest_of(const std::vector<DoubleDouble>& values) {
  double most = 0;
  for (const DoubleDouble& x : values) most = std::max(most, std::fabs(x.high));
  return most;
}

/// What a stored element may be off by.
double allowed_error(double bound, const DoubleDouble& truth, Storage storage) { return bound + (storage == compute_storage(storage) ? 0 : storing_error(storage, truth.high)); }

/// Whether the truth leaves the storage type, and the computed infinity is what storing it gives.
bool rightly_infinite(double computed, const DoubleDouble& truth, double allowed, Storage storage) {
  return std::isinf(computed) && std::signbit(computed) == std::signbit(truth.high) && std::fabs(truth.high) + kErrorFactor * allowed >= largest_finite(storage);
}

/// du of one channel: from the last step on, as far as truth and bound reach and the truth knows itself.
void judge_inputs(const std::vector<double>& computed, std::int64_t components, const Gradients& truth, const GradientBounds& bounds, Storage storage, Tally& tally) {
  const std::int64_t steps = std::min(truth.steps, bounds.steps);
  const double largest = largest_of(truth.inputs);
  std::int64_t judged = 0;
  for (; judged < steps; ++judged) {
    const auto element = [&](const auto& values, std::int64_t k) { return values[values.size() - std::size_t((judged + 1) * components - k)]; };
    const auto allowed = [&](std::int64_t k) { return allowed_error(element(bounds.inputs, k), element(truth.inputs, k), storage); };
    bool known = true;
    for (std::int64_t k = 0; k < components; ++k) known = known && element(truth.difference.inputs, k) <= kReferenceMargin * allowed(k);
    if (!known) break;
    for (std::int64_t k = 0; k < components; ++k) {
      if (!rightly_infinite(element(computed, k), element(truth.inputs, k), allowed(k), storage))
        tally.add(element(computed, k), element(truth.inputs, k), allowed(k), largest, storage);
    }
  }
  tally.verified(judged);
}

/// da or dh0, which the whole sequence is behind. False where the truth does not know itself or there is none.
bool judge_whole(const std::vector<double>& computed, const std::vector<DoubleDouble>& truth, const std::vector<double>& difference, const std::vector<double>& bounds,
                 std::int64_t steps, Storage compute, Tally& tally) {
  if (truth.empty() || bounds.empty()) return false;
  for (std::size_t k = 0; k < truth.size(); ++k) {
    if (!(difference[k] <= kReferenceMargin * bounds[k])) return false;
  }
  for (std::size_t k = 0; k < truth.size(); ++k) tally.add(computed[k], truth[k], bounds[k], largest_of(truth), compute);
  tally.verified(steps);
  return true;
}

/// Sum of the batch's parts of da, its error bar and its bound; empty where a part is unknown.
struct WeightSum {
  std::vector<DoubleDouble> truth;
  std::vector<double> difference, bounds;

  WeightSum(const std::vector<std::shared_ptr<const Gradients>>& truths, const std::vector<GradientBounds>& batch_bounds) {
    const std::size_t W = truths.front()->weights.size();
    std::vector<Mp> sum(W, Mp(0));
    difference.assign(W, 0);
    bounds.assign(W, 0);
    for (std::size_t b = 0; b < truths.size(); ++b) {
      if (truths[b]->weights.empty() || batch_bounds[b].weights.empty()) return;
      for (std::size_t k = 0; k < W; ++k) {
        sum[k] += join(truths[b]->weights[k]);
        difference[k] += truths[b]->difference.weights[k];
        bounds[k] += batch_bounds[b].weights[k];
      }
    }
    for (const Mp& x : sum) truth.push_back(split(x));
  }
};

void expect_shapes(const JudgedHidden& hidden) {
  bool right = !hidden.batch.empty() && hidden.inputs.size() == hidden.batch.size() && hidden.initial.size() == hidden.batch.size();
  for (std::size_t b = 0; right && b < hidden.batch.size(); ++b) {
    const ChannelData& data = hidden.batch[b].data;
    right = hidden.inputs[b].size() == data.inputs.size() && hidden.initial[b].size() == data.initial.size() && hidden.weights.size() == data.weights.size();
  }
  if (!right) throw std::invalid_argument("judge: computed gradients of a hidden channel must be du [B][L, kInputs], dh0 [B][kState] and da [kWeights]");
}

void judge_hidden(const JudgedHidden& hidden, const std::vector<std::shared_ptr<const Gradients>>& truths, const std::vector<GradientBounds>& bounds, Storage storage,
                  Tallies& tallies, GradientReports& reports) {
  for (std::size_t b = 0; b < hidden.batch.size(); ++b) {
    const ChannelData& data = hidden.batch[b].data;
    if (truths[b]->steps == 0) continue;  // there was no time to begin
    judge_inputs(hidden.inputs[b], std::int64_t(data.inputs.size()) / data.seq_len, *truths[b], bounds[b], storage, tallies.du);
    reports.du.channels_checked.push_back({std::int64_t(b), hidden.d});
    if (judge_whole(hidden.initial[b], truths[b]->initial, truths[b]->difference.initial, bounds[b].initial, data.seq_len, compute_storage(storage), tallies.dh0))
      reports.dh0.channels_checked.push_back({std::int64_t(b), hidden.d});
  }
  const WeightSum sum(truths, bounds);
  if (judge_whole(hidden.weights, sum.truth, sum.difference, sum.bounds, hidden.batch.front().data.seq_len, compute_storage(storage), tallies.da))
    reports.da.channels_checked.push_back({0, hidden.d});
}

/// judge(tallies, reports), and the reports are complete.
template <class Judge>
void report_gradients(GradientReports& reports, Judge&& judge) {
  Tallies tallies;
  for (ErrorReport* report : {&reports.du, &reports.da, &reports.dh0}) report->channels_checked.clear();
  judge(tallies);
  tallies.du.fill(reports.du);
  tallies.da.fill(reports.da);
  tallies.dh0.fill(reports.dh0);
}

using AllBounds = std::vector<std::vector<GradientBounds>>;  // [hidden][B]

/// Refuses other shapes too, before time is spent.
AllBounds bounds_of_all(const std::vector<JudgedHidden>& all, Storage storage, std::string_view gates) {
  for (const JudgedHidden& hidden : all) expect_shapes(hidden);
  AllBounds bounds;
  for (const JudgedHidden& hidden : all) {
    bounds.emplace_back();
    for (const BackwardChannel& channel : hidden.batch) bounds.back().push_back(gradient_bounds(channel, storage, gates));
  }
  return bounds;
}

/// Against the true gradients of every channel in order.
void judge_all(const std::vector<JudgedHidden>& all, const std::vector<std::shared_ptr<const Gradients>>& truths, const AllBounds& bounds, Storage storage,
               GradientReports& reports) {
  report_gradients(reports, [&](Tallies& tallies) {
    auto next = truths.begin();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (truths.end() - next < std::ptrdiff_t(all[i].batch.size())) throw std::invalid_argument("judge: expected the true gradients of every channel");
      const auto end = next + std::ptrdiff_t(all[i].batch.size());
      judge_hidden(all[i], {next, end}, bounds[i], storage, tallies, reports);
      next = end;
    }
  });
}

std::size_t group_of(const std::vector<JudgedHidden>& all) { return all.empty() ? 1 : all.front().batch.size(); }

std::vector<std::shared_ptr<const Gradients>> stored_truths(const std::vector<JudgedHidden>& all, GradientReference& reference) {
  std::vector<const BackwardChannel*> channels;
  for (const JudgedHidden& hidden : all) {
    for (const BackwardChannel& channel : hidden.batch) channels.push_back(&channel);
  }
  return reference.of(channels, group_of(all));
}

/// The bounds say only how well an error is worth knowing.
void compare(const std::vector<JudgedHidden>& all, bool squares, const AllBounds& bounds, Storage storage, GradientReference& reference, GradientReports& reports) {
  std::vector<BackwardChannel> channels;
  for (const JudgedHidden& hidden : all) {
    for (const BackwardChannel& stored : hidden.batch) channels.push_back({stored.data, {}, {squares ? std::vector<double>() : stored.loss.states, stored.loss.last}});
  }
  std::vector<const BackwardChannel*> pointers;
  for (const BackwardChannel& channel : channels) pointers.push_back(&channel);
  judge_all(all, reference.end_to_end(pointers, group_of(all)), bounds, storage, reports);
  for (ErrorReport* report : {&reports.du, &reports.da, &reports.dh0}) {
    report->ratio_forward.reset();
    if (!report->abs_max) report->null_reason = "nothing could be compared: the reference was out of time, or the true gradients are not known well enough (chaos)";
  }
}

}  // namespace

GradientBounds gradient_bounds(const BackwardChannel& channel, Storage storage, std::string_view gates, const GivenErrors& given) {
  if (const CellObject* loaded = loaded_object(channel.data.cell)) return loaded->gradient_bounds(channel, storage, gates, given);
  GradientBounds bounds;
  with_cell(channel.data.cell, [&]<class Cell>() { with_bounded(storage, gates, [&]<class Number>() { bounds = bounds_of<Cell, Number>(channel, storage, given); }); });
  return bounds;
}

void judge_gradients(const std::vector<JudgedHidden>& all, const std::vector<std::shared_ptr<const Gradients>>& truths, Storage storage, std::string_view gates,
                     GradientReports& reports) {
  judge_all(all, truths, bounds_of_all(all, storage, gates), storage, reports);
}

void judge_gradients(const std::vector<JudgedHidden>& all, Storage storage, std::string_view gates, GradientReference& reference, GradientReports& reports) {
  const AllBounds bounds = bounds_of_all(all, storage, gates);
  judge_all(all, stored_truths(all, reference), bounds, storage, reports);
}

void compare_end_to_end(const std::vector<JudgedHidden>& all, bool squares, Storage storage, std::string_view gates, GradientReference& reference, GradientReports& reports) {
  compare(all, squares, bounds_of_all(all, storage, gates), storage, reference, reports);
}

void judge_backward(const Problem& problem, const std::function<std::vector<double>(std::string_view tensor, std::int64_t b, std::int64_t d)>& channel_of,
                    GradientReference& reference, GradientReports& reports, GradientReports* end_to_end) {
  std::vector<JudgedHidden> all;
  for (const auto& [sampled_b, d] : sampled_channels(problem)) {
    if (std::any_of(all.begin(), all.end(), [d = d](const JudgedHidden& hidden) { return hidden.d == d; })) continue;
    JudgedHidden hidden{.d = d};
    for (std::int64_t b = 0; b < problem.batch; ++b) {
      hidden.batch.push_back(channel_at(problem, b, d, channel_of("h", b, d)));
      hidden.inputs.push_back(channel_of("du", b, d));
      hidden.initial.push_back(channel_of("dh0", b, d));
    }
    hidden.weights = channel_of("da", 0, d);
    all.push_back(std::move(hidden));
  }
  const AllBounds bounds = bounds_of_all(all, problem.storage, problem.gates);
  judge_all(all, stored_truths(all, reference), bounds, problem.storage, reports);
  if (end_to_end && problem.pass == "both") compare(all, problem.grad == "squares", bounds, problem.storage, reference, *end_to_end);
}

void judge_witness_gradients(const WitnessFile& file, const std::function<ByArgument<double>(std::int64_t channel)>& computed, Storage storage, GradientReports& reports) {
  if (!file.loss) throw std::invalid_argument("judge: " + file.path + " has no gradients");
  report_gradients(reports, [&](Tallies& tallies) {
    for (std::size_t c = 0; c < file.channels.size(); ++c) {
      const WitnessChannel& witness = file.channels[c];
      // The solver has gone forward too, with errors that are within the forward bound, and its loss is sum h^2 of what it stored.
      BackwardChannel channel{witness.data, {}, {{}, std::vector<double>(witness.data.initial.size(), 0)}};
      GivenErrors given{.states = forward_bound(witness.data, witness.truth, storage), .loss = {}};
      if (!(*std::max_element(given.states.begin(), given.states.end()) < kJudgedBelow)) continue;  // the first order says nothing of gradients so far off
      const std::size_t K = witness.data.initial.size();
      for (std::size_t i = 0; i < witness.truth.states.size(); ++i) {
        channel.states.push_back(witness.truth.states[i].high);
        given.states[i] = allowed_error(given.states[i], witness.truth.states[i], storage);
        if (*file.loss == Loss::last_component && i % K != K - 1) continue;
        channel.loss.states.push_back(2 * channel.states[i]);
        given.loss.push_back(2 * given.states[i]);
      }
      auto truth = std::make_shared<Gradients>();
      truth->steps = file.seq_len;
      truth->weights = witness.grad_weights;
      truth->inputs = witness.grad_inputs;
      truth->initial = witness.grad_initial;
      truth->difference = {std::vector<double>(truth->weights.size(), 0), std::vector<double>(truth->inputs.size(), 0), std::vector<double>(truth->initial.size(), 0)};
      ByArgument<double> gradients = computed(std::int64_t(c));
      const JudgedHidden hidden{
          .d = std::int64_t(c), .batch = {channel}, .inputs = {std::move(gradients.inputs)}, .initial = {std::move(gradients.initial)}, .weights = std::move(gradients.weights)};
      expect_shapes(hidden);
      judge_hidden(hidden, {truth}, {gradient_bounds(channel, storage, "exact", given)}, storage, tallies, reports);
    }
  });
  for (ErrorReport* report : {&reports.du, &reports.da, &reports.dh0}) report->reference = witness_reference_name(file);
}

}  // namespace prnn
