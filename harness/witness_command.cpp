// witness_command.cpp: `prnn witness`: inputs, states and gradients made by other hands, held against the reference and against every solver in f64 and f32.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "harness/commands.hpp"
#include "harness/record.hpp"
#include "harness/sweep.hpp"
#include "reference/reference.hpp"

namespace prnn {
namespace {

struct Row {
  std::string file, solver, storage;
  Status status = Status::ok;
  std::string reason;
  ErrorReport errors;                // of a solver
  std::optional<double> difference;  // of the reference, the largest

  Json json() const {
    const auto number = [](const std::optional<double>& value) { return value && std::isfinite(*value) ? Json(*value) : Json(nullptr); };
    const bool judged = !difference && status != Status::skipped && status != Status::error;
    return {{"record", "witness"},
            {"file", file},
            {"solver", solver},
            {"storage", storage},
            {"status", to_string(status)},
            {"reason", reason},
            {"difference", number(difference)},
            {"abs_max", number(errors.abs_max)},
            {"test_ratio", judged ? number(errors.test_ratio()) : Json(nullptr)}};
  }
  std::string line() const {
    const std::string measured = difference                                        ? fmt::format("largest difference {:.2g}", *difference)
                                 : status == Status::ok || status == Status::wrong ? fmt::format("error / bound {:.3g}", errors.test_ratio())
                                                                                   : "";
    return fmt::format("{:<36} {:<16} {:<5} {:<14} {:<28} {}", file, solver, storage, status == Status::ok ? "pass" : std::string(to_string(status)), measured, reason);
  }
};

/// Channel c of the file -> column c of u [1, L, kInputs, D], a [kWeights, D], h0 [1, kState, D]; exact, for the file's inputs are.
template <class T>
void upload(const WitnessFile& file, Machine& machine, const Tensors::Item& item) {
  const std::size_t channels = file.channels.size();
  std::vector<T> host(static_cast<std::size_t>(item.spec.elements()));
  for (std::size_t c = 0; c < channels; ++c) {
    const ChannelData& data = file.channels[c].data;
    const std::vector<double>& column = item.spec.role == Role::input ? data.inputs : item.spec.role == Role::weight ? data.weights : data.initial;
    for (std::size_t row = 0; row < column.size(); ++row) {
      const T value = static_cast<T>(column[row]);
      if (static_cast<double>(value) != column[row])
        throw BadInput(fmt::format("{}: {} of channel {} is not exact in {}", file.path, item.spec.name, c, to_string(item.spec.type)));
      host[row * channels + c] = value;
    }
  }
  machine.upload(item.data, host.data(), item.spec.bytes());
}

Problem problem_of(const WitnessFile& file, Storage storage) {
  Problem problem;
  problem.cell = file.cell;
  problem.storage = storage;
  problem.hidden = static_cast<std::int64_t>(file.channels.size());
  problem.seq_len = file.seq_len;
  problem.regime = "witness";
  return problem;
}

void solve(const WitnessFile& file, const Solver& solver, const Problem& problem, Machine& machine, Row& row) {
  const Op& op = find_op(problem.op);
  Tensors tensors;
  std::vector<Buffer> buffers;
  for (const TensorSpec& spec : op.tensors(problem)) {
    buffers.emplace_back(machine, spec.bytes());
    tensors.items.push_back({spec, buffers.back().data()});
    if (spec.written()) machine.fill(buffers.back().data(), 0xff, spec.bytes());
    else if (spec.type == Storage::f64) upload<double>(file, machine, tensors.items.back());
    else upload<float>(file, machine, tensors.items.back());
  }
  const std::unique_ptr<Run> run = solver.prepare(problem, machine);
  run->launch(tensors, machine.stream());
  machine.synchronise();
  row.errors.ratio_local = op.ratio_local(problem, machine, tensors);
  judge_witness(
      file, [&](std::int64_t channel) { return op.channel(problem, machine, tensors, "h", 0, channel); }, problem.storage, row.errors);
  const Verdict verdict = judge_outcome(run->outcome(), row.errors, Status::ok);
  row.status = verdict.status;
  row.reason = verdict.reason;
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
  for (const std::string& name : solver_names()) {
    if (matches(name)) chosen.push_back(name);
  }
  if (chosen.empty()) throw BadInput(fmt::format("--solver {}: matches none of {}", solver_pattern, fmt::join(solver_names(), ", ")));
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
        const Problem problem = problem_of(file, storage);
        const Solver* solver = find_solver(name, machine->device(), problem);
        Row row{.file = file.path, .solver = name, .storage = std::string(to_string(storage))};
        if (!solver) {
          row.status = Status::skipped;
          row.reason = undefined_combination(fmt::format("{} does not run on {}", name, machine->device()));
        } else {
          try {
            solve(file, *solver, problem, *machine, row);
          } catch (const BadInput&) {
            throw;
          } catch (const std::exception& error) {
            row.status = Status::error;
            row.reason = error.what();
          }
        }
        show(row);
      }
    }
  }
  return exit_code(verdicts, {});
}

}  // namespace prnn
