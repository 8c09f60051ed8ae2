// witness_command.cpp: `prnn witness`: inputs, states and gradients made by other hands, held against the reference and against every solver in f64 and f32.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "harness/commands.hpp"
#include "harness/metrics/metric.hpp"
#include "harness/record.hpp"
#include "harness/sweep.hpp"
#include "reference/reference.hpp"

namespace prnn {
namespace {

struct Row {
  std::string file, solver, storage, pass;
  Status status = Status::ok;
  std::string reason;
  CaseErrors errors;                 // of a solver
  std::optional<double> difference;  // of the reference, the largest

  Json json() const {
    const auto number = [](const std::optional<double>& value) { return value && std::isfinite(*value) ? Json(*value) : Json(nullptr); };
    const bool judged = !difference && status != Status::skipped && status != Status::error;
    const auto ratio = [&](const ErrorReport& report, const char* of) { return judged && pass == of ? number(report.test_ratio()) : Json(nullptr); };
    return {{"record", "witness"},
            {"file", file},
            {"solver", solver},
            {"storage", storage},
            {"pass", difference ? Json(nullptr) : Json(pass)},
            {"status", to_string(status)},
            {"reason", reason},
            {"difference", number(difference)},
            {"abs_max", number(errors.worst().abs_max)},
            {"test_ratio", judged ? number(errors.worst().test_ratio()) : Json(nullptr)},
            {"test_ratio_du", ratio(errors.du, "backward")},
            {"test_ratio_da", ratio(errors.da, "backward")},
            {"test_ratio_dh0", ratio(errors.dh0, "backward")}};
  }
  std::string line() const {
    const std::string measured = difference                                        ? fmt::format("largest difference {:.2g}", *difference)
                                 : status == Status::ok || status == Status::wrong ? fmt::format("error / bound {:.3g}", errors.worst().test_ratio())
                                                                                   : "";
    return fmt::format("{:<36} {:<16} {:<5} {:<9} {:<14} {:<28} {}", file, solver, storage, pass, status == Status::ok ? "pass" : std::string(to_string(status)), measured, reason);
  }
};

/// What each channel of a tensor [.., D] holds, slowest axis first.
using Column = std::function<std::vector<double>(const TensorSpec&, std::size_t channel)>;

template <class T>
void upload(const WitnessFile& file, Machine& machine, const Tensors::Item& item, const Column& column_of) {
  const std::size_t channels = file.channels.size();
  std::vector<T> host(static_cast<std::size_t>(item.spec.elements()));
  for (std::size_t c = 0; c < channels; ++c) {
    const std::vector<double> column = column_of(item.spec, c);
    for (std::size_t row = 0; row < column.size(); ++row) {
      const T value = static_cast<T>(column[row]);
      if (static_cast<double>(value) != column[row])
        throw BadInput(fmt::format("{}: {} of channel {} is not exact in {}", file.path, item.spec.name, c, to_string(item.spec.type)));
      host[row * channels + c] = value;
    }
  }
  machine.upload(item.data, host.data(), item.spec.bytes());
}

/// A problem of the file's channels, b = 0, d = channel; its loss is the file's.
Problem problem_of(const WitnessFile& file, Storage storage, const char* pass) {
  Problem problem;
  problem.cell = file.cell;
  problem.pass = pass;
  problem.grad = file.loss == Loss::last_component ? "output" : "all";
  problem.storage = storage;
  problem.hidden = static_cast<std::int64_t>(file.channels.size());
  problem.seq_len = file.seq_len;
  problem.regime = "witness";
  return problem;
}

/// One solver's launch on the file's channels: its inputs from column_of, its outputs poisoned before.
class Solved {
 public:
  Solved(const WitnessFile& file, const Solver& solver, const Problem& problem, Machine& machine, const Column& column_of) : problem_(problem), machine_(machine) {
    for (const TensorSpec& spec : op_.tensors(problem)) {
      buffers_.emplace_back(machine, spec.bytes());
      tensors_.items.push_back({spec, buffers_.back().data()});
      if (spec.written()) machine.fill(buffers_.back().data(), 0xff, spec.bytes());
      else if (spec.type == Storage::f64) upload<double>(file, machine, tensors_.items.back(), column_of);
      else upload<float>(file, machine, tensors_.items.back(), column_of);
    }
    const std::unique_ptr<Run> run = solver.prepare(problem, machine);
    run->launch(tensors_, machine.stream());
    machine.synchronise();
    outcome_ = run->outcome();
  }
  const Outcome& outcome() const { return outcome_; }
  std::vector<double> channel(std::string_view tensor, std::int64_t c) const { return op_.channel(problem_, machine_, tensors_, tensor, 0, c); }
  LocalRatios local_ratios() const { return op_.local_ratios(problem_, machine_, tensors_); }

