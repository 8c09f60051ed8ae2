// facts.hpp: what is known of a cell by its name alone, compiled into the program or brought by a user.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/cells/all.hpp"

namespace prnn {

struct CellFacts {
  std::string name;
  int state, weights, inputs, gates;  // weights: those stored
  Memory memory;
  bool is_scan, is_affine;
};

template <class Cell>
CellFacts facts_of() {
  return {Cell::name, Cell::kState, kStoredWeights<Cell>, Cell::kInputs, Cell::kGates, Cell::memory, is_scan<Cell>, is_affine<Cell>};
}

/// The cells that were loaded (run --cell): none of them is in AllCells.
std::vector<CellFacts>& loaded_cells();

/// Of any cell or scan; throws BadInput where there is none of that name.
CellFacts facts_of(std::string_view name);

}  // namespace prnn
