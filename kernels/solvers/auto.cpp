// auto.cpp: no kernel of its own: runs the solver of the problem's pass, with the policy, whose measured times (auto_table.inc, which the program
// carries) promise the fastest launch at the problem's sizes. Pass both is a choice for each pass (both.cpp). Compiles and measures nothing at run
// time; what it chose is Run::solver() and Run::policy().
//   tensors: the choice's
//
// The records that its first lines name are in the history (git log -- results/auto), not in the tree: results/ has no room for grids.
// To fit the table anew, from the root of the tree, on the machines whose times it is to hold (it is replaced whole):
//   ./prnn run suites/auto.toml --device cuda --no-report --out results/auto/h200-DATE-COMMIT.jsonl
//   ./prnn run suites/auto_backward.toml --device cuda --no-report --out results/auto_backward/h200-DATE-COMMIT.jsonl
//   ./prnn run suites/auto_reduction.toml --device cuda --no-report --out results/auto_reduction/h200-DATE-COMMIT.jsonl
//   ./prnn run suites/auto_cpu.toml --device cpu --no-report --out results/auto_cpu/cpu-DATE-COMMIT.jsonl
//   ./prnn run suites/auto_backward_cpu.toml --device cpu --no-report --out results/auto_backward_cpu/cpu-DATE-COMMIT.jsonl
//   build/default/prnn_fit_auto results/auto{,_backward,_reduction,_cpu,_backward_cpu}/*.jsonl > /tmp/auto_table.inc && mv /tmp/auto_table.inc kernels/solvers/auto_table.inc
// To judge it at sizes that nobody chose, with the program built again; pass backward likewise, with --unseen --pass backward:
//   build/default/prnn_fit_auto --unseen > suites/auto_unseen.toml
//   ./prnn run suites/auto_unseen.toml --device cuda --no-report --out results/auto_unseen/h200-DATE-COMMIT.jsonl
//   build/default/prnn_fit_auto --check --within 1.10 results/auto_unseen/*.jsonl
#include "kernels/solvers/auto.hpp"

#include "kernels/cells/all.hpp"
#include "kernels/primitives/measured.hpp"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn {
namespace {

constexpr std::string_view kTable =
#include "kernels/solvers/auto_table.inc"
    ;

constexpr const char* kName = "auto";
constexpr const char* kDevices[] = {"cuda", "cpu", "emulated"};

/// The shipped table, read once; an empty one, and why, where it cannot be.
struct Shipped {
  MeasuredTable table;
  std::string fault;
  Shipped() {
    try {
      table = parse_measured(kTable);
    } catch (const BadInput& error) {
      fault = std::string("the table of auto: ") + error.what();
    }
  }
};

Choice choice_for(const Problem& p, std::string_view device, const std::optional<GpuInfo>& gpu) {
  static const Shipped shipped;
  if (!shipped.fault.empty()) return {nullptr, p, shipped.fault};
  const Choice choice = choose(shipped.table, p, device, gpu);
  if (choice.solver || p.op != "reduction") return choice;
  // Scans of which the table has no times: a thread a channel where there are enough for tiles of inputs, and on a CPU, which has no other.
  const Solver* const solver = find_solver(device == "cpu" || fused_policy(p).tiles ? "seq_fused" : "scan_chained", device, p);
  return {solver, p, solver->why_not(p)};
}

/// The GPU of a device, asked for once; none where the device has none or is not here.
template <std::size_t kDevice>
const std::optional<GpuInfo>& gpu() {
  static const std::optional<GpuInfo> found = []() -> std::optional<GpuInfo> {
    for (const MachineEntry& machine : machines()) {
      if (machine.device == kDevices[kDevice] && machine.why_not().empty()) return machine.open()->gpu();
    }
    return {};
  }();
  return found;
}

class Auto final : public Run {
 public:
  Auto(const Choice& choice, Machine& machine) : solver_(choice.solver->name), run_(choice.solver->prepare(choice.problem, machine)) {}
  Policy policy() const override { return run_->policy(); }
  std::string_view solver() const override { return solver_; }
  int launches() const override { return run_->launches(); }
  bool capturable() const override { return run_->capturable(); }
  void launch(const Tensors& tensors, Stream stream) override { run_->launch(tensors, stream); }
  void trace(const Tensors& tensors, Stream stream) override { run_->trace(tensors, stream); }
  Outcome outcome() override { return run_->outcome(); }

 private:
  const std::string solver_;
  const std::unique_ptr<Run> run_;
};

template <std::size_t kDevice>
Choice choice_here(const Problem& p) {
  return choice_for(p, kDevices[kDevice], gpu<kDevice>());
}

template <std::size_t kDevice>
std::string why_not(const Problem& p) {
  return p.iteration_limit ? "auto has no iterations to limit" : choice_here<kDevice>(p).why_not;
}

template <std::size_t kDevice>
std::int64_t workspace_bytes(const Problem& p) {
  const Choice choice = choice_here<kDevice>(p);
  return choice.solver ? choice.solver->workspace_bytes(choice.problem) : 0;
}

template <std::size_t kDevice>
std::unique_ptr<Run> prepare(const Problem& p, Machine& machine) {
  const Choice choice = choice_for(p, kDevices[kDevice], machine.gpu());
  if (!choice.solver) throw DeviceError("auto: " + choice.why_not);
  return std::make_unique<Auto>(choice, machine);
}

template <std::size_t kDevice>
void register_for(const std::string& cell, Storage storage, const std::string& pass) {
  solvers().push_back({.name = kName,
                       .device = kDevices[kDevice],
                       .cell = cell,
                       .storage = storage,
                       .pass = pass,
                       .why_not = &why_not<kDevice>,
                       .workspace_bytes = &workspace_bytes<kDevice>,
                       .prepare = &prepare<kDevice>});
}
template <std::size_t kDevice, class Cells>
void register_for(std::initializer_list<const char*> passes) {
  for_each_compiled<Cells>([&]<class Cell, class T>() {
    for (const char* pass : passes) register_for<kDevice>(Cell::name, storage_of<T>, pass);
  });
}
template <std::size_t kDevice>
bool register_for() {
  register_for<kDevice, AllCells>({"forward", "backward"});
  register_for<kDevice, AllScans>({"forward"});
  return true;
}

[[maybe_unused]] const bool registered = register_for<0>() && register_for<1>() && register_for<2>();

}  // namespace

void register_auto(const std::string& cell, const std::vector<Solver>& its_solvers) {
  constexpr void (*kRegister[])(const std::string&, Storage, const std::string&) = {&register_for<0>, &register_for<1>, &register_for<2>};
  for (std::size_t device = 0; device < std::size(kDevices); ++device) {
    for (const Storage storage : kStorages) {
      for (const char* pass : {"forward", "backward"}) {
        const bool there =
            std::any_of(its_solvers.begin(), its_solvers.end(), [&](const Solver& its) { return its.device == kDevices[device] && its.storage == storage && its.pass == pass; });
        if (there) kRegister[device](cell, storage, pass);
      }
    }
  }
}

std::string_view auto_table() { return kTable; }

}  // namespace prnn
