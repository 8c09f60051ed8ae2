// all.hpp: the list of cells. A new cell is one header and one entry here; solvers, reference and tests follow.
#pragma once

#include <string_view>

#include "kernels/api.hpp"
#include "kernels/cells/elman_diag.hpp"
#include "kernels/cells/gru_diag.hpp"
#include "kernels/cells/lstm_cifg_diag.hpp"

namespace prnn {

template <class... Ts>
struct TypeList {
  /// Calls f.template operator()<T>() for each T in order.
  template <class F>
  static void for_each(F&& f) {
    (f.template operator()<Ts>(), ...);
  }
};

using AllCells = TypeList<GruDiag, LstmCifgDiag, ElmanDiag>;
using AllStorages = TypeList<float, double, Bf16, F16>;

/// f.template operator()<Cell>() for the cell of that name; throws BadInput where there is none.
template <class F>
void with_cell(std::string_view name, F&& f) {
  bool found = false;
  AllCells::for_each([&]<class Cell>() {
    if (name != Cell::name) return;
    found = true;
    f.template operator()<Cell>();
  });
  if (!found) throw BadInput("unknown cell '" + std::string(name) + "'");
}

}  // namespace prnn