 private:
  const Op& op_ = find_op("recurrence");
  const Problem problem_;
  Machine& machine_;
  Tensors tensors_;
  std::vector<Buffer> buffers_;
  Outcome outcome_;
};

/// The file's exact inputs: u, a or h0.
std::vector<double> given_column(const WitnessFile& file, const TensorSpec& spec, std::size_t c) {
  const ChannelData& data = file.channels[c].data;
  return spec.role == Role::input ? data.inputs : spec.role == Role::weight ? data.weights : data.initial;
}

Solved solve_forward(const WitnessFile& file, const Solver& solver, Storage storage, Machine& machine) {
  return {file, solver, problem_of(file, storage, "forward"), machine, [&](const TensorSpec& spec, std::size_t c) { return given_column(file, spec, c); }};
}

/// From the states that the forward solver stored, and grad_h = 2 h of these, exact in binary.
Solved solve_backward(const WitnessFile& file, const Solver& solver, Storage storage, Machine& machine, const Solved& forward) {
  const auto column = [&](const TensorSpec& spec, std::size_t c) -> std::vector<double> {
    const std::size_t components = file.channels[c].data.initial.size();
    if (spec.name == "grad_last") return std::vector<double>(components, 0);
    if (spec.role != Role::state && spec.role != Role::gradient) return given_column(file, spec, c);
    const std::vector<double> h = forward.channel("h", static_cast<std::int64_t>(c));
    if (spec.role == Role::state) return h;
    std::vector<double> gradient;
    for (std::size_t i = 0; i < h.size(); ++i) {
      if (file.loss == Loss::all_components || i % components == components - 1) gradient.push_back(2 * h[i]);
    }
    return gradient;
  };
  return {file, solver, problem_of(file, storage, "backward"), machine, column};
}

void judge(const WitnessFile& file, const Solved& solved, Storage storage, Row& row) {
  row.errors = CaseErrors(solved.local_ratios());
  if (row.pass == "forward") {
    judge_witness(
        file, [&](std::int64_t c) { return solved.channel("h", c); }, storage, row.errors.h);
  } else {
    judge_witness_gradients(
        file,
        [&](std::int64_t c) {
          return ByArgument<double>{solved.channel("da", c), solved.channel("du", c), solved.channel("dh0", c)};
        },
        storage, row.errors);
  }
  const Verdict verdict = judge_outcome(solved.outcome(), row.errors.worst(), Status::ok);
  row.status = verdict.status;
  row.reason = verdict.reason;
}

/// The solver of that name and pass on the file, judged; skipped where it has no pass at all on this device, none where it has only the other one.
std::optional<Row> solver_row(const WitnessFile& file, const std::string& name, Storage storage, const char* pass, Machine& machine) {
  Row row{.file = file.path, .solver = name, .storage = std::string(to_string(storage)), .pass = pass};
  const auto find = [&](const std::string& solver, const char* of_pass) { return find_solver(solver, machine.device(), problem_of(file, storage, of_pass)); };
  const Solver* solver = find(name, pass);
  if (!solver) {
    if (row.pass == "backward" || find(name, "backward")) return std::nullopt;
    row.status = Status::skipped;
    row.reason = undefined_combination(fmt::format("{} does not run on {}", name, machine.device()));
    return row;
  }
  try {
    if (row.pass == "forward") {
      judge(file, solve_forward(file, *solver, storage, machine), storage, row);
    } else {
      // One without a forward pass continues where seq_fused ends, as drawn problems do.
      const Solver* forward = find(name, "forward");
      judge(file, solve_backward(file, *solver, storage, machine, solve_forward(file, forward ? *forward : *find("seq_fused", "forward"), storage, machine)), storage, row);
    }
  } catch (const BadInput&) {
    throw;
  } catch (const std::exception& error) {
    row.status = Status::error;
    row.reason = error.what();
  }
  return row;
}

Row reference_row(const WitnessFile& file) {
  Row row{.file = file.path, .solver = "reference", .storage = "mpfr"};
  const WitnessDifference difference = witness_reference_check(file);
  row.difference = 0;
  const std::pair<const char*, double> parts[] = {
      {"states", difference.states}, {"grad weights", difference.grad_weights}, {"grad inputs", difference.grad_inputs}, {"grad initial", difference.grad_initial}};
  for (const auto& [what, size] : parts) {
    if (!(size <= *row.difference)) row.difference = size;
    if (!(size <= kWitnessTolerance)) row.reason += fmt::format("{}{} differ by {:.2g}, at most {:.0e} allowed", row.reason.empty() ? "" : "; ", what, size, kWitnessTolerance);
  }
  row.status = difference.agrees() ? Status::ok : Status::wrong;
  if (!file.loss) row.reason += row.reason.empty() ? "the file has no gradients" : "";
  return row;
}

}  // namespace

int witness_command(const std::vector<std::string>& paths, const std::string& solver_pattern, const std::string& device, bool json) {
  const auto matches = name_filter("--solver", solver_pattern);
  std::vector<std::string> chosen;
  for (const std::string& name : solver_names("recurrence")) {
    if (matches(name)) chosen.push_back(name);
  }
  if (chosen.empty()) throw BadInput(fmt::format("--solver {}: matches none of {}", solver_pattern, fmt::join(solver_names("recurrence"), ", ")));
  std::vector<WitnessFile> files;  // all are read before anything runs
  for (const std::string& path : paths) files.push_back(read_witness(path));

  const std::unique_ptr<Machine> machine = open_machine(device);
  std::vector<CaseRecord> verdicts;
  const auto show = [&](const Row& row) {
    std::cout << (json ? row.json().dump() : row.line()) << std::endl;
    CaseRecord verdict;
    verdict.status = row.status;
    verdict.reason = row.reason;
    verdicts.push_back(verdict);
  };
  for (const WitnessFile& file : files) {
    show(reference_row(file));
    for (const std::string& name : chosen) {
      for (const Storage storage : {Storage::f64, Storage::f32}) {
        for (const char* pass : {"forward", "backward"}) {
          if (std::string_view(pass) == "backward" && !file.loss) continue;
          if (const std::optional<Row> row = solver_row(file, name, storage, pass, *machine)) show(*row);
        }
      }
    }
  }
  return exit_code(verdicts, {});
}

}  // namespace prnn
