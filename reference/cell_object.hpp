// cell_object.hpp: what the shared object of a user's cell (cell_object.cpp) hands to the program, and the arithmetic of many digits that the program lends it: the
// object is compiled where there may be neither Boost nor MPFR, in seconds.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/cells/facts.hpp"
#include "kernels/ops/chaotic.hpp"
#include "kernels/ops/recurrence.hpp"
#include "reference/reference.hpp"

namespace prnn {

/// A number of either precision lies in so many bytes, at an address that it is told (it may point into itself), and needs no destructor.
inline constexpr std::size_t kNumberBytes = 64;

/// Arithmetic of one precision. result: raw bytes, no operand.
struct NumberTable {
  using Binary = void (*)(void* result, const void* x, const void* y);
  using Unary = void (*)(void* result, const void* x);
  Binary add, subtract, multiply, divide;
  Unary copy, negate, absolute, exponential, hyperbolic_tangent;
  Unary convert;  // of the other precision
  void (*from_double)(void* result, double x);
  double (*to_double)(const void* x);
};
struct NumberTables {
  NumberTable fine, coarse;  // Mp, MpCheck
};

/// All of a cell: its solvers and loops, and what the reference does for it; each function as the one of its name that takes a cell's name.
struct CellObject {
  CellFacts facts;
  const std::vector<Solver>* solvers;         // of device cpu
  const std::vector<RecurrenceLoops>* loops;  // likewise
  decltype(&first_chaotic_draw) chaotic_draw;
  decltype(&prnn::true_states) true_states;
  decltype(&prnn::dynamics) dynamics;
  decltype(&prnn::forward_bound) forward_bound;
  decltype(&prnn::gradient_bounds) gradient_bounds;
  decltype(&prnn::last_iterate) last_iterate;
  Gradients (*gradients)(const BackwardChannel&, Deadline);
};

/// The shared object's one symbol. The object lives as long as the process.
using OpenCell = const CellObject* (*)(const NumberTables&);
inline constexpr const char* kOpenCell = "prnn_open_cell";

#if defined(PRNN_CELL)
/// Within the object its cell is no loaded one.
inline const CellObject* loaded_object(std::string_view) { return nullptr; }
#else
/// Null where no such cell was loaded.
const CellObject* loaded_object(std::string_view cell);
#endif

}  // namespace prnn
