// both.hpp: solvers of pass both, composed of one of each pass.
#pragma once

#include <string_view>

#include "kernels/api.hpp"

namespace prnn {

/// find_solver for pass both. The pointer stays valid; what the parts are is looked up at every use.
const Solver* find_both(std::string_view name, std::string_view device, const Problem&);

}  // namespace prnn
