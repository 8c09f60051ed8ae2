// fault.hpp: seeded faults. PRNN_FAULT(id, right, wrong) is the right expression, and nothing else, but in one extra build (target prnn_faults): there the fault
// that the environment variable PRNN_FAULT names gives the wrong one. `prnn selftest` shows that each is caught; their list: harness/faults.cpp.
#pragma once

#if defined(PRNN_FAULTS)

#include <type_traits>

namespace prnn {
/// The fault that is on, 0: none.
extern int fault_on;
/// Never in constant expressions: what is decided when compiling is right.
constexpr bool has_fault(int id) { return !std::is_constant_evaluated() && fault_on == id; }
}  // namespace prnn

#define PRNN_FAULT(id, right, wrong) (::prnn::has_fault(id) ? (wrong) : (right))

#else

#define PRNN_FAULT(id, right, wrong) (right)

#endif
