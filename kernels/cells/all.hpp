// all.hpp: the list of cells. A new cell is one header and one entry here; solvers, reference and tests follow.
#pragma once

#include <string_view>

#include "kernels/api.hpp"
#if defined(PRNN_CELL)
#include PRNN_CELL_HEADER
#else
#include "kernels/cells/affine_scan.hpp"
#include "kernels/cells/elman_diag.hpp"
#include "kernels/cells/gru_diag.hpp"
#include "kernels/cells/linear_diag.hpp"
#include "kernels/cells/lstm_cifg_diag.hpp"
#endif

namespace prnn {

#if defined(PRNN_CELL)
// The sources compiled anew for one cell of a user's (harness/cell_compiler.hpp): its type and header.
using AllCells = TypeList<PRNN_CELL>;
using AllScans = TypeList<>;
#else
using AllCells = TypeList<GruDiag, LstmCifgDiag, ElmanDiag, LinearDiag<1>>;
/// What op reduction scans: affine maps, by the shape of their Jacobians.
using AllScans = TypeList<AffineScan<1>, AffineScan<2>>;
#endif
template <class Cell>
inline constexpr bool is_scan = kStoredWeights<Cell> == 0;

/// f.template operator()<Cell, T>() for every cell of a list and every storage type that its solvers are compiled for.
template <class Cells = AllCells, class F>
void for_each_compiled(F&& f) {
  Cells::for_each([&]<class Cell>() { StoragesOf<Cell>::for_each([&]<class T>() { f.template operator()<Cell, T>(); }); });
}

#ifndef __CUDACC_RTC__
namespace detail {
template <class... Lists, class F>
void with_one_of(std::string_view name, F&& f) {
  bool found = false;
  const auto try_cell = [&]<class Cell>() {
    if (name != Cell::name) return;
    found = true;
    f.template operator()<Cell>();
  };
  (Lists::for_each(try_cell), ...);
  if (!found) throw BadInput("unknown cell '" + std::string(name) + "'");
}
}  // namespace detail

/// f.template operator()<Cell>() for the cell of that name; throws BadInput where there is none.
template <class F>
void with_cell(std::string_view name, F&& f) {
  detail::with_one_of<AllCells>(name, f);
}
/// The same for cells and scans: what is true of every recurrence, nonlinear or not.
template <class F>
void with_recurrence(std::string_view name, F&& f) {
  detail::with_one_of<AllCells, AllScans>(name, f);
}
#endif  // __CUDACC_RTC__

}  // namespace prnn
