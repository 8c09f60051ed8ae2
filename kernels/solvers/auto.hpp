// auto.hpp: solver auto for a cell that joins a running program.
#pragma once

#include <string>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {

/// Registers auto for a cell on every device, storage type and pass that one of these solvers, its own, is there for. The table takes the cell for one like it (measured.hpp).
void register_auto(const std::string& cell, const std::vector<Solver>& its_solvers);

}  // namespace prnn
