// recurrence.cpp: the ops "recurrence" and "reduction" as the harness sees them, and their loops on the host.
#include "kernels/ops/recurrence.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cells/facts.hpp"
#include "kernels/ops/chaotic.hpp"
#include "kernels/ops/gradients.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn {
namespace {

std::string untrained(const std::string& cell) { return "no model of " + cell + " has been trained"; }

template <class Cells>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  Cells::for_each([&]<class Cell>() { names.push_back(Cell::name); });
  return names;
}

std::vector<std::string> cell_names() {
  std::vector<std::string> names = names_of<AllCells>();
  for (const CellFacts& cell : loaded_cells()) names.push_back(cell.name);
  return names;
}

std::vector<TensorSpec> tensors(const Problem& p) {
  const CellFacts cell = facts_of(p.cell);
  const Storage compute = compute_storage(p.storage);
  const bool backward = p.pass == "backward";
  const std::vector<std::int64_t> edge{p.batch, cell.state, p.hidden}, inputs{p.batch, p.seq_len, cell.inputs, p.hidden}, weights{cell.weights, p.hidden};
  std::vector<TensorSpec> list{{"u", Role::input, p.storage, inputs}};
  if (cell.weights > 0) list.push_back({"a", Role::weight, p.storage, weights});
  list.push_back({"h0", Role::initial, compute, edge});
  list.push_back({"h", backward ? Role::state : Role::output, p.storage, {p.batch, p.seq_len, cell.state, p.hidden}});
  if (!backward) list.push_back({"last", Role::last, compute, edge});
  if (p.pass == "forward") return list;
  if (const int G = grad_components(p, cell.state); G > 0) list.push_back({"grad_h", Role::gradient, p.storage, {p.batch, p.seq_len, G, p.hidden}});
  list.push_back({"grad_last", Role::gradient, compute, edge});
  list.push_back({"du", Role::output, p.storage, inputs});
  list.push_back({"da", Role::weight_sum, compute, weights});
  list.push_back({"dh0", Role::output, compute, edge});
  return list;
}

std::int64_t steps(const Problem& p) { return p.batch * p.seq_len * p.hidden; }

/// Of what a pass costs forward and backward, what this problem's does.
std::int64_t sum_of_passes(const Problem& p, std::int64_t forward, std::int64_t backward) { return (p.pass != "backward") * forward + (p.pass != "forward") * backward; }

std::int64_t bytes_min(const Problem& p) {
  const CellFacts cell = facts_of(p.cell);
  return size_of(p.storage) * steps(p) * sum_of_passes(p, cell.inputs + cell.state, 2 * cell.inputs + cell.state + grad_components(p, cell.state));
}

// A gate's argument is a multiply-add for its weight and one more sum; the blend of a step is two. Counted once a step, sequentially. Backward computes the
// gates again, their slopes and adjoints (3 a gate), and two multiply-adds for each of the products of a weight and of the blend, and adds the loss's gradient, or twice
// the state (squares).
std::int64_t flops(const Problem& p) {
  const CellFacts cell = facts_of(p.cell);
  const std::int64_t forward = 2 * cell.weights + cell.inputs + 3 * cell.state + 2 * cell.gates;
  const std::int64_t loss = p.grad == "squares" ? 2 * cell.state : grad_components(p, cell.state);
  return steps(p) * sum_of_passes(p, forward, forward + 3 * cell.gates + 4 * (cell.weights + cell.state) + loss);
}

/// A multiply-add for each entry of J.
std::int64_t scan_flops(const Problem& p) {
  const int K = facts_of(p.cell).state;
  return 2 * K * K * steps(p);
}

// One exponential and one reciprocal a gate, or one tanh.
std::int64_t special(const Problem& p) { return steps(p) * (p.gates == "approx" ? 1 : 2) * facts_of(p.cell).gates * sum_of_passes(p, 1, 1); }

