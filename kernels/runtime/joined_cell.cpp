// joined_cell.cpp: see joined_cell.hpp.
#include "kernels/runtime/joined_cell.hpp"

#include "kernels/solvers/auto.hpp"

namespace prnn {

void join(const CellFacts& cell, const std::vector<Solver>& its_solvers, const std::vector<RecurrenceLoops>& its_loops, decltype(&first_chaotic_draw) chaotic_draw) {
  loaded_cells().push_back(cell);
  loaded_chaotic_draws()[cell.name] = chaotic_draw;
  recurrence_loops().insert(recurrence_loops().end(), its_loops.begin(), its_loops.end());
  solvers().insert(solvers().end(), its_solvers.begin(), its_solvers.end());
  register_auto(cell.name, its_solvers);
}

}  // namespace prnn
