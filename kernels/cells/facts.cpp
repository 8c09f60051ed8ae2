// facts.cpp: see facts.hpp.
#include "kernels/cells/facts.hpp"

namespace prnn {

std::vector<CellFacts>& loaded_cells() {
  static std::vector<CellFacts> list;
  return list;
}

CellFacts facts_of(std::string_view name) {
  for (const CellFacts& cell : loaded_cells()) {
    if (cell.name == name) return cell;
  }
  CellFacts facts{};
  with_recurrence(name, [&]<class Cell>() { facts = facts_of<Cell>(); });
  return facts;
}

}  // namespace prnn