/// Why no solver of a cell is compiled for a storage type; empty: some are.
std::string not_compiled(const Problem& p) {
  std::string compiled;
  for (const Storage storage : kStorages) {
    const bool some = std::any_of(solvers().begin(), solvers().end(), [&](const Solver& solver) { return solver.cell == p.cell && solver.storage == storage; });
    if (some && storage == p.storage) return "";
    if (some) compiled += (compiled.empty() ? "" : ", ") + std::string(to_string(storage));
  }
  return p.cell + " is compiled for storage " + compiled + ", not for " + std::string(to_string(p.storage));
}

std::string why_not(const Problem& p) {
  if (p.scope != "kernel") return "scope '" + p.scope + "' is not part of this build yet";
  if (p.pass == "forward" && p.grad != "all") return "pass forward is given no gradients, so grad '" + p.grad + "' means nothing";
  if (const std::string why = not_compiled(p); !why.empty()) return why;
  if (p.regime == "trained" && !trained_model(p.cell)) return untrained(p.cell);
  if (p.regime == "chaotic") {
    if (facts_of(p.cell).is_affine) return p.cell + " is linear in its state: no weights make it chaotic";
    try {
      chaotic_draw(p.cell, regime_of(p), p.seed, 0);
    } catch (const BadInput& none) {
      return none.what();
    }
  }
  return "";
}

std::string scan_why_not(const Problem& p) {
  if (p.pass != "forward") return "op reduction has no pass " + p.pass;
  if (p.gates != "exact") return "op reduction has no gates";
  if (p.regime != "paper" || p.weight_std) return "op reduction draws contractive maps: regime paper, without weight_std";
  return why_not(p);
}

const RecurrenceLoops& loops_for(const Problem& p, const Machine& machine) {
  for (const RecurrenceLoops& loops : recurrence_loops()) {
    if (loops.device == machine.device() && loops.cell == p.cell && loops.storage == p.storage) return loops;
  }
  throw DeviceError("no recurrence loops for device " + std::string(machine.device()));
}

/// The h that pass backward is given: what the plain forward pass of this machine stores.
void solve_forward(const Problem& p, Machine& machine, Tensors t) {
  Problem forward;
  forward.cell = p.cell;
  forward.storage = p.storage;
  forward.batch = p.batch;
  forward.hidden = p.hidden;
  forward.seq_len = p.seq_len;
  const TensorSpec last = tensors(forward).back();
  const Buffer unread(machine, last.bytes());
  t.items.push_back({last, unread.data()});
  const std::unique_ptr<Run> run = find_solver("seq_fused", machine.device(), forward)->prepare(forward, machine);
  run->launch(t, machine.stream());
  machine.synchronise();  // before what it works with is gone
}

/// A model's tables, in the memory of whoever draws. weight_std draws the weights all the same.
void use_model(DrawArguments& args, const Problem& p, std::int64_t channels, const double* inputs, const double* weights) {
  args.trained_channels = channels;
  args.trained_inputs = inputs;
  args.trained_weights = p.weight_std ? nullptr : weights;
}

void draw(const Problem& p, Machine& machine, const Tensors& t) {
  const CellFacts cell = facts_of(p.cell);
  DrawArguments args{regime_of(p), cell.memory, p.seed, p.hidden, p.seq_len, nullptr, 0};
  if (cell.is_scan) args.scan_state = cell.state;
  Buffer text, draws, trained_inputs, trained_weights;
  if (args.regime.text) {
    args.text_bytes = std::int64_t(p.text->size());
    text = Buffer(machine, args.text_bytes);
    machine.upload(text.data(), p.text->data(), args.text_bytes);
    args.text = text.as<unsigned char>();
  }
  if (args.regime.trained) {
    const auto uploaded = [&](const std::vector<double>& values) {
      Buffer buffer(machine, std::int64_t(values.size() * sizeof(double)));
      machine.upload(buffer.data(), values.data(), buffer.bytes());
      return buffer;
    };
    const TrainedModel& model = *trained_model(p.cell);
    trained_inputs = uploaded(model.inputs);
    trained_weights = uploaded(model.weights);
    use_model(args, p, model.channels, trained_inputs.as<double>(), trained_weights.as<double>());
  }
  if (args.regime.chaotic) {
    const std::vector<std::uint16_t> of_channels = chaotic_draws(p.cell, args.regime, p.seed, p.hidden);
    draws = Buffer(machine, p.hidden * std::int64_t(sizeof(std::uint16_t)));
    machine.upload(draws.data(), of_channels.data(), draws.bytes());
    args.draws = draws.as<std::uint16_t>();
  }
  loops_for(p, machine).draw(p, args, machine, t);
  if (p.pass == "backward") solve_forward(p, machine, t);
  machine.synchronise();
}

