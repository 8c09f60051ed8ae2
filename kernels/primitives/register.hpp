// register.hpp: how a solver file announces itself, once for every cell and storage type.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/cells/all.hpp"

#ifndef __CUDACC_RTC__
namespace prnn {

/// Empty, or "policy KEY = VALUE: must be VALUES" for the first parameter of a space that is out of it.
std::string policy_fault(const PolicySpace&, const Policy&);
/// Empty, or why not all of these kernels can run on a device: one is not compiled with the program, and there is no compiler.
std::string uncompiled_fault(const std::vector<KernelSource>&, std::string_view device);

template <class T>
inline constexpr Storage storage_of = std::is_same_v<T, double> ? Storage::f64
                                      : std::is_same_v<T, Bf16> ? Storage::bf16
                                      : std::is_same_v<T, F16>  ? Storage::f16
                                                                : Storage::f32;

namespace detail {
/// The space of a Run class: what its space() says, else nothing.
template <class Run>
PolicySpace space_of() {
  if constexpr (requires { Run::space(); }) return Run::space();
  else return {};
}
template <class Run>
std::string why_not(const Problem& p, const char* device) {
  if (p.iteration_limit && !Run::kIterates) return std::string(Run::kName) + " has no iterations to limit";
  if (p.gates == "approx") {
    if (p.storage == Storage::f64) return "double has no approximate gates";
    if constexpr (!requires { requires Run::kApproximates; }) return std::string(Run::kName) + " has exact gates alone";
  }
  if (const std::string fault = policy_fault(space_of<Run>(), p.policy); !fault.empty()) return fault;
  if constexpr (requires { Run::why_not(p); }) {
    if (const std::string fault = Run::why_not(p); !fault.empty()) return fault;
  }
  if constexpr (requires { Run::kernels(p); }) return uncompiled_fault(Run::kernels(p), device);
  return "";
}
/// The pass of a Run class: its kPass, else forward.
template <class Run>
constexpr const char* pass_of() {
  if constexpr (requires { Run::kPass; }) return Run::kPass;
  else return "forward";
}
}  // namespace detail

/// Registers S<Cell, Storage> for every pair of a list of cells and one of storage types. S is a Run with a constructor (const Problem&, Machine&) and static members
/// kName, kIterates, kDeterministic and workspace_bytes(const Problem&). Where it has more to say: kApproximates (gates may be approximate), kPass = "backward", space() (of its
/// policy), why_not(const Problem&) (of what that does not say) and kernels(const Problem&) (those of launch(), where the policy chooses among them).
template <class Cells, class Storages, template <class, class> class S>
bool register_solver(const char* device) {
  Cells::for_each([&]<class Cell>() {
    Storages::for_each([&]<class T>() {
      using Run = S<Cell, T>;
      solvers().push_back({Run::kName, device, Cell::name, storage_of<T>, detail::pass_of<Run>(), Run::kIterates, Run::kDeterministic,
                           [device](const Problem& problem) { return detail::why_not<Run>(problem, device); }, &Run::workspace_bytes,
                           [](const Problem& problem, Machine& machine) -> std::unique_ptr<prnn::Run> { return std::make_unique<Run>(problem, machine); },
                           detail::space_of<Run>()});
      if constexpr (requires(const Problem& problem) { Run::kernels(problem); }) solvers().back().kernels = &Run::kernels;
    });
  });
  return true;
}

}  // namespace prnn
#endif  // __CUDACC_RTC__

/// At the end of a solver file, inside its namespace. The object must not sit in a static library: the linker would drop it.
#define PRNN_REGISTER_SOLVER(Template, device) \
  [[maybe_unused]] static const bool registered_##Template = ::prnn::register_solver<::prnn::AllCells, ::prnn::AllStorages, Template>(device)
/// The same for a solver of scans (op reduction).
#define PRNN_REGISTER_SCAN_SOLVER(Template, device) \
  [[maybe_unused]] static const bool registered_scan_##Template = ::prnn::register_solver<::prnn::AllScans, ::prnn::AllStorages, Template>(device)
