// registry.cpp: the lists that solvers, machines and ops enter themselves into, and the small facts of api.hpp.
#include <algorithm>

#include "kernels/api.hpp"
#include "kernels/primitives/draws.hpp"
#include "kernels/solvers/both.hpp"

namespace prnn {

std::string_view to_string(Storage storage) {
  switch (storage) {
    case Storage::f32: return "f32";
    case Storage::f64: return "f64";
    case Storage::bf16: return "bf16";
    case Storage::f16: return "f16";
  }
  return "";
}

std::optional<Storage> parse_storage(std::string_view name) {
  for (const Storage storage : kStorages) {
    if (to_string(storage) == name) return storage;
  }
  return std::nullopt;
}

std::int64_t size_of(Storage storage) { return storage == Storage::f64 ? 8 : storage == Storage::f32 ? 4 : 2; }

double unit_roundoff(Storage storage) {
  switch (storage) {
    case Storage::f64: return unit_roundoff_v<double>;
    case Storage::f32: return unit_roundoff_v<float>;
    case Storage::bf16: return unit_roundoff_v<Bf16>;
    case Storage::f16: return unit_roundoff_v<F16>;
  }
  return 0;
}

Storage compute_storage(Storage storage) { return storage == Storage::f64 ? Storage::f64 : Storage::f32; }

std::int64_t TensorSpec::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

const Tensors::Item* Tensors::find(std::string_view name) const {
  for (const Item& item : items) {
    if (item.spec.name == name) return &item;
  }
  return nullptr;
}

const Tensors::Item& Tensors::at(std::string_view name) const {
  if (const Item* item = find(name)) return *item;
  throw std::out_of_range("no tensor '" + std::string(name) + "'");
}

std::vector<MachineEntry>& machines() {
  static std::vector<MachineEntry> list;
  return list;
}

std::vector<Solver>& solvers() {
  static std::vector<Solver> list;
  return list;
}

const Solver* find_solver(std::string_view name, std::string_view device, const Problem& problem) {
  if (problem.pass == "both") return find_both(name, device, problem);
  for (const Solver& solver : solvers()) {
    if (solver.name == name && solver.device == device && solver.cell == problem.cell && solver.storage == problem.storage && solver.pass == problem.pass) return &solver;
  }
  return nullptr;
}

std::vector<std::string> solver_names(std::string_view op) {
  // The ladder of design section 8; a solver that is not on it comes after, by name.
  static constexpr std::string_view kLadder[] = {"seq_stepwise", "seq_graph", "seq_fused", "scan_stepwise", "cub", "newton_unfused", "newton_fused", "reduction", "shooting", "scan_chained", "auto"};
  const std::vector<std::string> cells = op.empty() ? std::vector<std::string>() : find_op(op).cells();
  std::vector<std::string> names;
  for (const Solver& solver : solvers()) {
    if (!op.empty() && std::find(cells.begin(), cells.end(), solver.cell) == cells.end()) continue;
    if (std::find(names.begin(), names.end(), solver.name) == names.end()) names.push_back(solver.name);
  }
  const auto rung = [](const std::string& name) { return std::find(std::begin(kLadder), std::end(kLadder), name) - std::begin(kLadder); };
  std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) { return rung(a) != rung(b) ? rung(a) < rung(b) : a < b; });
  return names;
}

int generator_version() { return kGeneratorVersion; }

const Op& find_op(std::string_view name) {
  for (const Op& op : ops()) {
    if (op.name == name) return op;
  }
  throw std::out_of_range("no op '" + std::string(name) + "'");
}

}  // namespace prnn