LocalRatios local_ratios(const Problem& p, Machine& machine, const Tensors& t) {
  const RecurrenceLoops& loops = loops_for(p, machine);
  LocalRatios ratios;
  if (p.pass != "forward") ratios = loops.gradient_ratios(p, machine, t);
  if (p.pass != "backward") ratios.h = loops.state_ratio(p, machine, t);
  return ratios;
}

std::vector<double> channel(const Problem& p, Machine& machine, const Tensors& t, std::string_view name, std::int64_t b, std::int64_t d) {
  const Tensors::Item& item = t.at(name);
  std::int64_t rows = item.spec.elements() / p.hidden;
  const bool shared = item.spec.shared_by_batch();
  if (!shared) rows /= p.batch;
  return loops_for(p, machine).gather(p, item, shared ? 0 : b * rows, rows, d, machine);
}

// --- the loops on the host --------------------------------------------------------------------------------------

template <class Cell, class T>
void draw_cpu(const Problem& p, const DrawArguments& args, Machine&, const Tensors& t) {
  for_each_drawn<Cell, T>(p, t, [&]<class Element>(Element* out, DrawStream stream, int components, std::int64_t count) {
#pragma omp parallel for schedule(static) if (count > kStepsWorthThreads)
    for (std::int64_t i = 0; i < count; ++i) out[i] = draw_element<Element>(args, stream, components, i);
  });
}

template <class Cell, class T>
double state_ratio_cpu(const Problem& p, Machine&, const Tensors& t) {
  const Layout<Cell> at = layout_of<Cell>(p);
  const RecurrenceTensors<T> tensors(t);
  const double error_of_gates = gate_error(p.storage, p.gates);
  double worst = 0;
#pragma omp parallel if (steps(p) > kStepsWorthThreads)
  {
    double mine = 0;
#pragma omp for collapse(2) schedule(static) nowait
    for (std::int64_t b = 0; b < p.batch; ++b) {
      for (std::int64_t l = 0; l < p.seq_len; ++l) {
        for (std::int64_t d = 0; d < p.hidden; ++d) mine = max_or_nan(mine, local_ratio<Cell, T>(at, tensors, error_of_gates, b, l, d));
      }
    }
#pragma omp critical
    worst = max_or_nan(worst, mine);
  }
  return worst;
}

template <class Scan, class T>
double scan_ratio_cpu(const Problem& p, Machine&, const Tensors& t) {
  const Layout<Scan> at = layout_of<Scan>(p);
  const RecurrenceTensors<T> tensors(t);
  double worst = 0;
#pragma omp parallel if (steps(p) > kStepsWorthThreads)
  {
    double mine = 0;
#pragma omp for collapse(2) schedule(static) nowait
    for (std::int64_t channel = 0; channel < at.channels(); ++channel) {
      for (std::int64_t first = 0; first < p.seq_len; first += kScanJudged)
        mine = max_or_nan(mine, scan_ratio<Scan, T>(at, tensors, channel / p.hidden, channel % p.hidden, first, std::min(first + kScanJudged, p.seq_len)));
    }
#pragma omp critical
    worst = max_or_nan(worst, mine);
  }
  return worst;
}

