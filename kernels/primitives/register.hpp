// register.hpp: how a solver file announces itself, once for every cell and storage type.
#pragma once

#include <memory>
#include <string>

#include "kernels/api.hpp"
#include "kernels/cells/all.hpp"

namespace prnn {

template <class T>
inline constexpr Storage storage_of = std::is_same_v<T, double> ? Storage::f64
                                      : std::is_same_v<T, Bf16> ? Storage::bf16
                                      : std::is_same_v<T, F16>  ? Storage::f16
                                                                : Storage::f32;

namespace detail {
template <class Cell, class Run>
std::string why_not(const Problem& p) {
  if (p.gates != "approx") return Run::why_not(p);
  if (p.storage == Storage::f64) return "double has no approximate gates";
  if (!has_approximate_gates<Cell> && !is_scan<Cell>) return p.cell + " has exact gates alone";
  if constexpr (requires { requires Run::kApproximates; }) return Run::why_not(p);
  return std::string(Run::kName) + " has exact gates alone";
}
/// The pass of a Run class: its kPass, else forward.
template <class Run>
constexpr const char* pass_of() {
  if constexpr (requires { Run::kPass; }) return Run::kPass;
  else return "forward";
}
}  // namespace detail

/// Registers S<Cell, Storage> for every cell of a list and every storage type that it is compiled for. S is a Run with a constructor (const Problem&, Machine&) and static members
/// kName, kIterates, kDeterministic, workspace_bytes(const Problem&) and why_not(const Problem&); kApproximates where gates may be approximate; kPass = "backward" for a solver of that pass.
template <class Cells, template <class, class> class S>
bool register_solver(const char* device) {
  for_each_compiled<Cells>([&]<class Cell, class T>() {
    using Run = S<Cell, T>;
    solvers().push_back({Run::kName, device, Cell::name, storage_of<T>, detail::pass_of<Run>(), Run::kIterates, Run::kDeterministic, &detail::why_not<Cell, Run>,
                         &Run::workspace_bytes, [](const Problem& problem, Machine& machine) -> std::unique_ptr<prnn::Run> { return std::make_unique<Run>(problem, machine); }});
  });
  return true;
}

}  // namespace prnn

/// At the end of a solver file, inside its namespace. The object must not sit in a static library: the linker would drop it.
#define PRNN_REGISTER_SOLVER(Template, device) [[maybe_unused]] static const bool registered_##Template = ::prnn::register_solver<::prnn::AllCells, Template>(device)
/// The same for a solver of scans (op reduction).
#define PRNN_REGISTER_SCAN_SOLVER(Template, device) [[maybe_unused]] static const bool registered_scan_##Template = ::prnn::register_solver<::prnn::AllScans, Template>(device)
