// testing.hpp: a problem's tensors on a machine, drawn and ready, for tests.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api.hpp"

namespace prnn::testing {

inline constexpr double kMostRatio = 16;  // c of design section 6

inline Problem random_start_problem(std::string cell, Storage storage, std::int64_t batch, std::int64_t hidden, std::int64_t seq_len) {
  Problem p;
  p.cell = std::move(cell);
  p.storage = storage;
  p.batch = batch;
  p.hidden = hidden;
  p.seq_len = seq_len;
  p.h0 = "random";
  return p;
}

/// f(cell, storage) for every cell of op recurrence that has every pass, and every storage type that it is compiled for.
template <class F>
void for_every_cell_and_storage(F&& f) {
  const Op& op = find_op("recurrence");
  for (const std::string& cell : op.cells()) {
    for (const Storage storage : kStorages) {
      Problem p = random_start_problem(cell, storage, 1, 1, 1);
      p.pass = "both";
      if (op.why_not(p).empty()) f(cell, storage);
    }
  }
}

inline std::unique_ptr<Machine> open_machine(std::string_view device) {
  for (const MachineEntry& entry : machines()) {
    if (entry.device == device) return entry.open();
  }
  throw DeviceError("no machine " + std::string(device));
}

/// Owns the tensors of a problem: inputs drawn, outputs poisoned (every byte 0xff: NaN in every storage type).
struct Workbench {
  Problem problem;
  Machine& machine;
  std::vector<Buffer> buffers;
  Tensors tensors;

  Workbench(Problem p, Machine& m) : problem(std::move(p)), machine(m) {
    const Op& op = find_op(problem.op);
    for (TensorSpec& spec : op.tensors(problem)) {
      buffers.emplace_back(machine, spec.bytes());
      machine.fill(buffers.back().data(), 0xff, spec.bytes());
      tensors.items.push_back({std::move(spec), buffers.back().data()});
    }
    op.draw(problem, machine, tensors);
  }

  /// The bytes of a tensor, on the host.
  std::vector<unsigned char> bytes(std::string_view name) const {
    const Tensors::Item& item = tensors.at(name);
    std::vector<unsigned char> host(static_cast<std::size_t>(item.spec.bytes()));
    machine.download(host.data(), item.data, item.spec.bytes());
    return host;
  }
  template <class T>
  std::vector<T> values(std::string_view name) const {
    const std::vector<unsigned char> raw = bytes(name);
    std::vector<T> out(raw.size() / sizeof(T));
    std::memcpy(out.data(), raw.data(), raw.size());
    return out;
  }
  template <class T>
  void put(std::string_view name, const std::vector<T>& host) {
    machine.upload(tensors.at(name).data, host.data(), tensors.at(name).spec.bytes());
  }
  void poison_outputs() {
    for (const Tensors::Item& item : tensors.items) {
      if (item.spec.written()) machine.fill(item.data, 0xff, item.spec.bytes());
    }
  }
  /// Poisons the outputs, launches the solver once and waits.
  Outcome solve(std::string_view solver_name, bool traced = false) {
    const Solver* solver = find_solver(solver_name, machine.device(), problem);
    if (!solver) throw DeviceError("no solver " + std::string(solver_name));
    poison_outputs();
    const std::unique_ptr<Run> run = solver->prepare(problem, machine);
    traced ? run->trace(tensors, machine.stream()) : run->launch(tensors, machine.stream());
    machine.synchronise();
    return run->outcome();
  }
  double ratio_local() const { return find_op(problem.op).ratio_local(problem, machine, tensors); }
  std::vector<double> channel(std::string_view tensor, std::int64_t b, std::int64_t d) const { return find_op(problem.op).channel(problem, machine, tensors, tensor, b, d); }
};

}  // namespace prnn::testing
