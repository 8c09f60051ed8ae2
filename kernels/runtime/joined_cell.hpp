// joined_cell.hpp: a cell that joins a running program.
#pragma once

#include <vector>

#include "kernels/cells/facts.hpp"
#include "kernels/ops/chaotic.hpp"
#include "kernels/ops/recurrence.hpp"

namespace prnn {

/// Enters a cell into every list: cells of op recurrence, solvers (auto on their devices too), loops, and the search for chaotic draws. Its code stays where it is.
void join(const CellFacts&, const std::vector<Solver>&, const std::vector<RecurrenceLoops>&, decltype(&first_chaotic_draw));

}  // namespace prnn
