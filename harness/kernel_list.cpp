// kernel_list.cpp: see kernel_list.hpp.
#include "harness/kernel_list.hpp"

#include <cxxabi.h>
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

namespace prnn {
namespace {

using Json = nlohmann::ordered_json;

// One sequence of few channels, short and long; channels that fill no word and no tile; training; the widest.
const std::vector<KernelShape> kShapes = {{1, 64, 512}, {1, 64, 1 << 15}, {3, 33, 300}, {8, 1024, 2048}, {8, 4096, 2048}};
/// Recorded launches of one solve: more are the same kernel again.
constexpr int kMostLaunches = 5000;

void erase_all(std::string& text, const std::string& part) {
  for (std::size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
}

const Op& op_of(const std::string& cell) {
  for (const Op& op : ops()) {
    const std::vector<std::string> cells = op.cells();
    if (std::find(cells.begin(), cells.end(), cell) != cells.end()) return op;
  }
  throw std::out_of_range("no op of cell '" + cell + "'");
}

/// What the solver's launch of the problem starts, and the policy that it takes; a Newton solver that decides on the device when to stop is recorded with one solve.
std::pair<std::vector<KernelUse>, Policy> recorded(const Solver& solver, const Op& op, Problem problem, Machine& machine, KernelTeller& teller) {
  std::vector<Buffer> buffers;
  Tensors tensors;
  for (TensorSpec& spec : op.tensors(problem)) {
    buffers.emplace_back(machine, spec.bytes());
    tensors.items.push_back({std::move(spec), buffers.back().data()});
  }
  std::unique_ptr<Run> run = solver.prepare(problem, machine);
  if (!run->capturable()) {
    problem.iteration_limit = 1;
    run = solver.prepare(problem, machine);
  }
  if (run->launches() > kMostLaunches) return {};
  return {teller.kernels([&](Stream stream) { run->launch(tensors, stream); }), run->policy()};
}

}  // namespace

std::string readable_kernel(const std::string& symbol) {
  if (!symbol.starts_with("_Z")) return symbol;  // demangled, it would be a type
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), &std::free);
  std::string name = status == 0 ? demangled.get() : symbol;
  if (name.ends_with(')')) {  // the parameters, which may hold parentheses of their own
    std::size_t at = name.size();
    int depth = 0;
    do depth += name[--at] == ')' ? 1 : name[at] == '(' ? -1 : 0;
    while (depth > 0 && at > 0);
    name.erase(at);
  }
  if (name.starts_with("void ")) name.erase(0, 5);
  erase_all(name, "prnn::cuda::");
  erase_all(name, "prnn::");
  return name;
}

Json kernels_on(Machine& machine, const std::vector<KernelShape>& shapes) {
  auto& teller = dynamic_cast<KernelTeller&>(machine);
  Json list = Json::array();
  std::set<std::tuple<std::string, std::string, int, std::int64_t>> listed;
  for (const Solver& solver : solvers()) {
    if (solver.device != machine.device() || solver.name == "auto") continue;  // auto runs the others
    const Op& op = op_of(solver.cell);
    for (const auto& [batch, hidden, seq_len] : shapes) {
      for (const char* gates : {"exact", "approx"}) {
        Problem problem{.op = op.name, .cell = solver.cell, .pass = solver.pass, .storage = solver.storage, .batch = batch, .hidden = hidden, .seq_len = seq_len, .gates = gates};
        if (!op.why_not(problem).empty() || !solver.why_not(problem).empty()) continue;
        Json row{{"name", nullptr}, {"solver", solver.name}, {"cell", solver.cell}, {"storage", to_string(solver.storage)}, {"pass", solver.pass}, {"gates", gates}};
        row.update({{"batch", batch}, {"hidden", hidden}, {"seq_len", seq_len}, {"bytes_min", op.bytes_min(problem)}});
        try {
          const auto [uses, policy] = recorded(solver, op, problem, machine, teller);
          row["policy"] = policy;
          for (const KernelUse& use : uses) {
            if (!listed.emplace(solver.name + solver.cell + solver.pass, use.symbol, use.threads, use.dynamic_shared_bytes).second) continue;
            row["name"] = readable_kernel(use.symbol);
            row.update({{"launches", use.launches}, {"blocks", use.blocks}, {"threads", use.threads}, {"registers", use.registers}, {"local_bytes", use.local_bytes}});
            row.update({{"static_shared_bytes", use.static_shared_bytes}, {"dynamic_shared_bytes", use.dynamic_shared_bytes}});
            row.update({{"blocks_a_multiprocessor", use.blocks_a_multiprocessor}, {"occupancy", use.occupancy}, {"symbol", use.symbol}});
            list.push_back(row);
          }
        } catch (const OutOfMemory& error) {
          row["why_not"] = error.what();
          list.push_back(row);
        }
      }
    }
  }
  return list;
}

Json kernel_list() {
  std::string why_not = "this build has no CUDA";
  for (const MachineEntry& entry : machines()) {
    if (entry.device != "cuda") continue;
    why_not = entry.why_not();
    if (why_not.empty()) return kernels_on(*entry.open(), kShapes);
  }
  return Json::array({{{"name", nullptr}, {"why_not", why_not + ": registers, shared memory and occupancy are asked of the device"}}});
}

}  // namespace prnn
