// cuda_check.hpp: every CUDA call is checked, and a failure says where.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "kernels/api.hpp"

namespace prnn::cuda {

/// Throws DeviceError with file, line, expression and the runtime's words; clears the runtime's last error first.
inline void check(cudaError_t error, const char* expression, const char* file, int line) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  const std::string what = std::string(file) + ":" + std::to_string(line) + ": " + expression + ": " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory(what);
  throw DeviceError(what);
}

}  // namespace prnn::cuda

#define PRNN_CUDA(call) ::prnn::cuda::check((call), #call, __FILE__, __LINE__)
