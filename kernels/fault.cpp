// fault.cpp: which seeded fault is on; nothing at all but in the build of the faults.
#include "kernels/fault.hpp"

#if defined(PRNN_FAULTS)

#include <cstdlib>

int prnn::fault_on = [] {
  const char* id = std::getenv("PRNN_FAULT");
  return id ? std::atoi(id) : 0;
}();

#endif