template <class Cell, class T>
LocalRatios gradient_ratios_cpu(const Problem& p, Machine&, const Tensors& tensors) {
  const Layout<Cell> at = layout_of<Cell>(p);
  const BackwardTensors<T> t(tensors);
  std::vector<GradientTerms> terms(static_cast<std::size_t>(p.batch * at.a(Cell::kWeights, 0)));
  double worst_du = 0, worst_da = 0, worst_dh0 = 0;
#pragma omp parallel if (steps(p) > kStepsWorthThreads / 8)
  {
    double du = 0, da = 0, dh0 = 0;
    with_gate_error<Cell, T>(p.gates == "approx", [&]<bool kApproximate>() {
#pragma omp for collapse(2) schedule(static)
      for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t d = 0; d < p.hidden; ++d) judge_gradients<Cell, T, kApproximate>(at, t, b, d, terms.data(), du, dh0);
      }
    });
#pragma omp for schedule(static) nowait
    for (std::int64_t d = 0; d < p.hidden; ++d) {
      for (int k = 0; k < Cell::kWeights; ++k) keep_largest(da, judge_weight<Cell>(at, terms.data(), t.da, k, d));
    }
#pragma omp critical
    {
      keep_largest(worst_du, du);
      keep_largest(worst_da, da);
      keep_largest(worst_dh0, dh0);
    }
  }
  return {.h = {}, .du = worst_du, .da = worst_da, .dh0 = worst_dh0};
}

template <class T>
std::vector<double> gather_cpu(const T* data, std::int64_t first_row, std::int64_t rows, std::int64_t hidden, std::int64_t d) {
  std::vector<double> column(static_cast<std::size_t>(rows));
  for (std::int64_t r = 0; r < rows; ++r) column[static_cast<std::size_t>(r)] = to_compute(data[(first_row + r) * hidden + d]);
  return column;
}

template <class Cell, class T>
void register_loops(double (*state_ratio)(const Problem&, Machine&, const Tensors&), LocalRatios (*gradient_ratios)(const Problem&, Machine&, const Tensors&)) {
  recurrence_loops().push_back({"cpu", Cell::name, storage_of<T>, &draw_cpu<Cell, T>, state_ratio, gradient_ratios,
                                [](const Problem& p, const Tensors::Item& item, std::int64_t first_row, std::int64_t rows, std::int64_t d, Machine&) {
                                  return item.spec.type == storage_of<T> ? gather_cpu(static_cast<const T*>(item.data), first_row, rows, p.hidden, d)
                                                                         : gather_cpu(static_cast<const compute_t<T>*>(item.data), first_row, rows, p.hidden, d);
                                }});
}

[[maybe_unused]] const bool registered = [] {
  for_each_compiled([]<class Cell, class T>() { register_loops<Cell, T>(&state_ratio_cpu<Cell, T>, &gradient_ratios_cpu<Cell, T>); });
  for_each_compiled<AllScans>([]<class Scan, class T>() { register_loops<Scan, T>(&scan_ratio_cpu<Scan, T>, nullptr); });
  return true;
}();

}  // namespace

std::vector<RecurrenceLoops>& recurrence_loops() {
  static std::vector<RecurrenceLoops> list;
  return list;
}

const std::vector<Op>& ops() {
  static const std::vector<Op> list{{"recurrence", "cells", &cell_names, &tensors, &bytes_min, &flops, &special, &why_not, &draw, &local_ratios, &channel},
                                    {"reduction", "jacobian", &names_of<AllScans>, &tensors, &bytes_min, &scan_flops, &special, &scan_why_not, &draw, &local_ratios, &channel}};
  return list;
}

std::vector<std::string> regime_names() {
  return {"paper", "public", "corners", "fast_corners", "wide", "expansive", "chaotic", "long_memory", "slow_gates", "saturated", "huge", "impulses", "text", "trained"};
}

bool reads_text(std::string_view regime) { return regime == "text" || regime == "trained"; }

