// kernel_list.hpp: `prnn list kernels`: what the kernels of every solver take of the device, found by recording their launches.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {

/// A kernel's name with its template arguments, without its parameters and our namespaces: "prnn::cuda::f<prnn::GruDiag, float>(int)" -> "f<GruDiag, float>".
std::string readable_kernel(const std::string& symbol);

/// [batch, hidden, seq_len]
using KernelShape = std::array<std::int64_t, 3>;

/// A row for every kernel that a solver of this machine launches with its shipped policy at one of the shapes, at the first shape where it takes as many threads and
/// as much shared memory; a row with why_not where a shape does not fit into memory. Runs no kernel. The machine is a KernelTeller.
nlohmann::ordered_json kernels_on(Machine&, const std::vector<KernelShape>&);

/// The same for the GPU of this computer at shapes from one sequence of few channels to the widest; one row with why_not where there is none.
nlohmann::ordered_json kernel_list();

}  // namespace prnn
