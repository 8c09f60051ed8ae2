// exit_codes.hpp: the exit codes of design section 1, and how what a command throws becomes one.
#pragma once

#include <exception>
#include <iostream>

#include "harness/record.hpp"
#include "harness/sweep.hpp"

namespace prnn {

inline constexpr int kBadUsage = 64, kWrong = 2, kBroken = 5;

/// f(), all of whose output must have been written; what it throws becomes a line and an exit code.
template <class F>
int guarded(F&& f) {
  try {
    const int code = f();
    if (!std::cout.flush()) throw DiskFull("standard output: cannot be written");
    return code;
  } catch (const DeviceLost&) {
    throw;  // the supervisor's
  } catch (const BadInput& error) {
    std::cerr << error.what() << std::endl;
    return kBadUsage;
  } catch (const std::exception& error) {  // DiskFull, DeviceError, a failed allocation
    std::cerr << error.what() << std::endl;
    return kBroken;
  }
}

}  // namespace prnn
