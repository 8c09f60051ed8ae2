// cell_object.cpp: the reference's part of the shared object of a user's cell (run --cell), and its one symbol: the sources below compiled anew for a list of that one
// cell, with numbers that the program lends. Compiled by harness/cell_compiler.cpp alone.
#include "reference/dynamics.cpp"
#include "reference/gradients.cpp"
#include "reference/judge.cpp"
#include "reference/judge_backward.cpp"
#include "reference/sequential.cpp"
#include "reference/truncation.cpp"

namespace prnn {

/// See OpenCell in cell_object.hpp.
extern "C" [[gnu::visibility("default")]] const CellObject* prnn_open_cell(const NumberTables& numbers) {
  lent_numbers<50> = &numbers.fine;
  lent_numbers<40> = &numbers.coarse;
  static const CellObject object{.facts = facts_of<PRNN_CELL>(),
                                 .solvers = &solvers(),
                                 .loops = &recurrence_loops(),
                                 .chaotic_draw = &first_chaotic_draw,
                                 .true_states = &true_states,
                                 .dynamics = &dynamics,
                                 .forward_bound = &forward_bound,
                                 .gradient_bounds = &gradient_bounds,
                                 .last_iterate = &last_iterate,
                                 .gradients = [](const BackwardChannel& channel, Deadline deadline) { return true_gradients(channel, deadline); }};
  return &object;
}

}  // namespace prnn
