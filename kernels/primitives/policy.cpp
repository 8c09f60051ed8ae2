// policy.cpp: whether a problem's policy is in a solver's space, and its kernels can be had.
#include "kernels/primitives/policy.hpp"

#include "kernels/primitives/register.hpp"

namespace prnn {

bool PolicyParameter::accepts(std::int64_t value) const { return value >= least && value <= most && value % multiple == 0 && (!powers_of_two || is_power_of_two(value)); }

std::string PolicyParameter::values() const {
  if (least == most) return std::to_string(least);
  if (least == 0 && most == 1) return "0 or 1";
  const std::string range = std::to_string(least) + " to " + std::to_string(most);
  return powers_of_two ? "a power of two from " + range : multiple > 1 ? "a multiple of " + std::to_string(multiple) + " from " + range : range;
}

std::string policy_fault(const PolicySpace& space, const Policy& policy) {
  for (const PolicyParameter& parameter : space) {
    const auto found = policy.find(parameter.key);
    if (found != policy.end() && !parameter.accepts(found->second)) return "policy " + parameter.key + " = " + std::to_string(found->second) + ": must be " + parameter.values();
  }
  return "";
}

std::string shared_memory_fault(std::int64_t bytes) {
  return bytes <= kMostSharedBytes ? "" : "this policy needs " + std::to_string(bytes) + " bytes of shared memory a block; there are " + std::to_string(kMostSharedBytes);
}

std::string uncompiled_fault(const std::vector<KernelSource>& kernels, std::string_view device) {
  for (const KernelSource& kernel : kernels) {
    if (kernel.ahead) continue;
    const std::string why = device == "cuda" ? kernel_compiler_why_not() : std::string(device) + " has no compiler";
    return why.empty() ? "" : "this policy needs a kernel that is not compiled with the program, " + kernel.expression + ", and " + why;
  }
  return "";
}

}  // namespace prnn