Regime regime_of(const Problem& p) {
  constexpr double kClip = 0.5, kShift = 6;
  Regime regime{.weight_deviation = 0.5, .weight_clip = kClip, .random_h0 = p.h0 == "random"};
  if (p.regime == "public") {
    regime.weight_deviation = 2 / std::sqrt(5.0 * double(p.hidden));
    regime.weight_clip = 0;
  } else if (p.regime == "corners" || p.regime == "fast_corners") {
    regime.weight_corner = 0.5;
    regime.input_deviation = 3;
    if (p.regime == "corners") regime.memory_shift = kShift;
  } else if (p.regime == "wide" || p.regime == "expansive") {
    regime.weight_deviation = p.regime == "wide" ? 1 : 2;
    regime.weight_clip = 0;
  } else if (p.regime == "long_memory") {
    regime.memory_shift = kShift;
  } else if (p.regime == "chaotic") {
    regime.weight_deviation = 4;
    regime.weight_clip = 0;
    regime.chaotic = true;
  } else if (p.regime == "slow_gates") {  // 1 - z rounds to 1 in float from 16.6 on
    regime.input_deviation = 4;
    regime.memory_shift = 16;
  } else if (p.regime == "saturated" || p.regime == "huge") {
    regime.input_deviation = p.regime == "huge" ? 1e4 : 60;
  } else if (p.regime == "impulses") {
    regime.input_deviation = 60;
    regime.impulses = true;
  } else if (reads_text(p.regime)) {
    if (!p.text || p.text->empty()) throw BadInput("regime '" + p.regime + "' needs the bytes of a text file");
    regime.text = true;
    regime.trained = p.regime == "trained";
    if (regime.trained && !trained_model(p.cell)) throw BadInput(untrained(p.cell));
  } else if (p.regime != "paper") {
    throw BadInput("unknown regime '" + p.regime + "'");
  }
  if (p.weight_std) {
    regime.weight_deviation = *p.weight_std;
    regime.weight_clip = regime.weight_corner = 0;
  }
  return regime;
}

ChannelData draw_channel(const Problem& p, std::int64_t b, std::int64_t d) {
  ChannelData channel{p.cell, p.seq_len, {}, {}, {}};
  const CellFacts cell = facts_of(p.cell);
  DrawArguments args{regime_of(p), cell.memory, p.seed, p.hidden, p.seq_len, nullptr, 0};
  if (cell.is_scan) args.scan_state = cell.state;
  if (args.regime.text) {
    args.text = p.text->data();
    args.text_bytes = std::int64_t(p.text->size());
  }
  if (args.regime.trained) {
    const TrainedModel& model = *trained_model(p.cell);
    use_model(args, p, model.channels, model.inputs.data(), model.weights.data());
  }
  const int draw = args.regime.chaotic ? chaotic_draw(p.cell, args.regime, p.seed, d) : 0;
  AllStorages::for_each([&]<class T>() {
    if (storage_of<T> != p.storage) return;
    if (cell.weights == 0) channel.weights.push_back(0);  // C++ has no arrays of no elements (affine_scan.hpp)
    for (int k = 0; k < cell.weights; ++k) channel.weights.push_back(to_compute(drawn<T>(weight_of(args, k, d, draw))));
    for (int k = 0; k < cell.state; ++k) channel.initial.push_back(drawn<compute_t<T>>(draw_initial(args.regime, p.seed, b, k, d)));
    for (std::int64_t l = 0; l < p.seq_len; ++l) {
      for (int k = 0; k < cell.inputs; ++k) channel.inputs.push_back(to_compute(drawn<T>(input_of(args, cell.inputs, b, l, k, d))));
    }
  });
  return channel;
}

ChannelGradients draw_gradients(const Problem& p, std::int64_t b, std::int64_t d) {
  ChannelGradients gradients;
  const CellFacts cell = facts_of(p.cell);
  AllStorages::for_each([&]<class T>() {
    if (storage_of<T> != p.storage) return;
    for (std::int64_t l = 0; l < p.seq_len; ++l) {
      for (int k = 0; k < grad_components(p, cell.state); ++k) gradients.states.push_back(to_compute(drawn<T>(draw_gradient(p.seed, DrawStream::gradient, b, l, k, d))));
    }
    for (int k = 0; k < cell.state; ++k) gradients.last.push_back(drawn<compute_t<T>>(draw_gradient(p.seed, DrawStream::last_gradient, b, 0, k, d)));
  });
  return gradients;
}

}  // namespace prnn
